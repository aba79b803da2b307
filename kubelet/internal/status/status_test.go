package status

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/kubelet/internal/podstate"
)

// view renders a status in one line per container and condition.
func view(s corev1.PodStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", s.Phase, s.Reason)
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for _, c := range list {
			state := func(st corev1.ContainerState) string {
				switch {
				case st.Running != nil:
					return "running"
				case st.Terminated != nil:
					return fmt.Sprintf("terminated(%s %d)", st.Terminated.Reason, st.Terminated.ExitCode)
				case st.Waiting != nil:
					return "waiting(" + st.Waiting.Reason + ")"
				}
				return "-"
			}
			fmt.Fprintf(&b, "%s %s last=%s ready=%t started=%t restarts=%d\n", c.Name, state(c.State), state(c.LastTerminationState), c.Ready, c.Started != nil && *c.Started, c.RestartCount)
		}
	}
	for _, c := range s.Conditions {
		if c.Type != corev1.PodScheduled && c.Status != corev1.ConditionTrue {
			fmt.Fprintf(&b, "not %s: %s %s\n", c.Type, c.Reason, c.Message)
		}
	}
	return b.String()
}

func run(name, id string, s podstate.State, code int32) podstate.Container {
	c := podstate.Container{ID: id, Name: name, SandboxID: "sb", State: s, ExitCode: code, StartedAt: time.Unix(1, 0)}
	if s == podstate.Exited {
		c.Reason = map[bool]string{true: "Completed", false: "Error"}[code == 0]
	}
	return c
}

