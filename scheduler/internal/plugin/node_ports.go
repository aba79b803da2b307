package plugin

import "flagship/scheduler/internal/snapshot"

// NodePorts keeps two pods from taking one host port.
type NodePorts struct{}

// Name is upstream's plugin name.
func (NodePorts) Name() string { return "NodePorts" }

// Prepare implements Filter.
func (NodePorts) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	if len(p.Ports) == 0 {
		return Prepared{}
	}
	no := verdict(Unschedulable, "node(s) didn't have free ports for the requested pod ports")
	return Prepared{Check: func(node int) *Verdict {
		if portsOverlap(p.Ports, c.Ports(node)) {
			return no
		}
		return nil
	}}
}

func portsOverlap(a, b []snapshot.HostPort) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Overlaps(y) {
				return true
			}
		}
	}
	return false
}

// Wake implements Filter.
func (NodePorts) Wake(_ *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	switch {
	case ev.Kind == snapshot.KindAssignedPod && ev.Action == snapshot.Delete:
		return portsOverlap(p.Ports, ev.Pod.Ports)
	case ev.Kind == snapshot.KindNode:
		return ev.Action == snapshot.Add
	default:
		return false
	}
}
