package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/controller-manager/internal/config"
	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/pod"
	"flagship/internal/kube"
)

type lifecycle struct {
	loop.Deps
	cfg    config.Node
	nodes  *loop.Source[corev1.Node]
	leases *loop.Source[coordinationv1.Lease]

	// What follows belongs to the goroutine of monitor.
	seen map[string]*health
	// taintedAt is when a zone last had a node tainted NoExecute.
	taintedAt map[string]time.Time
	cutOff    bool
}

// NewLifecycle returns the node-lifecycle-controller.
func NewLifecycle(cfg config.Node, d loop.Deps) *loop.Controller {
	c := &lifecycle{
		Deps: d, cfg: cfg, nodes: d.Sources.Nodes(), leases: d.Sources.NodeLeases(),
		seen: map[string]*health{}, taintedAt: map[string]time.Time{},
	}
	ctl := d.Controller(8, c.sync)
	loop.Watch(ctl, c.nodes, loop.Own[corev1.Node])
	loop.Need(ctl, c.leases)
	loop.Need(ctl, d.Sources.Pods())
	ctl.Every(cfg.MonitorPeriod, c.monitor)
	return ctl
}

// sync brings a node's NoSchedule taints up to date with its conditions.
func (c *lifecycle) sync(ctx context.Context, name string) error {
	n := c.nodes.Get("", name)
	if n == nil {
		return nil
	}
	taints, changed := scheduleTaints(n, c.Now())
	if !changed {
		return nil
	}
	return c.setTaints(ctx, n, taints)
}

// setTaints replaces a node's taints, provided that it has not changed since.
func (c *lifecycle) setTaints(ctx context.Context, n *corev1.Node, taints []corev1.Taint) error {
	if taints == nil {
		taints = []corev1.Taint{}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": n.UID, "resourceVersion": n.ResourceVersion},
		"spec":     map[string]any{"taints": taints},
	})
	if err != nil {
		return err
	}
	_, err = c.Nodes().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *lifecycle) monitor(ctx context.Context) error {
	nodes := c.nodes.All()
	var errs []error
	present := map[string]bool{}
	for _, n := range nodes {
		present[n.Name] = true
		if c.seen[n.Name] == nil {
			c.event(n, corev1.EventTypeNormal, "RegisteredNode", fmt.Sprintf("Registered Node %s in Controller", n.Name))
		}
	}
	for name := range c.seen {
		if !present[name] {
			c.event(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, corev1.EventTypeNormal, "RemovingNode", fmt.Sprintf("Removing Node %s from Controller", name))
			delete(c.seen, name)
		}
	}
	for _, n := range nodes {
		errs = append(errs, c.look(ctx, n))
	}
	errs = append(errs, c.taintSilent(ctx, c.nodes.All()))
	return errors.Join(errs...)
}

func (c *lifecycle) event(n *corev1.Node, kind, reason, text string) {
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}
	c.Events.Eventf(ref, kind, reason, "Node %s event: %s", n.Name, text)
}

// look judges one node: silent for too long, it becomes Unknown; no longer ready, its pods are marked so.
func (c *lifecycle) look(ctx context.Context, n *corev1.Node) error {
	var renewed *metav1.MicroTime
	if l := c.leases.Get(corev1.NamespaceNodeLease, n.Name); l != nil {
		renewed = l.Spec.RenewTime
	}
	now := c.Now()
	before := c.seen[n.Name]
	h := observe(before, n, renewed, now)
	c.seen[n.Name] = &h
	was := h.ready
	if before != nil {
		was = before.ready
	}
	if now.After(h.seen.Add(grace(n, c.cfg.GracePeriod, c.cfg.StartupGracePeriod))) {
		if live, err := c.liveLease(ctx, n.Name, h.renewed); err != nil {
			return err
		} else if live {
			h.seen = now
			return nil
		}
		next := n.DeepCopy()
		if silentConditions(&next.Status, n.CreationTimestamp, now) {
			if err := c.writeStatus(ctx, n, next); err != nil {
				return fmt.Errorf("update status of node %s: %w", n.Name, err)
			}
			c.Decide("Node", "", n.Name, n.UID, 0, fmt.Sprintf("silent for %s: conditions set to Unknown", now.Sub(h.seen).Round(time.Second)))
		}
		h.ready = corev1.ConditionUnknown
	}
	if was == corev1.ConditionTrue && h.ready != corev1.ConditionTrue {
		ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}
		c.Events.Eventf(ref, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: %s", n.Name, "NodeNotReady")
	}
	if h.ready != corev1.ConditionTrue && h.hasReady {
		return c.markPods(ctx, n.Name)
	}
	return nil
}

