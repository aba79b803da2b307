package fairness

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Store is where the objects are kept that every cluster has. Errors are API Statuses.
type Store interface {
	// Get fills into, which has a name.
	Get(ctx context.Context, into runtime.Object) error
	Create(ctx context.Context, obj runtime.Object) error
	Update(ctx context.Context, obj runtime.Object) error
	Delete(ctx context.Context, obj runtime.Object) error
}

// Reconcile creates the default objects that are missing, and brings those up to date that nobody has claimed by the annotation
// apf.kubernetes.io/autoupdate-spec: "false", the mandatory ones in any case. An object that has it "true" and is not of them is one of an earlier
// version and is deleted. All are tried at each call; the first error is returned.
// See https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#defaults.
func (c *Controller) Reconcile(ctx context.Context, s Store) error {
	known := map[string]bool{}
	for _, group := range []struct {
		objects []object
		always  bool
	}{{suggested(), false}, {mandatoryObjects(), true}} {
		for _, want := range group.objects {
			known[key(want)] = true
			if err := ensure(ctx, s, want, group.always); err != nil {
				return err
			}
		}
	}
	for _, obj := range c.objects() {
		if on, err := strconv.ParseBool(obj.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey]); err != nil || !on || known[key(obj)] {
			continue
		}
		if err := s.Delete(ctx, obj.DeepCopyObject()); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %T %s of an earlier version: %w", obj, obj.GetName(), err)
		}
	}
	return nil
}

// object is a FlowSchema or a PriorityLevelConfiguration.
type object interface {
	metav1.Object
	runtime.Object
}

func key(o object) string { return fmt.Sprintf("%T/%s", o, o.GetName()) }

// objects are those that the API has.
func (c *Controller) objects() []object {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []object
	for _, s := range c.schemas {
		out = append(out, s)
	}
	for _, p := range c.configs {
		out = append(out, p)
	}
	return out
}

func ensure(ctx context.Context, s Store, want object, always bool) error {
	have := want.DeepCopyObject().(object)
	err := s.Get(ctx, have)
	if apierrors.IsNotFound(err) {
		if err = s.Create(ctx, want); apierrors.IsAlreadyExists(err) {
			err = nil // by another server, which looks after it as well
		}
		return wrap(want, err)
	}
	if err != nil || !revise(have, want, always) {
		return wrap(want, err)
	}
	if err = s.Update(ctx, have); apierrors.IsConflict(err) {
		err = nil // it is looked at again in a while
	}
	return wrap(want, err)
}

func wrap(o object, err error) error {
	if err != nil {
		return fmt.Errorf("keep %T %s: %w", o, o.GetName(), err)
	}
	return nil
}

// revise makes an object what it should be, and says whether that changed it.
func revise(have, want object, always bool) bool {
	text, annotated := have.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey]
	on, err := strconv.ParseBool(text)
	ours := always || err == nil && on || err != nil && have.GetGeneration() == 1
	changed := false
	if !annotated || err != nil || on != ours {
		a := maps.Clone(have.GetAnnotations())
		if a == nil {
			a = map[string]string{}
		}
		a[flowcontrolv1.AutoUpdateAnnotationKey] = strconv.FormatBool(ours)
		have.SetAnnotations(a)
		changed = true
	}
	return ours && takeSpec(have, want) || changed
}

// takeSpec sets the spec of an object to that of another of its kind, and says whether that changed it. The shares of the exempt level are the administrator's.
func takeSpec(have, want object) bool {
	switch h := have.(type) {
	case *flowcontrolv1.FlowSchema:
		w := want.(*flowcontrolv1.FlowSchema)
		if equality.Semantic.DeepEqual(h.Spec, w.Spec) {
			return false
		}
		h.Spec = *w.Spec.DeepCopy()
	case *flowcontrolv1.PriorityLevelConfiguration:
		w := want.DeepCopyObject().(*flowcontrolv1.PriorityLevelConfiguration)
		if h.Spec.Exempt != nil && w.Spec.Exempt != nil {
			w.Spec.Exempt = h.Spec.Exempt
		}
		if equality.Semantic.DeepEqual(h.Spec, w.Spec) {
			return false
		}
		h.Spec = w.Spec
	}
	return true
}
