package app

import (
	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"

	"flagship/internal/kube"
	"flagship/scheduler/internal/engine"
)

// watches are the informers by resource name, in the order of their start: what pods refer to comes before pods.
type watches struct {
	list   []cache.SharedIndexInformer
	synced []cache.InformerSynced
	claims cache.Indexer
}

// Claim implements bind.Store.
func (w *watches) Claim(namespace, name string) *v1.PersistentVolumeClaim {
	obj, ok, err := w.claims.GetByKey(namespace + "/" + name)
	if err != nil || !ok {
		return nil
	}
	claim, _ := obj.(*v1.PersistentVolumeClaim)
	return claim
}

// on calls set for every object of an informer that is new, changed or gone.
func on[T any](w *watches, inf cache.SharedIndexInformer, set func(obj T, gone bool)) error {
	handle := func(obj any, gone bool) {
		if tomb, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tomb.Obj
		}
		if o, ok := obj.(T); ok {
			set(o, gone)
		}
	}
	reg, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { handle(obj, false) },
		UpdateFunc: func(_, obj any) { handle(obj, false) },
		DeleteFunc: func(obj any) { handle(obj, true) },
	})
	if err != nil {
		return err
	}
	w.list = append(w.list, inf)
	w.synced = append(w.synced, reg.HasSynced)
	return nil
}

// newWatches makes the informers and points them at the engine.
func newWatches(c *kube.Client, e func() *engine.Engine) (*watches, error) {
	w := &watches{}
	core, apps, storage := v1.SchemeGroupVersion, appsv1.SchemeGroupVersion, storagev1.SchemeGroupVersion
	strip := func(f func(any)) kube.InformerOptions {
		return kube.InformerOptions{Transform: func(obj any) (any, error) { f(obj); return obj, nil }}
	}
	claims := kube.NewInformer[v1.PersistentVolumeClaim, v1.PersistentVolumeClaimList](c, core.WithResource("persistentvolumeclaims"), kube.InformerOptions{})
	w.claims = claims.GetIndexer()
	storageSet := func(obj any, gone bool) { e().SetStorage(obj, gone) }
	selector := func(kind string, o metav1.Object, s *metav1.LabelSelector, gone bool) {
		parsed, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			parsed = nil
		}
		e().SetOwner(kind, o, parsed, gone)
	}
	pods := strip(stripPod)
	pods.FieldSelector = "status.phase!=Succeeded,status.phase!=Failed"
	for _, err := range []error{
		on(w, kube.NewInformer[v1.Namespace, v1.NamespaceList](c, core.WithResource("namespaces"), kube.InformerOptions{}),
			func(o *v1.Namespace, gone bool) { e().SetNamespace(o.Name, o.Labels, gone) }),
		on(w, claims, func(o *v1.PersistentVolumeClaim, gone bool) { storageSet(o, gone) }),
		on(w, kube.NewInformer[v1.PersistentVolume, v1.PersistentVolumeList](c, core.WithResource("persistentvolumes"), kube.InformerOptions{}),
			func(o *v1.PersistentVolume, gone bool) { storageSet(o, gone) }),
		on(w, kube.NewInformer[storagev1.StorageClass, storagev1.StorageClassList](c, storage.WithResource("storageclasses"), kube.InformerOptions{}),
			func(o *storagev1.StorageClass, gone bool) { storageSet(o, gone) }),
		on(w, kube.NewInformer[storagev1.CSINode, storagev1.CSINodeList](c, storage.WithResource("csinodes"), kube.InformerOptions{}),
			func(o *storagev1.CSINode, gone bool) { storageSet(o, gone) }),
		on(w, kube.NewInformer[storagev1.CSIDriver, storagev1.CSIDriverList](c, storage.WithResource("csidrivers"), kube.InformerOptions{}),
			func(o *storagev1.CSIDriver, gone bool) { storageSet(o, gone) }),
		on(w, kube.NewInformer[storagev1.CSIStorageCapacity, storagev1.CSIStorageCapacityList](c, storage.WithResource("csistoragecapacities"), kube.InformerOptions{}),
			func(o *storagev1.CSIStorageCapacity, gone bool) { storageSet(o, gone) }),
		on(w, kube.NewInformer[policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetList](c, policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets"), kube.InformerOptions{}),
			func(o *policyv1.PodDisruptionBudget, gone bool) { e().SetBudget(o, gone) }),
		on(w, kube.NewInformer[v1.Service, v1.ServiceList](c, core.WithResource("services"), strip(stripService)),
			func(o *v1.Service, gone bool) { e().SetService(o, gone) }),
		on(w, kube.NewInformer[v1.ReplicationController, v1.ReplicationControllerList](c, core.WithResource("replicationcontrollers"), strip(stripOwner)),
			func(o *v1.ReplicationController, gone bool) {
				e().SetOwner("ReplicationController", o, labels.SelectorFromSet(o.Spec.Selector), gone)
			}),
		on(w, kube.NewInformer[appsv1.ReplicaSet, appsv1.ReplicaSetList](c, apps.WithResource("replicasets"), strip(stripOwner)),
			func(o *appsv1.ReplicaSet, gone bool) { selector("ReplicaSet", o, o.Spec.Selector, gone) }),
		on(w, kube.NewInformer[appsv1.StatefulSet, appsv1.StatefulSetList](c, apps.WithResource("statefulsets"), strip(stripOwner)),
			func(o *appsv1.StatefulSet, gone bool) { selector("StatefulSet", o, o.Spec.Selector, gone) }),
		on(w, kube.NewInformer[v1.Node, v1.NodeList](c, core.WithResource("nodes"), strip(stripNode)),
			func(o *v1.Node, gone bool) {
				if gone {
					e().RemoveNode(o)
					return
				}
				e().SetNode(o)
			}),
		on(w, kube.NewInformer[v1.Pod, v1.PodList](c, core.WithResource("pods"), pods),
			func(o *v1.Pod, gone bool) {
				if gone {
					e().RemovePod(o)
					return
				}
				e().SetPod(o)
			}),
	} {
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}
