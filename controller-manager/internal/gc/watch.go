package gc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"flagship/controller-manager/internal/catalog"
)

// rediscover is how often kinds that came and went are looked for.
const rediscover = 30 * time.Second

// ignored are kinds that are never owned and change all the time.
func ignored(r schema.GroupVersionResource) bool {
	return r.Resource == "events" && (r.Group == "" || r.Group == "events.k8s.io")
}

// kindStore takes a kind's objects from its watch into the graph, without keeping them.
type kindStore struct {
	gvr schema.GroupVersionResource
	c   *collector

	// Only the reflector's goroutine touches known; synced is closed after the first list.
	known  map[types.UID]bool
	once   sync.Once
	synced chan struct{}
}

func (s *kindStore) Add(obj any) error { return s.Update(obj) }
func (s *kindStore) Resync() error     { return nil }
func (s *kindStore) Bookmark(string)   {}
func (s *kindStore) Update(obj any) error {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("watch %s: unexpected %T", s.gvr, obj)
	}
	s.known[m.UID] = true
	s.c.apply(func(g *graph) effects { return g.set(toObject(s.gvr, m)) })
	return nil
}

func (s *kindStore) Delete(obj any) error {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("watch %s: unexpected %T", s.gvr, obj)
	}
	delete(s.known, m.UID)
	s.c.apply(func(g *graph) effects { return g.remove(m.UID) })
	return nil
}

// Replace takes a whole list: what it lacks is gone.
func (s *kindStore) Replace(list []any, _ string) error {
	now := map[types.UID]bool{}
	for _, obj := range list {
		if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
			now[m.UID] = true
		}
	}
	for uid := range s.known {
		if !now[uid] {
			delete(s.known, uid)
			s.c.apply(func(g *graph) effects { return g.remove(uid) })
		}
	}
	for _, obj := range list {
		if err := s.Update(obj); err != nil {
			return err
		}
	}
	s.once.Do(func() { close(s.synced) })
	return nil
}

func toObject(gvr schema.GroupVersionResource, m *metav1.PartialObjectMetadata) object {
	deleting := m.DeletionTimestamp != nil
	return object{
		gvr: gvr, namespace: m.Namespace, name: m.Name, uid: m.UID, owners: m.OwnerReferences, deleting: deleting,
		foreground: deleting && slices.Contains(m.Finalizers, metav1.FinalizerDeleteDependents),
		orphan:     deleting && slices.Contains(m.Finalizers, metav1.FinalizerOrphanDependents),
	}
}

// running is a watch of one kind.
type running struct {
	cancel context.CancelFunc
	store  *kindStore
}

// watchKinds keeps a watch per deletable kind until ctx ends.
func (c *collector) watchKinds(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	watches := map[schema.GroupVersionResource]*running{}
	tick := time.NewTicker(rediscover)
	defer tick.Stop()
	for {
		all, err := c.cat.List(ctx)
		if err != nil {
			c.Log.Warn("kinds not known", zap.Error(err))
		}
		if len(all) > 0 {
			c.adjust(ctx, &group, watches, all, err != nil)
		}
		wait := tick.C
		if len(watches) == 0 {
			soon := time.NewTimer(time.Second)
			defer soon.Stop()
			wait = soon.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wait:
		}
	}
}

// adjust starts the watches of new kinds and stops those of kinds that went; where discovery is incomplete, none stops.
func (c *collector) adjust(ctx context.Context, group *sync.WaitGroup, watches map[schema.GroupVersionResource]*running, all []catalog.Resource, partial bool) {
	want := map[schema.GroupVersionResource]bool{}
	for i := range all {
		if r := &all[i]; r.Can("delete", "list", "watch") && !ignored(r.GroupVersionResource) {
			want[r.GroupVersionResource] = true
		}
	}
	for gvr, w := range watches {
		if !want[gvr] && !partial {
			w.cancel()
			delete(watches, gvr)
			c.Log.Info("kind went, watch stops", zap.Stringer("resource", gvr))
		}
	}
	var started []*kindStore
	for gvr := range want {
		if watches[gvr] != nil {
			continue
		}
		runCtx, cancel := context.WithCancel(ctx)
		s := &kindStore{gvr: gvr, c: c, known: map[types.UID]bool{}, synced: make(chan struct{})}
		watches[gvr] = &running{cancel: cancel, store: s}
		started = append(started, s)
		group.Go(func() {
			c.reflector(s).RunWithContext(runCtx)
		})
	}
	if len(started) == 0 {
		return
	}
	// Nothing is judged before all that exists is known; a kind that cannot be listed holds the start up for a time only.
	late := time.NewTimer(rediscover)
	defer late.Stop()
	for _, s := range started {
		select {
		case <-s.synced:
		case <-ctx.Done():
			return
		case <-late.C:
			c.Log.Warn("kind cannot be listed, going on without it", zap.Stringer("resource", s.gvr))
			late.Reset(0)
		}
	}
	c.begin()
}

func (c *collector) reflector(s *kindStore) *cache.Reflector {
	api := c.meta.Resource(s.gvr)
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return api.Watch(ctx, o)
		},
	}, c.Client.Config())
	kind := &metav1.PartialObjectMetadata{}
	return cache.NewReflectorWithOptions(lw, kind, s, cache.ReflectorOptions{TypeDescription: "metadata of " + s.gvr.Resource})
}
