package workload

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// apiOf is the part of typed access that the workload controllers use.
type apiOf[O any] interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (O, error)
	Create(ctx context.Context, obj O, o metav1.CreateOptions) (O, error)
	Update(ctx context.Context, obj O, o metav1.UpdateOptions) (O, error)
	UpdateStatus(ctx context.Context, obj O, o metav1.UpdateOptions) (O, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions) error
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions, sub ...string) (O, error)
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// The kinds as they stand in owner references.
var (
	deploymentKind  = appsv1.SchemeGroupVersion.WithKind("Deployment")
	daemonSetKind   = appsv1.SchemeGroupVersion.WithKind("DaemonSet")
	statefulSetKind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")
)
