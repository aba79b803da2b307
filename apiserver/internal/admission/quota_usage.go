package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	resourcehelper "k8s.io/component-helpers/resource"
)

// usage says what an object of some kind counts against a quota.
type usage struct {
	// of returns what the object uses.
	of func(o runtime.Object) corev1.ResourceList
	// counts says whether a quota's resource is about this kind.
	counts func(name corev1.ResourceName) bool
	// scope says whether the object is in a scope; nil for kinds that are in none.
	scope func(s corev1.ScopedResourceSelectorRequirement, o runtime.Object) bool
	// constrain checks what has to be stated for the resources to be counted; may be nil.
	constrain func(required []corev1.ResourceName, o runtime.Object) error
}

func (u *usage) counted(hard corev1.ResourceList) []corev1.ResourceName {
	var out []corev1.ResourceName
	for n := range hard {
		if u.counts(n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

func (u *usage) constraints(required []corev1.ResourceName, o runtime.Object) error {
	if u.constrain == nil {
		return nil
	}
	return u.constrain(required, o)
}

// inScope says whether all the scopes of a quota hold for the object.
func (u *usage) inScope(q *corev1.ResourceQuota, o runtime.Object) bool {
	for _, s := range scopesOf(q) {
		if u.scope == nil || !u.scope(s, o) {
			return false
		}
	}
	return true
}

func scopesOf(q *corev1.ResourceQuota) []corev1.ScopedResourceSelectorRequirement {
	var all []corev1.ScopedResourceSelectorRequirement
	for _, s := range q.Spec.Scopes {
		all = append(all, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		all = append(all, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return all
}

// usageOf returns how the request counts, or nil if it does not.
func usageOf(a *Attributes, now time.Time) *usage {
	switch a.Resource.Group + "/" + a.Resource.Resource {
	case "/pods":
		if a.Subresource == "" && a.Operation == Create || a.Subresource == "resize" && a.Operation == Update ||
			a.Subresource == "" && a.Operation == Update && terminating(a.Object) != terminating(a.OldObject) {
			return podUsage(now)
		}
		return nil
	case "/services":
		if a.Subresource == "" {
			return serviceUsage()
		}
		return nil
	case "/persistentvolumeclaims":
		if a.Subresource == "" || a.Subresource == "status" && a.Operation == Update {
			return claimUsage()
		}
		return nil
	case "/events", "events.k8s.io/events", "/bindings", "authorization.k8s.io/localsubjectaccessreviews":
		return nil
	}
	if a.Operation != Create || a.Subresource != "" {
		return nil
	}
	return countUsage(a.Resource.Group, a.Resource.Resource)
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

func countName(group, name string) corev1.ResourceName {
	if group != "" {
		name += "." + group
	}
	return corev1.ResourceName("count/" + name)
}

// countUsage counts objects; some kinds of the core group have a second name from before count/ was there.
func countUsage(group, name string) *usage {
	names := []corev1.ResourceName{countName(group, name)}
	if group == "" {
		switch name {
		case "configmaps", "resourcequotas", "replicationcontrollers", "secrets":
			names = append(names, corev1.ResourceName(name))
		}
	}
	return &usage{
		counts: func(n corev1.ResourceName) bool { return slices.Contains(names, n) },
		of: func(runtime.Object) corev1.ResourceList {
			out := corev1.ResourceList{}
			for _, n := range names {
				out[n] = one()
			}
			return out
		},
	}
}

func serviceUsage() *usage {
	names := []corev1.ResourceName{
		countName("", "services"), corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
	}
	return &usage{
		counts: func(n corev1.ResourceName) bool { return slices.Contains(names, n) },
		of: func(o runtime.Object) corev1.ResourceList {
			svc, ok := o.(*corev1.Service)
			if !ok {
				return nil
			}
			nodePorts, balancers := int64(0), int64(0)
			switch svc.Spec.Type {
			case corev1.ServiceTypeNodePort:
				nodePorts = int64(len(svc.Spec.Ports))
			case corev1.ServiceTypeLoadBalancer:
				balancers, nodePorts = 1, int64(len(svc.Spec.Ports))
				if b := svc.Spec.AllocateLoadBalancerNodePorts; b != nil && !*b {
					nodePorts = 0
					for _, port := range svc.Spec.Ports {
						if port.NodePort != 0 {
							nodePorts++
						}
					}
				}
			}
			return corev1.ResourceList{
				names[0]: one(), names[1]: one(),
				names[2]: *resource.NewQuantity(nodePorts, resource.DecimalSI),
				names[3]: *resource.NewQuantity(balancers, resource.DecimalSI),
			}
		},
	}
}

const classSuffix = ".storageclass.storage.k8s.io/"

func claimUsage() *usage {
	count := countName("", "persistentvolumeclaims")
	return &usage{
		counts: func(n corev1.ResourceName) bool {
			return n == count || n == corev1.ResourcePersistentVolumeClaims || n == corev1.ResourceRequestsStorage ||
				strings.HasSuffix(string(n), classSuffix+string(corev1.ResourcePersistentVolumeClaims)) ||
				strings.HasSuffix(string(n), classSuffix+string(corev1.ResourceRequestsStorage))
		},
		of: func(o runtime.Object) corev1.ResourceList {
			pvc, ok := o.(*corev1.PersistentVolumeClaim)
			if !ok {
				return nil
			}
			out := corev1.ResourceList{count: one(), corev1.ResourcePersistentVolumeClaims: one()}
			size, sized := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
			if allocated, ok := pvc.Status.AllocatedResources[corev1.ResourceStorage]; sized && ok && allocated.Cmp(size) > 0 {
				size = allocated
			}
			size = size.DeepCopy()
			size.RoundUp(0)
			if sized {
				out[corev1.ResourceRequestsStorage] = size
			}
			if class := claimClass(pvc); class != "" {
				out[corev1.ResourceName(class+classSuffix)+corev1.ResourcePersistentVolumeClaims] = one()
				if sized {
					out[corev1.ResourceName(class+classSuffix)+corev1.ResourceRequestsStorage] = size
				}
			}
			return out
		},
		scope: func(s corev1.ScopedResourceSelectorRequirement, o runtime.Object) bool {
			pvc, ok := o.(*corev1.PersistentVolumeClaim)
			return ok && s.ScopeName == corev1.ResourceQuotaScopeVolumeAttributesClass && selected(s, volumeAttributes(pvc)...)
		},
	}
}

func volumeAttributes(pvc *corev1.PersistentVolumeClaim) []string {
	var out []string
	for _, p := range []*string{pvc.Spec.VolumeAttributesClassName, pvc.Status.CurrentVolumeAttributesClassName} {
		if p != nil && *p != "" {
			out = append(out, *p)
		}
	}
	if m := pvc.Status.ModifyVolumeStatus; m != nil && m.TargetVolumeAttributesClassName != "" {
		out = append(out, m.TargetVolumeAttributesClassName)
	}
	return out
}

// selected says whether a scope's requirement holds for an object that has the names (one of them is enough).
func selected(s corev1.ScopedResourceSelectorRequirement, names ...string) bool {
	in := slices.ContainsFunc(names, func(n string) bool { return slices.Contains(s.Values, n) })
	switch s.Operator {
	case corev1.ScopeSelectorOpExists:
		return len(names) > 0
	case corev1.ScopeSelectorOpDoesNotExist:
		return len(names) == 0
	case corev1.ScopeSelectorOpIn:
		return in
	case corev1.ScopeSelectorOpNotIn:
		return !in
	}
	return false
}

var podNames = []corev1.ResourceName{
	"count/pods", corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
}

func podUsage(now time.Time) *usage {
	return &usage{
		counts: func(n corev1.ResourceName) bool {
			rest, requests := strings.CutPrefix(string(n), corev1.DefaultResourceRequestsPrefix)
			return slices.Contains(podNames, n) || strings.HasPrefix(rest, corev1.ResourceHugePagesPrefix) ||
				requests && extendedResource(corev1.ResourceName(rest))
		},
		of:        func(o runtime.Object) corev1.ResourceList { return podUses(o, now) },
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
		} else if extendedResource(n) {
			out[corev1.DefaultResourceRequestsPrefix+n] = v
		}
	}
	return out
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

func terminating(o runtime.Object) bool {
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
		return terminating(pod)
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating(pod)
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
