package workload

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagship/controller-manager/internal/podset"
)

// at is the tests' time.
func at() time.Time { return time.Unix(1_000_000, 0) }

type podOption func(*corev1.Pod)

func on(node string) podOption           { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
func labeled(k, v string) podOption      { return func(p *corev1.Pod) { p.Labels[k] = v } }
func phase(ph corev1.PodPhase) podOption { return func(p *corev1.Pod) { p.Status.Phase = ph } }
func deleting(p *corev1.Pod)             { p.DeletionTimestamp = &metav1.Time{Time: at()} }

func ready(p *corev1.Pod) {
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(at().Add(-time.Hour))}}
}

func newPod(name string, o ...podOption) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{}}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
	for _, f := range o {
		f(p)
	}
	return p
}

func names(pods []*corev1.Pod) []string {
	out := []string{}
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return out
}

func TestPlanReplicas(t *testing.T) {
	a, b, c := newPod("a", ready, on("n1")), newPod("b", ready, on("n2")), newPod("c", on("n1"))
	for name, tc := range map[string]struct {
		want   int32
		active []*corev1.Pod
		create int
		remove []string
	}{
		"too few":                  {5, []*corev1.Pod{a, b}, 3, []string{}},
		"enough":                   {2, []*corev1.Pod{a, b}, 0, []string{}},
		"not ready goes first":     {2, []*corev1.Pod{a, b, c}, 0, []string{"c"}},
		"the crowded node's first": {1, []*corev1.Pod{b, a}, 0, []string{"a"}},
		"unassigned before all":    {3, []*corev1.Pod{a, b, c, newPod("d")}, 0, []string{"d"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planReplicas(tc.want, tc.active, []*corev1.Pod{a, b, c}, at())
			if plan.create != tc.create {
				t.Errorf("create %d, want %d", plan.create, tc.create)
			}
			if diff := cmp.Diff(tc.remove, names(plan.remove)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReplicaStatusFailure(t *testing.T) {
	st := replicaStatus(appsv1.ReplicaSetStatus{}, 2, 0, nil, nil, 0, errors.New("no quota"), at())
	if len(st.Conditions) != 1 || st.Conditions[0].Reason != "FailedCreate" || st.Conditions[0].Message != "no quota" {
		t.Fatalf("conditions %+v", st.Conditions)
	}
	if st = replicaStatus(st, 2, 0, nil, nil, 0, nil, at()); len(st.Conditions) != 0 {
		t.Errorf("conditions stay: %+v", st.Conditions)
	}
}

func daemon(surge, unavailable int32) *appsv1.DaemonSet {
	s, u := intstr.FromInt32(surge), intstr.FromInt32(unavailable)
	return &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
		Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxSurge: &s, MaxUnavailable: &u},
	}}}
}

func newNode(name string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Taints: taints}}
}

