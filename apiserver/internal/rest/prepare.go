package rest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/resource"
)

// dedupOwners drops owner references that are there twice, and warns.
func (q *request) dedupOwners(m metav1.Object, when string) {
	refs := m.GetOwnerReferences()
	if len(refs) < 2 {
		return
	}
	var kept []metav1.OwnerReference
	var twice []string
	for _, r := range refs {
		if slices.ContainsFunc(kept, func(k metav1.OwnerReference) bool { return apiequality.Semantic.DeepEqual(k, r) }) {
			twice = append(twice, string(r.UID))
		} else {
			kept = append(kept, r)
		}
	}
	if len(twice) == 0 {
		return
	}
	m.SetOwnerReferences(kept)
	q.warn(fmt.Sprintf(".metadata.ownerReferences contains duplicate entries%s; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: %s",
		when, strings.Join(twice, ", ")))
}

// givenVersion is the resource version that a client sends. "0" is none: kubeadm writes the Service of the DNS with it.
func givenVersion(m metav1.Object) string {
	if rv := m.GetResourceVersion(); rv != "0" {
		return rv
	}
	return ""
}

func (q *request) preconditions(m, old metav1.Object) error {
	if rv := givenVersion(m); rv == "" && !q.res.Strategy.Unconditional {
		// Upstream names the resource here, not the kind.
		return apierrors.NewInvalid(schema.GroupKind{Group: q.res.Group, Kind: q.res.Resource}, q.info.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update"),
		})
	} else if rv != "" && rv != old.GetResourceVersion() {
		return q.conflict()
	}
	if uid := m.GetUID(); uid != "" && uid != old.GetUID() {
		return apierrors.NewConflict(q.res.GroupResource(), q.info.Name, q.otherUID(uid, old.GetUID()))
	}
	return nil
}

// otherUID is a precondition that fails.
func (q *request) otherUID(want, is types.UID) error {
	return q.precondition("UID", string(want), string(is))
}

// precondition is one that fails, in the words of upstream's store.
func (q *request) precondition(what, want, is string) error {
	return fmt.Errorf("StorageError: invalid object, Code: 4, Key: /registry%s%s, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: %s in precondition: %s, %s in object meta: %s",
		q.res.Prefix, q.key(q.info.Name), what, want, what, is)
}

// keepSystemMeta takes from the current object what no client may change.
func keepSystemMeta(m, old metav1.Object) {
	m.SetUID(old.GetUID())
	m.SetResourceVersion(old.GetResourceVersion())
	m.SetCreationTimestamp(old.GetCreationTimestamp())
	m.SetDeletionTimestamp(old.GetDeletionTimestamp())
	m.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	m.SetGeneration(old.GetGeneration())
	m.SetSelfLink("")
}

// prepareUpdate drops what the path may not change, and counts generations.
func prepareUpdate(k *resource.Kind, sub string, obj, old runtime.Object) runtime.Object {
	_, hasStatus := k.Subresources["status"]
	switch {
	case sub == "status":
		obj = statusOnly(obj, old)
		if k.Strategy.PrepareStatus != nil {
			k.Strategy.PrepareStatus(obj, old)
		}
		return obj
	case sub == "binding":
		return obj
	case sub != "" && sub != "scale":
		obj = onlyPart(sub, obj, old)
		if k.Strategy.Generation && specChanged(k, obj, old) {
			obj.(metav1.Object).SetGeneration(old.(metav1.Object).GetGeneration() + 1)
		}
		return obj
	case hasStatus:
		copyStatus(obj, old)
	}
	if k.Strategy.PrepareUpdate != nil {
		k.Strategy.PrepareUpdate(obj, old)
	}
	if k.Strategy.Generation && specChanged(k, obj, old) {
		m := obj.(metav1.Object)
		m.SetGeneration(old.(metav1.Object).GetGeneration() + 1)
	}
	return obj
}

// statusOnly is old with obj's status, labels, annotations, finalizers and
// managed fields.
func statusOnly(obj, old runtime.Object) runtime.Object {
	out := old.DeepCopyObject()
	from, to := obj.(metav1.Object), out.(metav1.Object)
	if _, ok := obj.(*unstructured.Unstructured); ok {
		// Of a custom resource, the status path changes nothing else.
		to.SetManagedFields(from.GetManagedFields())
		copyStatus(out, obj)
		return out
	}
	to.SetLabels(from.GetLabels())
	to.SetAnnotations(from.GetAnnotations())
	to.SetFinalizers(from.GetFinalizers())
	to.SetManagedFields(from.GetManagedFields())
	copyStatus(out, obj)
	return out
}

// copyField sets one field of dst to that of src, where both have it.
func copyField(dst, src runtime.Object, name string) {
	d, s := reflect.ValueOf(dst).Elem().FieldByName(name), reflect.ValueOf(src).Elem().FieldByName(name)
	if d.IsValid() && s.IsValid() && d.CanSet() {
		d.Set(s)
	}
}

func specChanged(k *resource.Kind, obj, old runtime.Object) bool {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return unstructuredChanged(u, old.(*unstructured.Unstructured))
	}
	a, b := reflect.ValueOf(obj).Elem(), reflect.ValueOf(old).Elem()
	if !k.Strategy.SpecIsWhole {
		sa, sb := a.FieldByName("Spec"), b.FieldByName("Spec")
		return sa.IsValid() && !apiequality.Semantic.DeepEqual(sa.Interface(), sb.Interface())
	}
	for i := range a.NumField() {
		if name := a.Type().Field(i).Name; name == "TypeMeta" || name == "ObjectMeta" || name == "Status" {
			continue
		}
		if !apiequality.Semantic.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			return true
		}
	}
	return false
}
