package resource

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// declaration collects the errors of rules that upstream declares beside the
// types (KEP-5073). They come after the errors of all other checks, show the
// values as clients wrote them, and say nothing of what an update leaves as it
// was: each takes the old value too, nil where there is none.
type declaration struct{ checks }

// withDeclared is what all other checks found, each thing once, and then what
// the declared rules did.
func withDeclared(found, declared field.ErrorList) field.ErrorList {
	said := sets.Set[string]{}
	var out field.ErrorList
	for _, e := range found {
		if text := e.Error(); !said.Has(text) {
			said.Insert(text)
			out = append(out, e)
		}
	}
	return append(out, declared...)
}

// item is a rule for one entry of a list, or for a structure.
type item[T any] func(d *declaration, p *field.Path, v, old *T)

// list is a rule for a list.
type list[T any] struct {
	// most is how many entries there may be, zero for any number.
	most int
	// same is whether two entries are one, of which a list holds one only; nil
	// where entries have no identity.
	same func(a, b *T) bool
	each item[T]
}

// declaredList checks a list by a rule.
func declaredList[T any](d *declaration, p *field.Path, v, old []T, r list[T]) {
	if len(v) == 0 || equality.Semantic.DeepEqual(v, old) {
		return
	}
	if r.most > 0 && len(v) > r.most {
		d.list = append(d.list, field.TooMany(p, len(v), r.most))
		return
	}
	was := func(x *T) *T {
		for i := range old {
			if r.same != nil && r.same(&old[i], x) {
				return &old[i]
			}
		}
		return nil
	}
	for i := range v {
		if r.same != nil && slices.ContainsFunc(v[:i], func(x T) bool { return r.same(&x, &v[i]) }) {
			d.duplicate(p.Index(i), v[i])
		}
	}
	for i := range v {
		if r.each != nil {
			declaredItem(d, p.Index(i), &v[i], was(&v[i]), r.each)
		}
	}
}

// declaredItem checks a value that may be missing.
func declaredItem[T any](d *declaration, p *field.Path, v, old *T, check item[T]) {
	if v != nil && (old == nil || !equality.Semantic.DeepEqual(v, old)) {
		check(d, p, v, old)
	}
}

// alike is what two comparable entries of a list are that may be there once.
func alike[T comparable](a, b *T) bool { return *a == *b }

// textRule is one of the checks of k8s.io/apimachinery/pkg/api/validate.
type textRule[T ~string] func(context.Context, operation.Operation, *field.Path, *T, *T) field.ErrorList

// formatted checks a value unless it is empty; needed is whether it may not be.
func formatted[T ~string](d *declaration, p *field.Path, v T, old *T, needed bool, checks ...textRule[T]) {
	switch {
	case old != nil && v == *old:
	case v == "" && needed:
		d.required(p, "")
	case v != "":
		for _, check := range checks {
			d.add(check(context.Background(), operation.Operation{}, p, &v, nil))
		}
	}
}

// oneOfDeclared wants one of the values, which the error lists sorted.
func oneOfDeclared[T ~string](valid ...T) textRule[T] {
	return func(_ context.Context, _ operation.Operation, p *field.Path, v, _ *T) field.ErrorList {
		if slices.Contains(valid, *v) {
			return nil
		}
		return field.ErrorList{field.NotSupported(p, *v, sets.List(sets.New(valid...)))}
	}
}

// part is a field of an old value, nil where there is no old value.
func part[T, F any](old *T, of func(*T) *F) *F {
	if old == nil {
		return nil
	}
	return of(old)
}

// parts is a list or map of an old value.
func parts[T, F any](old *T, of func(*T) F) (none F) {
	if old == nil {
		return none
	}
	return of(old)
}
