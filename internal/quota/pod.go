package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	resourcehelper "k8s.io/component-helpers/resource"
)

var podNames = []corev1.ResourceName{
	"count/pods", corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
}

// Pods counts pods, and the resources of those that are not at their end at the time.
func Pods(now time.Time) *Evaluator {
	return &Evaluator{
		counts: func(n corev1.ResourceName) bool {
			rest, requests := strings.CutPrefix(string(n), corev1.DefaultResourceRequestsPrefix)
			return slices.Contains(podNames, n) || strings.HasPrefix(rest, corev1.ResourceHugePagesPrefix) ||
				requests && extendedName(corev1.ResourceName(rest))
		},
		Of:        func(o runtime.Object) corev1.ResourceList { return podUses(o, now) },
		scope:     podScope,
		constrain: podConstraints,
	}
}

func podUses(o runtime.Object, now time.Time) corev1.ResourceList {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return nil
	}
	out := corev1.ResourceList{"count/pods": one()}
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return out
	}
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil &&
		now.After(pod.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds)*time.Second)) {
		return out
	}
	opts := resourcehelper.PodResourcesOptions{UseStatusResources: true}
	maps.Copy(out, spell(resourcehelper.PodRequests(pod, opts), resourcehelper.PodLimits(pod, opts)))
	return out
}

// spell names requests and limits as quotas do.
func spell(requests, limits corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourcePods: one()}
	for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if v, ok := requests[n]; ok {
			out[n], out[corev1.DefaultResourceRequestsPrefix+n] = v, v
		}
		if v, ok := limits[n]; ok {
			out["limits."+n] = v
		}
	}
	for n, v := range requests {
		if strings.HasPrefix(string(n), corev1.ResourceHugePagesPrefix) {
			out[n], out[corev1.DefaultResourceRequestsPrefix+n] = v, v
		} else if extendedName(n) && len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(n))) == 0 {
			out[corev1.DefaultResourceRequestsPrefix+n] = v
		}
	}
	return out
}

// extendedName says whether a pod may ask for a resource that Kubernetes itself knows nothing of by this name, or for devices of a class.
func extendedName(name corev1.ResourceName) bool {
	s := string(name)
	return strings.HasPrefix(s, resourcev1.ResourceDeviceClassPrefix) ||
		strings.Contains(s, "/") && !strings.Contains(s, corev1.ResourceDefaultNamespacePrefix) && !strings.HasPrefix(s, corev1.DefaultResourceRequestsPrefix)
}

// podConstraints demands that each container states what the quota counts.
func podConstraints(required []corev1.ResourceName, o runtime.Object) error {
	pod, ok := o.(*corev1.Pod)
	if !ok || resourcehelper.IsPodLevelResourcesSet(pod) {
		return nil
	}
	missing := map[corev1.ResourceName][]string{}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		has := spell(c.Resources.Requests, c.Resources.Limits)
		for _, n := range required {
			switch n {
			case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
				corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory:
				if _, ok := has[n]; !ok {
					missing[n] = append(missing[n], c.Name)
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var parts []string
	for _, n := range slices.Sorted(maps.Keys(missing)) {
		slices.Sort(missing[n])
		parts = append(parts, fmt.Sprintf("%s for: %s", n, strings.Join(missing[n], ",")))
	}
	return fmt.Errorf("must specify %s", strings.Join(parts, "; "))
}

// Terminating says whether a pod is to end by itself, which is a scope.
func Terminating(o runtime.Object) bool {
	pod, ok := o.(*corev1.Pod)
	return ok && pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
}

func podScope(s corev1.ScopedResourceSelectorRequirement, o runtime.Object) bool {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return false
	}
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return Terminating(pod)
	case corev1.ResourceQuotaScopeNotTerminating:
		return !Terminating(pod)
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(pod)
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(pod)
	case corev1.ResourceQuotaScopePriorityClass:
		if pod.Spec.PriorityClassName == "" {
			return selected(s)
		}
		return selected(s, pod.Spec.PriorityClassName)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossNamespace(pod)
	}
	return false
}

func bestEffort(pod *corev1.Pod) bool {
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		return false
	}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for _, l := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
			for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				if v, ok := l[n]; ok && !v.IsZero() {
					return false
				}
			}
		}
	}
	return true
}

func crossNamespace(pod *corev1.Pod) bool {
	a := pod.Spec.Affinity
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	var weighted []corev1.WeightedPodAffinityTerm
	if p := a.PodAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted = append(weighted, p.PreferredDuringSchedulingIgnoredDuringExecution...)
	}
	if p := a.PodAntiAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted = append(weighted, p.PreferredDuringSchedulingIgnoredDuringExecution...)
	}
	for _, w := range weighted {
		terms = append(terms, w.PodAffinityTerm)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}
