package snapshot

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helper "k8s.io/component-helpers/resource"
)

// What a container without a request is taken to use when nodes are ranked (not when they are filtered), as upstream's
// schedutil does: 100 millicores and 200 MiB.
const (
	defaultMilliCPU = 100
	defaultMemory   = 200 * 1024 * 1024
)

// Resources is an amount of each resource: millicores, bytes, bytes, and units of every other resource by name.
type Resources struct {
	MilliCPU  int64
	Memory    int64
	Ephemeral int64
	Scalar    map[v1.ResourceName]int64
}

// Zero says whether nothing is asked for.
func (r *Resources) Zero() bool {
	return r.MilliCPU == 0 && r.Memory == 0 && r.Ephemeral == 0 && len(r.Scalar) == 0
}

// Get returns the amount of one resource; pods count as units of "pods".
func (r *Resources) Get(name v1.ResourceName) int64 {
	switch name {
	case v1.ResourceCPU:
		return r.MilliCPU
	case v1.ResourceMemory:
		return r.Memory
	case v1.ResourceEphemeralStorage:
		return r.Ephemeral
	default:
		return r.Scalar[name]
	}
}

// FromList turns an API resource list into Resources; "pods" is left out.
func FromList(list v1.ResourceList) Resources {
	var out Resources
	for name, q := range list {
		switch name {
		case v1.ResourceCPU:
			out.MilliCPU = q.MilliValue()
		case v1.ResourceMemory:
			out.Memory = q.Value()
		case v1.ResourceEphemeralStorage:
			out.Ephemeral = q.Value()
		case v1.ResourcePods:
		default:
			if v := q.Value(); v != 0 {
				if out.Scalar == nil {
					out.Scalar = map[v1.ResourceName]int64{}
				}
				out.Scalar[name] = v
			}
		}
	}
	return out
}

// podRequests gives what a pod asks for, and what it is taken to use for ranking. A placed pod counts what the kubelet has
// allocated to it if that is more (in-place resize).
func podRequests(pod *v1.Pod, placed bool) (req, nonZero Resources) {
	opts := helper.PodResourcesOptions{UseStatusResources: placed}
	req = FromList(helper.PodRequests(pod, opts))
	opts.NonMissingContainerRequests = v1.ResourceList{
		v1.ResourceCPU:    *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(defaultMemory, resource.BinarySI),
	}
	nonZero = FromList(helper.PodRequests(pod, opts))
	nonZero.Scalar = nil
	return req, nonZero
}
