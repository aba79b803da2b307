package volume

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// The annotations by which binding is remembered and asked for.
const (
	annBindCompleted     = "pv.kubernetes.io/bind-completed"
	annBoundByController = "pv.kubernetes.io/bound-by-controller"
	annProvisioner       = "volume.kubernetes.io/storage-provisioner"
	annBetaProvisioner   = "volume.beta.kubernetes.io/storage-provisioner"
	annSelectedNode      = "volume.kubernetes.io/selected-node"
	defaultClass         = "storageclass.kubernetes.io/is-default-class"
	noProvisioner        = "kubernetes.io/no-provisioner"
)

func classOf(c *corev1.PersistentVolumeClaim) string {
	if name, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return name
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}

func volumeClass(v *corev1.PersistentVolume) string {
	if name, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return name
	}
	return v.Spec.StorageClassName
}

func mode(m *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
	if m == nil {
		return corev1.PersistentVolumeFilesystem
	}
	return *m
}

// refers says whether a volume is reserved for a claim, by name at least.
func refers(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	r := v.Spec.ClaimRef
	return r != nil && r.Namespace == c.Namespace && r.Name == c.Name && (r.UID == "" || r.UID == c.UID)
}

// fits says whether a volume gives what a claim asks for.
func fits(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	want := c.Spec.Resources.Requests[corev1.ResourceStorage]
	have := v.Spec.Capacity[corev1.ResourceStorage]
	if have.Cmp(want) < 0 || mode(v.Spec.VolumeMode) != mode(c.Spec.VolumeMode) || volumeClass(v) != classOf(c) {
		return false
	}
	for _, m := range c.Spec.AccessModes {
		if !slices.Contains(v.Spec.AccessModes, m) {
			return false
		}
	}
	if c.Spec.Selector == nil {
		return true
	}
	sel, err := metav1.LabelSelectorAsSelector(c.Spec.Selector)
	return err == nil && sel.Matches(labels.Set(v.Labels))
}

// choose finds the volume for a claim: one reserved for it, else the smallest free one that fits, nil where there is none.
func choose(c *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume) *corev1.PersistentVolume {
	var best *corev1.PersistentVolume
	for _, v := range volumes {
		if v.DeletionTimestamp != nil || !fits(v, c) {
			continue
		}
		if refers(v, c) {
			return v
		}
		if v.Spec.ClaimRef != nil || (v.Status.Phase != corev1.VolumeAvailable && v.Status.Phase != corev1.VolumePending && v.Status.Phase != "") {
			continue
		}
		if best == nil {
			best = v
			continue
		}
		a, b := v.Spec.Capacity[corev1.ResourceStorage], best.Spec.Capacity[corev1.ResourceStorage]
		if d := a.Cmp(b); d < 0 || (d == 0 && v.Name < best.Name) {
			best = v
		}
	}
	return best
}

// waits says whether a claim's binding is put off until a pod that uses it is scheduled.
func waits(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) bool {
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer && c.Annotations[annSelectedNode] == ""
}

// phaseOf is a volume's phase by its claim: claim is nil where it does not exist.
func phaseOf(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) corev1.PersistentVolumePhase {
	r := v.Spec.ClaimRef
	switch {
	case r == nil || r.UID == "":
		return corev1.VolumeAvailable
	case claim == nil || claim.UID != r.UID:
		return corev1.VolumeReleased
	case claim.Spec.VolumeName == v.Name:
		return corev1.VolumeBound
	default:
		return corev1.VolumeAvailable
	}
}

// newestDefault is the storage class for claims that name none.
func newestDefault(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	var best *storagev1.StorageClass
	for _, s := range classes {
		if s.Annotations[defaultClass] != "true" {
			continue
		}
		if best == nil || best.CreationTimestamp.Before(&s.CreationTimestamp) || (best.CreationTimestamp.Equal(&s.CreationTimestamp) && s.Name < best.Name) {
			best = s
		}
	}
	return best
}
