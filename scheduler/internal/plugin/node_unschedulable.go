package plugin

import (
	v1 "k8s.io/api/core/v1"

	"flagship/scheduler/internal/snapshot"
)

// NodeUnschedulable keeps pods off cordoned nodes, unless they tolerate the cordon's taint.
type NodeUnschedulable struct{}

// Name is upstream's plugin name.
func (NodeUnschedulable) Name() string { return "NodeUnschedulable" }

func (NodeUnschedulable) tolerated(p *snapshot.Pod) bool {
	return tolerates(p.Spec.Tolerations, &v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule})
}

// Prepare implements Filter.
func (n NodeUnschedulable) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	if n.tolerated(p) {
		return Prepared{}
	}
	no := verdict(Unresolvable, "node(s) were unschedulable")
	return Prepared{Check: func(node int) *Verdict {
		if c.Nodes[node].Spec.Unschedulable {
			return no
		}
		return nil
	}}
}

// Wake implements Filter.
func (n NodeUnschedulable) Wake(c *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	if ev.Kind == snapshot.KindAssignedPod {
		return ev.Action == snapshot.Update && ev.Pod.UID == p.UID
	}
	return ev.Kind == snapshot.KindNode && (ev.Action == snapshot.Add || ev.Change.Unschedulable) &&
		c.Nodes[ev.Node] != nil && !c.Nodes[ev.Node].Spec.Unschedulable
}
