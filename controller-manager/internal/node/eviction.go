package node

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/pod"
)

type eviction struct {
	loop.Deps
	nodes *loop.Source[corev1.Node]
	pods  *loop.Source[corev1.Pod]

	mu sync.Mutex // guards since
	// since is when a taint without a time was first seen for a pod.
	since map[types.UID]time.Time
}

// NewTaintEviction returns the taint-eviction-controller.
func NewTaintEviction(d loop.Deps) *loop.Controller {
	c := &eviction{Deps: d, nodes: d.Sources.Nodes(), pods: d.Sources.Pods(), since: map[types.UID]time.Time{}}
	ctl := d.Controller(8, c.sync)
	loop.Watch(ctl, c.nodes, func(e loop.Event[corev1.Node]) []string {
		if e.New == nil || (len(noExecute(e.New)) == 0 && (e.Old == nil || len(noExecute(e.Old)) == 0)) {
			return nil
		}
		var keys []string
		for _, p := range c.pods.By(loop.ByNode, e.New.Name) {
			keys = append(keys, loop.Key(p))
		}
		return keys
	})
	loop.Watch(ctl, c.pods, func(e loop.Event[corev1.Pod]) []string {
		if e.New != nil && (e.New.Spec.NodeName == "" || e.New.DeletionTimestamp != nil) {
			return nil
		}
		if e.Old != nil && e.New != nil && e.Old.Spec.NodeName == e.New.Spec.NodeName && len(e.Old.Spec.Tolerations) == len(e.New.Spec.Tolerations) {
			return nil
		}
		return []string{loop.Key(e.Now())}
	})
	return ctl
}

func (c *eviction) sync(ctx context.Context, key string) error {
	p := c.pods.Get(loop.Split(key))
	if p == nil || p.DeletionTimestamp != nil || p.Spec.NodeName == "" {
		return nil
	}
	n := c.nodes.Get("", p.Spec.NodeName)
	if n == nil {
		return nil
	}
	taints := noExecute(n)
	now := c.Now()
	at, evict := evictAt(p, c.timed(p.UID, taints, now), now)
	if !evict {
		return nil
	}
	if wait := at.Sub(now); wait > 0 {
		return loop.In(wait)
	}
	c.Events.Eventf(p, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", key)
	c.Decide("Pod", p.Namespace, p.Name, p.UID, 0, fmt.Sprintf("evicted from node %s because of its NoExecute taints", n.Name))
	return evictPod(ctx, c.Deps, p, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", false, nil)
}

// timed gives taints without a time the time when they were first seen for the pod.
func (c *eviction) timed(uid types.UID, taints []corev1.Taint, now time.Time) []corev1.Taint {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(taints) == 0 {
		delete(c.since, uid)
		return taints
	}
	for i := range taints {
		if taints[i].TimeAdded != nil {
			continue
		}
		if _, ok := c.since[uid]; !ok {
			if len(c.since) > maxSince {
				clear(c.since)
			}
			c.since[uid] = now
		}
		at := metav1.NewTime(c.since[uid])
		taints[i].TimeAdded = &at
	}
	return taints
}

// maxSince bounds the memory of eviction; it is emptied beyond, which only postpones evictions.
const maxSince = 100000

// evictPod notes on a pod why it is deleted, and deletes it. fail makes the phase Failed where it is not final.
func evictPod(ctx context.Context, d loop.Deps, p *corev1.Pod, reason, message string, fail bool, graceSeconds *int64) error {
	st := map[string]any{}
	if reason != "" {
		st["conditions"] = []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(d.Now()),
		}}
	}
	if fail {
		st["phase"] = corev1.PodFailed
	}
	if len(st) > 0 && !pod.Terminal(p) {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID}, "status": st})
		if err != nil {
			return err
		}
		if _, err := d.Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				return nil
			}
			return fmt.Errorf("mark pod %s as disrupted: %w", loop.Key(p), err)
		}
	}
	err := d.Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: graceSeconds, Preconditions: &metav1.Preconditions{UID: &p.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
