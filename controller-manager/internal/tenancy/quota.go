package tenancy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/metadata"

	"flagship/controller-manager/internal/catalog"
	"flagship/controller-manager/internal/loop"
	"flagship/internal/kube"
	"flagship/internal/quota"
)

// recount is how often a quota is looked at that counts kinds which are not watched here.
const recount = 10 * time.Second

type quotas struct {
	loop.Deps
	src     *loop.Source[corev1.ResourceQuota]
	classes *loop.Source[resourcev1.DeviceClass]
	claims  *loop.Source[resourcev1.ResourceClaim]
	cat     *catalog.Catalog
	meta    metadata.Interface
}

// NewQuota returns the resourcequota-controller. What is created is charged by the API server's admission; this
// controller counts anew when something is given back. It must not when something is charged: the charge comes before
// the object, so that the count would be without it and take the charge back. Pods, Services, claims of volumes and of devices are counted from
// the caches; other kinds, which few quotas name, by listing their metadata.
func NewQuota(workers int, period time.Duration, d loop.Deps) (*loop.Controller, error) {
	meta, err := metadata.NewForConfig(d.Client.Config())
	if err != nil {
		return nil, fmt.Errorf("metadata client: %w", err)
	}
	c := &quotas{Deps: d, src: d.Sources.ResourceQuotas(), cat: catalog.New(d.Client), meta: meta}
	ctl := d.Controller(workers, c.sync)
	loop.Watch(ctl, c.src, func(e loop.Event[corev1.ResourceQuota]) []string {
		if !recounts(e.Old, e.New) {
			return nil
		}
		return loop.Own(e)
	})
	loop.Watch(ctl, d.Sources.Pods(), freeing[corev1.Pod](c, c.pods))
	loop.Watch(ctl, d.Sources.Services(), freeing[corev1.Service](c, quota.Services))
	loop.Watch(ctl, d.Sources.Claims(), freeing[corev1.PersistentVolumeClaim](c, quota.Volumes))
	c.classes, c.claims = d.Sources.DeviceClasses(), d.Sources.DeviceClaims()
	loop.Hear(ctl, c.classes, func(loop.Event[resourcev1.DeviceClass]) []string { return nil })
	loop.Hear(ctl, c.claims, freeing[resourcev1.ResourceClaim](c, c.devices))
	ctl.Every(period, func(context.Context) error {
		for _, q := range c.src.All() {
			ctl.Add(loop.Key(q))
		}
		return nil
	})
	return ctl, nil
}

// freeing finds the quotas to which a change of an object gives something back.
func freeing[T any, PT kube.Object[T]](c *quotas, evaluator func() *quota.Evaluator) func(e loop.Event[T]) []string {
	return func(e loop.Event[T]) (keys []string) {
		if e.Old == nil {
			return nil
		}
		list := c.src.In(PT(e.Old).GetNamespace())
		if len(list) == 0 {
			return nil
		}
		var now runtime.Object
		if e.New != nil {
			now = PT(e.New)
		}
		of := evaluator()
		for _, q := range list {
			if of.Frees(q, PT(e.Old), now) {
				keys = append(keys, loop.Key(q))
			}
		}
		return keys
	}
}

func (c *quotas) pods() *quota.Evaluator { return quota.Pods(c.Now()) }

func (c *quotas) devices() *quota.Evaluator {
	pods := c.Sources.Pods()
	return quota.Claims(quota.Devices{
		Classes: c.classes.All(), Pod: pods.Get, Pods: c.pods(),
		Claims: func(namespace string) ([]*resourcev1.ResourceClaim, error) { return c.claims.In(namespace), nil },
	})
}

// objects are those of a namespace, of one source.
func objects[T any, PT kube.Object[T]](src *loop.Source[T], namespace string) iter.Seq[runtime.Object] {
	return func(yield func(runtime.Object) bool) {
		for _, o := range src.In(namespace) {
			if !yield(PT(o)) {
				return
			}
		}
	}
}

// ready says whether devices can be counted, if the quota is about any. A server that does not serve them has none.
func (c *quotas) ready(ctx context.Context, q *corev1.ResourceQuota) (bool, error) {
	if c.classes.Synced() && c.claims.Synced() || !slices.ContainsFunc(slices.Collect(maps.Keys(q.Spec.Hard)), quota.OfDevices) {
		return true, nil
	}
	all, err := c.cat.List(ctx)
	if err != nil && !errors.Is(err, catalog.ErrStale) {
		return false, err
	}
	if slices.ContainsFunc(all, func(r catalog.Resource) bool {
		return r.Group == resourcev1.GroupName && r.Resource == "resourceclaims"
	}) {
		return false, loop.In(time.Second)
	}
	return true, nil
}

func (c *quotas) sync(ctx context.Context, key string) error {
	q := c.src.Get(loop.Split(key))
	if q == nil || q.DeletionTimestamp != nil {
		return nil
	}
	if ready, err := c.ready(ctx, q); err != nil || !ready {
		return err
	}
	used := usage(q, []group{
		{c.pods(), objects(c.Sources.Pods(), q.Namespace)},
		{quota.Services(), objects(c.Sources.Services(), q.Namespace)},
		{quota.Volumes(), objects(c.Sources.Claims(), q.Namespace)},
		{c.devices(), objects(c.claims, q.Namespace)},
	})
	slow, err := c.others(ctx, q, used)
	if err != nil {
		return err
	}
	if !equality.Semantic.DeepEqual(q.Status.Hard, q.Spec.Hard) || !equality.Semantic.DeepEqual(q.Status.Used, used) {
		next := q.DeepCopy()
		next.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: used}
		if _, err := loop.Core[corev1.ResourceQuota, corev1.ResourceQuotaList](c.Deps, "resourcequotas", q.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
			return ignoreGone(err)
		}
	}
	if slow {
		return loop.In(recount)
	}
	return nil
}

// others adds what is not counted from the caches. It says whether there are such kinds.
func (c *quotas) others(ctx context.Context, q *corev1.ResourceQuota, used corev1.ResourceList) (bool, error) {
	some := false
	for name := range q.Spec.Hard {
		if _, counted := used[name]; counted {
			continue
		}
		res, group, ok := countedResource(name)
		some = some || ok
		n, known := int64(0), ok
		if ok && len(quota.Scopes(q)) == 0 {
			var err error
			if n, known, err = c.count(ctx, q.Namespace, res, group); err != nil {
				return false, err
			}
		}
		if known {
			used[name] = *resource.NewQuantity(n, resource.DecimalSI)
		} else if v, ok := q.Status.Used[name]; ok {
			// What others say of it stays.
			used[name] = v
		}
	}
	return some, nil
}

// count says how many objects of a kind there are in a namespace, and whether the kind is there.
func (c *quotas) count(ctx context.Context, ns, res, group string) (n int64, known bool, err error) {
	all, err := c.cat.List(ctx)
	if err != nil {
		return 0, false, err
	}
	for i := range all {
		r := &all[i]
		if r.Resource != res || r.Group != group || !r.Namespaced || !r.Can("list") {
			continue
		}
		list, err := c.meta.Resource(r.GroupVersionResource).Namespace(ns).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if apierrors.IsNotFound(err) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, fmt.Errorf("count %s: %w", r.GroupResource(), err)
		}
		return int64(len(list.Items)), true, nil
	}
	return 0, false, nil
}
