package plugin

import "flagship/scheduler/internal/snapshot"

// DynamicResources refuses pods with resource claims: allocating devices (resource.k8s.io) is not implemented, and running
// such a pod without its devices would be worse than saying so.
type DynamicResources struct{}

// Name is upstream's plugin name.
func (DynamicResources) Name() string { return "DynamicResources" }

// Prepare implements Filter.
func (DynamicResources) Prepare(_ *snapshot.Cluster, p *snapshot.Pod) Prepared {
	if len(p.Spec.ResourceClaims) == 0 {
		return Prepared{}
	}
	return Prepared{Rejected: verdict(Unresolvable, "pod has resource claims, which this scheduler does not allocate")}
}

// Wake implements Filter.
func (DynamicResources) Wake(*snapshot.Cluster, snapshot.Event, *snapshot.Pod) bool { return false }
