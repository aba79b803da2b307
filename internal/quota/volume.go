package quota

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const classSuffix = ".storageclass.storage.k8s.io/"

// Volumes counts PersistentVolumeClaims and what they ask for, of each storage class too.
func Volumes() *Evaluator {
	count := countName("", "persistentvolumeclaims")
	return &Evaluator{
		counts: func(n corev1.ResourceName) bool {
			return n == count || n == corev1.ResourcePersistentVolumeClaims || n == corev1.ResourceRequestsStorage ||
				strings.HasSuffix(string(n), classSuffix+string(corev1.ResourcePersistentVolumeClaims)) ||
				strings.HasSuffix(string(n), classSuffix+string(corev1.ResourceRequestsStorage))
		},
		Of: func(o runtime.Object) corev1.ResourceList {
			pvc, ok := o.(*corev1.PersistentVolumeClaim)
			if !ok {
				return nil
			}
			out := corev1.ResourceList{count: one(), corev1.ResourcePersistentVolumeClaims: one()}
			size, sized := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
			if allocated, ok := pvc.Status.AllocatedResources[corev1.ResourceStorage]; sized && ok && allocated.Cmp(size) > 0 {
				size = allocated
			}
			size = size.DeepCopy()
			size.RoundUp(0)
			if sized {
				out[corev1.ResourceRequestsStorage] = size
			}
			if class := storageClass(pvc); class != "" {
				out[corev1.ResourceName(class+classSuffix)+corev1.ResourcePersistentVolumeClaims] = one()
				if sized {
					out[corev1.ResourceName(class+classSuffix)+corev1.ResourceRequestsStorage] = size
				}
			}
			return out
		},
		scope: func(s corev1.ScopedResourceSelectorRequirement, o runtime.Object) bool {
			pvc, ok := o.(*corev1.PersistentVolumeClaim)
			return ok && s.ScopeName == corev1.ResourceQuotaScopeVolumeAttributesClass && selected(s, volumeAttributes(pvc)...)
		},
	}
}

func volumeAttributes(pvc *corev1.PersistentVolumeClaim) []string {
	var out []string
	for _, p := range []*string{pvc.Spec.VolumeAttributesClassName, pvc.Status.CurrentVolumeAttributesClassName} {
		if p != nil && *p != "" {
			out = append(out, *p)
		}
	}
	if m := pvc.Status.ModifyVolumeStatus; m != nil && m.TargetVolumeAttributesClassName != "" {
		out = append(out, m.TargetVolumeAttributesClassName)
	}
	return out
}

func storageClass(pvc *corev1.PersistentVolumeClaim) string {
	if c, ok := pvc.Annotations[corev1.BetaStorageClassAnnotation]; ok || pvc.Spec.StorageClassName == nil {
		return c
	}
	return *pvc.Spec.StorageClassName
}
