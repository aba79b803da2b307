package rest

import (
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/admission"
)

// Changed is the revision of the last change of a resource, 0 where it is not
// served: what was made of its objects is good until it changes.
func (a *API) Changed(gvr schema.GroupVersionResource) int64 {
	res := a.Lookup(gvr)
	if res == nil {
		return 0
	}
	return res.Cache.Changed()
}

// KindOf is the kind of a resource, or of its subresource.
func (a *API) KindOf(gvr schema.GroupVersionResource, sub string) (schema.GroupVersionKind, bool) {
	res := a.Lookup(gvr)
	if res == nil {
		return schema.GroupVersionKind{}, false
	}
	if s, ok := res.Subresources[sub]; ok && s.Kind != "" {
		return s.GroupVersionKind, true
	}
	return res.GroupVersionKind, true
}

// ResourceOf finds the resource of a kind.
func (a *API) ResourceOf(gvk schema.GroupVersionKind) (gvr schema.GroupVersionResource, namespaced, ok bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, res := range a.resources {
		if res.GroupVersionKind == gvk {
			return res.GVR(), res.Namespaced, true
		}
	}
	return gvr, false, false
}

// Equivalents are the other resources in which the same objects are served.
func (a *API) Equivalents(gvr schema.GroupVersionResource, sub string) []schema.GroupVersionResource {
	a.mu.RLock()
	defer a.mu.RUnlock()
	self := a.resources[gvr]
	if self == nil {
		return nil
	}
	var out []schema.GroupVersionResource
	for other, res := range a.resources {
		if other == gvr || res.Prefix != self.Prefix {
			continue
		}
		if _, ok := res.Subresources[sub]; ok || sub == "" {
			out = append(out, other)
		}
	}
	return out
}

// ConvertTo is an object as another resource serves it. The object given is
// not changed.
func (a *API) ConvertTo(obj runtime.Object, from, to schema.GroupVersionResource) (runtime.Object, error) {
	if from == to || obj == nil {
		return obj, nil
	}
	src, dst := a.Lookup(from), a.Lookup(to)
	if src != nil && obj.GetObjectKind().GroupVersionKind() != src.GroupVersionKind {
		// What goes through a subresource, such as a Scale, is the same in all versions.
		return obj, nil
	}
	if src == nil || dst == nil {
		return nil, fmt.Errorf("convert %s to %s: they are not both served", from, to)
	}
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return a.convert(obj.DeepCopyObject(), dst.GroupVersionKind)
	}
	data, err := src.codec.Encode(u.DeepCopy())
	if err != nil {
		return nil, err
	}
	out, err := dst.codec.Decode(data)
	if err != nil {
		return nil, err
	}
	out.SetResourceVersion(u.GetResourceVersion())
	return out, nil
}

// optionsOf are the options of a write as webhooks and policies see them.
func optionsOf(r *http.Request, op admission.Operation) runtime.Object {
	q := r.URL.Query()
	meta := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: kind}
	}
	switch op {
	case admission.Create:
		return &metav1.CreateOptions{TypeMeta: meta("CreateOptions"), DryRun: q["dryRun"], FieldManager: q.Get("fieldManager"), FieldValidation: q.Get("fieldValidation")}
	case admission.Update:
		return &metav1.UpdateOptions{TypeMeta: meta("UpdateOptions"), DryRun: q["dryRun"], FieldManager: q.Get("fieldManager"), FieldValidation: q.Get("fieldValidation")}
	}
	return nil
}
