package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StorageClass gives a claim without a class the default one.
type StorageClass struct {
	operations
	list func(ctx context.Context) ([]*storagev1.StorageClass, error)
}

// Mutate implements Mutator.
func (p *StorageClass) Mutate(ctx context.Context, a *Attributes) error {
	pvc, ok := a.Object.(*corev1.PersistentVolumeClaim)
	if !ok || !a.Is("", "persistentvolumeclaims", "") {
		return nil
	}
	if _, ok := pvc.Annotations[corev1.BetaStorageClassAnnotation]; ok || pvc.Spec.StorageClassName != nil {
		return nil
	}
	list, err := p.list(ctx)
	if err != nil {
		return Forbidden(a, err)
	}
	var defaults []*storagev1.StorageClass
	for _, c := range list {
		if c.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" || c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true" {
			defaults = append(defaults, c)
		}
	}
	if c := newest(defaults); c != nil {
		pvc.Spec.StorageClassName = new((*c).Name)
	}
	return nil
}

// newest returns the object created last; of those created at once the first by name. It is nil for none.
func newest[T metav1.Object](list []T) *T {
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(x, y T) int {
		if c := y.GetCreationTimestamp().Compare(x.GetCreationTimestamp().Time); c != 0 {
			return c
		}
		if x.GetName() < y.GetName() {
			return -1
		}
		return 1
	})
	return &list[0]
}

// StorageProtection has volumes and claims outlive their last use.
type StorageProtection struct{ operations }

// Mutate implements Mutator.
func (p *StorageProtection) Mutate(_ context.Context, a *Attributes) error {
	if a.Subresource != "" {
		return nil
	}
	var m *metav1.ObjectMeta
	finalizer := ""
	switch o := a.Object.(type) {
	case *corev1.PersistentVolume:
		m, finalizer = &o.ObjectMeta, "kubernetes.io/pv-protection"
	case *corev1.PersistentVolumeClaim:
		m, finalizer = &o.ObjectMeta, "kubernetes.io/pvc-protection"
	case *storagev1.VolumeAttributesClass:
		m, finalizer = &o.ObjectMeta, "kubernetes.io/vac-protection"
	}
	if m != nil && !slices.Contains(m.Finalizers, finalizer) {
		m.Finalizers = append(m.Finalizers, finalizer)
	}
	return nil
}

// ClaimResize lets claims grow only where their class allows it.
type ClaimResize struct {
	operations
	list func(ctx context.Context) ([]*storagev1.StorageClass, error)
}

// Validate implements Validator.
func (p *ClaimResize) Validate(ctx context.Context, a *Attributes) error {
	pvc, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, okOld := a.OldObject.(*corev1.PersistentVolumeClaim)
	if !ok || !okOld || !a.Is("", "persistentvolumeclaims", "") {
		return nil
	}
	size, was := pvc.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case size.Cmp(was) <= 0:
		return nil
	case old.Status.Phase != corev1.ClaimBound:
		return forbid(a, "Only bound persistent volume claims can be expanded")
	}
	class := claimClass(pvc)
	list, err := p.list(ctx)
	if err == nil && class != "" && class == claimClass(old) {
		for _, c := range list {
			if c.Name == class && c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion {
				return nil
			}
		}
	}
	return forbid(a, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
}

func claimClass(pvc *corev1.PersistentVolumeClaim) string {
	if c, ok := pvc.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return c
	}
	if pvc.Spec.StorageClassName != nil {
		return *pvc.Spec.StorageClassName
	}
	return ""
}
