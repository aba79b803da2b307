package loop

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"flagship/internal/kube"
)

// ErrNotSynced means that the informers a controller stands on did not sync before the stop.
var ErrNotSynced = errors.New("informers did not sync before the stop")

// Controller runs one controller: a queue of keys and the workers that sync them.
type Controller struct {
	name    string
	workers int
	log     *zap.Logger
	sync    func(ctx context.Context, key string) error
	queue   workqueue.TypedRateLimitingInterface[string]
	synced  []cache.InformerSynced
	side    []func(ctx context.Context) error
	metrics *Metrics
}

// Name is the controller's name in --controllers.
func (c *Controller) Name() string { return c.name }

// Add queues a key now.
func (c *Controller) Add(key string) { c.queue.Add(key) }

// AddAfter queues a key after a time.
func (c *Controller) AddAfter(key string, d time.Duration) { c.queue.AddAfter(key, d) }

// Side adds a blocking function that runs beside the workers, after the informers have synced.
func (c *Controller) Side(run func(ctx context.Context) error) { c.side = append(c.side, run) }

// Every adds a function that runs at once and then every period, beside the workers.
func (c *Controller) Every(period time.Duration, run func(ctx context.Context) error) {
	c.Side(func(ctx context.Context) error {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			if err := c.guard(ctx, "", func(ctx context.Context, _ string) error { return run(ctx) }); err != nil && ctx.Err() == nil {
				c.log.Warn("pass failed", zap.Error(err))
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

// Event is a change of an object: New is nil when it is gone, Old when it is new. Neither may be modified.
type Event[T any] struct{ Old, New *T }

// Now is the object as it is, or as it last was.
func (e Event[T]) Now() *T {
	if e.New != nil {
		return e.New
	}
	return e.Old
}

// Watch queues the keys that an object's change concerns. The controller starts its workers after the source has synced.
func Watch[T any](c *Controller, s *Source[T], keys func(e Event[T]) []string) {
	c.synced = append(c.synced, listen(c, s, keys))
}

// Hear is Watch for a kind that a server may not serve: the controller does not wait for the source.
func Hear[T any](c *Controller, s *Source[T], keys func(e Event[T]) []string) { listen(c, s, keys) }

func listen[T any](c *Controller, s *Source[T], keys func(e Event[T]) []string) cache.InformerSynced {
	handle := func(e Event[T]) {
		for _, k := range keys(e) {
			c.queue.Add(k)
		}
	}
	reg, err := s.inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { handle(Event[T]{New: as[T](obj)}) },
		UpdateFunc: func(old, obj any) { handle(Event[T]{Old: as[T](old), New: as[T](obj)}) },
		DeleteFunc: func(obj any) {
			if tomb, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tomb.Obj
			}
			if o := as[T](obj); o != nil {
				handle(Event[T]{Old: o})
			}
		},
	})
	if err != nil {
		// Only an informer that has stopped refuses a handler: controllers are made before the informers run.
		panic(fmt.Sprintf("loop: %s: add handler: %v", c.name, err))
	}
	return reg.HasSynced
}

// Need makes the controller wait for a source that it reads without watching.
func Need[T any](c *Controller, s *Source[T]) { c.synced = append(c.synced, s.inf.HasSynced) }

func as[T any](obj any) *T {
	o, _ := obj.(*T)
	return o
}

// Own queues the object's own key.
func Own[T any, PT kube.Object[T]](e Event[T]) []string { return []string{Key(PT(e.Now()))} }

// Key is an object's namespace/name, or name where it has no namespace.
func Key(o metav1.Object) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}

// Split is Key's inverse.
func Split(key string) (namespace, name string) {
	namespace, name, _ = cache.SplitMetaNamespaceKey(key)
	return namespace, name
}

// Run waits for the informers, then works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.queue.ShutDown)
	defer stop()
	defer c.queue.ShutDown()
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return ErrNotSynced
	}
	c.log.Debug("controller started", zap.Int("workers", c.workers))
	var group sync.WaitGroup
	for _, side := range c.side {
		group.Go(func() {
			if err := side(ctx); err != nil && ctx.Err() == nil {
				c.log.Error("part of the controller ended", zap.Error(err))
			}
		})
	}
	if c.sync != nil {
		group.Go(func() { c.dispatch(ctx, &group) })
	}
	<-ctx.Done()
	c.queue.ShutDown()
	group.Wait()
	return nil
}

// dispatch hands keys to at most workers goroutines at a time; a controller without work has none.
func (c *Controller) dispatch(ctx context.Context, group *sync.WaitGroup) {
	slots := make(chan struct{}, c.workers)
	for {
		slots <- struct{}{}
		key, stopped := c.queue.Get()
		if stopped {
			return
		}
		group.Go(func() {
			defer func() { <-slots }()
			c.handle(ctx, key)
		})
	}
}

func (c *Controller) handle(ctx context.Context, key string) {
	defer c.queue.Done(key)
	start := time.Now()
	err := c.guard(ctx, key, c.sync)
	c.metrics.observe(c.name, time.Since(start), err)
	var later *Later
	switch {
	case err == nil:
		c.queue.Forget(key)
	case errors.As(err, &later):
		c.queue.Forget(key)
		c.queue.AddAfter(key, later.After)
	case ctx.Err() != nil:
	default:
		level := zap.WarnLevel
		if apierrors.IsConflict(err) || apierrors.HasStatusCause(err, "NamespaceTerminating") {
			level = zap.DebugLevel
		}
		c.log.Log(level, "sync failed, trying again", zap.String("key", key), zap.Error(err))
		c.queue.AddRateLimited(key)
	}
}

// guard turns a panic of one key into that key's error, so that the others go on.
func (c *Controller) guard(ctx context.Context, key string, run func(context.Context, string) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return run(ctx, key)
}

// Later is an error that is none: the key is to be synced again after a time, without back-off.
type Later struct{ After time.Duration }

// Error implements error.
func (l *Later) Error() string { return "again in " + l.After.String() }

// In asks for another sync of the key after d. It is returned from Sync.
func In(d time.Duration) error { return &Later{After: d} }
