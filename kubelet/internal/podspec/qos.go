package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// QOS is the pod's class by the rules of the documentation: every container with equal cpu and memory requests and
// limits makes Guaranteed, none with either makes BestEffort, and the rest is Burstable.
func QOS(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	guaranteed := true
	if r := pod.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		addSupported(requests, r.Requests)
		guaranteed = addSupported(limits, r.Limits) == 2
	} else {
		Visit(pod, func(c *corev1.Container, kind Kind) bool {
			if kind == Ephemeral {
				return true
			}
			addSupported(requests, c.Resources.Requests)
			if addSupported(limits, c.Resources.Limits) != 2 {
				guaranteed = false
			}
			return true
		})
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	if guaranteed && len(requests) == len(limits) {
		for name, q := range requests {
			if lim, ok := limits[name]; !ok || lim.Cmp(q) != 0 {
				guaranteed = false
			}
		}
		if guaranteed {
			return corev1.PodQOSGuaranteed
		}
	}
	return corev1.PodQOSBurstable
}

// addSupported sums cpu and memory above zero and returns how many of the two the list has.
func addSupported(sum, list corev1.ResourceList) int {
	n := 0
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		q, ok := list[name]
		if !ok || q.Sign() <= 0 {
			continue
		}
		n++
		total := sum[name]
		total.Add(q)
		sum[name] = total
	}
	return n
}

// Requests is what the scheduler and node admission count for the pod: the greater of the running containers (with
// sidecars) and each init step, plus overhead; pod-level requests win where they are set.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	return aggregate(pod, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Requests },
		func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Requests })
}

// Limits sums limits the same way.
func Limits(pod *corev1.Pod) corev1.ResourceList {
	return aggregate(pod, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Limits },
		func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Limits })
}

func aggregate(pod *corev1.Pod, of func(*corev1.Container) corev1.ResourceList,
	podLevel func(*corev1.ResourceRequirements) corev1.ResourceList,
) corev1.ResourceList {
	total, sidecars, initMax := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range pod.Spec.Containers {
		add(total, of(&pod.Spec.Containers[i]))
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if IsRestartableInit(c) {
			add(total, of(c))
			add(sidecars, of(c))
			maxInto(initMax, sidecars)
			continue
		}
		step := corev1.ResourceList{}
		add(step, sidecars)
		add(step, of(c))
		maxInto(initMax, step)
	}
	maxInto(total, initMax)
	if pod.Spec.Resources != nil {
		for name, q := range podLevel(pod.Spec.Resources) {
			total[name] = q.DeepCopy()
		}
	}
	for name, q := range pod.Spec.Overhead {
		if have, ok := total[name]; ok || podLevel(&corev1.ResourceRequirements{Requests: pod.Spec.Overhead}) != nil {
			have.Add(q)
			total[name] = have
		}
	}
	return total
}

// EffectiveLimits is the limits of a container, with the pod's own where the container has none.
func EffectiveLimits(pod, c *corev1.ResourceRequirements) corev1.ResourceList {
	out := c.Limits.DeepCopy()
	if out == nil {
		out = corev1.ResourceList{}
	}
	if pod == nil {
		return out
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		have := out[name]
		if q, ok := pod.Limits[name]; ok && have.IsZero() && !q.IsZero() {
			out[name] = q.DeepCopy()
		}
	}
	return out
}

func add(sum, list corev1.ResourceList) {
	for name, q := range list {
		have := sum[name]
		have.Add(q)
		sum[name] = have
	}
}

func maxInto(dst, list corev1.ResourceList) {
	for name, q := range list {
		if have, ok := dst[name]; !ok || q.Cmp(have) > 0 {
			dst[name] = q.DeepCopy()
		}
	}
}

// Quantity reads one resource of a list, zero when absent.
func Quantity(list corev1.ResourceList, name corev1.ResourceName) resource.Quantity {
	return list[name]
}

// OOMScoreAdj is the container's oom_score_adj, upstream's formula; memoryCapacity is the node's, in bytes.
func OOMScoreAdj(pod *corev1.Pod, c *corev1.Container, memoryCapacity int64) int64 {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= 2000001000 || IsStatic(pod) {
		return -997
	}
	switch QOS(pod) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	if memoryCapacity <= 0 {
		return 999
	}
	request := c.Resources.Requests.Memory().Value()
	adj := 1000 - 1000*request/memoryCapacity
	if _, kind := Find(pod, c.Name); kind == Init && IsRestartableInit(c) {
		least := int64(-1)
		for i := range pod.Spec.Containers {
			m := pod.Spec.Containers[i].Resources.Requests.Memory().Value()
			if least < 0 || m < least {
				least = m
			}
		}
		if least > request {
			adj = 1000 - 1000*least/memoryCapacity
		}
	}
	if adj < 3 {
		return 3
	}
	if adj == 1000 {
		return adj - 1
	}
	return adj
}
