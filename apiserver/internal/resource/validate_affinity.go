package resource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	requiredTerms  = "requiredDuringSchedulingIgnoredDuringExecution"
	preferredTerms = "preferredDuringSchedulingIgnoredDuringExecution"
)

func (c *checks) affinity(a *corev1.Affinity, p *field.Path) {
	if a == nil {
		return
	}
	if n := a.NodeAffinity; n != nil {
		at := p.Child("nodeAffinity")
		if n.RequiredDuringSchedulingIgnoredDuringExecution != nil {
			c.nodeSelector(n.RequiredDuringSchedulingIgnoredDuringExecution, at.Child(requiredTerms))
		}
		for i, t := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			c.weight(t.Weight, at.Child(preferredTerms).Index(i))
			// Preferences may hold invalid label values: they prefer nothing.
			c.nodeTerm(t.Preference, at.Child(preferredTerms).Index(i).Child("preference"), true)
		}
	}
	if a.PodAffinity != nil {
		c.podTerms(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, p.Child("podAffinity"))
	}
	if a.PodAntiAffinity != nil {
		c.podTerms(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, p.Child("podAntiAffinity"))
	}
}

func (c *checks) weight(w int32, p *field.Path) {
	if w <= 0 || w > 100 {
		c.invalid(p.Child("weight"), w, "must be in the range 1-100")
	}
}

func (c *checks) podTerms(terms []corev1.PodAffinityTerm, weighted []corev1.WeightedPodAffinityTerm, p *field.Path) {
	for i := range terms {
		c.podTerm(&terms[i], p.Child(requiredTerms).Index(i))
	}
	for i := range weighted {
		at := p.Child(preferredTerms).Index(i)
		c.weight(weighted[i].Weight, at)
		c.podTerm(&weighted[i].PodAffinityTerm, at.Child("podAffinityTerm"))
	}
}

func (c *checks) podTerm(t *corev1.PodAffinityTerm, p *field.Path) {
	c.selector(p.Child("labelSelector"), t.LabelSelector)
	c.selector(p.Child("namespaceSelector"), t.NamespaceSelector)
	for _, ns := range t.Namespaces {
		c.invalid(p.Child("namespace"), ns, apivalidation.ValidateNamespaceName(ns, false)...)
	}
	c.matchKeys(p, t.MatchLabelKeys, t.MismatchLabelKeys, t.LabelSelector)
	if t.TopologyKey == "" {
		c.required(p.Child("topologyKey"), "can not be empty")
	}
	c.labelName(p.Child("topologyKey"), t.TopologyKey)
}

// matchKeys checks matchLabelKeys and mismatchLabelKeys beside the selector
// that they are merged into.
func (c *checks) matchKeys(p *field.Path, match, mismatch []string, selector *metav1.LabelSelector) {
	for _, x := range []struct {
		name string
		keys []string
	}{{"matchLabelKeys", match}, {"mismatchLabelKeys", mismatch}} {
		if len(x.keys) > 0 && selector == nil {
			c.forbidden(p.Child(x.name), "must not be specified when labelSelector is not set")
			continue
		}
		for i, k := range x.keys {
			c.labelName(p.Child(x.name).Index(i), k)
		}
	}
	if selector != nil {
		at := map[string]int{}
		for i, k := range match {
			at[k] = i
		}
		seen := sets.KeySet(selector.MatchLabels)
		for _, e := range selector.MatchExpressions {
			if i, ok := at[e.Key]; ok && seen.Has(e.Key) {
				c.invalid(p.Index(i), e.Key, "exists in both matchLabelKeys and labelSelector")
			}
			seen.Insert(e.Key)
		}
	}
	other := sets.New(mismatch...)
	for i, k := range match {
		if other.Has(k) {
			c.invalid(p.Child("matchLabelKeys").Index(i), k, "exists in both matchLabelKeys and mismatchLabelKeys")
		}
	}
}

func (c *checks) nodeSelector(s *corev1.NodeSelector, p *field.Path) {
	p = p.Child("nodeSelectorTerms")
	if len(s.NodeSelectorTerms) == 0 {
		c.required(p, "must have at least one node selector term")
	}
	for i := range s.NodeSelectorTerms {
		c.nodeTerm(s.NodeSelectorTerms[i], p.Index(i), false)
	}
}

func (c *checks) nodeTerm(t corev1.NodeSelectorTerm, p *field.Path, anyValue bool) {
	for i, r := range t.MatchExpressions {
		c.nodeExpression(r, p.Child("matchExpressions").Index(i), anyValue)
	}
	for i, r := range t.MatchFields {
		at := p.Child("matchFields").Index(i)
		switch r.Operator {
		case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
			if len(r.Values) != 1 {
				c.required(at.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
			}
		default:
			c.invalid(at.Child("operator"), r.Operator, "not a valid selector operator")
		}
		if r.Key != metav1.ObjectNameField {
			c.invalid(at.Child("key"), r.Key, "not a valid field selector key")
			continue
		}
		for j, v := range r.Values {
			c.subdomain(at.Child("values").Index(j), v)
		}
	}
}

func (c *checks) nodeExpression(r corev1.NodeSelectorRequirement, p *field.Path, anyValue bool) {
	values := p.Child("values")
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			c.required(values, "must be specified when `operator` is 'In' or 'NotIn'")
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			c.forbidden(values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			c.required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'")
		}
	default:
		c.invalid(p.Child("operator"), r.Operator, "not a valid selector operator")
	}
	c.labelName(p.Child("key"), r.Key)
	if anyValue {
		return
	}
	for i, v := range r.Values {
		c.invalid(values.Index(i), v, validation.IsValidLabelValue(v)...)
	}
}

func (c *checks) topologySpread(list []corev1.TopologySpreadConstraint, p *field.Path) {
	for i := range list {
		t, at := &list[i], p.Index(i)
		c.positive(at.Child("maxSkew"), int64(t.MaxSkew))
		if t.TopologyKey == "" {
			c.required(at.Child("topologyKey"), "can not be empty")
		}
		oneOf(c, at.Child("whenUnsatisfiable"), t.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)
		for _, other := range list[i+1:] {
			if t.TopologyKey == other.TopologyKey && t.WhenUnsatisfiable == other.WhenUnsatisfiable {
				c.duplicate(at.Child("{topologyKey, whenUnsatisfiable}"), fmt.Sprintf("{%v, %v}", t.TopologyKey, t.WhenUnsatisfiable))
				break
			}
		}
		if t.MinDomains != nil {
			c.positive(at.Child("minDomains"), int64(*t.MinDomains))
			if t.WhenUnsatisfiable != corev1.DoNotSchedule {
				c.invalid(at.Child("minDomains"), t.MinDomains, fmt.Sprintf("can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, t.WhenUnsatisfiable))
			}
		}
		for name, policy := range map[string]*corev1.NodeInclusionPolicy{"nodeAffinityPolicy": t.NodeAffinityPolicy, "nodeTaintsPolicy": t.NodeTaintsPolicy} {
			if policy != nil {
				oneOf(c, at.Child(name), *policy, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
			}
		}
		c.matchKeys(at, t.MatchLabelKeys, nil, t.LabelSelector)
		c.selector(at.Child("labelSelector"), t.LabelSelector)
	}
}
