package preempt

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	schedconfig "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"flagship/scheduler/internal/cycle"
	"flagship/scheduler/internal/plugin"
	"flagship/scheduler/internal/snapshot"
)

func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return out
}

// pod is written as name/node/priority/cpu.
func pod(t *testing.T, text string) *snapshot.Pod {
	f := strings.Split(text, "/")
	p := parse[v1.Pod](t, fmt.Sprintf(`{metadata: {name: %s, namespace: ns, labels: {app: %s}}, spec: {nodeName: "%s", priority: %s, containers: [{resources: {requests: {cpu: "%s"}}}]}}`, f[0], f[0], f[1], f[2], f[3]))
	p.UID = types.UID(f[0])
	out, err := snapshot.NewPod(p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func profile(t *testing.T) *cycle.Profile {
	fit, err := plugin.NewNodeResourcesFit(schedconfig.NodeResourcesFitArgs{ScoringStrategy: &schedconfig.ScoringStrategy{
		Type: schedconfig.LeastAllocated, Resources: []schedconfig.ResourceSpec{{Name: "cpu", Weight: 1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &cycle.Profile{Filters: []plugin.Filter{plugin.TaintToleration{}, fit}, Scorers: []cycle.Weighted{{Scorer: fit, Weight: 1}}}
}

// TestDecide has nodes a and b with 4 CPUs, and c with a taint.
func TestDecide(t *testing.T) {
	const nobody = "preemption: 0/3 nodes are available: "
	for name, c := range map[string]struct {
		placed  []string
		pod     string
		policy  v1.PreemptionPolicy
		budgets []string
		want    string
		message string
	}{
		"lowest priority":      {placed: []string{"a1/a/5/4", "b1/b/1/4"}, pod: "new//10/2", want: "b: b1"},
		"only what is needed":  {placed: []string{"a1/a/1/1", "a2/a/2/1", "a3/a/3/2", "b1/b/20/4"}, pod: "new//10/2", want: "a: a2 a1"},
		"fewest victims":       {placed: []string{"a1/a/1/2", "a2/a/1/2", "b1/b/1/4"}, pod: "new//10/3", want: "b: b1"},
		"equal priority stays": {placed: []string{"a1/a/10/4", "b1/b/10/4"}, pod: "new//10/2", message: nobody + "1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."},
		"would not help":       {placed: []string{"a1/a/1/1", "a2/a/20/3", "b1/b/20/4"}, pod: "new//10/2", message: nobody + "1 Insufficient cpu, 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."},
		"too large":            {pod: "new//10/5", message: nobody + "3 Preemption is not helpful for scheduling."},
		"never":                {placed: []string{"a1/a/1/4", "b1/b/1/4"}, pod: "new//10/2", policy: v1.PreemptNever, message: "preemption: not eligible due to preemptionPolicy=Never."},
		"budget": {
			placed: []string{"a1/a/1/4", "b1/b/2/4"}, pod: "new//10/2", want: "b: b1",
			budgets: []string{`{metadata: {namespace: ns}, spec: {selector: {matchLabels: {app: a1}}}, status: {disruptionsAllowed: 0}}`},
		},
		"no room for two": {placed: []string{"b1/b/20/4", "a1/a/1/4"}, pod: "new//10/4", want: "a: a1"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := snapshot.New()
			for _, n := range []string{`{metadata: {name: a}}`, `{metadata: {name: b}}`, `{metadata: {name: c}, spec: {taints: [{key: k, effect: NoSchedule}]}}`} {
				node := parse[v1.Node](t, n)
				node.Status.Allocatable = parse[v1.NodeStatus](t, `{allocatable: {cpu: "4", pods: "10"}}`).Allocatable
				cl.SetNode(node)
			}
			for _, p := range c.placed {
				cl.AddPod(pod(t, p))
			}
			var pdbs []*policyv1.PodDisruptionBudget
			for _, b := range c.budgets {
				pdbs = append(pdbs, parse[policyv1.PodDisruptionBudget](t, b))
			}
			in := cycle.Input{Pod: pod(t, c.pod)}
			if c.policy != "" {
				in.Pod.Spec.PreemptionPolicy = &c.policy
			}
			pr := profile(t)
			d := pr.Decide(cl, in)
			if d.Node >= 0 {
				t.Fatalf("the pod fits on %s", cl.Name(d.Node))
			}
			before := cl.NumPods()
			plan := Decide(cl, pr, in, d, pdbs, Limits{Percentage: 10, Absolute: 100})
			got := ""
			if plan.Node != "" {
				got = plan.Node + ":"
				for _, v := range plan.Victims {
					got += " " + v.Name
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if c.message != "" && c.message != plan.Message {
				t.Errorf("message %q, want %q", plan.Message, c.message)
			}
			if cl.NumPods() != before {
				t.Errorf("%d pods are left of %d", cl.NumPods(), before)
			}
		})
	}
}
