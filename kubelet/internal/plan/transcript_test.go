package plan

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts anew")

// TestTranscripts plays pods' lives against a runtime that does what the plan says. A transcript's lines that start with
// ">" are what happens, the others what is planned:
//
//	> pod Always init=a,b* main=c,d   b* is a sidecar, c? has a startup probe, d! restarts the pod by 42
//	> exit c 1                        the container ends with the code
//	> fail c liveness|startup         its probe fails; pass c startup: it passes
//	> image c                         its image changes
//	> request c 100m, limit c 1       its resources change; policy c cpu: which needs a restart
//	> sandbox dies | delete           of the pod
//	> plan                            plans and applies until nothing is left to do
func TestTranscripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(raw))
			if *rewrite {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(raw), got); diff != "" {
				t.Errorf("transcript (-want +got; -rewrite accepts it):\n%s", diff)
			}
		})
	}
}

// theatre is a pod and a runtime without time: what is started runs.
type theatre struct {
	t     *testing.T
	in    Input
	clock int64
	ids   map[string]int
}

func play(t *testing.T, script string) string {
	th := &theatre{t: t, ids: map[string]int{}}
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, "#") || line == "" {
			out.WriteString(line + "\n")
		}
		cmd, ok := strings.CutPrefix(line, "> ")
		if !ok {
			continue
		}
		out.WriteString(line + "\n")
		th.do(strings.Fields(cmd), &out)
	}
	return out.String()
}

func (th *theatre) container(name string) corev1.Container {
	base := strings.TrimRight(name, "*?!")
	c := corev1.Container{Name: base, Image: "i"}
	if strings.Contains(name, "*") {
		always := corev1.ContainerRestartPolicyAlways
		c.RestartPolicy = &always
	}
	if strings.Contains(name, "!") {
		never := corev1.ContainerRestartPolicyNever
		c.RestartPolicy = &never
		c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: "In", Values: []int32{42}}}}
	}
	if strings.Contains(name, "?") {
		c.StartupProbe = &corev1.Probe{}
	}
	return c
}

func (th *theatre) do(f []string, out *strings.Builder) {
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		th.t.Fatalf("%q wants more arguments", f)
		return ""
	}
	switch f[0] {
	case "pod":
		th.in = Input{Pod: &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicy(arg(1))}}, State: &podstate.Pod{}, Actuated: &Actuated{Containers: map[string]corev1.ResourceRequirements{}}, Probes: Probes{Liveness: map[string]Result{}, Startup: map[string]Result{}}}
		for _, a := range f[2:] {
			list, names, _ := strings.Cut(a, "=")
			for _, n := range strings.Split(names, ",") {
				if list == "init" {
					th.in.Pod.Spec.InitContainers = append(th.in.Pod.Spec.InitContainers, th.container(n))
				} else {
					th.in.Pod.Spec.Containers = append(th.in.Pod.Spec.Containers, th.container(n))
				}
			}
		}
	case "plan":
		th.settle(out)
	case "exit":
		code, err := strconv.Atoi(arg(2))
		if err != nil {
			th.t.Fatal(err)
		}
		th.end(th.running(arg(1)), int32(code))
	case "fail", "pass":
		r := map[string]Result{"fail": Failure, "pass": Success}[f[0]]
		if arg(2) == "startup" {
			th.in.Probes.Startup[th.running(arg(1)).ID] = r
		} else {
			th.in.Probes.Liveness[th.running(arg(1)).ID] = r
		}
	case "image":
		c, _ := podspec.Find(th.in.Pod, arg(1))
		c.Image += "+"
	case "request", "limit":
		c, _ := podspec.Find(th.in.Pod, arg(1))
		list := &c.Resources.Requests
		if f[0] == "limit" {
			list = &c.Resources.Limits
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[corev1.ResourceCPU] = resource.MustParse(arg(2))
	case "policy":
		c, _ := podspec.Find(th.in.Pod, arg(1))
		c.ResizePolicy = append(c.ResizePolicy, corev1.ContainerResizePolicy{ResourceName: corev1.ResourceName(arg(2)), RestartPolicy: corev1.RestartContainer})
	case "sandbox":
		th.in.State.Sandboxes[0].Ready = false
		for i := range th.in.State.Containers {
			if th.in.State.Containers[i].State == podstate.Running {
				th.end(&th.in.State.Containers[i], 137)
			}
		}
	default:
		th.t.Fatalf("unknown command %q", f)
	}
}