// writeStatus patches the conditions only: the cache has dropped other parts of the status.
func (c *lifecycle) writeStatus(ctx context.Context, n, next *corev1.Node) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": n.UID, "resourceVersion": n.ResourceVersion},
		"status":   map[string]any{"conditions": next.Status.Conditions},
	})
	if err != nil {
		return err
	}
	_, err = c.Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// liveLease asks the server whether a node's lease was renewed since: a cache that lags must not make a node silent.
func (c *lifecycle) liveLease(ctx context.Context, name string, known metav1.MicroTime) (bool, error) {
	l, err := kube.For[coordinationv1.Lease, coordinationv1.LeaseList](c.Client, coordinationv1.SchemeGroupVersion.WithResource("leases"), corev1.NamespaceNodeLease).
		Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read lease of node %s: %w", name, err)
	}
	return known.Before(l.Spec.RenewTime), nil
}

// markPods makes the Ready condition of a node's pods false.
func (c *lifecycle) markPods(ctx context.Context, name string) error {
	var errs []error
	for _, p := range c.Sources.Pods().By(loop.ByNode, name) {
		if !pod.Ready(p) {
			continue
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": p.UID},
			"status": map[string]any{"conditions": []corev1.PodCondition{{
				Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(c.Now()),
			}}},
		})
		if err != nil {
			return err
		}
		_, err = c.Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			errs = append(errs, fmt.Errorf("mark pod %s not ready: %w", loop.Key(p), err))
			continue
		}
		c.Events.Event(p, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return errors.Join(errs...)
}

// taintSilent gives nodes that are not ready their NoExecute taint, zone by zone at the zone's rate, and takes it off
// those that are.
func (c *lifecycle) taintSilent(ctx context.Context, nodes []*corev1.Node) error {
	type tally struct{ ready, notReady int }
	zones := map[string]*tally{}
	for _, n := range nodes {
		z := zones[zone(n)]
		if z == nil {
			z = &tally{}
			zones[zone(n)] = z
		}
		if h := c.seen[n.Name]; h != nil && h.ready == corev1.ConditionTrue {
			z.ready++
		} else {
			z.notReady++
		}
	}
	states, all := map[string]zoneState{}, len(zones) > 0
	for name, z := range zones {
		states[name] = disruption(z.ready, z.notReady, c.cfg.UnhealthyThreshold)
		all = all && states[name] == zoneFull
	}
	if all != c.cutOff {
		c.cutOff = all
		if all {
			c.Log.Info("all nodes are not ready, pods are not evicted")
		} else {
			c.Log.Info("some nodes are ready, pods are evicted from those that are not")
		}
	}
	var errs []error
	now := c.Now()
	for _, n := range nodes {
		h := c.seen[n.Name]
		if h == nil {
			continue
		}
		key := executeKey(h.ready)
		taints, changed := executeTaints(n, key, now)
		if !changed {
			continue
		}
		_, has := executeTaints(n, "", now)
		if key != "" && !has {
			z := zones[zone(n)]
			rate := zoneRate(states[zone(n)], z.ready+z.notReady, all, c.cfg.EvictionRate, c.cfg.SecondaryEvictionRate, c.cfg.LargeCluster)
			if rate <= 0 || now.Sub(c.taintedAt[zone(n)]) < time.Duration(float64(time.Second)/float64(rate)) {
				continue
			}
			c.taintedAt[zone(n)] = now
		}
		if err := c.setTaints(ctx, n, taints); err != nil && !apierrors.IsConflict(err) {
			errs = append(errs, fmt.Errorf("taint node %s: %w", n.Name, err))
		}
	}
	return errors.Join(errs...)
}
