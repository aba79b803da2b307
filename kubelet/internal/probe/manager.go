package probe

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/plan"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/status"
)

// Kind is one of the three probes of a container.
type Kind string

// The kinds, as they stand in events.
const (
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
	Startup   Kind = "Startup"
)

// Prober runs one probe once.
type Prober interface {
	Probe(ctx context.Context, pod *corev1.Pod, st *corev1.PodStatus, c *corev1.Container, id string, p *corev1.Probe) (Outcome, string, error)
}

// Outcome is what a probe found.
type Outcome string

// Outcomes.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Warning Outcome = "warning"
	Unknown Outcome = "unknown"
)

// Deps is what a Manager acts through.
type Deps struct {
	Log    *zap.Logger
	Prober Prober
	// Status gives the newest status of a pod.
	Status func(uid types.UID) (corev1.PodStatus, bool)
	Wake   func(uid types.UID)
	Events func(pod *corev1.Pod, container, eventType, reason, message string)
	Count  func(pod *corev1.Pod, container string, kind Kind, result Outcome)
	Start  time.Time // of this process: probes of containers that ran before it are spread over their period
}

// Manager runs probes. It is safe for concurrent use.
type Manager struct {
	deps Deps
	wg   sync.WaitGroup

	mu      sync.Mutex // guards the maps
	workers map[key]*worker
	results map[Kind]map[string]plan.Result // by container ID
}

type key struct {
	uid  types.UID
	name string
	kind Kind
}

// New returns a Manager.
func New(d Deps) *Manager {
	return &Manager{deps: d, workers: map[key]*worker{}, results: map[Kind]map[string]plan.Result{Liveness: {}, Readiness: {}, Startup: {}}}
}

func probeOf(c *corev1.Container, k Kind) *corev1.Probe {
	switch k {
	case Liveness:
		return c.LivenessProbe
	case Readiness:
		return c.ReadinessProbe
	}
	return c.StartupProbe
}

// Sync starts the probes of the pod that do not run yet.
func (m *Manager) Sync(ctx context.Context, pod *corev1.Pod) {
	podspec.Visit(pod, func(c *corev1.Container, kind podspec.Kind) bool {
		if kind == podspec.Ephemeral || (kind == podspec.Init && !podspec.IsRestartableInit(c)) {
			return true
		}
		for _, k := range []Kind{Startup, Readiness, Liveness} {
			if probeOf(c, k) != nil {
				m.add(context.WithoutCancel(ctx), key{pod.UID, c.Name, k}, pod, c)
			}
		}
		return true
	})
}

func (m *Manager) add(ctx context.Context, k key, pod *corev1.Pod, c *corev1.Container) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w, ok := m.workers[k]; ok {
		w.pod = pod
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &worker{m: m, key: k, pod: pod, container: c, probe: probeOf(c, k.kind), cancel: cancel, nudge: make(chan struct{}, 1)}
	m.workers[k] = w
	m.wg.Go(func() { w.run(ctx) })
}

// StopLiveness ends what could kill containers of a pod that is stopping anyway; readiness goes on.
func (m *Manager) StopLiveness(pod *corev1.Pod) { m.stop(pod.UID, Liveness, Startup) }

// Remove ends all probes of the pod.
func (m *Manager) Remove(uid types.UID) { m.stop(uid, Liveness, Readiness, Startup) }

func (m *Manager) stop(uid types.UID, kinds ...Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, w := range m.workers {
		for _, kind := range kinds {
			if k.uid == uid && k.kind == kind {
				w.cancel()
				delete(m.workers, k)
				delete(m.results[k.kind], w.id)
			}
		}
	}
}

// Run ends every probe when ctx ends and waits for them.
func (m *Manager) Run(ctx context.Context) error {
	<-ctx.Done()
	m.mu.Lock()
	for k, w := range m.workers {
		w.cancel()
		delete(m.workers, k)
	}
	m.mu.Unlock()
	m.wg.Wait()
	return nil
}

// Results is a copy of what decides about kills and starts.
func (m *Manager) Results() plan.Probes {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := plan.Probes{Liveness: map[string]plan.Result{}, Startup: map[string]plan.Result{}}
	for id, r := range m.results[Liveness] {
		out.Liveness[id] = r
	}
	for id, r := range m.results[Startup] {
		out.Startup[id] = r
	}
	return out
}

// View tells statuses whether containers have started and are ready.
func (m *Manager) View() status.ProbeView {
	get := func(k Kind, id string) plan.Result {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.results[k][id]
	}
	view := func(k Kind) func(c *corev1.Container, id string) (bool, bool) {
		return func(c *corev1.Container, id string) (value, known bool) {
			if probeOf(c, k) == nil {
				return true, true
			}
			r := get(k, id)
			return r == plan.Success, r != plan.Unset
		}
	}
	return status.ProbeView{Started: view(Startup), Ready: view(Readiness)}
}

// set stores a result and wakes the pod's worker when it changed.
func (m *Manager) set(w *worker, id string, r plan.Result) {
	m.mu.Lock()
	old, had := m.results[w.key.kind][id]
	if w.id != id && w.id != "" {
		delete(m.results[w.key.kind], w.id)
	}
	w.id = id
	m.results[w.key.kind][id] = r
	changed := !had || old != r
	var nudge []*worker
	if changed && w.key.kind == Startup && r == plan.Success {
		for k, o := range m.workers {
			if k.uid == w.key.uid && k.name == w.key.name && k.kind != Startup {
				nudge = append(nudge, o)
			}
		}
	}
	m.mu.Unlock()
	for _, o := range nudge {
		select {
		case o.nudge <- struct{}{}:
		default:
		}
	}
	if changed {
		m.deps.Wake(w.key.uid)
	}
}

// current is the pod as the worker last saw it.
func (m *Manager) current(w *worker) *corev1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	return w.pod
}
