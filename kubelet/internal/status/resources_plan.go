package status

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// Below these, in millicores, what the kernel keeps is coarser than what was asked for, and the declaration is shown.
const (
	minCPULimit   = 10
	minCPURequest = 2
)

// resources is what a container really has: the runtime's answer where it runs, in the form of what it was granted.
func resources(c *corev1.Container, cur *podstate.Container, old *corev1.ContainerStatus, actuated corev1.ResourceRequirements, id string) *corev1.ResourceRequirements {
	out := c.Resources.DeepCopy()
	if cur.State != podstate.Running {
		return out
	}
	if old == nil || old.State.Running == nil || old.ContainerID != id || old.Resources == nil {
		old = &corev1.ContainerStatus{Resources: &corev1.ResourceRequirements{}}
	}
	r := cur.Resources
	if r == nil {
		r = &podstate.Resources{}
	}
	keep := func(list, before corev1.ResourceList, name corev1.ResourceName) {
		if q, ok := before[name]; ok {
			list[name] = q.DeepCopy()
		}
	}
	if out.Limits != nil {
		if milli := quotaToMilli(r); milli == 0 {
			keep(out.Limits, old.Resources.Limits, corev1.ResourceCPU)
		} else if milli > minCPULimit || out.Limits.Cpu().MilliValue() > minCPULimit {
			out.Limits[corev1.ResourceCPU] = *resource.NewMilliQuantity(milli, resource.DecimalSI)
		}
		if r.MemoryLimit > 0 {
			out.Limits[corev1.ResourceMemory] = *resource.NewQuantity(r.MemoryLimit, resource.BinarySI)
		} else {
			keep(out.Limits, old.Resources.Limits, corev1.ResourceMemory)
		}
	}
	if out.Requests != nil {
		if milli := sharesToMilli(r.CPUShares); milli == 0 {
			keep(out.Requests, old.Resources.Requests, corev1.ResourceCPU)
		} else if milli > minCPURequest || out.Requests.Cpu().MilliValue() > minCPURequest {
			out.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(milli, resource.DecimalSI)
		}
		keep(out.Requests, actuated.Requests, corev1.ResourceMemory)
	}
	return out
}

func sharesToMilli(shares int64) int64 {
	return (shares*1000 + 1023) / 1024
}

func quotaToMilli(r *podstate.Resources) int64 {
	if r.CPUPeriod <= 0 || r.CPUQuota <= 0 {
		return 0
	}
	return r.CPUQuota * 1000 / r.CPUPeriod
}

// podResources is what the pod as a whole has.
func podResources(in Input, requests corev1.ResourceList) *corev1.ResourceRequirements {
	out := &corev1.ResourceRequirements{Requests: requests.DeepCopy(), Limits: podspec.Limits(in.Pod)}
	if have := in.Actuated.PodLevelResources; have != nil {
		for name, q := range have.Requests {
			out.Requests[name] = q.DeepCopy()
		}
		for name, q := range have.Limits {
			out.Limits[name] = q.DeepCopy()
		}
	}
	return out
}
