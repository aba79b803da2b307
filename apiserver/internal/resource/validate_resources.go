package resource

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	helper "k8s.io/component-helpers/resource"
)

// The names without a domain that the cluster knows.
var (
	containerResources = sets.New(corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage)
	countedResources   = sets.New(corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers)
	quotaResources = containerResources.Union(countedResources).Union(sets.New(corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
		corev1.ResourceRequestsStorage, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage))
	standardResources = quotaResources.Union(sets.New(corev1.ResourceStorage))
)

func hugePage(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func quotaHugePage(name corev1.ResourceName) bool {
	return hugePage(name) || strings.HasPrefix(string(name), "requests.hugepages-")
}

func native(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

func extended(name corev1.ResourceName) bool {
	if native(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

func overcommittable(name corev1.ResourceName) bool { return native(name) && !hugePage(name) }

// resourceName checks any resource's name.
func (c *checks) resourceName(name corev1.ResourceName, p *field.Path) bool {
	if msgs := validation.IsQualifiedName(string(name)); len(msgs) > 0 {
		c.invalid(p, name, msgs...)
		return false
	}
	if !strings.Contains(string(name), "/") && !standardResources.Has(name) && !quotaHugePage(name) {
		c.invalid(p, name, "must be a standard resource type or fully qualified")
		return false
	}
	return true
}

func (c *checks) containerResourceName(name corev1.ResourceName, p *field.Path) {
	c.resourceName(name, p)
	switch {
	case !strings.Contains(string(name), "/"):
		if !containerResources.Has(name) && !hugePage(name) {
			c.invalid(p, name, "must be a standard resource for containers")
		}
	case !native(name) && !extended(name):
		c.invalid(p, name, "doesn't follow extended resource name standard")
	}
}

func (c *checks) podResourceName(name corev1.ResourceName, p *field.Path) {
	if c.resourceName(name, p) && !helper.IsSupportedPodLevelResource(name) {
		c.list = append(c.list, field.NotSupported(p, name, sets.List(helper.SupportedPodLevelResources())))
	}
}

// resourceQuantity checks an amount: not negative, whole where things are counted.
func (c *checks) resourceQuantity(name corev1.ResourceName, q apiresource.Quantity, p *field.Path) {
	c.quantityNotNegative(p, q)
	if (countedResources.Has(name) || extended(name)) && q.MilliValue()%1000 != 0 {
		c.invalid(p, q, "must be an integer")
	}
}

func (c *checks) hugePages(name corev1.ResourceName, q apiresource.Quantity, p *field.Path) {
	size, err := apiresource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err != nil || size.Sign() <= 0 || size.MilliValue()%1000 != 0 || q.Value()%size.Value() != 0 {
		c.invalid(p, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name))
	}
}

func (c *checks) resources(r *corev1.ResourceRequirements, claims sets.Set[string], p *field.Path, name func(corev1.ResourceName, *field.Path)) {
	limits, requests := p.Child("limits"), p.Child("requests")
	compute, huge := false, false
	one := func(n corev1.ResourceName, q apiresource.Quantity, at *field.Path) {
		name(n, at)
		c.resourceQuantity(n, q, at)
		if hugePage(n) {
			huge = true
			c.hugePages(n, q, at)
		}
		compute = compute || n == corev1.ResourceCPU || n == corev1.ResourceMemory
	}
	for n, q := range r.Limits {
		one(n, q, limits.Key(string(n)))
	}
	for n, q := range r.Requests {
		one(n, q, requests.Key(string(n)))
		limit, ok := r.Limits[n]
		switch {
		case !ok && !overcommittable(n):
			c.required(limits, "Limit must be set for non overcommitable resources")
		case !ok:
		case q.Cmp(limit) != 0 && !overcommittable(n):
			c.invalid(requests, q.String(), fmt.Sprintf("must be equal to %s limit of %s", n, limit.String()))
		case q.Cmp(limit) > 0:
			c.invalid(requests, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", n, limit.String()))
		}
	}
	if huge && !compute {
		c.forbidden(p, "HugePages require cpu or memory")
	}
	c.claimNames(r.Claims, claims, p.Child("claims"))
}

// claimNames checks what a container takes from the pod's claims: each once,
// whole or by request.
func (c *checks) claimNames(list []corev1.ResourceClaim, known sets.Set[string], p *field.Path) {
	seen := sets.Set[string]{}
	for i, claim := range list {
		at := p.Index(i)
		if claim.Name == "" {
			c.required(at, "")
			continue
		}
		if seen.Has(claim.Name) {
			c.duplicate(at, claim.Name)
		} else {
			key := claim.Name
			if claim.Request != "" {
				c.label(at.Child("request"), claim.Request)
				key += "/" + claim.Request
			}
			if seen.Has(key) {
				c.duplicate(at, key)
			} else if claim.Request == "" {
				for other := range seen {
					if strings.HasPrefix(other, claim.Name+"/") {
						c.duplicate(at, claim.Name)
					}
				}
			}
			seen.Insert(key)
		}
		if !known.Has(claim.Name) {
			e := field.NotFound(at, claim.Name)
			e.Detail = "must be one of the names in pod.spec.resourceClaims"
			if len(known) == 0 {
				e.Detail += " which is empty"
			} else {
				e.Detail += ": " + strings.Join(sets.List(known), ", ")
			}
			c.list = append(c.list, e)
		}
	}
}

func (v *podScope) resourceClaims(p *field.Path) {
	seen := sets.Set[string]{}
	for i, claim := range v.spec.ResourceClaims {
		if v.meta != nil {
			if _, mirror := v.meta.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
				v.forbidden(field.NewPath(""), "static pods do not support resource claims")
				continue
			}
		}
		at := p.Index(i)
		switch {
		case claim.Name == "":
			v.required(at.Child("name"), "")
		case seen.Has(claim.Name):
			v.duplicate(at.Child("name"), claim.Name)
		default:
			v.label(at.Child("name"), claim.Name)
			seen.Insert(claim.Name)
		}
		if claim.ResourceClaimName != nil && claim.ResourceClaimTemplateName != nil {
			v.invalid(at, shown(claim), "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
		}
		if claim.ResourceClaimName == nil && claim.ResourceClaimTemplateName == nil {
			v.invalid(at, shown(claim), "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
		}
		if claim.ResourceClaimName != nil {
			v.subdomain(at.Child("resourceClaimName"), *claim.ResourceClaimName)
		}
		if claim.ResourceClaimTemplateName != nil {
			v.subdomain(at.Child("resourceClaimTemplateName"), *claim.ResourceClaimTemplateName)
		}
	}
}

// podResources checks a pod's own resources, KEP-2837, beside its containers'.
func (v *podScope) podResources(spec *field.Path) {
	r, p := v.spec.Resources, spec.Child("resources")
	if r == nil {
		return
	}
	if v.spec.OS != nil && v.spec.OS.Name == corev1.Windows {
		v.forbidden(p, "may not be set for a windows pod")
		return
	}
	if r.Claims != nil {
		v.forbidden(p.Child("claims"), "claims may not be set for Resources at pod-level")
	}
	v.resources(r, v.claims, p, v.podResourceName)
	pod := &corev1.Pod{Spec: *v.spec}
	for n, sum := range helper.AggregateContainerRequests(pod, helper.PodResourcesOptions{}) {
		if q, ok := r.Requests[n]; ok && sum.Cmp(q) > 0 {
			v.invalid(p.Child("requests").Key(string(n)), q.String(), "must be greater than or equal to aggregate container requests of "+sum.String())
		}
	}
	for n, sum := range helper.AggregateContainerLimits(pod, helper.PodResourcesOptions{}) {
		if q, ok := r.Limits[n]; ok && hugePage(n) && sum.Cmp(q) > 0 {
			v.invalid(p.Child("limits").Key(string(n)), q.String(), "must be greater than or equal to aggregate container limits of "+sum.String())
		}
	}
	for i := range v.spec.Containers {
		for n, limit := range v.spec.Containers[i].Resources.Limits {
			if q, ok := r.Limits[n]; ok && limit.Cmp(q) > 0 {
				v.invalid(p.Child("containers").Index(i).Key(string(n)).Child("limits"), limit.String(), "must be less than or equal to pod limits of "+q.String())
			}
		}
	}
}
