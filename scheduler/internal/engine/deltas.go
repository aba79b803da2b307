package engine

import (
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"go.uber.org/zap"

	"flagship/scheduler/internal/snapshot"
)

// wake tells the queue about a change of the cluster.
func (e *Engine) wake(ev snapshot.Event) {
	e.queue.Wake(ev.Label(), func(name string, p *snapshot.Pod) bool {
		pr := e.deps.Profiles[p.Spec.SchedulerName]
		if pr == nil {
			return false
		}
		for _, f := range pr.Filters {
			if f.Name() == name {
				return f.Wake(e.cluster, ev, p)
			}
		}
		return true
	}, e.deps.Now())
}

// SetPod takes a pod's newest state from the API.
func (e *Engine) SetPod(pod *v1.Pod) { e.Post(func() { e.setPod(pod) }) }

func (e *Engine) setPod(pod *v1.Pod) {
	p, err := snapshot.NewPod(pod)
	if err != nil {
		e.deps.Log.Warn("pod's affinity not understood", zap.String("pod", p.Key()), zap.Error(err))
	}
	if pod.Spec.NodeName != "" {
		e.setPlaced(p)
		return
	}
	if e.deps.Profiles[pod.Spec.SchedulerName] == nil {
		return
	}
	if _, binding := e.assumed[pod.UID]; binding {
		return
	}
	e.denominate(p)
	if pod.Status.NominatedNodeName != "" {
		e.nominate(p, pod.Status.NominatedNodeName)
	}
	e.queue.Update(p, e.deps.Now())
}

func (e *Engine) setPlaced(p *snapshot.Pod) {
	ev := snapshot.Event{Kind: snapshot.KindAssignedPod, Action: snapshot.Add, Pod: p, Node: -1}
	if !e.settle(p.UID) {
		e.queue.Remove(p.UID)
	}
	e.denominate(p)
	if node, ok := e.cluster.NodeOf(p.UID); ok {
		for _, old := range e.cluster.Pods(node) {
			if old.UID == p.UID {
				ev.Action, ev.OldPod = snapshot.Update, old
			}
		}
	}
	e.cluster.AddPod(p)
	e.wake(ev)
}

// settle notes that the informer has told the end of an assumption; false when there is none under way.
func (e *Engine) settle(uid types.UID) bool {
	a := e.assumed[uid]
	if a == nil {
		return false
	}
	if a.bound {
		delete(e.assumed, uid)
		return false
	}
	a.settled = true
	return true
}

// RemovePod takes notice of a pod that is gone, or finished.
func (e *Engine) RemovePod(pod *v1.Pod) {
	e.Post(func() {
		e.settle(pod.UID)
		p := e.cluster.RemovePod(pod.UID)
		it := e.queue.Remove(pod.UID)
		if it != nil {
			e.denominate(it.Pod)
			// A pod that waited for a node kept room there.
			if p == nil && it.Pod.Status.NominatedNodeName != "" {
				p = it.Pod
			}
		}
		if p != nil {
			e.wake(snapshot.Event{Kind: snapshot.KindAssignedPod, Action: snapshot.Delete, Pod: p, Node: -1})
		}
	})
}

// SetNode takes a node's newest state.
func (e *Engine) SetNode(n *v1.Node) {
	e.Post(func() {
		node, change, added := e.cluster.SetNode(n)
		switch {
		case added:
			e.wake(snapshot.Event{Kind: snapshot.KindNode, Action: snapshot.Add, Node: node})
		case change.Any():
			e.wake(snapshot.Event{Kind: snapshot.KindNode, Action: snapshot.Update, Node: node, Change: change})
		}
	})
}

// RemoveNode takes notice of a node that is gone.
func (e *Engine) RemoveNode(n *v1.Node) {
	e.Post(func() {
		node, ok := e.cluster.Index(n.Name)
		if !ok {
			return
		}
		e.wake(snapshot.Event{Kind: snapshot.KindNode, Action: snapshot.Delete, Node: node})
		e.cluster.RemoveNode(n.Name)
	})
}

