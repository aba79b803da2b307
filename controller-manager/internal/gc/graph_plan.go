package gc

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// object is what the graph knows of an object.
type object struct {
	gvr             schema.GroupVersionResource
	namespace, name string
	uid             types.UID
	owners          []metav1.OwnerReference
	deleting        bool
	foreground      bool // being deleted, and its dependents first
	orphan          bool // being deleted, and its dependents are to stay
}

// node is an object with those that name it as their owner. A virtual node is an owner that no watch has shown.
type node struct {
	object
	dependents map[types.UID]*node
	virtual    bool
	// ref is how a virtual node was named.
	ref metav1.OwnerReference
}

// effects is what a change of the graph calls for, by UID: a look whether the object is still owned, or its orphaning.
type effects struct{ check, orphan []types.UID }

// graph is who owns whom. It is not safe for concurrent use.
type graph struct {
	nodes map[types.UID]*node
	// absent are owners that were found not to exist.
	absent map[types.UID]bool
}

// maxAbsent bounds the memory of owners that do not exist; it only saves requests.
const maxAbsent = 500

func newGraph() *graph {
	return &graph{nodes: map[types.UID]*node{}, absent: map[types.UID]bool{}}
}

func (g *graph) isAbsent(uid types.UID) bool { return g.absent[uid] }

func (g *graph) noteAbsent(uid types.UID) {
	if len(g.absent) >= maxAbsent {
		clear(g.absent)
	}
	g.absent[uid] = true
}

// set adds or changes an object.
func (g *graph) set(o object) effects {
	var fx effects
	delete(g.absent, o.uid)
	n := g.nodes[o.uid]
	if n == nil {
		n = &node{object: o, dependents: map[types.UID]*node{}}
		g.nodes[o.uid] = n
		fx.check = append(fx.check, g.link(n, nil)...)
		g.deletion(n, object{}, &fx)
		if len(o.owners) > 0 {
			// At the start nobody knows whether the owners are there.
			fx.check = append(fx.check, o.uid)
		}
		return fx
	}
	old := n.object
	wasVirtual := n.virtual
	n.object, n.virtual = o, false
	if !slices.EqualFunc(old.owners, o.owners, sameReference) {
		fx.check = append(fx.check, g.link(n, old.owners)...)
		fx.check = append(fx.check, o.uid)
		// Owners that wait for their dependents may wait no longer.
		for _, ref := range old.owners {
			if owner := g.nodes[ref.UID]; owner != nil && owner.foreground {
				fx.check = append(fx.check, ref.UID)
			}
		}
	}
	g.deletion(n, old, &fx)
	if wasVirtual {
		// Dependents may have named it wrongly; they look again.
		for uid := range n.dependents {
			fx.check = append(fx.check, uid)
		}
		if len(o.owners) > 0 {
			fx.check = append(fx.check, o.uid)
		}
	}
	return fx
}

func sameReference(a, b metav1.OwnerReference) bool {
	return a.UID == b.UID && blocks(&a) == blocks(&b) && a.Kind == b.Kind && a.Name == b.Name && a.APIVersion == b.APIVersion
}

func blocks(ref *metav1.OwnerReference) bool {
	return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}

// deletion notes the beginning of a deletion that concerns dependents.
func (g *graph) deletion(n *node, old object, fx *effects) {
	if n.orphan && !old.orphan {
		fx.orphan = append(fx.orphan, n.uid)
	}
	if n.foreground && !old.foreground {
		for uid := range n.dependents {
			fx.check = append(fx.check, uid)
		}
		fx.check = append(fx.check, n.uid)
	}
}

// link hangs a node below its owners and takes it off those that are none any more. Owners that are not known become
// virtual, and are returned to be looked at.
func (g *graph) link(n *node, before []metav1.OwnerReference) []types.UID {
	var check []types.UID
	for _, ref := range before {
		if owner := g.nodes[ref.UID]; owner != nil {
			delete(owner.dependents, n.uid)
			g.dropVirtual(owner)
		}
	}
	for _, ref := range n.owners {
		owner := g.nodes[ref.UID]
		if owner == nil {
			owner = &node{object: object{uid: ref.UID, namespace: n.namespace, name: ref.Name}, dependents: map[types.UID]*node{}, virtual: true, ref: ref}
			g.nodes[ref.UID] = owner
			check = append(check, ref.UID)
		}
		owner.dependents[n.uid] = n
	}
	return check
}

func (g *graph) dropVirtual(n *node) {
	if n.virtual && len(n.dependents) == 0 {
		delete(g.nodes, n.uid)
	}
}

// remove takes an object out; its dependents have lost an owner, and owners that waited for it may go on.
func (g *graph) remove(uid types.UID) effects {
	var fx effects
	n := g.nodes[uid]
	if n == nil {
		return fx
	}
	delete(g.nodes, uid)
	for _, ref := range n.owners {
		owner := g.nodes[ref.UID]
		if owner == nil {
			continue
		}
		delete(owner.dependents, uid)
		if owner.foreground {
			fx.check = append(fx.check, ref.UID)
		}
		g.dropVirtual(owner)
	}
	if len(n.dependents) > 0 {
		g.noteAbsent(uid)
		n.virtual = true
		n.object = object{uid: n.uid, namespace: n.namespace, name: n.name}
		g.nodes[uid] = n
		for dep := range n.dependents {
			fx.check = append(fx.check, dep)
		}
	}
	return fx
}

// blocking are the dependents that an owner in foreground deletion waits for.
func (g *graph) blocking(n *node) []*node {
	var out []*node
	for _, dep := range n.dependents {
		for i := range dep.owners {
			if dep.owners[i].UID == n.uid && blocks(&dep.owners[i]) {
				out = append(out, dep)
				break
			}
		}
	}
	return out
}

// fate is what becomes of an object, judged by its owners.
type fate struct {
	// drop are the references to take off; the object stays.
	drop []types.UID
	// policy is set where the object is to be deleted.
	policy metav1.DeletionPropagation
	// unblock are dependents in foreground deletion whose references must not block, since they form a circle.
	unblock bool
}

// judge decides by the three kinds of owners: solid ones are there, dangling ones are not, waiting ones are in
// foreground deletion.
func judge(solid, dangling, waiting []metav1.OwnerReference, hasDependents bool, finalizers []string) fate {
	uids := func(refs ...metav1.OwnerReference) (out []types.UID) {
		for _, r := range refs {
			out = append(out, r.UID)
		}
		return out
	}
	switch {
	case len(solid) > 0:
		return fate{drop: uids(append(slices.Clone(dangling), waiting...)...)}
	case len(waiting) > 0 && hasDependents:
		return fate{policy: metav1.DeletePropagationForeground, unblock: true}
	case slices.Contains(finalizers, metav1.FinalizerOrphanDependents):
		return fate{policy: metav1.DeletePropagationOrphan}
	case slices.Contains(finalizers, metav1.FinalizerDeleteDependents):
		return fate{policy: metav1.DeletePropagationForeground}
	case len(dangling)+len(waiting) > 0:
		return fate{policy: metav1.DeletePropagationBackground}
	}
	return fate{}
}
