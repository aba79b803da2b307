package podset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"flagship/controller-manager/internal/loop"
)

// Owner is an object that controls pods.
type Owner interface {
	metav1.Object
	runtime.Object
}

// FromTemplate makes the pod that an owner's template describes; its name is generated from the owner's.
func FromTemplate(t *corev1.PodTemplateSpec, owner metav1.Object, kind schema.GroupVersionKind) *corev1.Pod {
	prefix := owner.GetName() + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = owner.GetName()
	}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: owner.GetNamespace(), GenerateName: prefix,
			Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations), Finalizers: slices.Clone(t.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, kind)},
		},
		Spec: *t.Spec.DeepCopy(),
	}
	return p
}

// Create makes one pod and tells the owner by an event.
func Create(ctx context.Context, d loop.Deps, owner Owner, p *corev1.Pod) (*corev1.Pod, error) {
	got, err := d.Pods(owner.GetNamespace()).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			d.Events.Eventf(owner, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		}
		return nil, err
	}
	d.Events.Eventf(owner, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", got.Name)
	return got, nil
}

// Delete deletes a pod, if it still is the one that was seen, and tells the owner by an event.
func Delete(ctx context.Context, d loop.Deps, owner Owner, p *corev1.Pod) error {
	err := d.Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		return err
	case err != nil:
		d.Events.Eventf(owner, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return fmt.Errorf("unable to delete pods: %w", err)
	}
	d.Events.Eventf(owner, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", p.Name)
	return nil
}

// SlowStart calls f for 0 to n-1 in batches that double from one while all succeed, so that a persistent failure costs
// few calls. It returns how many succeeded and the first error of the batch that ended it.
func SlowStart(n int, f func(i int) error) (int, error) {
	done := 0
	for size := min(n, 1); size > 0; size = min(2*size, n-done) {
		errs := make([]error, size)
		var group sync.WaitGroup
		for i := range size {
			group.Go(func() { errs[i] = f(done + i) })
		}
		group.Wait()
		ok := 0
		var first error
		for _, err := range errs {
			if err == nil {
				ok++
			} else if first == nil {
				first = err
			}
		}
		done += ok
		if first != nil {
			return done, first
		}
	}
	return done, nil
}

// Burst bounds the pods that one sync creates or deletes, as upstream's.
const Burst = 500

// Scale creates pods by template and deletes others, keeping x's count of what is awaited.
func Scale(ctx context.Context, d loop.Deps, x *loop.Expectations, key string, owner Owner, create []*corev1.Pod, remove []*corev1.Pod) error {
	create, remove = create[:min(len(create), Burst)], remove[:min(len(remove), Burst)]
	if len(create) == 0 && len(remove) == 0 {
		return nil
	}
	uids := make([]string, len(remove))
	for i, p := range remove {
		uids[i] = string(p.UID)
	}
	x.Expect(key, len(create), uids...)
	made, err := SlowStart(len(create), func(i int) error {
		_, err := Create(ctx, d, owner, create[i])
		return err
	})
	for range len(create) - made {
		x.Created(key)
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		err = nil
	}
	errs := make([]error, len(remove))
	var group sync.WaitGroup
	for i, p := range remove {
		group.Go(func() {
			if e := Delete(ctx, d, owner, p); e != nil {
				x.Gone(key, string(p.UID))
				if !apierrors.IsNotFound(e) && !apierrors.IsConflict(e) {
					errs[i] = e
				}
			}
		})
	}
	group.Wait()
	return errors.Join(err, errors.Join(errs...))
}

// Observe returns the keys that a pod's change concerns for owners of a kind, and counts it against x. owner finds the
// owner by namespace and reference; selecting lists the keys of owners whose selectors match an orphan's labels.
func Observe(x *loop.Expectations, kind string, ownerKey func(namespace string, ref *metav1.OwnerReference) string, selecting func(p *corev1.Pod) []string) func(e loop.Event[corev1.Pod]) []string {
	of := func(p *corev1.Pod) string {
		if p == nil {
			return ""
		}
		ref := metav1.GetControllerOfNoCopy(p)
		if ref == nil || ref.Kind != kind {
			return ""
		}
		return ownerKey(p.Namespace, ref)
	}
	return func(e loop.Event[corev1.Pod]) []string {
		if e.Old != nil && e.New != nil && e.Old.ResourceVersion == e.New.ResourceVersion {
			return nil
		}
		var keys []string
		key, old := of(e.New), of(e.Old)
		if old != "" && old != key {
			keys = append(keys, old)
			if e.New == nil {
				x.Gone(old, string(e.Old.UID))
			}
		}
		if key != "" {
			if e.Old == nil && e.New.DeletionTimestamp == nil {
				x.Created(key)
			}
			if e.New.DeletionTimestamp != nil {
				x.Gone(key, string(e.New.UID))
			}
			return append(keys, key)
		}
		if e.New != nil && e.New.DeletionTimestamp == nil && metav1.GetControllerOfNoCopy(e.New) == nil &&
			(e.Old == nil || !maps.Equal(e.Old.Labels, e.New.Labels) || metav1.GetControllerOfNoCopy(e.Old) != nil) {
			keys = append(keys, selecting(e.New)...)
		}
		return keys
	}
}

// OwnerKey returns the key of an owner found in the cache, "" where the reference means another object.
func OwnerKey[T any, PT interface {
	*T
	metav1.Object
}](s *loop.Source[T]) func(namespace string, ref *metav1.OwnerReference) string {
	return func(namespace string, ref *metav1.OwnerReference) string {
		o := s.Get(namespace, ref.Name)
		if o == nil || PT(o).GetUID() != ref.UID {
			return ""
		}
		return namespace + "/" + ref.Name
	}
}

// Selecting returns the keys of the owners in a pod's namespace whose selectors match it.
func Selecting[T any, PT interface {
	*T
	metav1.Object
}](s *loop.Source[T], selector func(*T) *metav1.LabelSelector) func(p *corev1.Pod) []string {
	return func(p *corev1.Pod) []string {
		var keys []string
		for _, o := range s.In(p.Namespace) {
			sel, err := metav1.LabelSelectorAsSelector(selector(o))
			if err == nil && !sel.Empty() && sel.Matches(labels.Set(p.Labels)) {
				keys = append(keys, loop.Key(PT(o)))
			}
		}
		return keys
	}
}

// Claim returns the pods that are an owner's, adopting and releasing as PlanClaim says.
func Claim(ctx context.Context, d loop.Deps, owner metav1.Object, kind schema.GroupVersionKind, sel labels.Selector,
	live func(ctx context.Context) (metav1.Object, error), finalizers ...string,
) ([]*corev1.Pod, error) {
	pods := d.Sources.Pods()
	return Claimer[*corev1.Pod]{
		Owner: owner, Kind: kind, Selector: sel, API: d.Pods(owner.GetNamespace()), Live: live, Finalizers: finalizers,
	}.Claim(ctx, pods.By(loop.ByOwner, string(owner.GetUID())), pods.By(loop.ByOwner, loop.Orphans(owner.GetNamespace())))
}

// UIDs lists pods' UIDs, for expectations.
func UIDs(pods []*corev1.Pod) []types.UID {
	out := make([]types.UID, len(pods))
	for i, p := range pods {
		out[i] = p.UID
	}
	return out
}
