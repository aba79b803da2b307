package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"flagship/controller-manager/internal/catalog"
	"flagship/controller-manager/internal/loop"
)

type collector struct {
	loop.Deps
	cat  *catalog.Catalog
	meta metadata.Interface
	ctl  *loop.Controller

	mu      sync.Mutex // guards graph, started and held
	graph   *graph
	started bool
	held    effects
}

// New returns the garbage-collector-controller.
func New(workers int, d loop.Deps) (*loop.Controller, error) {
	meta, err := metadata.NewForConfig(d.Client.Config())
	if err != nil {
		return nil, fmt.Errorf("metadata client: %w", err)
	}
	c := &collector{Deps: d, cat: catalog.New(d.Client), meta: meta, graph: newGraph()}
	c.ctl = d.Controller(workers, c.sync)
	c.ctl.Side(c.watchKinds)
	return c.ctl, nil
}

// orphanKey marks a key as that of an owner whose dependents are to be orphaned.
const orphanKey = "orphan:"

// apply changes the graph and queues what follows, once the graph is complete.
func (c *collector) apply(change func(g *graph) effects) {
	c.mu.Lock()
	fx := change(c.graph)
	if !c.started {
		// Only the beginnings need not be kept: begin looks at all.
		c.held.orphan = append(c.held.orphan, fx.orphan...)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.enqueue(fx)
}

func (c *collector) enqueue(fx effects) {
	for _, uid := range fx.check {
		c.ctl.Add(string(uid))
	}
	for _, uid := range fx.orphan {
		c.ctl.Add(orphanKey + string(uid))
	}
}

// begin starts judging: every object with an owner, every one that waits for dependents.
func (c *collector) begin() {
	c.mu.Lock()
	if c.started {
		c.mu.Unlock()
		return
	}
	c.started = true
	fx := c.held
	c.held = effects{}
	for uid, n := range c.graph.nodes {
		if n.virtual || n.foreground {
			fx.check = append(fx.check, uid)
		}
	}
	c.mu.Unlock()
	c.enqueue(fx)
}

// find copies what is known of an object.
func (c *collector) find(uid types.UID) (n node, blocking []*node, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.graph.nodes[uid]
	if p == nil {
		return node{}, nil, false
	}
	for _, b := range c.graph.blocking(p) {
		cp := *b
		blocking = append(blocking, &cp)
	}
	n = *p
	n.dependents = make(map[types.UID]*node, len(p.dependents))
	for id, dep := range p.dependents {
		cp := *dep
		n.dependents[id] = &cp
	}
	return n, blocking, true
}

func (c *collector) sync(ctx context.Context, key string) error {
	if uid, ok := strings.CutPrefix(key, orphanKey); ok {
		return c.orphan(ctx, types.UID(uid))
	}
	n, blocking, ok := c.find(types.UID(key))
	switch {
	case !ok:
		return nil
	case n.virtual:
		return c.confirm(ctx, &n)
	case n.deleting && !n.foreground:
		return nil
	}
	live, err := c.api(n.gvr, n.namespace).Get(ctx, n.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && live.UID != n.uid) {
		c.apply(func(g *graph) effects { return g.remove(n.uid) })
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s %s/%s: %w", n.gvr.GroupResource(), n.namespace, n.name, err)
	}
	if n.foreground {
		return c.dependentsFirst(ctx, &n, blocking, live)
	}
	if len(live.OwnerReferences) == 0 || live.DeletionTimestamp != nil {
		return nil
	}
	return c.judge(ctx, &n, live)
}

func (c *collector) api(gvr schema.GroupVersionResource, namespace string) metadata.ResourceInterface {
	if namespace == "" {
		return c.meta.Resource(gvr)
	}
	return c.meta.Resource(gvr).Namespace(namespace)
}

// confirm looks an owner up that no watch has shown: where it is not there, its dependents are looked at.
func (c *collector) confirm(ctx context.Context, n *node) error {
	if n.ref.UID == "" {
		c.apply(func(g *graph) effects { return dependentsOf(g, n.uid) })
		return nil
	}
	_, there, err := c.owner(ctx, n.ref, n.namespace)
	if err != nil {
		return err
	}
	if !there {
		c.apply(func(g *graph) effects {
			g.noteAbsent(n.uid)
			return dependentsOf(g, n.uid)
		})
	}
	return nil
}

func dependentsOf(g *graph, uid types.UID) effects {
	var fx effects
	if n := g.nodes[uid]; n != nil {
		for dep := range n.dependents {
			fx.check = append(fx.check, dep)
		}
	}
	return fx
}

// owner reads an owner as a reference of an object in namespace names it. An owner of another kind's scope than the
// reference can mean, or of a kind that the server does not know, is an error or absent as upstream has it.
func (c *collector) owner(ctx context.Context, ref metav1.OwnerReference, namespace string) (*metav1.PartialObjectMetadata, bool, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, false, fmt.Errorf("owner %s %s: %w", ref.Kind, ref.Name, err)
	}
	r, ok := c.cat.Find(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
	if !ok {
		return nil, false, fmt.Errorf("unable to get REST mapping for %s/%s", ref.APIVersion, ref.Kind)
	}
	if !r.Namespaced {
		namespace = ""
	} else if namespace == "" {
		// A cluster-scoped object cannot be owned by a namespaced one; upstream leaves such objects alone.
		return nil, true, nil
	}
	got, err := c.api(r.GroupVersionResource, namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("read owner %s %s/%s: %w", ref.Kind, namespace, ref.Name, err)
	case got.UID != ref.UID:
		return nil, false, nil
	}
	return got, true, nil
}

func (c *collector) judge(ctx context.Context, n *node, live *metav1.PartialObjectMetadata) error {
	var solid, dangling, waiting []metav1.OwnerReference
	for _, ref := range live.OwnerReferences {
		c.mu.Lock()
		absent := c.graph.isAbsent(ref.UID)
		c.mu.Unlock()
		if absent {
			dangling = append(dangling, ref)
			continue
		}
		got, there, err := c.owner(ctx, ref, n.namespace)
		switch {
		case err != nil:
			return err
		case !there:
			c.mu.Lock()
			c.graph.noteAbsent(ref.UID)
			c.mu.Unlock()
			dangling = append(dangling, ref)
		case got != nil && got.DeletionTimestamp != nil && slices.Contains(got.Finalizers, metav1.FinalizerDeleteDependents):
			waiting = append(waiting, ref)
		default:
			solid = append(solid, ref)
		}
	}
	f := judge(solid, dangling, waiting, len(n.dependents) > 0, live.Finalizers)
	if len(f.drop) > 0 {
		return c.dropOwners(ctx, n, f.drop)
	}
	if f.policy == "" {
		return nil
	}
	if f.unblock {
		for _, dep := range n.dependents {
			if dep.foreground {
				if err := c.unblock(ctx, live, n.gvr, n.namespace); err != nil {
					return err
				}
				break
			}
		}
	}
	err := c.api(n.gvr, n.namespace).Delete(ctx, n.name, metav1.DeleteOptions{
		PropagationPolicy: &f.policy, Preconditions: &metav1.Preconditions{UID: &n.uid, ResourceVersion: &live.ResourceVersion},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		c.Decide(n.gvr.Resource, n.namespace, n.name, n.uid, 0, fmt.Sprintf("deleted (%s): %d owners gone, %d being deleted", f.policy, len(dangling), len(waiting)))
	}
	return err
}

// dropOwners takes references off an object.
func (c *collector) dropOwners(ctx context.Context, n *node, drop []types.UID) error {
	refs := make([]map[string]string, len(drop))
	for i, uid := range drop {
		refs[i] = map[string]string{"$patch": "delete", "uid": string(uid)}
	}
	return c.patch(ctx, n.gvr, n.namespace, n.name, map[string]any{"uid": n.uid, "ownerReferences": refs}, func(live *metav1.PartialObjectMetadata) map[string]any {
		if live.UID != n.uid {
			return nil
		}
		return map[string]any{"ownerReferences": slices.DeleteFunc(slices.Clone(live.OwnerReferences), func(r metav1.OwnerReference) bool { return slices.Contains(drop, r.UID) })}
	})
}

// unblock makes an object's references no longer hold up its owners.
func (c *collector) unblock(ctx context.Context, live *metav1.PartialObjectMetadata, gvr schema.GroupVersionResource, namespace string) error {
	change := func(live *metav1.PartialObjectMetadata) map[string]any {
		no := false
		refs := slices.Clone(live.OwnerReferences)
		for i := range refs {
			refs[i].BlockOwnerDeletion = &no
		}
		return map[string]any{"ownerReferences": refs}
	}
	return c.mergePatch(ctx, gvr, namespace, live, change)
}

// patch sends a strategic merge patch of the metadata; kinds that do not take one get a merge patch made of what is live.
func (c *collector) patch(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, strategic map[string]any, change func(live *metav1.PartialObjectMetadata) map[string]any) error {
	data, err := json.Marshal(map[string]any{"metadata": strategic})
	if err != nil {
		return err
	}
	_, err = c.api(gvr, namespace).Patch(ctx, name, types.StrategicMergePatchType, data, metav1.PatchOptions{})
	if !apierrors.IsUnsupportedMediaType(err) {
		return ignoreGone(err)
	}
	live, err := c.api(gvr, namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return ignoreGone(err)
	}
	return c.mergePatch(ctx, gvr, namespace, live, change)
}

func (c *collector) mergePatch(ctx context.Context, gvr schema.GroupVersionResource, namespace string, live *metav1.PartialObjectMetadata, change func(live *metav1.PartialObjectMetadata) map[string]any) error {
	m := change(live)
	if m == nil {
		return nil
	}
	m["uid"], m["resourceVersion"] = live.UID, live.ResourceVersion
	data, err := json.Marshal(map[string]any{"metadata": m})
	if err != nil {
		return err
	}
	_, err = c.api(gvr, namespace).Patch(ctx, live.Name, types.MergePatchType, data, metav1.PatchOptions{})
	return ignoreGone(err)
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// dependentsFirst goes on with a foreground deletion: when nothing blocks any more, the finalizer goes.
func (c *collector) dependentsFirst(ctx context.Context, n *node, blocking []*node, live *metav1.PartialObjectMetadata) error {
	if len(blocking) == 0 {
		return c.dropFinalizer(ctx, n, live, metav1.FinalizerDeleteDependents)
	}
	for _, b := range blocking {
		if !b.foreground {
			c.ctl.Add(string(b.uid))
		}
	}
	return nil
}

func (c *collector) dropFinalizer(ctx context.Context, n *node, live *metav1.PartialObjectMetadata, finalizer string) error {
	if live.UID != n.uid || !slices.Contains(live.Finalizers, finalizer) {
		return nil
	}
	return c.mergePatch(ctx, n.gvr, n.namespace, live, func(live *metav1.PartialObjectMetadata) map[string]any {
		left := slices.DeleteFunc(slices.Clone(live.Finalizers), func(f string) bool { return f == finalizer })
		if left == nil {
			left = []string{}
		}
		return map[string]any{"finalizers": left}
	})
}

// orphan takes an owner off its dependents, and then its finalizer, so that it can go.
func (c *collector) orphan(ctx context.Context, uid types.UID) error {
	n, _, ok := c.find(uid)
	if !ok || n.virtual {
		return nil
	}
	var errs []error
	for _, dep := range n.dependents {
		if err := c.dropOwners(ctx, dep, []types.UID{uid}); err != nil && !apierrors.IsInvalid(err) {
			errs = append(errs, fmt.Errorf("orphan %s %s/%s: %w", dep.gvr.GroupResource(), dep.namespace, dep.name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	live, err := c.api(n.gvr, n.namespace).Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return ignoreGone(err)
	}
	return c.dropFinalizer(ctx, &n, live, metav1.FinalizerOrphanDependents)
}
