package podset

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Patcher patches the claimed objects.
type Patcher[O Object] interface {
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions, sub ...string) (O, error)
}

// Claimer claims the objects of one kind for one owner.
type Claimer[O Object] struct {
	Owner    metav1.Object
	Kind     schema.GroupVersionKind
	Selector labels.Selector
	API      Patcher[O]
	// Live reads the owner past the cache, so that nothing is adopted for an owner that is gone.
	Live func(ctx context.Context) (metav1.Object, error)
	// Finalizers are added on adoption and removed on release.
	Finalizers []string
}

// Claim applies PlanClaim and returns the objects that are the owner's now.
func (c Claimer[O]) Claim(ctx context.Context, controlled, orphans []O) ([]O, error) {
	plan := PlanClaim(c.Owner, c.Selector, controlled, orphans)
	for _, o := range plan.Release {
		_, err := c.API.Patch(ctx, o.GetName(), types.StrategicMergePatchType, ReleasePatch(o.GetUID(), c.Owner.GetUID(), c.Finalizers...), metav1.PatchOptions{})
		// Not found: gone. Invalid: the owner or the object is not what it was.
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsInvalid(err) {
			return nil, fmt.Errorf("release %s: %w", o.GetName(), err)
		}
	}
	if len(plan.Adopt) == 0 {
		return plan.Keep, nil
	}
	live, err := c.Live(ctx)
	if err != nil {
		return nil, fmt.Errorf("read owner before adopting: %w", err)
	}
	if live.GetUID() != c.Owner.GetUID() {
		return nil, fmt.Errorf("original %s %s/%s is gone: got uid %s, wanted %s", c.Kind.Kind, c.Owner.GetNamespace(), c.Owner.GetName(), live.GetUID(), c.Owner.GetUID())
	}
	if live.GetDeletionTimestamp() != nil {
		return plan.Keep, nil
	}
	ref := *metav1.NewControllerRef(c.Owner, c.Kind)
	for _, o := range plan.Adopt {
		got, err := c.API.Patch(ctx, o.GetName(), types.StrategicMergePatchType, AdoptPatch(o.GetUID(), ref, c.Finalizers...), metav1.PatchOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("adopt %s: %w", o.GetName(), err)
		default:
			plan.Keep = append(plan.Keep, got)
		}
	}
	return plan.Keep, nil
}
