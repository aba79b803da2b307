package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/controller-manager/internal/config"
	"flagship/controller-manager/internal/loop"
)

type ipam struct {
	loop.Deps
	nodes *loop.Source[corev1.Node]

	mu    sync.Mutex // guards pools and held
	pools []*pool
	held  map[string][]netip.Prefix
}

// NewIPAM returns the node-ipam-controller, nil where ranges are not to be allocated.
func NewIPAM(cfg config.Node, d loop.Deps) *loop.Controller {
	if !cfg.AllocateCIDRs {
		return nil
	}
	c := &ipam{Deps: d, nodes: d.Sources.Nodes(), held: map[string][]netip.Prefix{}}
	for _, r := range cfg.ClusterCIDRs {
		p := newPool(r, cfg.Mask(r))
		for _, s := range cfg.ServiceCIDRs {
			p.occupy(s)
		}
		c.pools = append(c.pools, p)
	}
	// One worker, and a first pass over all nodes in the handler: what nodes have is occupied before anything is given.
	ctl := d.Controller(1, c.sync)
	loop.Watch(ctl, c.nodes, func(e loop.Event[corev1.Node]) []string {
		if e.New != nil {
			c.hold(e.New)
		}
		return []string{e.Now().Name}
	})
	return ctl
}

// hold occupies the ranges that a node has.
func (c *ipam) hold(n *corev1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(n.Spec.PodCIDRs) == 0 || c.held[n.Name] != nil {
		return
	}
	for _, text := range n.Spec.PodCIDRs {
		r, err := netip.ParsePrefix(text)
		if err != nil {
			continue
		}
		c.held[n.Name] = append(c.held[n.Name], r)
		for _, p := range c.pools {
			p.occupy(r)
		}
	}
}

func (c *ipam) letGo(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.held[name] {
		for _, p := range c.pools {
			p.release(r)
		}
	}
	delete(c.held, name)
}

func (c *ipam) sync(ctx context.Context, name string) error {
	n := c.nodes.Get("", name)
	if n == nil {
		c.letGo(name)
		return nil
	}
	if len(n.Spec.PodCIDRs) > 0 {
		return nil
	}
	ranges, err := c.take(name)
	if err != nil {
		ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}
		c.Events.Eventf(ref, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: %s", n.Name, "CIDRNotAvailable")
		return err
	}
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": n.UID},
		"spec":     map[string]any{"podCIDR": texts[0], "podCIDRs": texts},
	})
	if err != nil {
		return err
	}
	if _, err := c.Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
			c.letGo(name)
			if live := c.nodes.Get("", name); live != nil {
				c.hold(live)
			}
		}
		return fmt.Errorf("set ranges of node %s: %w", name, err)
	}
	c.Decide("Node", "", name, n.UID, 0, fmt.Sprintf("pod ranges %v", texts))
	return nil
}

// take returns the ranges of a node: those it was given before, or new ones.
func (c *ipam) take(name string) ([]netip.Prefix, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if held := c.held[name]; len(held) > 0 {
		return held, nil
	}
	var out []netip.Prefix
	for _, p := range c.pools {
		r, err := p.take()
		if err != nil {
			for i, taken := range out {
				c.pools[i].release(taken)
			}
			return nil, err
		}
		out = append(out, r)
	}
	c.held[name] = out
	return out, nil
}
