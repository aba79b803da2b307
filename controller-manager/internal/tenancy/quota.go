package tenancy

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"flagship/controller-manager/internal/catalog"
	"flagship/controller-manager/internal/loop"
)

// recount is how often a quota is looked at that counts kinds which are not watched here.
const recount = 10 * time.Second

type quotas struct {
	loop.Deps
	src  *loop.Source[corev1.ResourceQuota]
	cat  *catalog.Catalog
	meta metadata.Interface
}

// NewQuota returns the resourcequota-controller. What is created is charged by the API server's admission; this
// controller counts anew when something is given back. It must not when something is charged: the charge comes before
// the object, so that the count would be without it and take the charge back. Pods, Services and claims are counted from the caches; other kinds, which
// few quotas name, by listing their metadata.
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
	in := func(ns string) (keys []string) {
		for _, q := range c.src.In(ns) {
			keys = append(keys, loop.Key(q))
		}
		return keys
	}
	loop.Watch(ctl, d.Sources.Pods(), func(e loop.Event[corev1.Pod]) []string {
		if e.Old == nil || e.New != nil && !podFrees(e.Old, e.New) {
			return nil
		}
		return in(e.Old.Namespace)
	})
	loop.Watch(ctl, d.Sources.Services(), func(e loop.Event[corev1.Service]) []string {
		if e.Old == nil || e.New != nil && equality.Semantic.DeepEqual(serviceUsage(e.Old), serviceUsage(e.New)) {
			return nil
		}
		return in(e.Old.Namespace)
	})
	loop.Watch(ctl, d.Sources.Claims(), func(e loop.Event[corev1.PersistentVolumeClaim]) []string {
		if e.Old == nil || e.New != nil && equality.Semantic.DeepEqual(claimUsage(e.Old), claimUsage(e.New)) {
			return nil
		}
		return in(e.Old.Namespace)
	})
	ctl.Every(period, func(context.Context) error {
		for _, q := range c.src.All() {
			ctl.Add(loop.Key(q))
		}
		return nil
	})
	return ctl, nil
}

func (c *quotas) sync(ctx context.Context, key string) error {
	q := c.src.Get(loop.Split(key))
	if q == nil || q.DeletionTimestamp != nil {
		return nil
	}
	usage := c.usage(q)
	used := corev1.ResourceList{}
	slow := false
	for name := range q.Spec.Hard {
		if res, group, ok := countedResource(name); ok {
			slow = true
			n, err := c.count(ctx, q.Namespace, res, group)
			if err != nil {
				return err
			}
			used[name] = *resource.NewQuantity(n, resource.DecimalSI)
			continue
		}
		used[name] = usage[name]
		if v := usage[name]; v.IsZero() {
			used[name] = *resource.NewQuantity(0, resource.DecimalSI)
		}
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

// usage sums what is counted from the caches.
func (c *quotas) usage(q *corev1.ResourceQuota) corev1.ResourceList {
	sum := corev1.ResourceList{}
	merge := func(l corev1.ResourceList) {
		for name, v := range l {
			add(sum, name, v)
		}
	}
	now := c.Now()
	for _, p := range c.Sources.Pods().In(q.Namespace) {
		if inScopes(p, q) {
			merge(podUsage(p, now))
		}
	}
	if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
		return sum
	}
	for _, s := range c.Sources.Services().In(q.Namespace) {
		merge(serviceUsage(s))
	}
	for _, claim := range c.Sources.Claims().In(q.Namespace) {
		merge(claimUsage(claim))
	}
	return sum
}

func (c *quotas) count(ctx context.Context, ns, res, group string) (int64, error) {
	all, err := c.cat.List(ctx)
	if err != nil {
		return 0, err
	}
	for i := range all {
		r := &all[i]
		if r.Resource != res || r.Group != group || !r.Namespaced || !r.Can("list") {
			continue
		}
		list, err := c.meta.Resource(r.GroupVersionResource).Namespace(ns).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if apierrors.IsNotFound(err) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("count %s: %w", r.GroupResource(), err)
		}
		return int64(len(list.Items)), nil
	}
	// A kind that is not there has no objects.
	return 0, nil
}
