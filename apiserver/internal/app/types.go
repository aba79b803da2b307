package app

import (
	"sync"

	extensionconfigurations "k8s.io/apiextensions-apiserver/pkg/client/applyconfiguration"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	aggregatorconfigurations "k8s.io/kube-aggregator/pkg/client/applyconfiguration"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// kindTypes is what server-side apply knows of the kinds with Go types: three
// modules publish it, each for its own groups.
type kindTypes struct {
	core managedfields.TypeConverter
	// more are parsed when they are first needed.
	more map[string]func() managedfields.TypeConverter
}

func newTypes(scheme *runtime.Scheme) *kindTypes {
	return &kindTypes{core: applyconfigurations.NewTypeConverter(scheme), more: map[string]func() managedfields.TypeConverter{
		"apiextensions.k8s.io":   sync.OnceValue(func() managedfields.TypeConverter { return extensionconfigurations.NewTypeConverter(scheme) }),
		"apiregistration.k8s.io": sync.OnceValue(func() managedfields.TypeConverter { return aggregatorconfigurations.NewTypeConverter(scheme) }),
	}}
}

// ObjectToTyped implements managedfields.TypeConverter.
func (t *kindTypes) ObjectToTyped(obj runtime.Object, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
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
