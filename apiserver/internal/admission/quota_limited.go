package admission

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/internal/quota"
)

// limitedResource is what may be used only where a quota covers it, see
// https://kubernetes.io/docs/concepts/policy/resource-quotas/#limit-priority-class-consumption-by-default.
type limitedResource struct {
	APIGroup string `json:"apiGroup"`
	Resource string `json:"resource"`
	// MatchContains are parts of the names of quotas' resources; MatchScopes are of objects.
	MatchContains []string                                   `json:"matchContains"`
	MatchScopes   []corev1.ScopedResourceSelectorRequirement `json:"matchScopes"`
}

func (f Files) limitedResources() ([]limitedResource, error) {
	var c struct {
		metav1.TypeMeta  `json:",inline"`
		LimitedResources []limitedResource `json:"limitedResources"`
	}
	if err := f.decodeStrict("ResourceQuota", &c,
		metav1.TypeMeta{APIVersion: "apiserver.config.k8s.io/v1", Kind: "ResourceQuotaConfiguration"},
		metav1.TypeMeta{APIVersion: "resourcequota.admission.k8s.io/v1beta1", Kind: "Configuration"},
		metav1.TypeMeta{APIVersion: "resourcequota.admission.k8s.io/v1alpha1", Kind: "Configuration"},
	); err != nil {
		return nil, err
	}
	var errs field.ErrorList
	for i, l := range c.LimitedResources {
		if l.Resource == "" {
			errs = append(errs, field.Required(field.NewPath("limitedResources").Index(i).Child("resource"), ""))
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("ResourceQuota: %w", errs.ToAggregate())
	}
	return c.LimitedResources, nil
}

// uncovered says which limited resources or scopes of a request no quota covers. Quotas cover a scope by its name, whatever
// else they ask for.
func uncovered(a *Attributes, u *quota.Evaluator, used corev1.ResourceList, limited []limitedResource, covered []corev1.ResourceName, quotas []*corev1.ResourceQuota) error {
	var names []corev1.ResourceName
	var scopes []corev1.ScopedResourceSelectorRequirement
	for _, l := range limited {
		for _, s := range l.MatchScopes {
			if u.Scoped(s, a.Object) {
				scopes = append(scopes, s)
			}
		}
		if l.APIGroup != a.Resource.Group || l.Resource != a.Resource.Resource {
			continue
		}
		for n, v := range used {
			if v.Sign() > 0 && !slices.Contains(covered, n) && !slices.Contains(names, n) &&
				slices.ContainsFunc(l.MatchContains, func(part string) bool { return strings.Contains(string(n), part) }) {
				names = append(names, n)
			}
		}
	}
	if len(names) > 0 {
		return forbid(a, "insufficient quota to consume: %s", joinNames(names))
	}
	scopes = slices.DeleteFunc(scopes, func(s corev1.ScopedResourceSelectorRequirement) bool {
		return slices.ContainsFunc(quotas, func(q *corev1.ResourceQuota) bool {
			return slices.ContainsFunc(quota.Scopes(q), func(have corev1.ScopedResourceSelectorRequirement) bool {
				return have.ScopeName == s.ScopeName && u.Scoped(have, a.Object)
			})
		})
	})
	if len(scopes) > 0 {
		return fmt.Errorf("insufficient quota to match these scopes: %v", scopes)
	}
	return nil
}
