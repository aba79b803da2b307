package extend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/crd"
	"flagship/apiserver/internal/resource"
)

// How long the objects of a definition have to go before that is shown as a
// failure, and how often to look: at first, and at the most.
const (
	purgeTimeout = time.Minute
	purgeFirst   = 20 * time.Millisecond
	purgeMost    = 5 * time.Second
)

// finalize begins to delete a definition's objects, once.
func (d *Definitions) finalize(ctx context.Context, g *errgroup.Group, def *apiextensionsv1.CustomResourceDefinition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ending[def.UID] {
		return
	}
	d.ending[def.UID] = true
	name, uid := def.Name, def.UID
	g.Go(func() error {
		err := d.terminate(ctx, def)
		d.mu.Lock()
		delete(d.ending, uid)
		d.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			if !apierrors.IsConflict(err) {
				d.deps.Log.Warn("cannot delete the objects of a definition, trying again", zap.String("definition", name), zap.Error(err))
			}
			time.AfterFunc(retryPause, func() { d.touch(name) })
		}
		return nil
	})
}

// terminate deletes a definition's objects and then lets it go.
func (d *Definitions) terminate(ctx context.Context, def *apiextensionsv1.CustomResourceDefinition) error {
	crd.SetTerminating(def, apiextensionsv1.ConditionTrue, "InstanceDeletionInProgress", "CustomResource deletion is in progress", now())
	if err := d.deps.Client.UpdateStatus(ctx, def); err != nil {
		return ignoreNotFound(err)
	}
	d.mu.RLock()
	n := d.served[def.Name]
	d.mu.RUnlock()
	var failure error
	switch {
	case d.overlaps(def):
		crd.SetTerminating(def, apiextensionsv1.ConditionFalse, "OverlappingBuiltInResource", "instances overlap with built-in resources in storage", now())
	case n == nil || n.uid != def.UID:
		crd.SetTerminating(def, apiextensionsv1.ConditionFalse, "NeverEstablished", "resource was never established", now())
	default:
		failure = d.purge(ctx, n, def)
	}
	if failure == nil {
		def.Finalizers = slices.DeleteFunc(def.Finalizers, func(f string) bool { return f == apiextensionsv1.CustomResourceCleanupFinalizer })
	}
	return errors.Join(failure, ignoreNotFound(d.deps.Client.UpdateStatus(ctx, def)))
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// overlaps is whether the definition's objects would be those of a built-in
// kind.
func (d *Definitions) overlaps(def *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(d.deps.BuiltIn, func(k *resource.Kind) bool {
		return k.GroupResource() == schema.GroupResource{Group: def.Spec.Group, Resource: def.Spec.Names.Plural}
	})
}

// purge deletes all objects, and records in the definition's status how far it
// came. Objects with finalizers are waited for.
func (d *Definitions) purge(ctx context.Context, n *definition, def *apiextensionsv1.CustomResourceDefinition) error {
	k := n.storageKind(def)
	c := &codec{d: n, gvk: n.stored}
	until := time.Now().Add(purgeTimeout)
	for pause := purgeFirst; ; pause = min(2*pause, purgeMost) {
		left, err := d.deps.API.Purge(ctx, k, n.cache, c)
		switch {
		case err != nil:
			crd.SetTerminating(def, apiextensionsv1.ConditionTrue, "InstanceDeletionFailed", fmt.Sprintf("could not issue all deletes: %v", err), now())
			return err
		case left == 0:
			crd.SetTerminating(def, apiextensionsv1.ConditionFalse, "InstanceDeletionCompleted", "removed all instances", now())
			return nil
		case time.Now().After(until):
			err = fmt.Errorf("%d objects are left", left)
			crd.SetTerminating(def, apiextensionsv1.ConditionTrue, "InstanceDeletionCheck", fmt.Sprintf("could not confirm zero CustomResources remaining: %v", err), now())
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// storageKind is the kind in the version that is stored, served or not.
func (d *definition) storageKind(def *apiextensionsv1.CustomResourceDefinition) *resource.Kind {
	for i := range def.Spec.Versions {
		if v := &def.Spec.Versions[i]; v.Storage {
			return d.kind(def, v)
		}
	}
	return d.kind(def, &def.Spec.Versions[0])
}