func TestStatuses(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	side := corev1.Container{Name: "s", RestartPolicy: &always}
	yes := func(*corev1.Container, string) (bool, bool) { return true, true }
	unknown := func(*corev1.Container, string) (bool, bool) { return false, false }
	tests := map[string]struct {
		policy   corev1.RestartPolicy
		init     []corev1.Container
		gates    []corev1.PodReadinessGate
		state    []podstate.Container
		failures map[string]Failure
		old      corev1.PodStatus
		api      []corev1.PodCondition
		deleted  bool
		terminal bool
		probes   *ProbeView
		want     string
	}{
		"initializing": {
			policy: "Always", init: []corev1.Container{{Name: "i"}}, state: []podstate.Container{run("i", "1", podstate.Running, 0)},
			want: "Pending \ni running last=- ready=false started=true restarts=0\nc waiting(PodInitializing) last=- ready=false started=false restarts=0\n" +
				"not Initialized: ContainersNotInitialized containers with incomplete status: [i]\nnot Ready: ContainersNotReady containers with unready status: [c]\nnot ContainersReady: ContainersNotReady containers with unready status: [c]\n",
		},
		"an init container failed for good": {
			policy: "Never", init: []corev1.Container{{Name: "i"}}, state: []podstate.Container{run("i", "1", podstate.Exited, 1)},
			want: "Failed \ni terminated(Error 1) last=- ready=false started=false restarts=0\nc waiting(PodInitializing) last=- ready=false started=false restarts=0\n" +
				"not Initialized: ContainersNotInitialized containers with incomplete status: [i]\nnot Ready: PodFailed \nnot ContainersReady: PodFailed \n",
		},
		"an init container that is gone": {
			policy: "Always", init: []corev1.Container{{Name: "i"}}, state: []podstate.Container{run("c", "1", podstate.Running, 0)},
			want: "Running \ni terminated(Completed 0) last=- ready=true started=false restarts=0\nc running last=- ready=true started=true restarts=0\n",
		},
		"a sidecar that waits": {
			policy: "Always", init: []corev1.Container{side}, failures: map[string]Failure{"s": {"ErrImagePull", "x"}},
			want: "Pending \ns waiting(ErrImagePull) last=- ready=false started=false restarts=0\nc waiting(PodInitializing) last=- ready=false started=false restarts=0\n" +
				"not Initialized: ContainersNotInitialized containers with incomplete status: [s]\nnot Ready: ContainersNotReady containers with unready status: [s c]\nnot ContainersReady: ContainersNotReady containers with unready status: [s c]\n",
		},
		"a sidecar outlives the containers of a finished pod": {
			policy: "Never", init: []corev1.Container{side}, state: []podstate.Container{run("c", "2", podstate.Exited, 0), run("s", "1", podstate.Running, 0)},
			want: "Running \ns running last=- ready=true started=true restarts=0\nc terminated(Completed 0) last=- ready=false started=false restarts=0\n" +
				"not Ready: ContainersNotReady containers with unready status: [c]\nnot ContainersReady: ContainersNotReady containers with unready status: [c]\n",
		},
		"a crash loop keeps the last end": {
			policy: "Always", state: []podstate.Container{run("c", "2", podstate.Exited, 3), run("c", "1", podstate.Exited, 4)}, failures: map[string]Failure{"c": {"CrashLoopBackOff", "x"}},
			want: "Running \nc waiting(CrashLoopBackOff) last=terminated(Error 3) ready=false started=false restarts=0\n" +
				"not Ready: ContainersNotReady containers with unready status: [c]\nnot ContainersReady: ContainersNotReady containers with unready status: [c]\n",
		},
		"a restarted container shows its predecessor": {
			policy: "Always", state: []podstate.Container{run("c", "2", podstate.Running, 0), run("c", "1", podstate.Exited, 4)},
			want: "Running \nc running last=terminated(Error 4) ready=true started=true restarts=0\n",
		},
		"a container that vanished": {
			policy: "Always", old: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "c", RestartCount: 2, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
			want: "Running \nc waiting(ContainerCreating) last=terminated(ContainerStatusUnknown 137) ready=false started=false restarts=3\n" +
				"not Ready: ContainersNotReady containers with unready status: [c]\nnot ContainersReady: ContainersNotReady containers with unready status: [c]\n",
		},
		"a gate that nobody opened": {
			policy: "Always", gates: []corev1.PodReadinessGate{{ConditionType: "x.io/open"}}, state: []podstate.Container{run("c", "1", podstate.Running, 0)},
			want: "Running \nc running last=- ready=true started=true restarts=0\nnot Ready: ReadinessGatesNotReady corresponding condition of pod readiness gate \"x.io/open\" does not exist.\n",
		},
		"an open gate": {
			policy: "Always", gates: []corev1.PodReadinessGate{{ConditionType: "x.io/open"}}, api: []corev1.PodCondition{{Type: "x.io/open", Status: "True"}}, state: []podstate.Container{run("c", "1", podstate.Running, 0)},
			want: "Running \nc running last=- ready=true started=true restarts=0\n",
		},
		"after a restart of the kubelet, before the probes": {
			policy: "Always", state: []podstate.Container{run("c", "1", podstate.Running, 0)}, probes: &ProbeView{Started: unknown, Ready: unknown},
			old:  corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "c", ContainerID: "containerd://1", Ready: true, Started: new(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
			want: "Running \nc running last=- ready=true started=true restarts=0\n",
		},
		"deleted while it could not start": {
			policy: "Always", deleted: true, terminal: true, failures: map[string]Failure{"c": {"ErrImagePull", "x"}},
			want: "Pending \nc waiting(ContainerCreating) last=- ready=false started=false restarts=0\n" +
				"not Ready: ContainersNotReady containers with unready status: [c]\nnot ContainersReady: ContainersNotReady containers with unready status: [c]\n",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: tc.policy, InitContainers: tc.init, Containers: []corev1.Container{{Name: "c"}}, ReadinessGates: tc.gates}}
			pod.Status.Conditions = tc.api
			if tc.deleted {
				pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(5, 0)}
			}
			probes := ProbeView{Started: yes, Ready: yes}
			if tc.probes != nil {
				probes = *tc.probes
			}
			s := Generate(Input{
				Pod: pod, Old: tc.old, State: &podstate.Pod{Sandboxes: []podstate.Sandbox{{ID: "sb", Ready: true, IPs: []string{"10.0.0.2"}}}, Containers: tc.state, IPs: []string{"10.0.0.2"}},
				Failures: tc.failures, Probes: probes, Terminal: tc.terminal, Runtime: "containerd", Now: time.Unix(9, 0),
			})
			if diff := cmp.Diff(tc.want, view(s)); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResources(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}
	}
	c := &corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Requests: list("100m", "16Mi"), Limits: list("200m", "32Mi")}}
	tests := map[string]struct {
		state    podstate.State
		runtime  *podstate.Resources
		actuated corev1.ResourceList
		want     corev1.ResourceRequirements
	}{
		"not running":          {podstate.Exited, &podstate.Resources{CPUShares: 2}, nil, c.Resources},
		"nothing is known":     {podstate.Running, nil, nil, c.Resources},
		"as granted":           {podstate.Running, &podstate.Resources{CPUShares: 102, CPUQuota: 20000, CPUPeriod: 100000, MemoryLimit: 32 << 20}, nil, c.Resources},
		"not in effect yet":    {podstate.Running, &podstate.Resources{CPUShares: 51, CPUQuota: 10000, CPUPeriod: 100000, MemoryLimit: 16 << 20}, list("50m", "8Mi"), corev1.ResourceRequirements{Requests: list("50m", "8Mi"), Limits: list("100m", "16Mi")}},
		"only memory is known": {podstate.Running, &podstate.Resources{MemoryLimit: 64 << 20}, nil, corev1.ResourceRequirements{Requests: list("100m", "16Mi"), Limits: list("200m", "64Mi")}},
	}
	same := cmp.Comparer(func(a, b resource.Quantity) bool { return a.Cmp(b) == 0 })
	for name, tc := range tests {
		got := resources(c, &podstate.Container{State: tc.state, Resources: tc.runtime}, nil, corev1.ResourceRequirements{Requests: tc.actuated}, "1")
		if diff := cmp.Diff(&tc.want, got, same); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestPatch: a merge keeps what is not named, so what ended is named, and what others own is not.
func TestPatch(t *testing.T) {
	raw, err := Patch(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}, corev1.PodStatus{
		Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.2"}}, NominatedNodeName: "n",
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: "True"}, {Type: "x.io/other", Status: "True"}, {Type: corev1.PodResizePending, Status: "True", Reason: "Deferred"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"metadata": map[string]any{"uid": "u"}, "status": map[string]any{
		"phase": "Running", "podIPs": []any{map[string]any{"ip": "10.0.0.2"}, map[string]any{"$patch": "replace"}}, "hostIPs": []any{map[string]any{"$patch": "replace"}},
		"reason": nil, "message": nil, "podIP": nil, "hostIP": nil,
		"conditions": []any{
			map[string]any{"type": "Ready", "status": "True", "reason": nil, "message": nil, "lastProbeTime": nil, "lastTransitionTime": nil},
			map[string]any{"type": "PodResizePending", "status": "True", "reason": "Deferred", "message": nil, "lastProbeTime": nil, "lastTransitionTime": nil},
			map[string]any{"type": "PodResizeInProgress", "$patch": "delete"},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("patch (-want +got):\n%s", diff)
	}
}
