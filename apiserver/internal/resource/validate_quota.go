package resource

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checks) quotaList(list corev1.ResourceList, p *field.Path) {
	for n, q := range list {
		at := p.Key(string(n))
		c.resourceName(n, at)
		if !strings.Contains(string(n), "/") && !quotaResources.Has(n) && !quotaHugePage(n) {
			c.invalid(at, n, "must be a standard resource for quota")
		}
		c.resourceQuantity(n, q, at)
	}
}

// podCompute are the resources of pods that quotas with scopes may limit.
var podCompute = sets.New(corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory)

// scopeFits is whether a scope may narrow a limit on a resource.
func scopeFits(s corev1.ResourceQuotaScope, n corev1.ResourceName) bool {
	switch s {
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeNotBestEffort,
		corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return podCompute.Has(n)
	case corev1.ResourceQuotaScopeBestEffort:
		return n == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return n == corev1.ResourcePersistentVolumeClaims || n == corev1.ResourceRequestsStorage
	}
	return true
}

var quotaScopes = sets.New(corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
	corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ResourceQuotaScopeVolumeAttributesClass)

func (c *checks) quotaSpec(s *corev1.ResourceQuotaSpec, p *field.Path) {
	c.quotaList(s.Hard, p.Child("hard"))
	misfits := func(scope corev1.ResourceQuotaScope) int {
		n := 0
		for r := range s.Hard {
			if (quotaResources.Has(r) || quotaHugePage(r)) && !scopeFits(scope, r) {
				n++
			}
		}
		return n
	}
	conflict := func(scopes sets.Set[corev1.ResourceQuotaScope], p *field.Path) {
		for _, pair := range [][2]corev1.ResourceQuotaScope{
			{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
			{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
		} {
			if scopes.HasAll(pair[0], pair[1]) {
				c.invalid(p, s.Scopes, "conflicting scopes")
			}
		}
	}
	for _, scope := range s.Scopes {
		if !quotaScopes.Has(scope) {
			c.invalid(p.Child("scopes"), s.Scopes, "unsupported scope")
		}
		for range misfits(scope) {
			c.invalid(p.Child("scopes"), s.Scopes, "unsupported scope applied to resource")
		}
	}
	conflict(sets.New(s.Scopes...), p.Child("scopes"))
	if s.ScopeSelector == nil {
		return
	}
	at, seen := p.Child("scopeSelector", "matchExpressions"), sets.Set[corev1.ResourceQuotaScope]{}
	for _, e := range s.ScopeSelector.MatchExpressions {
		if !quotaScopes.Has(e.ScopeName) {
			c.invalid(at.Child("scopeName"), e.ScopeName, "unsupported scope")
		}
		for range misfits(e.ScopeName) {
			c.invalid(at, shown(s.ScopeSelector), "unsupported scope applied to resource")
		}
		c.scopeOperator(e, at)
		seen.Insert(e.ScopeName)
	}
	conflict(seen, at)
}

func (c *checks) scopeOperator(e corev1.ScopedResourceSelectorRequirement, p *field.Path) {
	switch e.ScopeName {
	case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
		corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if e.Operator != corev1.ScopeSelectorOpExists {
			c.invalid(p.Child("operator"), e.Operator, "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity")
		}
	}
	switch e.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(e.Values) == 0 {
			c.required(p.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(e.Values) > 0 {
			c.invalid(p.Child("values"), e.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector")
		}
	default:
		c.invalid(p.Child("operator"), e.Operator, "not a valid selector operator")
	}
}

func validateQuota(q *corev1.ResourceQuota) field.ErrorList {
	c := &checks{}
	c.quotaSpec(&q.Spec, root("spec"))
	return c.list
}

func validateQuotaUpdate(q, old *corev1.ResourceQuota) field.ErrorList {
	c := &checks{list: validateQuota(q)}
	if !sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
		c.invalid(root("spec", "scopes"), q.Spec.Scopes, immutable)
	}
	return c.list
}

func validateQuotaStatus(q, _ *corev1.ResourceQuota) field.ErrorList {
	c := &checks{}
	c.quotaList(q.Status.Hard, root("status", "hard"))
	c.quotaList(q.Status.Used, root("status", "used"))
	return c.list
}

func validateLimitRange(l *corev1.LimitRange) field.ErrorList {
	c := &checks{}
	seen := sets.Set[corev1.LimitType]{}
	for i := range l.Spec.Limits {
		x, p := &l.Spec.Limits[i], root("spec", "limits").Index(i)
		if msgs := validation.IsQualifiedName(string(x.Type)); len(msgs) > 0 {
			c.invalid(p.Child("type"), x.Type, msgs...)
		} else if !strings.Contains(string(x.Type), "/") && x.Type != corev1.LimitTypePod && x.Type != corev1.LimitTypeContainer && x.Type != corev1.LimitTypePersistentVolumeClaim {
			c.invalid(p.Child("type"), x.Type, "must be a standard limit type or fully qualified")
		}
		if seen.Has(x.Type) {
			c.duplicate(p.Child("type"), x.Type)
		}
		seen.Insert(x.Type)
		c.limit(x, p)
	}
	return c.list
}

func (c *checks) limit(x *corev1.LimitRangeItem, p *field.Path) {
	keys := sets.Set[corev1.ResourceName]{}
	names := func(list corev1.ResourceList, field string) {
		for n := range list {
			keys.Insert(n)
			if at := p.Child(field).Key(string(n)); x.Type == corev1.LimitTypePod || x.Type == corev1.LimitTypeContainer {
				c.containerResourceName(n, at)
			} else {
				c.resourceName(n, at)
			}
		}
	}
	names(x.Max, "max")
	names(x.Min, "min")
	defaults, requests := x.Default, x.DefaultRequest
	if x.Type == corev1.LimitTypePod {
		const not = "may not be specified when `type` is 'Pod'"
		if len(defaults) > 0 {
			c.forbidden(p.Child("default"), not)
		}
		if len(requests) > 0 {
			c.forbidden(p.Child("defaultRequest"), not)
		}
		defaults, requests = nil, nil
	} else {
		names(defaults, "default")
		names(requests, "defaultRequest")
	}
	if x.Type == corev1.LimitTypePersistentVolumeClaim {
		_, low := x.Min[corev1.ResourceStorage]
		_, high := x.Max[corev1.ResourceStorage]
		if !low && !high {
			c.required(p.Child("limits"), "either minimum or maximum storage value is required, but neither was provided")
		}
	}
	names(x.MaxLimitRequestRatio, "maxLimitRequestRatio")
	for n := range keys {
		c.limitOrder(x, n, defaults, requests, p)
	}
}

// limitOrder wants min ≤ default request ≤ default ≤ max.
func (c *checks) limitOrder(x *corev1.LimitRangeItem, n corev1.ResourceName, defaults, requests corev1.ResourceList, p *field.Path) {
	low, okLow := x.Min[n]
	high, okHigh := x.Max[n]
	limit, okLimit := defaults[n]
	request, okRequest := requests[n]
	over := func(ok bool, a, b apiresource.Quantity, name string, shown apiresource.Quantity, detail string) {
		if ok && a.Cmp(b) > 0 {
			c.invalid(p.Child(name).Key(string(n)), shown, fmt.Sprintf(detail, a.String(), b.String()))
		}
	}
	over(okLow && okHigh, low, high, "min", low, "min value %s is greater than max value %s")
	over(okRequest && okLow, low, request, "defaultRequest", request, "min value %s is greater than default request value %s")
	over(okRequest && okHigh, request, high, "defaultRequest", request, "default request value %s is greater than max value %s")
	over(okRequest && okLimit, request, limit, "defaultRequest", request, "default request value %s is greater than default limit value %s")
	over(okLimit && okLow, low, limit, "default", low, "min value %s is greater than default value %s")
	over(okLimit && okHigh, limit, high, "default", high, "default value %s is greater than max value %s")
	if ratio, ok := x.MaxLimitRequestRatio[n]; ok {
		at := p.Child("maxLimitRequestRatio").Key(string(n))
		if ratio.Cmp(*apiresource.NewQuantity(1, apiresource.DecimalSI)) < 0 {
			c.invalid(at, ratio, fmt.Sprintf("ratio %s is less than 1", ratio.String()))
		}
		if most := high.AsApproximateFloat64() / low.AsApproximateFloat64(); okLow && okHigh && ratio.AsApproximateFloat64() > most {
			c.invalid(at, ratio, fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), most))
		}
	}
	if !overcommittable(n) && okLimit && okRequest && limit.Cmp(request) != 0 {
		c.invalid(p.Child("defaultRequest").Key(string(n)), request, fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", limit.String(), request.String(), n))
	}
}
