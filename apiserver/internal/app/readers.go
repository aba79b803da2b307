package app

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/rest"
	"flagship/apiserver/internal/watchcache"
)

// reader reads one object from the cache.
func reader[T runtime.Object](api *rest.API, gvr schema.GroupVersionResource) func(ctx context.Context, namespace, name string) (T, error) {
	return func(_ context.Context, namespace, name string) (T, error) {
		obj, err := api.Read(gvr, namespace, name)
		if err != nil {
			var none T
			return none, err
		}
		return obj.(T), nil
	}
}

func clusterReader[T runtime.Object](api *rest.API, gvr schema.GroupVersionResource) func(ctx context.Context, name string) (T, error) {
	read := reader[T](api, gvr)
	return func(ctx context.Context, name string) (T, error) { return read(ctx, "", name) }
}

func lister[T runtime.Object](api *rest.API, gvr schema.GroupVersionResource) func(ctx context.Context, namespace string) ([]T, error) {
	return func(_ context.Context, namespace string) ([]T, error) {
		var out []T
		err := api.Each(gvr, namespace, func(o runtime.Object) bool {
			out = append(out, o.(T))
			return true
		})
		return out, err
	}
}

func clusterLister[T runtime.Object](api *rest.API, gvr schema.GroupVersionResource) func(ctx context.Context) ([]T, error) {
	list := lister[T](api, gvr)
	return func(ctx context.Context) ([]T, error) { return list(ctx, "") }
}

// admissionReaders backs the admission plugins by the watch cache.
func admissionReaders(api *rest.API, hub *watchcache.Hub, l *local) admission.Readers {
	core := corev1.SchemeGroupVersion.WithResource
	storage := storagev1.SchemeGroupVersion.WithResource
	quotas := lister[*corev1.ResourceQuota](api, core("resourcequotas"))
	return admission.Readers{
		Namespace:       clusterReader[*corev1.Namespace](api, core("namespaces")),
		ServiceAccount:  reader[*corev1.ServiceAccount](api, core("serviceaccounts")),
		Pod:             reader[*corev1.Pod](api, core("pods")),
		Pods:            lister[*corev1.Pod](api, core("pods")),
		Node:            clusterReader[*corev1.Node](api, core("nodes")),
		Claim:           reader[*corev1.PersistentVolumeClaim](api, core("persistentvolumeclaims")),
		Volume:          clusterReader[*corev1.PersistentVolume](api, core("persistentvolumes")),
		CSIDriver:       clusterReader[*storagev1.CSIDriver](api, storage("csidrivers")),
		LimitRanges:     lister[*corev1.LimitRange](api, core("limitranges")),
		PriorityClass:   clusterReader[*schedulingv1.PriorityClass](api, schedulingv1.SchemeGroupVersion.WithResource("priorityclasses")),
		PriorityClasses: clusterLister[*schedulingv1.PriorityClass](api, schedulingv1.SchemeGroupVersion.WithResource("priorityclasses")),
		RuntimeClass:    clusterReader[*nodev1.RuntimeClass](api, nodev1.SchemeGroupVersion.WithResource("runtimeclasses")),
		StorageClasses:  clusterLister[*storagev1.StorageClass](api, storage("storageclasses")),
		IngressClasses:  clusterLister[*networkingv1.IngressClass](api, networkingv1.SchemeGroupVersion.WithResource("ingressclasses")),
		DeviceClasses:   clusterLister[*resourcev1.DeviceClass](api, resourcev1.SchemeGroupVersion.WithResource("deviceclasses")),
		ResourceClaims:  lister[*resourcev1.ResourceClaim](api, resourcev1.SchemeGroupVersion.WithResource("resourceclaims")),
		Quotas: func(ctx context.Context, namespace string, fresh bool) ([]*corev1.ResourceQuota, error) {
			if fresh {
				if err := hub.WaitCurrent(ctx); err != nil {
					return nil, err
				}
			}
			return quotas(ctx, namespace)
		},
		UpdateQuotaStatus: func(ctx context.Context, q *corev1.ResourceQuota) (*corev1.ResourceQuota, error) {
			out := q.DeepCopy()
			return out, l.UpdateStatus(ctx, out)
		},
	}
}

// identityGetter backs the token authenticators.
type identityGetter struct{ api *rest.API }

func (g identityGetter) GetServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return reader[*corev1.ServiceAccount](g.api, corev1.SchemeGroupVersion.WithResource("serviceaccounts"))(ctx, namespace, name)
}

func (g identityGetter) GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return reader[*corev1.Pod](g.api, corev1.SchemeGroupVersion.WithResource("pods"))(ctx, namespace, name)
}

func (g identityGetter) GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return reader[*corev1.Secret](g.api, corev1.SchemeGroupVersion.WithResource("secrets"))(ctx, namespace, name)
}

func (g identityGetter) GetNode(ctx context.Context, name string) (*corev1.Node, error) {
	return reader[*corev1.Node](g.api, corev1.SchemeGroupVersion.WithResource("nodes"))(ctx, "", name)
}
