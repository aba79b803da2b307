package workload

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/pod"
	"flagship/controller-manager/internal/podset"
)

// replicated is a ReplicaSet or ReplicationController as the one algorithm sees it.
type replicated struct {
	owner    podset.Owner
	replicas int32
	minReady int32
	selector labels.Selector
	template *corev1.PodTemplateSpec
	status   appsv1.ReplicaSetStatus
	// group is the UID of the set's own controller, empty where it has none.
	group string
}

// replicaKind is what differs between the two kinds.
type replicaKind struct {
	gvk         schema.GroupVersionKind
	get         func(namespace, name string) (*replicated, error)
	live        func(ctx context.Context, namespace, name string) (metav1.Object, error)
	writeStatus func(ctx context.Context, r *replicated, st appsv1.ReplicaSetStatus) error
	// siblings are the UIDs of the sets with the same controller.
	siblings func(r *replicated) []string
}

type replicaSets struct {
	loop.Deps
	kind replicaKind
	ctl  *loop.Controller
	x    *loop.Expectations
	w    *loop.Written
}

// NewReplicaSet returns the replicaset-controller.
func NewReplicaSet(workers int, d loop.Deps) *loop.Controller {
	src := d.Sources.ReplicaSets()
	api := func(ns string) apiOf[*appsv1.ReplicaSet] {
		return loop.Apps[appsv1.ReplicaSet, appsv1.ReplicaSetList](d, "replicasets", ns)
	}
	c := &replicaSets{Deps: d, x: loop.NewExpectations(), w: loop.NewWritten()}
	c.kind = replicaKind{
		gvk: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		get: func(ns, name string) (*replicated, error) {
			rs := src.Get(ns, name)
			if rs == nil {
				return nil, nil
			}
			sel, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
			r := &replicated{
				owner: rs, replicas: deref(rs.Spec.Replicas, 1), minReady: rs.Spec.MinReadySeconds, selector: sel,
				template: &rs.Spec.Template, status: rs.Status,
			}
			if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
				r.group = string(ref.UID)
			}
			return r, err
		},
		live: func(ctx context.Context, ns, name string) (metav1.Object, error) {
			return api(ns).Get(ctx, name, metav1.GetOptions{})
		},
		writeStatus: func(ctx context.Context, r *replicated, st appsv1.ReplicaSetStatus) error {
			rs := src.Get(r.owner.GetNamespace(), r.owner.GetName())
			if rs == nil {
				return nil
			}
			next := rs.DeepCopy()
			next.ResourceVersion, next.Status = r.owner.GetResourceVersion(), st
			got, err := api(next.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
			if err == nil {
				c.w.Note(loop.Key(next), src, got)
			}
			return err
		},
		siblings: func(r *replicated) []string {
			if r.group == "" {
				return []string{string(r.owner.GetUID())}
			}
			var out []string
			for _, rs := range src.By(loop.ByOwner, r.group) {
				out = append(out, string(rs.UID))
			}
			return out
		},
	}
	c.ctl = d.Controller(workers, c.sync)
	loop.Watch(c.ctl, src, loop.Own[appsv1.ReplicaSet])
	loop.Watch(c.ctl, d.Sources.Pods(), podset.Observe(c.x, "ReplicaSet", podset.OwnerKey(src),
		podset.Selecting(src, func(rs *appsv1.ReplicaSet) *metav1.LabelSelector { return rs.Spec.Selector })))
	return c.ctl
}

// NewReplicationController returns the replicationcontroller-controller.
func NewReplicationController(workers int, d loop.Deps) *loop.Controller {
	src := d.Sources.ReplicationControllers()
	api := func(ns string) apiOf[*corev1.ReplicationController] {
		return loop.Core[corev1.ReplicationController, corev1.ReplicationControllerList](d, "replicationcontrollers", ns)
	}
	c := &replicaSets{Deps: d, x: loop.NewExpectations(), w: loop.NewWritten()}
	c.kind = replicaKind{
		gvk: corev1.SchemeGroupVersion.WithKind("ReplicationController"),
		get: func(ns, name string) (*replicated, error) {
			rc := src.Get(ns, name)
			if rc == nil {
				return nil, nil
			}
			r := &replicated{
				owner: rc, replicas: deref(rc.Spec.Replicas, 1), minReady: rc.Spec.MinReadySeconds,
				selector: labels.SelectorFromSet(rc.Spec.Selector), template: rc.Spec.Template, status: fromRC(&rc.Status),
			}
			if r.template == nil {
				return nil, fmt.Errorf("replication controller %s/%s has no template", ns, name)
			}
			return r, nil
		},
		live: func(ctx context.Context, ns, name string) (metav1.Object, error) {
			return api(ns).Get(ctx, name, metav1.GetOptions{})
		},
		writeStatus: func(ctx context.Context, r *replicated, st appsv1.ReplicaSetStatus) error {
			rc := src.Get(r.owner.GetNamespace(), r.owner.GetName())
			if rc == nil {
				return nil
			}
			next := rc.DeepCopy()
			next.ResourceVersion = r.owner.GetResourceVersion()
			toRC(&st, &next.Status)
			got, err := api(next.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
			if err == nil {
				c.w.Note(loop.Key(next), src, got)
			}
			return err
		},
		siblings: func(r *replicated) []string { return []string{string(r.owner.GetUID())} },
	}
	c.ctl = d.Controller(workers, c.sync)
	loop.Watch(c.ctl, src, loop.Own[corev1.ReplicationController])
	loop.Watch(c.ctl, d.Sources.Pods(), podset.Observe(c.x, "ReplicationController", podset.OwnerKey(src),
		podset.Selecting(src, func(rc *corev1.ReplicationController) *metav1.LabelSelector {
			return &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}
		})))
	return c.ctl
}