func (th *theatre) end(c *podstate.Container, code int32) {
	th.clock++
	c.State, c.ExitCode, c.FinishedAt = podstate.Exited, code, time.Unix(th.clock, 0)
}

func (th *theatre) running(name string) *podstate.Container {
	c := th.in.State.Latest(name)
	if c == nil || c.State != podstate.Running {
		th.t.Fatalf("container %s does not run", name)
	}
	return c
}

// settle plans and applies until the plan is empty or stops the pod.
func (th *theatre) settle(out *strings.Builder) {
	for range 20 {
		a := Compute(th.in)
		if a.Empty() {
			out.WriteString("done\n")
			return
		}
		th.apply(a, out)
		if a.KillPod && !a.CreateSandbox {
			return
		}
	}
	th.t.Fatal("the plan does not settle")
}

func (th *theatre) apply(a Actions, out *strings.Builder) {
	if a.KillPod {
		out.WriteString("stop the pod\n")
		for i := range th.in.State.Containers {
			if c := &th.in.State.Containers[i]; c.State == podstate.Running {
				th.end(c, 137)
			}
		}
	}
	if a.PurgeInit {
		th.in.State.Containers = slices.DeleteFunc(th.in.State.Containers, func(c podstate.Container) bool {
			_, kind := podspec.Find(th.in.Pod, c.Name)
			return kind == podspec.Init
		})
	}
	for _, r := range a.Reset {
		fmt.Fprintf(out, "remove %s (killed: %t)\n", r.ID, r.Kill)
		th.in.State.Containers = slices.DeleteFunc(th.in.State.Containers, func(c podstate.Container) bool { return c.ID == r.ID })
	}
	for _, k := range a.Kill {
		fmt.Fprintf(out, "kill %s: %s\n", k.ID, k.Message)
		for i := range th.in.State.Containers {
			if c := &th.in.State.Containers[i]; c.ID == k.ID {
				th.end(c, 137)
			}
		}
	}
	if a.ResizePod {
		out.WriteString("resize the pod:")
		for _, r := range a.Resize {
			c, _ := podspec.Find(th.in.Pod, r.Name)
			th.in.Actuated.Containers[r.Name] = *c.Resources.DeepCopy()
			out.WriteString(" " + r.ID)
		}
		out.WriteString("\n")
	}
	if a.CreateSandbox {
		id := fmt.Sprintf("sandbox%d", a.Attempt)
		fmt.Fprintf(out, "make %s\n", id)
		th.in.State.Sandboxes = append([]podstate.Sandbox{{ID: id, Attempt: a.Attempt, Ready: true, IPs: []string{"10.0.0.2"}}}, th.in.State.Sandboxes...)
	}
	for _, i := range a.StartInit {
		th.start(&th.in.Pod.Spec.InitContainers[i], out)
	}
	for _, i := range a.Start {
		th.start(&th.in.Pod.Spec.Containers[i], out)
	}
}

func (th *theatre) start(c *corev1.Container, out *strings.Builder) {
	th.clock++
	th.ids[c.Name]++
	id := fmt.Sprintf("%s%d", c.Name, th.ids[c.Name])
	fmt.Fprintf(out, "start %s\n", id)
	th.in.Actuated.Containers[c.Name] = *c.Resources.DeepCopy()
	th.in.State.Containers = append([]podstate.Container{{
		ID: id, Name: c.Name, SandboxID: th.in.State.Sandboxes[0].ID, State: podstate.Running, StartedAt: time.Unix(th.clock, 0), Hash: podspec.HashContainer(c),
	}}, th.in.State.Containers...)
}
