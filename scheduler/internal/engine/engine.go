package engine

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"go.uber.org/zap"

	"flagship/internal/decision"
	"flagship/scheduler/internal/cycle"
	"flagship/scheduler/internal/plugin"
	"flagship/scheduler/internal/preempt"
	"flagship/scheduler/internal/queue"
	"flagship/scheduler/internal/snapshot"
)

// Binder does what was decided. All of it may block.
type Binder interface {
	Bind(ctx context.Context, p *v1.Pod, node string, plan plugin.VolumePlan) error
	Condition(ctx context.Context, p *v1.Pod, reason, message string, nominated *string, now time.Time) error
	Nominate(ctx context.Context, p *v1.Pod, node string) error
	Evict(ctx context.Context, victim *snapshot.Pod, scheduler string, now time.Time) error
}

// Recorder records events about objects.
type Recorder interface {
	Eventf(object runtime.Object, eventType, reason, format string, args ...any)
}

// Profile is a scheduler name's plugins.
type Profile struct {
	*cycle.Profile
	Limits preempt.Limits
	// Gate says why a pod must not be tried yet; nil where gates are disabled.
	Gate func(*snapshot.Pod) *plugin.Verdict
}

// Config bounds the engine.
type Config struct {
	Queue queue.Config
	// Inbox is how many deltas may wait; posting blocks beyond that.
	Inbox int
	// Requests is how many API requests may be under way.
	Requests int
	// Instance names the process in events.
	Instance string
}

// Deps is what the engine stands on.
type Deps struct {
	Log       *zap.Logger
	Profiles  map[string]*Profile
	Binder    Binder
	Recorder  Recorder
	Decisions *decision.Log
	Metrics   *Metrics
	// Now and Seed are the clock and chance.
	Now  func() time.Time
	Seed func() uint64
}

// Engine is the loop. Post and the handlers may be called from anywhere.
type Engine struct {
	cfg      Config
	deps     Deps
	inbox    chan func()
	done     chan struct{} // closed when Run returns: what is posted then is dropped
	requests chan struct{}
	workers  sync.WaitGroup

	// All below is touched by Run's goroutine only.
	cluster   *snapshot.Cluster
	queue     *queue.Queue
	leading   bool
	start     int
	assumed   map[types.UID]*assumed
	nominated map[string][]*snapshot.Pod // by node
	pdbs      map[string]*policyv1.PodDisruptionBudget
}

// assumed is a pod that is being bound. It stays known until both have come: the binding's outcome, and the word of the
// informer, whose older news of the pod would else put it back into the queue.
type assumed struct {
	item *queue.Item
	node string
	plan plugin.VolumePlan
	at   time.Time

	bound   bool // the API has accepted the binding
	settled bool // the informer has told that the pod is bound, or gone
}

// New returns an engine that does nothing until Run, and schedules nothing until Lead.
func New(cfg Config, deps Deps) *Engine {
	e := &Engine{
		cfg: cfg, deps: deps, inbox: make(chan func(), cfg.Inbox), done: make(chan struct{}),
		requests: make(chan struct{}, cfg.Requests), cluster: snapshot.New(),
		assumed: map[types.UID]*assumed{}, nominated: map[string][]*snapshot.Pod{}, pdbs: map[string]*policyv1.PodDisruptionBudget{},
	}
	e.queue = queue.New(cfg.Queue, e.gated, func(m queue.Move) {
		deps.Metrics.Incoming.WithLabelValues(string(m.To), m.Event).Inc()
	})
	return e
}

func (e *Engine) gated(p *snapshot.Pod) bool {
	pr := e.deps.Profiles[p.Spec.SchedulerName]
	return pr != nil && pr.Gate != nil && pr.Gate(p) != nil
}

// Post runs f in the engine's goroutine, soon and in order. It blocks while the inbox is full.
func (e *Engine) Post(f func()) {
	select {
	case e.inbox <- f:
	case <-e.done:
	}
}

// Lead lets the engine schedule until ctx ends.
func (e *Engine) Lead(ctx context.Context) error {
	e.Post(func() { e.leading = true })
	<-ctx.Done()
	e.Post(func() { e.leading = false })
	return nil
}

// Run applies deltas and schedules until ctx ends, then waits for the requests under way.
func (e *Engine) Run(ctx context.Context) error {
	defer e.workers.Wait()
	defer close(e.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		e.deps.Metrics.observe(e)
		select {
		case <-ctx.Done():
			return nil
		case f := <-e.inbox:
			f()
			e.drain()
		case <-timer.C:
		}
		e.schedule(ctx)
		timer.Reset(e.wait())
	}
}

// drain applies all that waits, so that a cycle sees the newest state.
func (e *Engine) drain() {
	for {
		select {
		case f := <-e.inbox:
			f()
		default:
			return
		}
	}
}

// wait is how long nothing happens by itself.
func (e *Engine) wait() time.Duration {
	if at, ok := e.queue.Next(); ok && e.leading {
		return max(at.Sub(e.deps.Now()), time.Millisecond)
	}
	return time.Hour
}

func (e *Engine) schedule(ctx context.Context) {
	for e.leading && ctx.Err() == nil {
		it := e.queue.Pop(e.deps.Now())
		if it == nil {
			return
		}
		e.cycle(ctx, it)
		e.drain()
	}
}

// async makes an API request without holding the loop up.
func (e *Engine) async(ctx context.Context, operation string, f func(ctx context.Context)) {
	e.workers.Add(1)
	e.deps.Metrics.Goroutines.WithLabelValues(operation).Inc()
	go func() {
		defer e.workers.Done()
		defer e.deps.Metrics.Goroutines.WithLabelValues(operation).Dec()
		select {
		case e.requests <- struct{}{}:
			defer func() { <-e.requests }()
		case <-ctx.Done():
			return
		}
		f(ctx)
	}()
}
