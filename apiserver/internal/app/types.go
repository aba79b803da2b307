package app

import (
	"sync"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	extensionconfigurations "k8s.io/apiextensions-apiserver/pkg/client/applyconfiguration"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	aggregatorconfigurations "k8s.io/kube-aggregator/pkg/client/applyconfiguration"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"flagship/apiserver/internal/extend"
)

// kindTypes is what server-side apply knows of the kinds with Go types: three
// modules publish it, each for its own groups.
type kindTypes struct {
	core managedfields.TypeConverter
	// more are parsed when they are first needed, and so is that of a Scale, which none publishes.
	more  map[string]func() managedfields.TypeConverter
	scale func() (managedfields.TypeConverter, error)
}

func newTypes(scheme *runtime.Scheme) *kindTypes {
	return &kindTypes{core: applyconfigurations.NewTypeConverter(scheme), scale: sync.OnceValues(scaleTypes), more: map[string]func() managedfields.TypeConverter{
		"apiextensions.k8s.io":   sync.OnceValue(func() managedfields.TypeConverter { return extensionconfigurations.NewTypeConverter(scheme) }),
		"apiregistration.k8s.io": sync.OnceValue(func() managedfields.TypeConverter { return aggregatorconfigurations.NewTypeConverter(scheme) }),
	}}
}

// scaleTypes are those of a Scale.
func scaleTypes() (managedfields.TypeConverter, error) {
	const name, refs = "io.k8s.api.autoscaling.v1.Scale", "#/components/schemas/"
	gvk := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	object := func(fields map[string]spec.Schema) *spec.Schema {
		s := new(spec.Schema).Typed("object", "")
		s.Properties = fields
		return s
	}
	models := extend.MetaModels()
	models[name+"Spec"] = object(map[string]spec.Schema{"replicas": *spec.Int32Property()})
	models[name+"Status"] = object(map[string]spec.Schema{"replicas": *spec.Int32Property(), "selector": *spec.StringProperty()})
	models[name] = object(map[string]spec.Schema{
		"apiVersion": *spec.StringProperty(), "kind": *spec.StringProperty(), "metadata": *spec.RefSchema(refs + "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
		"spec": *spec.RefSchema(refs + name + "Spec"), "status": *spec.RefSchema(refs + name + "Status"),
	})
	models[name].AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}})
	return managedfields.NewTypeConverter(models, false)
}

// ObjectToTyped implements managedfields.TypeConverter.
func (t *kindTypes) ObjectToTyped(obj runtime.Object, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if obj.GetObjectKind().GroupVersionKind() == autoscalingv1.SchemeGroupVersion.WithKind("Scale") {
		c, err := t.scale()
		if err != nil {
			return nil, err
		}
		return c.ObjectToTyped(obj, options...)
	}
	if c, ok := t.more[obj.GetObjectKind().GroupVersionKind().Group]; ok {
		return c().ObjectToTyped(obj, options...)
	}
	return t.core.ObjectToTyped(obj, options...)
}

// TypedToObject implements managedfields.TypeConverter; it needs no schema.
func (t *kindTypes) TypedToObject(value *typed.TypedValue) (runtime.Object, error) {
	return t.core.TypedToObject(value)
}

// typesOf are the fields of a kind, with a Go type or without, nil for one that
// is not served.
func (s *apiserver) typesOf(gvk schema.GroupVersionKind) managedfields.TypeConverter {
	if s.scheme.Recognizes(gvk) {
		return s.types
	}
	if t := s.custom.Types(gvk); t != nil {
		return t
	}
	return nil
}
