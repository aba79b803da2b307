package loop

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"flagship/internal/kube"
)

// Source is a typed view of a shared informer. What it returns is shared and must not be modified.
type Source[T any] struct{ inf cache.SharedIndexInformer }

// Get returns an object, nil where the cache has none.
func (s *Source[T]) Get(namespace, name string) *T {
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	obj, ok, err := s.inf.GetIndexer().GetByKey(key)
	if err != nil || !ok {
		return nil
	}
	return as[T](obj)
}

// All returns every object.
func (s *Source[T]) All() []*T { return each[T](s.inf.GetIndexer().List()) }

// In returns the objects of a namespace.
func (s *Source[T]) In(namespace string) []*T { return s.By(cache.NamespaceIndex, namespace) }

// By returns the objects with a value in an index.
func (s *Source[T]) By(index, value string) []*T {
	list, err := s.inf.GetIndexer().ByIndex(index, value)
	if err != nil {
		// The indexes are fixed where the source is made.
		panic("loop: " + err.Error())
	}
	return each[T](list)
}

// Synced says whether the cache holds what there was at the start.
func (s *Source[T]) Synced() bool { return s.inf.HasSynced() }

func (s *Source[T]) version() string { return s.inf.GetIndexer().LastStoreSyncResourceVersion() }

func each[T any](list []any) []*T {
	out := make([]*T, 0, len(list))
	for _, obj := range list {
		if o := as[T](obj); o != nil {
			out = append(out, o)
		}
	}
	return out
}

// Select keeps the objects whose labels match.
func Select[T any, PT kube.Object[T]](list []*T, sel labels.Selector) []*T {
	var out []*T
	for _, o := range list {
		if sel.Matches(labels.Set(PT(o).GetLabels())) {
			out = append(out, o)
		}
	}
	return out
}

// ByOwner is the index by the UID of the controlling owner; objects without one are under "".
const ByOwner = "owner"

// ByNode is the index of pods by the node's name.
const ByNode = "node"

func ownerIndex(obj any) ([]string, error) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return nil, nil
	}
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		return []string{string(ref.UID)}, nil
	}
	return []string{o.GetNamespace() + "/"}, nil
}

// Orphans is the key in ByOwner of the objects in a namespace that nobody controls.
func Orphans(namespace string) string { return namespace + "/" }

// Sources are the informers shared by all controllers. Each is made when first asked for, before Run.
type Sources struct {
	client *kube.Client

	mu      sync.Mutex // guards made, order, ctx and group
	made    map[string]any
	pending []cache.SharedIndexInformer
}

// NewSources returns an empty set of informers. They list and watch with the client's own identity.
func NewSources(c *kube.Client) *Sources {
	return &Sources{client: c, made: map[string]any{}}
}

// Of returns the source of a resource, made with o on first use.
func Of[T, L any, PT kube.Object[T], PL kube.List[L]](s *Sources, gvr schema.GroupVersionResource, o kube.InformerOptions) *Source[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := gvr.String() + "|" + o.Namespace + "|" + o.FieldSelector
	if src, ok := s.made[id].(*Source[T]); ok {
		return src
	}
	inf := kube.NewInformer[T, L, PT, PL](s.client, gvr, o)
	src := &Source[T]{inf: inf}
	s.made[id] = src
	s.pending = append(s.pending, inf)
	return src
}

// Run runs the informers until ctx ends.
func (s *Sources) Run(ctx context.Context) error {
	s.mu.Lock()
	start := s.pending
	s.mu.Unlock()
	var group sync.WaitGroup
	for _, inf := range start {
		group.Go(func() { inf.RunWithContext(ctx) })
	}
	group.Wait()
	return nil
}

// HasSynced says whether every informer holds what there was at the start.
func (s *Sources) HasSynced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, inf := range s.pending {
		if !inf.HasSynced() {
			return false
		}
	}
	return true
}