// SetNamespace takes a namespace's labels; gone forgets it.
func (e *Engine) SetNamespace(name string, l map[string]string, gone bool) {
	e.Post(func() {
		if gone {
			e.cluster.SetNamespace(name, nil)
			return
		}
		set := labels.Set{}
		for k, v := range l {
			set[k] = v
		}
		if !labels.Equals(set, e.cluster.NamespaceLabels(name)) {
			e.cluster.SetNamespace(name, set)
			e.wake(snapshot.Event{Kind: snapshot.KindNamespace, Action: snapshot.Update, Node: -1, ObjectName: name})
		}
	})
}

// set stores or removes an object in one of the snapshot's maps and wakes the queue.
func set[T any](e *Engine, in map[string]T, key string, obj T, gone bool, ev snapshot.Event) {
	_, known := in[key]
	ev.Node = -1
	switch {
	case gone:
		delete(in, key)
		ev.Action = snapshot.Delete
	case known:
		in[key] = obj
		ev.Action = snapshot.Update
	default:
		in[key] = obj
		ev.Action = snapshot.Add
	}
	e.wake(ev)
}

// SetStorage takes a storage object's newest state, or that it is gone. Other kinds are a programming error.
func (e *Engine) SetStorage(obj any, gone bool) {
	e.Post(func() {
		v := e.cluster.Volumes
		switch o := obj.(type) {
		case *v1.PersistentVolumeClaim:
			set(e, v.Claims, o.Namespace+"/"+o.Name, o, gone, snapshot.Event{Kind: snapshot.KindPVC, ObjectNamespace: o.Namespace, ObjectName: o.Name})
		case *v1.PersistentVolume:
			set(e, v.PVs, o.Name, o, gone, snapshot.Event{Kind: snapshot.KindPV, ObjectName: o.Name})
		case *storagev1.StorageClass:
			set(e, v.Classes, o.Name, o, gone, snapshot.Event{Kind: snapshot.KindStorageClass, ObjectName: o.Name})
		case *storagev1.CSINode:
			set(e, v.CSINodes, o.Name, o, gone, snapshot.Event{Kind: snapshot.KindCSINode, ObjectName: o.Name})
		case *storagev1.CSIDriver:
			set(e, v.CSIDrivers, o.Name, o, gone, snapshot.Event{Kind: snapshot.KindCSIDriver, ObjectName: o.Name})
		case *storagev1.CSIStorageCapacity:
			set(e, v.Capacities, o.Namespace+"/"+o.Name, o, gone, snapshot.Event{Kind: snapshot.KindCSICapacity, ObjectName: o.Name})
		default:
			panic("engine: not a storage object")
		}
	})
}

// SetBudget takes a disruption budget's newest state.
func (e *Engine) SetBudget(b *policyv1.PodDisruptionBudget, gone bool) {
	e.Post(func() {
		if gone {
			delete(e.pdbs, b.Namespace+"/"+b.Name)
			return
		}
		e.pdbs[b.Namespace+"/"+b.Name] = b
	})
}

// SetService takes what a service selects.
func (e *Engine) SetService(s *v1.Service, gone bool) {
	e.Post(func() {
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		if gone || len(s.Spec.Selector) == 0 {
			delete(e.cluster.Selectors.Services, key)
			return
		}
		e.cluster.Selectors.Services[key] = s.Spec.Selector
	})
}

// SetOwner takes what a controller of pods selects.
func (e *Engine) SetOwner(kind string, meta metav1.Object, selector labels.Selector, gone bool) {
	e.Post(func() {
		key := snapshot.OwnerKey{Kind: kind, Namespace: meta.GetNamespace(), Name: meta.GetName()}
		if gone || selector == nil {
			delete(e.cluster.Selectors.Owners, key)
			return
		}
		e.cluster.Selectors.Owners[key] = selector
	})
}