func fromRC(st *corev1.ReplicationControllerStatus) appsv1.ReplicaSetStatus {
	out := appsv1.ReplicaSetStatus{
		Replicas: st.Replicas, FullyLabeledReplicas: st.FullyLabeledReplicas, ReadyReplicas: st.ReadyReplicas,
		AvailableReplicas: st.AvailableReplicas, ObservedGeneration: st.ObservedGeneration,
	}
	for _, c := range st.Conditions {
		out.Conditions = append(out.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return out
}

func toRC(in *appsv1.ReplicaSetStatus, st *corev1.ReplicationControllerStatus) {
	*st = corev1.ReplicationControllerStatus{
		Replicas: in.Replicas, FullyLabeledReplicas: in.FullyLabeledReplicas, ReadyReplicas: in.ReadyReplicas,
		AvailableReplicas: in.AvailableReplicas, ObservedGeneration: in.ObservedGeneration,
	}
	for _, c := range in.Conditions {
		st.Conditions = append(st.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
}

func (c *replicaSets) sync(ctx context.Context, key string) error {
	if err := c.w.Wait(key); err != nil {
		return err
	}
	ns, name := loop.Split(key)
	r, err := c.kind.get(ns, name)
	if err != nil {
		return fmt.Errorf("selector of %s %s: %w", c.kind.gvk.Kind, key, err)
	}
	if r == nil {
		c.x.Forget(key)
		return nil
	}
	met := c.x.Met(key)
	live := func(ctx context.Context) (metav1.Object, error) { return c.kind.live(ctx, ns, name) }
	owned, err := podset.Claim(ctx, c.Deps, r.owner, c.kind.gvk, r.selector, live)
	if err != nil {
		return err
	}
	active := pod.FilterActive(owned)
	var terminating int32
	for _, p := range owned {
		if p.DeletionTimestamp != nil && !pod.Terminal(p) {
			terminating++
		}
	}
	var failed error
	if met && r.owner.GetDeletionTimestamp() == nil {
		failed = c.scale(ctx, key, r, active)
	}
	now := c.Now()
	st := replicaStatus(r.status, r.replicas, r.minReady, r.template.Labels, active, terminating, failed, now)
	st.ObservedGeneration = r.owner.GetGeneration()
	if c.kind.gvk.Kind != "ReplicaSet" {
		st.TerminatingReplicas = nil
	}
	if !equality.Semantic.DeepEqual(st, r.status) {
		if err := c.kind.writeStatus(ctx, r, st); err != nil {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return errors.Join(failed, err)
		}
	}
	if failed != nil {
		return failed
	}
	if wait := nextAvailable(active, r.minReady, now); wait > 0 {
		return loop.In(wait)
	}
	return nil
}

func (c *replicaSets) scale(ctx context.Context, key string, r *replicated, active []*corev1.Pod) error {
	var related []*corev1.Pod
	if len(active) > int(r.replicas) {
		for _, uid := range c.kind.siblings(r) {
			related = append(related, pod.FilterActive(c.Sources.Pods().By(loop.ByOwner, uid))...)
		}
	}
	plan := planReplicas(r.replicas, active, related, c.Now())
	if plan.create == 0 && len(plan.remove) == 0 {
		return nil
	}
	create := make([]*corev1.Pod, min(plan.create, podset.Burst))
	for i := range create {
		create[i] = podset.FromTemplate(r.template, r.owner, c.kind.gvk)
	}
	c.Decide(c.kind.gvk.Kind, r.owner.GetNamespace(), r.owner.GetName(), r.owner.GetUID(), r.owner.GetGeneration(),
		fmt.Sprintf("has %d pods, wants %d: create %d, delete %d", len(active), r.replicas, len(create), len(plan.remove)))
	return podset.Scale(ctx, c.Deps, c.x, key, r.owner, create, plan.remove)
}