func TestPlanDaemons(t *testing.T) {
	hash := func(h string) podOption { return labeled(appsv1.ControllerRevisionHashLabelKey, h) }
	custom := corev1.Taint{Key: "mine", Effect: corev1.TaintEffectNoExecute}
	for name, tc := range map[string]struct {
		nodes  []*corev1.Node
		pods   []*corev1.Pod
		create []string
		remove []string
	}{
		"a node without":   {[]*corev1.Node{newNode("n1"), newNode("n2")}, []*corev1.Pod{newPod("a", on("n1"))}, []string{"n2"}, []string{}},
		"two on one":       {[]*corev1.Node{newNode("n1")}, []*corev1.Pod{newPod("a", on("n1")), newPod("b", on("n1"))}, nil, []string{"b"}},
		"not wanted there": {[]*corev1.Node{newNode("n1", custom)}, []*corev1.Pod{newPod("a", on("n1"))}, nil, []string{"a"}},
		"unwell nodes too": {
			[]*corev1.Node{newNode("n1", corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})},
			nil,
			[]string{"n1"},
			[]string{},
		},
		"failed is replaced": {[]*corev1.Node{newNode("n1")}, []*corev1.Pod{newPod("a", on("n1"), phase(corev1.PodFailed))}, nil, []string{"a"}},
		"of a gone node":     {[]*corev1.Node{}, []*corev1.Pod{newPod("a", on("n9"))}, nil, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			_ = hash
			plan := planDaemons(daemonNow{ds: daemon(0, 1), nodes: tc.nodes, pods: byNode(tc.pods), hash: "h", now: at(), backoff: func(string) time.Duration { return 0 }})
			if diff := cmp.Diff(tc.create, plan.create); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.remove, names(plan.remove)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlanRolling(t *testing.T) {
	old, fresh := labeled(appsv1.ControllerRevisionHashLabelKey, "old"), labeled(appsv1.ControllerRevisionHashLabelKey, "new")
	nodes := []*corev1.Node{newNode("n1"), newNode("n2"), newNode("n3")}
	for name, tc := range map[string]struct {
		ds     *appsv1.DaemonSet
		pods   []*corev1.Pod
		create []string
		remove []string
	}{
		"one at a time":   {daemon(0, 1), []*corev1.Pod{newPod("a", on("n1"), ready, old), newPod("b", on("n2"), ready, old), newPod("c", on("n3"), ready, old)}, nil, []string{"a"}},
		"one is down":     {daemon(0, 1), []*corev1.Pod{newPod("a", on("n1"), fresh), newPod("b", on("n2"), ready, old), newPod("c", on("n3"), ready, old)}, nil, []string{}},
		"the down is old": {daemon(0, 1), []*corev1.Pod{newPod("a", on("n1"), old), newPod("b", on("n2"), ready, old), newPod("c", on("n3"), ready, old)}, nil, []string{"a"}},
		"surge":           {daemon(1, 0), []*corev1.Pod{newPod("a", on("n1"), ready, old), newPod("b", on("n2"), ready, old), newPod("c", on("n3"), ready, old)}, []string{"n1"}, []string{}},
		"surge done":      {daemon(1, 0), []*corev1.Pod{newPod("a", on("n1"), ready, old), newPod("x", on("n1"), ready, fresh), newPod("b", on("n2"), ready, old), newPod("c", on("n3"), ready, old)}, []string{"n2"}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planRolling(daemonNow{ds: tc.ds, nodes: nodes, pods: byNode(tc.pods), hash: "new", now: at()})
			if diff := cmp.Diff(tc.create, plan.create); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.remove, names(plan.remove)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlanStateful(t *testing.T) {
	rev := func(r string) podOption { return labeled(appsv1.StatefulSetRevisionLabel, r) }
	for name, tc := range map[string]struct {
		replicas int32
		parallel bool
		pods     []*corev1.Pod
		create   []int
		remove   []string
	}{
		"the first":          {3, false, nil, []int{0}, []string{}},
		"all at once":        {3, true, nil, []int{0, 1, 2}, []string{}},
		"waits for the last": {3, false, []*corev1.Pod{newPod("s-0", ready, rev("u")), newPod("s-1", rev("u"))}, nil, []string{}},
		"the next":           {3, false, []*corev1.Pod{newPod("s-0", ready, rev("u")), newPod("s-1", ready, rev("u"))}, []int{2}, []string{}},
		"failed":             {1, false, []*corev1.Pod{newPod("s-0", phase(corev1.PodFailed), rev("u"))}, nil, []string{"s-0"}},
		"scaled down":        {1, false, []*corev1.Pod{newPod("s-0", ready, rev("u")), newPod("s-1", ready, rev("u")), newPod("s-2", ready, rev("u"))}, nil, []string{"s-2"}},
		"one is going":       {1, false, []*corev1.Pod{newPod("s-0", ready, rev("u")), newPod("s-1", ready, rev("u")), newPod("s-2", ready, rev("u"), deleting)}, nil, []string{}},
		"highest old first":  {2, false, []*corev1.Pod{newPod("s-0", ready, rev("c")), newPod("s-1", ready, rev("c"))}, nil, []string{"s-1"}},
		"others' names":      {1, false, []*corev1.Pod{newPod("s-0", ready, rev("u")), newPod("s-01", ready, rev("u"))}, nil, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: appsv1.StatefulSetSpec{
				Replicas: &tc.replicas, UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
			}}
			if tc.parallel {
				s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
			}
			plan := planStateful(statefulNow{set: s, pods: tc.pods, current: "c", update: "u", now: at()})
			if diff := cmp.Diff(tc.create, plan.create); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.remove, names(plan.remove)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSlowStart(t *testing.T) {
	calls := 0
	done, err := podset.SlowStart(10, func(int) error {
		calls++
		return fmt.Errorf("no")
	})
	if done != 0 || err == nil || calls != 1 {
		t.Errorf("done %d, calls %d, err %v: want one call only", done, calls, err)
	}
	if done, err = podset.SlowStart(7, func(int) error { return nil }); done != 7 || err != nil {
		t.Errorf("done %d, err %v", done, err)
	}
}
