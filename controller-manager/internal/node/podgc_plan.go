package node

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"flagship/controller-manager/internal/pod"
)

// gcPlan is which pods nobody runs or needs any more.
type gcPlan struct {
	// terminated are the oldest beyond the threshold; unscheduled are being deleted and were never on a node;
	// outOfService are being deleted on nodes that will not come back; orphaned are on nodes that do not exist.
	terminated, unscheduled, outOfService, orphaned []*corev1.Pod
}

// planGC sorts pods out. node returns a node, nil where the cache has none.
func planGC(pods []*corev1.Pod, node func(name string) *corev1.Node, threshold int) gcPlan {
	var plan gcPlan
	var terminated []*corev1.Pod
	for _, p := range pods {
		if pod.Terminal(p) && p.DeletionTimestamp == nil {
			terminated = append(terminated, p)
		}
		if p.Spec.NodeName == "" {
			if p.DeletionTimestamp != nil {
				plan.unscheduled = append(plan.unscheduled, p)
			}
			continue
		}
		n := node(p.Spec.NodeName)
		switch {
		case n == nil:
			plan.orphaned = append(plan.orphaned, p)
		case p.DeletionTimestamp != nil && readiness(n) != corev1.ConditionTrue && hasTaint(n, corev1.TaintNodeOutOfService):
			plan.outOfService = append(plan.outOfService, p)
		}
	}
	if excess := len(terminated) - threshold; threshold > 0 && excess > 0 {
		slices.SortFunc(terminated, func(a, b *corev1.Pod) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		plan.terminated = terminated[:excess]
	}
	return plan
}

func hasTaint(n *corev1.Node, key string) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
}
