package extend

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"

	"flagship/apiserver/internal/resource"
)

// checker is the part of a version's strategy that validates.
type checker struct {
	d     *definition
	name  string
	scale *apiextensionsv1.CustomResourceSubresourceScale // nil for none
}

// strategy is what distinguishes a custom resource in one version.
func strategy(d *definition, v *apiextensionsv1.CustomResourceDefinitionVersion) resource.Strategy {
	c := &checker{d: d, name: v.Name}
	s := resource.Strategy{
		Default: func(obj runtime.Object) {
			if compiled, err := d.version(v.Name); err == nil {
				compiled.fill(obj.(*unstructured.Unstructured))
			}
		},
		Validate: func(obj runtime.Object) field.ErrorList { return c.create(obj.(*unstructured.Unstructured)) },
		ValidateUpdate: func(obj, old runtime.Object) field.ErrorList {
			return c.update(obj.(*unstructured.Unstructured), old.(*unstructured.Unstructured))
		},
		Warn: warnFinalizers, Generation: true,
	}
	if v.Subresources != nil && v.Subresources.Status != nil {
		s.PrepareCreate = func(obj runtime.Object) { delete(obj.(*unstructured.Unstructured).Object, "status") }
		s.ValidateStatus = func(obj, old runtime.Object) field.ErrorList {
			return c.status(obj.(*unstructured.Unstructured), old.(*unstructured.Unstructured))
		}
	}
	if v.Subresources != nil && v.Subresources.Scale != nil {
		c.scale = v.Subresources.Scale
		s.Scale, s.SetReplicas = scaler(c.scale)
		s.ReplicasPath = c.scale.SpecReplicasPath
	}
	s.Fields, s.FieldNames = selectable(v.SelectableFields)
	s.Columns, s.Row = table(v)
	return s
}

// compiled returns the version and its validators; an error is one of the
// object's for lack of a better place.
func (c *checker) compiled() (*version, *validators, field.ErrorList) {
	v, err := c.d.version(c.name)
	if err != nil {
		return nil, nil, field.ErrorList{field.InternalError(nil, err)}
	}
	check, err := v.checkers()
	if err != nil {
		return nil, nil, field.ErrorList{field.InternalError(nil, err)}
	}
	return v, check, nil
}

func (c *checker) create(u *unstructured.Unstructured) field.ErrorList {
	v, check, errs := c.compiled()
	if errs != nil {
		return errs
	}
	if errs = typeErrors(v.gvk, u); len(errs) > 0 {
		return errs
	}
	errs = validation.ValidateCustomResource(nil, u.Object, check.whole)
	errs = append(errs, c.scaleSpec(u)...)
	errs = append(errs, c.scaleStatus(u)...)
	errs = append(errs, objectmeta.Validate(context.Background(), nil, u.Object, v.structural, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, v.structural, u.Object)...)
	return append(errs, rules(v, check, u.Object, nil, nil, errs)...)
}

func (c *checker) update(u, old *unstructured.Unstructured) field.ErrorList {
	v, check, errs := c.compiled()
	if errs != nil {
		return errs
	}
	if errs = typeErrors(v.gvk, u); len(errs) > 0 {
		return errs
	}
	// What did not change is not held against the writer, KEP-4008.
	same := common.NewCorrelatedObject(u.Object, old.Object, &model.Structural{Structural: v.structural})
	errs = validation.ValidateCustomResourceUpdate(nil, u.Object, old.Object, check.whole, validation.WithRatcheting(same))
	errs = append(errs, c.scaleSpec(u)...)
	errs = append(errs, c.scaleStatus(u)...)
	errs = append(errs, objectmeta.Validate(context.Background(), nil, u.Object, v.structural, false)...)
	errs = append(errs, lists(v, u, old)...)
	return append(errs, rules(v, check, u.Object, old.Object, same, errs)...)
}

func (c *checker) status(u, old *unstructured.Unstructured) field.ErrorList {
	v, check, errs := c.compiled()
	if errs != nil {
		return errs
	}
	if errs = typeErrors(v.gvk, u); len(errs) > 0 {
		return errs
	}
	same := common.NewCorrelatedObject(u.Object, old.Object, &model.Structural{Structural: v.structural})
	if status, ok := u.Object["status"]; ok && check.status != nil {
		var options []validation.ValidationOption
		if v.structural != nil {
			options = append(options, validation.WithRatcheting(same.Key("status")))
		}
		errs = validation.ValidateCustomResourceUpdate(field.NewPath("status"), status, old.Object["status"], check.status, options...)
	}
	errs = append(errs, c.scaleStatus(u)...)
	errs = append(errs, lists(v, u, old)...)
	return append(errs, rules(v, check, u.Object, old.Object, same, errs)...)
}

func typeErrors(gvk schema.GroupVersionKind, u *unstructured.Unstructured) field.ErrorList {
	var errs field.ErrorList
	if u.GetKind() != gvk.Kind {
		errs = append(errs, field.Invalid(field.NewPath("kind"), u.GetKind(), "must be "+gvk.Kind))
	}
	if want := gvk.GroupVersion().String(); u.GetAPIVersion() != want {
		errs = append(errs, field.Invalid(field.NewPath("apiVersion"), u.GetAPIVersion(), "must be "+want))
	}
	return errs
}

// lists checks sets and maps, unless the old object broke their rule already.
func lists(v *version, u, old *unstructured.Unstructured) field.ErrorList {
	errs := listtype.ValidateListSetsAndMaps(nil, v.structural, u.Object)
	if len(errs) == 0 || len(listtype.ValidateListSetsAndMaps(nil, v.structural, old.Object)) > 0 {
		return nil
	}
	return errs
}

// rules evaluates the CEL rules of an object whose types are right.
func rules(v *version, check *validators, obj, old map[string]any, same *common.CorrelatedObject, found field.ErrorList) field.ErrorList {
	if check.rules == nil {
		return nil
	}
	for _, e := range found {
		switch e.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return field.ErrorList{field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation")}
		}
	}
	var options []cel.Option
	if same != nil {
		options = append(options, cel.WithRatcheting(same))
	}
	var before any
	if old != nil {
		before = old
	}
	errs, _ := check.rules.Validate(context.Background(), nil, v.structural, obj, before, celconfig.RuntimeCELCostBudget, options...)
	return errs
}

// warnFinalizers warns of new finalizers whose names invite accidents.
func warnFinalizers(obj, old runtime.Object) []string {
	var had []string
	if old != nil {
		had = old.(*unstructured.Unstructured).GetFinalizers()
	}
	added := slices.Clone(obj.(*unstructured.Unstructured).GetFinalizers())
	slices.Sort(added)
	var out []string
	for _, f := range slices.Compact(added) {
		if slices.Contains(had, f) {
			continue
		}
		warn := func(text string) { out = append(out, fmt.Sprintf("metadata.finalizers: %q: %s", f, text)) }
		for _, text := range utilvalidation.IsQualifiedName(f) {
			warn(text)
		}
		switch {
		case strings.Contains(f, "/"), f == "orphan", f == "foregroundDeletion", f == "kubernetes":
		case strings.Contains(f, "."):
			warn("prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers")
		default:
			warn("prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers")
		}
	}
	return out
}
