package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func at(seconds int) time.Time { return time.Unix(1_000_000+int64(seconds), 0) }

func conditions(pairs ...string) corev1.NodeStatus {
	st := corev1.NodeStatus{}
	for i := 0; i < len(pairs); i += 2 {
		st.Conditions = append(st.Conditions, corev1.NodeCondition{Type: corev1.NodeConditionType(pairs[i]), Status: corev1.ConditionStatus(pairs[i+1])})
	}
	return st
}

func keys(taints []corev1.Taint) []string {
	out := []string{}
	for _, t := range taints {
		out = append(out, t.Key+":"+string(t.Effect))
	}
	return out
}

func TestObserve(t *testing.T) {
	beat := func(s int) *corev1.Node {
		n := &corev1.Node{Status: conditions("Ready", "True")}
		n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(at(s))
		return n
	}
	lease := metav1.NewMicroTime(at(30))
	first := observe(nil, beat(0), nil, at(1))
	for name, tc := range map[string]struct {
		node    *corev1.Node
		renewed *metav1.MicroTime
		seen    time.Time
	}{
		"silent":      {beat(0), nil, at(1)},
		"a heartbeat": {beat(10), nil, at(40)},
		"a renewal":   {beat(0), &lease, at(40)},
	} {
		t.Run(name, func(t *testing.T) {
			if h := observe(&first, tc.node, tc.renewed, at(40)); !h.seen.Equal(tc.seen) {
				t.Errorf("seen %v, want %v", h.seen, tc.seen)
			}
		})
	}
}

func TestSilentConditions(t *testing.T) {
	st := conditions("Ready", "True", "MemoryPressure", "False", "DiskPressure", "Unknown", "NetworkUnavailable", "False")
	if !silentConditions(&st, metav1.Time{}, at(0)) {
		t.Fatal("nothing changed")
	}
	got := map[string]string{}
	for _, c := range st.Conditions {
		got[string(c.Type)] = string(c.Status) + " " + c.Reason
	}
	want := map[string]string{
		"Ready": "Unknown NodeStatusUnknown", "MemoryPressure": "Unknown NodeStatusUnknown", "DiskPressure": "Unknown ",
		"PIDPressure": "Unknown NodeStatusNeverUpdated", "NetworkUnavailable": "False ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if silentConditions(&st, metav1.Time{}, at(9)) {
		t.Error("changed again")
	}
}

func TestScheduleTaints(t *testing.T) {
	for name, tc := range map[string]struct {
		node corev1.Node
		want []string
	}{
		"ready":        {corev1.Node{Status: conditions("Ready", "True")}, []string{}},
		"not ready":    {corev1.Node{Status: conditions("Ready", "False", "DiskPressure", "True")}, []string{"node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/disk-pressure:NoSchedule"}},
		"silent":       {corev1.Node{Status: conditions("Ready", "Unknown")}, []string{"node.kubernetes.io/unreachable:NoSchedule"}},
		"cordoned":     {corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}, Status: conditions("Ready", "True")}, []string{"node.kubernetes.io/unschedulable:NoSchedule"}},
		"others' stay": {corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "x", Effect: "NoSchedule"}, {Key: corev1.TaintNodeNotReady, Effect: "NoSchedule"}}}, Status: conditions("Ready", "True")}, []string{"x:NoSchedule"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := scheduleTaints(&tc.node, at(0))
			if diff := cmp.Diff(tc.want, keys(got)); diff != "" {
				t.Error(diff)
			}
			tc.node.Spec.Taints = got
			if _, again := scheduleTaints(&tc.node, at(1)); again {
				t.Error("not settled")
			}
		})
	}
}

func TestZoneRate(t *testing.T) {
	for name, tc := range map[string]struct {
		ready, notReady int
		all             bool
		want            float32
	}{
		"healthy":       {9, 1, false, 0.1},
		"partly, small": {2, 8, false, 0},
		"partly, large": {20, 80, false, 0.01},
		"fully":         {0, 5, false, 0.1},
		"cut off":       {0, 5, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := zoneRate(disruption(tc.ready, tc.notReady, 0.55), tc.ready+tc.notReady, tc.all, 0.1, 0.01, 50); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestEvictAt(t *testing.T) {
	added := metav1.NewTime(at(0))
	taint := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &added}
	seconds := func(n int64) *int64 { return &n }
	for name, tc := range map[string]struct {
		tolerations []corev1.Toleration
		at          int
		ok          bool
	}{
		"not tolerated":    {nil, 5, true},
		"for 300 seconds":  {[]corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: "Exists", Effect: "NoExecute", TolerationSeconds: seconds(300)}}, 300, true},
		"for ever":         {[]corev1.Toleration{{Operator: "Exists"}}, 0, false},
		"the shorter wins": {[]corev1.Toleration{{Operator: "Exists"}, {Key: corev1.TaintNodeUnreachable, Operator: "Exists", TolerationSeconds: seconds(7)}}, 7, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(at(-100))}, Spec: corev1.PodSpec{Tolerations: tc.tolerations}}
			when, ok := evictAt(p, []corev1.Taint{taint}, at(5))
			if ok != tc.ok || (ok && !when.Equal(at(tc.at))) {
				t.Errorf("got %v %v, want %v %v", when, ok, at(tc.at), tc.ok)
			}
		})
	}
}

func TestPool(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.244.0.0/22"), 24)
	p.occupy(netip.MustParsePrefix("10.244.1.0/24"))
	p.occupy(netip.MustParsePrefix("10.96.0.0/12")) // outside
	var got []string
	for range 3 {
		r, err := p.take()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.String())
	}
	if diff := cmp.Diff([]string{"10.244.0.0/24", "10.244.2.0/24", "10.244.3.0/24"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := p.take(); err == nil {
		t.Error("took from an empty pool")
	}
	p.release(netip.MustParsePrefix("10.244.1.0/24"))
	if r, err := p.take(); err != nil || r.String() != "10.244.1.0/24" {
		t.Errorf("got %v, %v", r, err)
	}
	six := newPool(netip.MustParsePrefix("fd00:10::/56"), 64)
	_, _ = six.take()
	if r, err := six.take(); err != nil || r.String() != "fd00:10:0:1::/64" {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestPlanGC(t *testing.T) {
	mk := func(name, node string, phase corev1.PodPhase, age int, deleting bool) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(at(-age))}, Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase}}
		if deleting {
			p.DeletionTimestamp = &metav1.Time{Time: at(0)}
		}
		return p
	}
	n1 := &corev1.Node{Status: conditions("Ready", "True")}
	plan := planGC([]*corev1.Pod{
		mk("old", "n1", corev1.PodSucceeded, 9, false), mk("young", "n1", corev1.PodFailed, 1, false),
		mk("never", "", corev1.PodPending, 1, true), mk("lost", "n2", corev1.PodRunning, 1, false), mk("fine", "n1", corev1.PodRunning, 1, false),
	}, func(name string) *corev1.Node {
		if name == "n1" {
			return n1
		}
		return nil
	}, 1)
	one := func(list []*corev1.Pod, name string) {
		t.Helper()
		if len(list) != 1 || list[0].Name != name {
			t.Errorf("got %d pods, want %s", len(list), name)
		}
	}
	one(plan.terminated, "old")
	one(plan.unscheduled, "never")
	one(plan.orphaned, "lost")
}
