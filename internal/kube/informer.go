package kube

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func clientcmdCluster(master string) clientcmdapi.Cluster {
	return clientcmdapi.Cluster{Server: master}
}

// InformerOptions narrow what an informer holds.
type InformerOptions struct {
	// Namespace is empty for all.
	Namespace     string
	FieldSelector string
	LabelSelector string
	Indexers      cache.Indexers
	// Transform strips what is never read, before an object is cached.
	// managedFields are always dropped.
	Transform cache.TransformFunc
	// Resync repeats every object to the handlers; 0 never does.
	Resync time.Duration
}

// NewInformer returns an informer of a resource. It does nothing until its Run
// is called.
func NewInformer[T, L any, PT Object[T], PL List[L]](c *Client, gvr schema.GroupVersionResource, o InformerOptions) cache.SharedIndexInformer {
	api := For[T, L, PT, PL](c, gvr, o.Namespace)
	narrow := func(lo metav1.ListOptions) metav1.ListOptions {
		lo.FieldSelector, lo.LabelSelector = o.FieldSelector, o.LabelSelector
		return lo
	}
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, lo metav1.ListOptions) (runtime.Object, error) {
			return api.List(ctx, narrow(lo))
		},
		WatchFuncWithContext: func(ctx context.Context, lo metav1.ListOptions) (watch.Interface, error) {
			return api.Watch(ctx, narrow(lo))
		},
	}, c.cfg)
	indexers := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	for name, f := range o.Indexers {
		indexers[name] = f
	}
	inf := cache.NewSharedIndexInformerWithOptions(lw, PT(new(T)), cache.SharedIndexInformerOptions{
		ResyncPeriod: o.Resync, Indexers: indexers, ObjectDescription: gvr.Resource,
	})
	// SetTransform fails only after the informer has started.
	_ = inf.SetTransform(stripped(o.Transform))
	return inf
}

func stripped(next cache.TransformFunc) cache.TransformFunc {
	return func(obj any) (any, error) {
		if acc, err := meta.Accessor(obj); err == nil && acc.GetManagedFields() != nil {
			acc.SetManagedFields(nil)
		}
		if next == nil {
			return obj, nil
		}
		return next(obj)
	}
}
