// Package quota says what objects count against ResourceQuotas, for admission, which charges what is created, and for the controller, which
// counts what there is.
//
// Data in: objects, and quotas. Data out: amounts by the names that quotas have for them. It is pure and owns no goroutine.
package quota

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
)

// Evaluator says what an object of some kind counts against a quota.
type Evaluator struct {
	// Of returns what the object uses, under all names that quotas have for it.
	Of func(o runtime.Object) corev1.ResourceList

	// counts says whether a quota's resource is about this kind.
	counts func(name corev1.ResourceName) bool
	// scope says whether the object is in a scope; nil for kinds that are in none.
	scope func(s corev1.ScopedResourceSelectorRequirement, o runtime.Object) bool
	// constrain checks what has to be stated for the resources to be counted; may be nil.
	constrain func(required []corev1.ResourceName, o runtime.Object) error
}

// Counted are the names of a quota that are about this kind, in order.
func (e *Evaluator) Counted(hard corev1.ResourceList) []corev1.ResourceName {
	var out []corev1.ResourceName
	for n := range hard {
		if e.counts(n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Constrain says what an object has to state for the names to be counted and does not.
func (e *Evaluator) Constrain(required []corev1.ResourceName, o runtime.Object) error {
	if e.constrain == nil {
		return nil
	}
	return e.constrain(required, o)
}

// Scoped says whether an object is in a scope.
func (e *Evaluator) Scoped(s corev1.ScopedResourceSelectorRequirement, o runtime.Object) bool {
	return e.scope != nil && e.scope(s, o)
}

// InScope says whether all the scopes of a quota hold for the object.
func (e *Evaluator) InScope(q *corev1.ResourceQuota, o runtime.Object) bool {
	for _, s := range Scopes(q) {
		if !e.Scoped(s, o) {
			return false
		}
	}
	return true
}

// Frees says whether a change of an object gives something back to a quota. now is nil when the object is gone.
func (e *Evaluator) Frees(q *corev1.ResourceQuota, old, now runtime.Object) bool {
	names := e.Counted(q.Status.Hard)
	if len(names) == 0 || !e.InScope(q, old) {
		return false
	}
	if now == nil || !e.InScope(q, now) {
		return true
	}
	was, is := e.Of(old), e.Of(now)
	return slices.ContainsFunc(names, func(n corev1.ResourceName) bool {
		before, after := was[n], is[n]
		return after.Cmp(before) < 0
	})
}

// Scopes are those that a quota asks for, in both of its ways.
func Scopes(q *corev1.ResourceQuota) []corev1.ScopedResourceSelectorRequirement {
	var all []corev1.ScopedResourceSelectorRequirement
	for _, s := range q.Spec.Scopes {
		all = append(all, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		all = append(all, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return all
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

// countName is what quotas call the number of objects of a kind.
func countName(group, name string) corev1.ResourceName {
	if group != "" {
		name += "." + group
	}
	return corev1.ResourceName("count/" + name)
}

// Objects counts objects; some kinds of the core group have a second name from before count/ was there.
func Objects(group, name string) *Evaluator {
	names := []corev1.ResourceName{countName(group, name)}
	if group == "" {
		switch name {
		case "configmaps", "resourcequotas", "replicationcontrollers", "secrets":
			names = append(names, corev1.ResourceName(name))
		}
	}
	return &Evaluator{
		counts: func(n corev1.ResourceName) bool { return slices.Contains(names, n) },
		Of: func(runtime.Object) corev1.ResourceList {
			out := corev1.ResourceList{}
			for _, n := range names {
				out[n] = one()
			}
			return out
		},
	}
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
