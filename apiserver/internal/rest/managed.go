package rest

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// manager returns the field manager of a resource or one of its subresources.
func (a *API) manager(res *Resource, sub string) (*managedfields.FieldManager, error) {
	res.mu.Lock()
	defer res.mu.Unlock()
	if m, ok := res.managers[sub]; ok {
		return m, nil
	}
	var m *managedfields.FieldManager
	var err error
	if res.codec != nil {
		m, err = res.codec.Manager(sub)
	} else {
		m, err = managedfields.NewDefaultFieldManager(a.deps.Types, a.deps.Scheme, noDefaults{}, a.deps.Scheme,
			res.GroupVersionKind, res.GroupVersion(), sub, resetFields(res, sub))
	}
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", res.GroupVersionKind, err)
	}
	res.managers[sub] = m
	return m, nil
}

// noDefaults leaves defaulting to the write path, which runs before and after.
type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

// resetFields are those that a path ignores, and that nobody owns through it.
func resetFields(res *Resource, sub string) map[fieldpath.APIVersion]fieldpath.Filter {
	_, hasStatus := res.Subresources["status"]
	// What its kubelet reports of a driver's volumes is behind a gate that is off.
	hasStatus = hasStatus || res.Group == "storage.k8s.io" && res.Resource == "csinodes"
	var set *fieldpath.Set
	switch {
	case sub == "status":
		set = fieldpath.NewSet(fieldpath.MakePathOrDie("spec"))
		if res.Strategy.StatusAlone {
			set.Insert(fieldpath.MakePathOrDie("metadata"))
		}
	case hasStatus:
		set = fieldpath.NewSet(fieldpath.MakePathOrDie("status"))
	default:
		return nil
	}
	return map[fieldpath.APIVersion]fieldpath.Filter{
		fieldpath.APIVersion(res.GroupVersion().String()): fieldpath.NewExcludeSetFilter(set),
	}
}

// track records in metadata.managedFields what the request changed.
func (a *API) track(q *request, sub string, live runtime.Object, obj *runtime.Object) error {
	m, err := a.manager(q.res, sub)
	if err != nil {
		return err
	}
	if err := boundItems(*obj); err != nil {
		return err
	}
	if live == nil {
		if live, err = a.empty(q.res); err != nil {
			return err
		}
	}
	if q.applied {
		// An apply has recorded its fields itself.
		return nil
	}
	*obj = m.UpdateNoErrors(live, *obj, fieldManagerName(q.http))
	if sub == "scale" {
		untimed(*obj)
	}
	return nil
}

// applyScale is server-side apply of a Scale: who owns the number of replicas is told in the fields of the object that is scaled.
func (a *API) applyScale(q *request, body []byte) (func(was *autoscalingv1.Scale, of metav1.Object) (*autoscalingv1.Scale, error), error) {
	kind := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	manager, err := managedfields.NewDefaultFieldManager(a.deps.Types, a.deps.Scheme, noDefaults{}, a.deps.Scheme, kind, kind.GroupVersion(), "scale", nil)
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", kind, err)
	}
	query := q.http.URL.Query()
	version := q.res.GroupVersion()
	paths := managedfields.ResourcePathMappings{version.String(): fieldpath.MakePathOrDie("spec", "replicas")}
	q.applied = true
	return func(was *autoscalingv1.Scale, of metav1.Object) (*autoscalingv1.Scale, error) {
		patch, err := appliedPatch(body)
		if err != nil {
			return nil, err
		}
		if err := tooMany(mostItems(reflect.ValueOf(patch.Object))); err != nil {
			return nil, err
		}
		handler := managedfields.NewScaleHandler(of.GetManagedFields(), version, paths)
		if was.ManagedFields, err = handler.ToSubresource(); err != nil {
			return nil, err
		}
		was.SetGroupVersionKind(kind)
		obj, err := manager.Apply(was, patch, query.Get("fieldManager"), truthy(query.Get("force")))
		if err != nil {
			return nil, err
		}
		scale, ok := obj.(*autoscalingv1.Scale)
		if !ok {
			return nil, fmt.Errorf("apply %s: it became a %T", kind, obj)
		}
		entries, err := handler.ToParent(scale.ManagedFields)
		if err != nil {
			return nil, err
		}
		of.SetManagedFields(entries)
		scale.ManagedFields, was.ManagedFields = nil, nil
		return scale, nil
	}, nil
}

// untimed takes the time from what is owned through the scale subresource, as
// upstream does on the way from a Scale to its object, and sorts the entries as
// they are sorted everywhere.
func untimed(obj runtime.Object) {
	m, ok := obj.(metav1.Object)
	if !ok {
		return
	}
	entries := m.GetManagedFields()
	for i := range entries {
		if entries[i].Subresource == "scale" {
			entries[i].Time = nil
		}
	}
	seconds := func(e metav1.ManagedFieldsEntry) int64 {
		if e.Time == nil {
			return 0
		}
		return e.Time.Unix()
	}
	slices.SortStableFunc(entries, func(a, b metav1.ManagedFieldsEntry) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(seconds(a), seconds(b)), cmp.Compare(a.Manager, b.Manager), cmp.Compare(a.APIVersion, b.APIVersion), cmp.Compare(a.Subresource, b.Subresource))
	})
	m.SetManagedFields(entries)
}
