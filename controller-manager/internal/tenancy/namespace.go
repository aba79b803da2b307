package tenancy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	"flagship/controller-manager/internal/catalog"
	"flagship/controller-manager/internal/loop"
)

// settle is how long after its deletion a namespace's content is left alone, so that every API server has seen that
// nothing is to be created in it any more.
const settle = 5 * time.Second

// finalizerWait is what objects held by finalizers are given before they are looked at again, in seconds.
const finalizerWait = 15

type namespaces struct {
	loop.Deps
	src  *loop.Source[corev1.Namespace]
	cat  *catalog.Catalog
	meta metadata.Interface
}

// NewNamespace returns the namespace-controller: it removes all that is in a namespace that ends.
func NewNamespace(workers int, d loop.Deps) (*loop.Controller, error) {
	meta, err := metadata.NewForConfig(d.Client.Config())
	if err != nil {
		return nil, fmt.Errorf("metadata client: %w", err)
	}
	c := &namespaces{Deps: d, src: d.Sources.Namespaces(), cat: catalog.New(d.Client), meta: meta}
	ctl := d.Controller(workers, c.sync)
	loop.Watch(ctl, c.src, func(e loop.Event[corev1.Namespace]) []string {
		if e.New == nil || e.New.DeletionTimestamp == nil || len(e.New.Spec.Finalizers) == 0 {
			return nil
		}
		if e.Old == nil || e.Old.DeletionTimestamp == nil {
			ctl.AddAfter(e.New.Name, settle)
		}
		return nil
	})
	return ctl, nil
}

func (c *namespaces) sync(ctx context.Context, name string) error {
	api := loop.Core[corev1.Namespace, corev1.NamespaceList](c.Deps, "namespaces", "")
	ns, err := api.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return nil
	}
	if ns.Status.Phase != corev1.NamespaceTerminating {
		ns.Status.Phase = corev1.NamespaceTerminating
		if ns, err = api.UpdateStatus(ctx, ns, metav1.UpdateOptions{}); err != nil {
			return ignoreGone(err)
		}
	}
	e := c.empty(ctx, ns)
	if namespaceConditions(&ns.Status, e, c.Now()) {
		if ns, err = api.UpdateStatus(ctx, ns, metav1.UpdateOptions{}); err != nil {
			return ignoreGone(err)
		}
	}
	if !e.done() {
		if err := errors.Join(append(e.discovery, e.deletion...)...); err != nil {
			return fmt.Errorf("empty namespace %s: %w", name, err)
		}
		return loop.In(time.Duration(e.wait/2+1) * time.Second)
	}
	ns.Spec.Finalizers = slices.DeleteFunc(ns.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	r, err := c.Client.REST(corev1.SchemeGroupVersion)
	if err != nil {
		return err
	}
	err = r.Put().Resource("namespaces").Name(name).SubResource("finalize").Body(ns).Do(ctx).Error()
	if err == nil {
		c.Decide("Namespace", "", name, ns.UID, ns.Generation, "all content removed, finalized")
	}
	return ignoreGone(err)
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// empty deletes what is in a namespace: pods first, and the rest when they are gone.
func (c *namespaces) empty(ctx context.Context, ns *corev1.Namespace) *emptying {
	e := &emptying{remaining: map[schema.GroupVersionResource]int{}, finalizers: map[string]int{}}
	all, err := c.cat.List(ctx)
	if err != nil {
		e.discovery = append(e.discovery, err)
	}
	pods := corev1.SchemeGroupVersion.WithResource("pods")
	c.emptyOf(ctx, ns, pods, true, e)
	if e.remaining[pods] > 0 {
		return e
	}
	for i := range all {
		r := &all[i]
		if r.Namespaced && r.GroupVersionResource != pods && r.Can("delete", "list") {
			c.emptyOf(ctx, ns, r.GroupVersionResource, r.Can("deletecollection"), e)
		}
	}
	return e
}

func (c *namespaces) emptyOf(ctx context.Context, ns *corev1.Namespace, gvr schema.GroupVersionResource, collection bool, e *emptying) {
	api := c.meta.Resource(gvr).Namespace(ns.Name)
	list, err := api.List(ctx, metav1.ListOptions{})
	if unsupported(err) || (err == nil && len(list.Items) == 0) {
		return
	}
	background := metav1.DeletePropagationBackground
	if err == nil {
		if collection {
			err = api.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{})
		}
		if !collection || unsupported(err) {
			err = nil
			for i := range list.Items {
				o := &list.Items[i]
				if derr := api.Delete(ctx, o.Name, metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &o.UID}}); derr != nil && !apierrors.IsNotFound(derr) && !apierrors.IsConflict(derr) {
					err = derr
				}
			}
		}
	}
	if err == nil {
		list, err = api.List(ctx, metav1.ListOptions{})
	}
	if err != nil {
		e.deletion = append(e.deletion, fmt.Errorf("%s: %w", gvr.GroupResource(), err))
		return
	}
	if len(list.Items) == 0 {
		return
	}
	e.remaining[gvr] = len(list.Items)
	for i := range list.Items {
		for _, f := range list.Items[i].Finalizers {
			e.finalizers[f]++
			e.wait = max(e.wait, finalizerWait)
		}
	}
	if gvr.Resource == "pods" && gvr.Group == "" {
		for _, p := range c.Sources.Pods().In(ns.Name) {
			if g := p.Spec.TerminationGracePeriodSeconds; g != nil && p.DeletionTimestamp != nil && c.Now().Sub(ns.DeletionTimestamp.Time) < time.Duration(*g)*time.Second {
				e.wait = max(e.wait, min(*g, finalizerWait))
			}
		}
	}
}

func unsupported(err error) bool {
	return apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err)
}
