package plugin

import "flagship/scheduler/internal/snapshot"

// NodeName keeps a pod that names its node to that node.
type NodeName struct{}

// Name is upstream's plugin name.
func (NodeName) Name() string { return "NodeName" }

// Prepare implements Filter.
func (NodeName) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	if p.Spec.NodeName == "" {
		return Prepared{}
	}
	no := verdict(Unresolvable, "node(s) didn't match the requested node name")
	return Prepared{Check: func(node int) *Verdict {
		if c.Name(node) != p.Spec.NodeName {
			return no
		}
		return nil
	}}
}

// Wake implements Filter.
func (NodeName) Wake(c *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	return ev.Kind == snapshot.KindNode && ev.Action != snapshot.Delete && c.Name(ev.Node) == p.Spec.NodeName
}
