package resource

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// mergeMatchKeys turns matchLabelKeys and mismatchLabelKeys into requirements
// with the values of the pod's own labels, KEP-3633 and KEP-3243.
func mergeMatchKeys(p *corev1.Pod) {
	for i := range p.Spec.TopologySpreadConstraints {
		t := &p.Spec.TopologySpreadConstraints[i]
		requireOwn(t.LabelSelector, t.MatchLabelKeys, p.Labels, metav1.LabelSelectorOpIn)
	}
	a := p.Spec.Affinity
	if a == nil {
		return
	}
	if x := a.PodAffinity; x != nil {
		mergeTerms(x.RequiredDuringSchedulingIgnoredDuringExecution, x.PreferredDuringSchedulingIgnoredDuringExecution, p.Labels)
	}
	if x := a.PodAntiAffinity; x != nil {
		mergeTerms(x.RequiredDuringSchedulingIgnoredDuringExecution, x.PreferredDuringSchedulingIgnoredDuringExecution, p.Labels)
	}
}

func mergeTerms(terms []corev1.PodAffinityTerm, weighted []corev1.WeightedPodAffinityTerm, labels map[string]string) {
	merge := func(t *corev1.PodAffinityTerm) {
		requireOwn(t.LabelSelector, t.MatchLabelKeys, labels, metav1.LabelSelectorOpIn)
		requireOwn(t.LabelSelector, t.MismatchLabelKeys, labels, metav1.LabelSelectorOpNotIn)
	}
	for i := range terms {
		merge(&terms[i])
	}
	for i := range weighted {
		merge(&weighted[i].PodAffinityTerm)
	}
}

func requireOwn(s *metav1.LabelSelector, keys []string, labels map[string]string, op metav1.LabelSelectorOperator) {
	if s == nil {
		return
	}
	for _, k := range keys {
		if v, ok := labels[k]; ok {
			s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: k, Operator: op, Values: []string{v}})
		}
	}
}

// looseFinalizers are the groups whose finalizers upstream checks by their
// syntax alone.
var looseFinalizers = sets.New("coordination.k8s.io", "admissionregistration.k8s.io", "policy", "apiextensions.k8s.io", "apiregistration.k8s.io", "node.k8s.io")

// checkFinalizers adds to a kind's checks that finalizers without a domain are
// the cluster's own.
func checkFinalizers(k *Kind) {
	if looseFinalizers.Has(k.Group) {
		return
	}
	check := func(obj anyObject) field.ErrorList {
		c := &checks{}
		for i, f := range obj.(metav1.Object).GetFinalizers() {
			c.standardFinalizer(root("metadata", "finalizers").Index(i), f)
		}
		return c.list
	}
	create, update, status := k.Strategy.Validate, k.Strategy.ValidateUpdate, k.Strategy.ValidateStatus
	k.Strategy.Validate = func(obj anyObject) field.ErrorList {
		list := check(obj)
		if create != nil {
			list = append(list, create(obj)...)
		}
		return list
	}
	if update != nil {
		k.Strategy.ValidateUpdate = func(obj, old anyObject) field.ErrorList { return append(check(obj), update(obj, old)...) }
	}
	if status != nil {
		k.Strategy.ValidateStatus = func(obj, old anyObject) field.ErrorList { return append(check(obj), status(obj, old)...) }
	}
}
