package tenancy

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"flagship/controller-manager/internal/pod"
)

// counts says whether a pod still uses quota: not at its end, and not stuck in deletion beyond its grace.
func counts(p *corev1.Pod, now time.Time) bool {
	if pod.Terminal(p) {
		return false
	}
	if p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil {
		return !now.After(p.DeletionTimestamp.Time.Add(time.Duration(*p.DeletionGracePeriodSeconds) * time.Second))
	}
	return true
}

// inScopes says whether a pod is in all scopes of a quota.
func inScopes(p *corev1.Pod, q *corev1.ResourceQuota) bool {
	for _, s := range q.Spec.Scopes {
		if !inScope(p, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists}) {
			return false
		}
	}
	if q.Spec.ScopeSelector != nil {
		for _, r := range q.Spec.ScopeSelector.MatchExpressions {
			if !inScope(p, r) {
				return false
			}
		}
	}
	return true
}

func inScope(p *corev1.Pod, r corev1.ScopedResourceSelectorRequirement) bool {
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return p.Spec.ActiveDeadlineSeconds != nil && *p.Spec.ActiveDeadlineSeconds >= 0
	case corev1.ResourceQuotaScopeNotTerminating:
		return p.Spec.ActiveDeadlineSeconds == nil
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(p)
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(p)
	case corev1.ResourceQuotaScopePriorityClass:
		name := p.Spec.PriorityClassName
		switch r.Operator {
		case corev1.ScopeSelectorOpIn:
			return slices.Contains(r.Values, name)
		case corev1.ScopeSelectorOpNotIn:
			return !slices.Contains(r.Values, name)
		case corev1.ScopeSelectorOpDoesNotExist:
			return name == ""
		default:
			return name != ""
		}
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossNamespace(p)
	}
	return false
}

func bestEffort(p *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			for _, m := range []corev1.ResourceList{list[i].Resources.Requests, list[i].Resources.Limits} {
				for name, q := range m {
					if (name == corev1.ResourceCPU || name == corev1.ResourceMemory) && !q.IsZero() {
						return false
					}
				}
			}
		}
	}
	return true
}

func crossNamespace(p *corev1.Pod) bool {
	a := p.Spec.Affinity
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	weighted := func(list []corev1.WeightedPodAffinityTerm) {
		for _, t := range list {
			terms = append(terms, t.PodAffinityTerm)
		}
	}
	if a.PodAffinity != nil {
		terms = append(terms, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a.PodAntiAffinity != nil {
		terms = append(terms, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}

func add(to corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	sum := to[name]
	sum.Add(q)
	to[name] = sum
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

// podUsage is what a pod uses, under all the names that quotas may have for it.
func podUsage(p *corev1.Pod, now time.Time) corev1.ResourceList {
	out := corev1.ResourceList{"count/pods": one()}
	if !counts(p, now) {
		return out
	}
	out[corev1.ResourcePods] = one()
	requests := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true})
	limits := resourcehelper.PodLimits(p, resourcehelper.PodResourcesOptions{UseStatusResources: true})
	for name, q := range requests {
		if native(name) {
			out[name] = q
		}
		out[corev1.ResourceName("requests."+string(name))] = q
	}
	for name, q := range limits {
		out[corev1.ResourceName("limits."+string(name))] = q
	}
	return out
}

func native(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// serviceUsage is what a Service uses.
func serviceUsage(s *corev1.Service) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourceServices: one(), "count/services": one()}
	ports := *resource.NewQuantity(int64(len(s.Spec.Ports)), resource.DecimalSI)
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		out[corev1.ResourceServicesNodePorts] = ports
	case corev1.ServiceTypeLoadBalancer:
		out[corev1.ResourceServicesLoadBalancers] = one()
		allocated := int64(0)
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 || s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts {
				allocated++
			}
		}
		out[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(allocated, resource.DecimalSI)
	}
	return out
}

// claimUsage is what a persistent volume claim uses, also under its storage class.
func claimUsage(c *corev1.PersistentVolumeClaim) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourcePersistentVolumeClaims: one(), "count/persistentvolumeclaims": one()}
	size := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if have, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; ok && have.Cmp(size) > 0 {
		size = have
	}
	out[corev1.ResourceRequestsStorage] = size
	class := c.Annotations[corev1.BetaStorageClassAnnotation]
	if class == "" && c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	if class != "" {
		out[corev1.ResourceName(class+".storageclass.storage.k8s.io/requests.storage")] = size
		out[corev1.ResourceName(class+".storageclass.storage.k8s.io/persistentvolumeclaims")] = one()
	}
	return out
}

// countedResource is the resource that a quota's name counts by number alone: "count/deployments.apps", "secrets".
func countedResource(name corev1.ResourceName) (resource, group string, ok bool) {
	switch name {
	case corev1.ResourceConfigMaps, corev1.ResourceSecrets, corev1.ResourceReplicationControllers, corev1.ResourceQuotas:
		return string(name), "", true
	}
	text, ok := strings.CutPrefix(string(name), "count/")
	if !ok || text == "pods" || text == "services" || text == "persistentvolumeclaims" {
		return "", "", false
	}
	resource, group, _ = strings.Cut(text, ".")
	return resource, group, true
}

// recounts says whether a change of a quota asks for a count. Charges, which only change what is used, do not.
func recounts(old, now *corev1.ResourceQuota) bool {
	if old == nil || now == nil {
		return true
	}
	return !equality.Semantic.DeepEqual(old.Spec, now.Spec) || !equality.Semantic.DeepEqual(now.Status.Hard, now.Spec.Hard)
}

// podFrees says whether a pod may use less than it did.
func podFrees(old, now *corev1.Pod) bool {
	return pod.Terminal(old) != pod.Terminal(now) || (old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) || old.Generation != now.Generation
}
