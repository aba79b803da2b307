package snapshot

import (
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Volumes are the storage objects that scheduling reads. Claims are keyed by namespace/name, the rest by name.
type Volumes struct {
	Claims     map[string]*v1.PersistentVolumeClaim
	PVs        map[string]*v1.PersistentVolume
	Classes    map[string]*storagev1.StorageClass
	CSINodes   map[string]*storagev1.CSINode
	CSIDrivers map[string]*storagev1.CSIDriver
	Capacities map[string]*storagev1.CSIStorageCapacity
	// Assumed are volumes that a placed pod is about to be bound to: PV name → claim key.
	Assumed map[string]string
}

func newVolumes() *Volumes {
	return &Volumes{
		Claims: map[string]*v1.PersistentVolumeClaim{}, PVs: map[string]*v1.PersistentVolume{},
		Classes: map[string]*storagev1.StorageClass{}, CSINodes: map[string]*storagev1.CSINode{},
		CSIDrivers: map[string]*storagev1.CSIDriver{}, Capacities: map[string]*storagev1.CSIStorageCapacity{},
		Assumed: map[string]string{},
	}
}

// ClaimName is the name of the claim that a pod's volume uses, "" for a volume without one. A generic ephemeral volume's
// claim is named after the pod and the volume.
func ClaimName(pod *v1.Pod, v *v1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	default:
		return ""
	}
}

// ClaimKey is namespace/name of the claim that a volume uses, "" for none.
func ClaimKey(pod *v1.Pod, v *v1.Volume) string {
	if name := ClaimName(pod, v); name != "" {
		return pod.Namespace + "/" + name
	}
	return ""
}

// Selectors are what selects pods, for the default topology spread: services, and the owners of pods by kind/namespace/name.
type Selectors struct {
	Services map[types.NamespacedName]map[string]string
	Owners   map[OwnerKey]labels.Selector
}

// OwnerKey names a controller that owns pods.
type OwnerKey struct{ Kind, Namespace, Name string }

func newSelectors() *Selectors {
	return &Selectors{Services: map[types.NamespacedName]map[string]string{}, Owners: map[OwnerKey]labels.Selector{}}
}
