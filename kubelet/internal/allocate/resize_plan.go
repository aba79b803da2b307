package allocate

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"flagship/kubelet/internal/podspec"
)

// InfoOf is what the pod declares.
func InfoOf(pod *corev1.Pod) Info {
	i := Info{ContainerResources: map[string]corev1.ResourceRequirements{}, PodLevelResources: pod.Spec.Resources.DeepCopy()}
	podspec.Visit(pod, func(c *corev1.Container, kind podspec.Kind) bool {
		if kind != podspec.Ephemeral {
			i.ContainerResources[c.Name] = *c.Resources.DeepCopy()
		}
		return true
	})
	return i
}

// Substitute is the pod with these resources in place of those it declares; the pod itself when they are the same.
func Substitute(pod *corev1.Pod, i Info) (out *corev1.Pod, differs bool) {
	differs = !apiequality.Semantic.DeepEqual(pod.Spec.Resources, i.PodLevelResources)
	podspec.Visit(pod, func(c *corev1.Container, _ podspec.Kind) bool {
		if r, ok := i.ContainerResources[c.Name]; ok && !apiequality.Semantic.DeepEqual(c.Resources, r) {
			differs = true
		}
		return !differs
	})
	if !differs {
		return pod, false
	}
	out = pod.DeepCopy()
	out.Spec.Resources = i.PodLevelResources.DeepCopy()
	podspec.Visit(out, func(c *corev1.Container, _ podspec.Kind) bool {
		if r, ok := i.ContainerResources[c.Name]; ok {
			c.Resources = *r.DeepCopy()
		}
		return true
	})
	return out, true
}

// Decide says whether a running pod may have what it declares beside the others (with what they were granted): an empty
// reason grants it, else it is Infeasible on this node for good, or Deferred until there is room.
func Decide(pod *corev1.Pod, others []*corev1.Pod, allocatable corev1.ResourceList) (reason, message string) {
	want := podspec.Requests(pod)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		n, have, used := value(want, name), value(allocatable, name), int64(0)
		if n > have {
			return corev1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, n, have)
		}
		for _, o := range others {
			used += value(podspec.Requests(o), name)
		}
		if used+n > have {
			return corev1.PodReasonDeferred, fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, n, used, have)
		}
	}
	return "", ""
}

func value(list corev1.ResourceList, name corev1.ResourceName) int64 {
	q := list[name]
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// Message is the text of an event about a resize, which ends in what the pod declares as JSON.
func Message(prefix string, pod *corev1.Pod, generation int64, problem string) string {
	type container struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources"`
	}
	summary := struct {
		InitContainers []container `json:"initContainers,omitempty"`
		Containers     []container `json:"containers,omitempty"`
		Generation     int64       `json:"generation"`
		Error          string      `json:"error,omitempty"`
	}{Generation: generation, Error: problem}
	for _, c := range pod.Spec.InitContainers {
		summary.InitContainers = append(summary.InitContainers, container{c.Name, c.Resources})
	}
	for _, c := range pod.Spec.Containers {
		summary.Containers = append(summary.Containers, container{c.Name, c.Resources})
	}
	raw, err := json.Marshal(summary)
	if err != nil {
		return prefix
	}
	return prefix + ": " + string(raw)
}
