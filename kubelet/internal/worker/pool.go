package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/kubelet/internal/allocate"
	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/image"
	"flagship/kubelet/internal/plan"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/runconfig"
	"flagship/kubelet/internal/status"
	"flagship/kubelet/internal/volume"
)

// Statuses takes the statuses that workers generate.
type Statuses interface {
	Set(pod *corev1.Pod, s corev1.PodStatus)
	Get(uid types.UID) (corev1.PodStatus, bool)
	// Finish tells that nothing of the pod is left on the node, so that the API object may go.
	Finish(pod *corev1.Pod)
	Forget(uid types.UID)
}

// Cgroups keeps a cgroup per pod.
type Cgroups interface {
	Ensure(pod *corev1.Pod) error
	// Widen and Settle change it to what the pod was granted, in two steps.
	Widen(pod *corev1.Pod) error
	Settle(pod *corev1.Pod) error
	Remove(uid types.UID) error
	Pods() []types.UID
}

// Probes runs the probes of a pod's containers.
type Probes interface {
	Sync(ctx context.Context, pod *corev1.Pod)
	StopLiveness(pod *corev1.Pod)
	Remove(uid types.UID)
	Results() plan.Probes
	View() status.ProbeView
}

// Node is what a worker needs to know about the node.
type Node interface {
	// Admit says why the pod cannot run beside the others, with an empty reason when it can.
	Admit(ctx context.Context, pod *corev1.Pod, others []*corev1.Pod) (reason, message string)
	NetworkError() error
	HostIPs() []string
	RuntimeHandler(ctx context.Context, class *string) (string, error)
	PullSecrets(ctx context.Context, pod *corev1.Pod) (found []corev1.Secret, missing []string)
}

// Config bounds the workers.
type Config struct {
	SyncPeriod    time.Duration // between looks at a pod that nothing happened to
	BackoffMax    time.Duration // of crash loops
	ContainersDir string        // /var/log/containers, "" to make no links there
}

// Deps is what workers act through.
type Deps struct {
	Log      *zap.Logger
	Runtime  *cri.Client
	Builder  *runconfig.Builder
	Volumes  *volume.Manager
	Images   *image.Puller
	Statuses Statuses
	Cgroups  Cgroups
	Books    *allocate.Books
	Probes   Probes
	Node     Node
	Events   image.Events
	// RecursiveReadOnly reports a runtime that makes what lies below a read-only mount read-only too.
	RecursiveReadOnly func() bool
	// Allocatable is what of the node pods may use.
	Allocatable func() corev1.ResourceList
	// Decided records a verdict about a pod for the decision log.
	Decided func(pod *corev1.Pod, verdict, code, message string)
	// Removed is called when a pod is gone from its source and from the node.
	Removed func(pod *corev1.Pod)
	Ready   func() bool // every source has spoken
}

// Pool holds the workers. It is safe for concurrent use.
type Pool struct {
	cfg  Config
	deps Deps
	wg   sync.WaitGroup

	granting sync.Mutex // held while room is given to a pod, so that no two get the same
	mu       sync.Mutex // guards the maps and every worker's fields marked so
	workers  map[types.UID]*worker
	pending  map[string]*corev1.Pod // static pods that wait for their namesake to end, by full name
}

// New returns a Pool.
func New(cfg Config, deps Deps) *Pool {
	return &Pool{cfg: cfg, deps: deps, workers: map[types.UID]*worker{}, pending: map[string]*corev1.Pod{}}
}

// Update adds a pod or tells its worker about a change.
func (p *Pool) Update(ctx context.Context, pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.workers[pod.UID]
	if !ok {
		if podspec.IsStatic(pod) && p.namesake(pod) {
			p.pending[podspec.FullName(pod)] = pod
			return
		}
		p.start(ctx, pod)
		return
	}
	old := w.pod
	w.pod, w.removed = pod, false
	if w.finished {
		if pod.DeletionTimestamp != nil {
			p.deps.Statuses.Finish(pod)
		}
		return
	}
	if urgent(old, pod) {
		w.interrupt()
	}
	w.poke()
}

// urgent reports a change that must not wait for a pull or a slow stop: a deletion, or a shorter grace period.
func urgent(old, now *corev1.Pod) bool {
	if now.DeletionTimestamp == nil {
		return false
	}
	if old.DeletionTimestamp == nil {
		return true
	}
	a, b := old.DeletionGracePeriodSeconds, now.DeletionGracePeriodSeconds
	return a != nil && b != nil && *b < *a
}

// namesake reports a static pod of the same full name that has not ended. p.mu is held.
func (p *Pool) namesake(pod *corev1.Pod) bool {
	for _, w := range p.workers {
		if podspec.FullName(w.pod) == podspec.FullName(pod) && podspec.IsStatic(w.pod) && !w.finished {
			return true
		}
	}
	return false
}

// start makes the worker's goroutine. p.mu is held.
func (p *Pool) start(ctx context.Context, pod *corev1.Pod) {
	w := newWorker(p, pod)
	p.workers[pod.UID] = w
	p.wg.Go(func() { w.run(ctx) })
}

// Remove tells that the pod is gone from its source.
func (p *Pool) Remove(uid types.UID) {
	p.mu.Lock()
	for name, pod := range p.pending {
		if pod.UID == uid {
			delete(p.pending, name)
		}
	}
	w, ok := p.workers[uid]
	if !ok {
		p.mu.Unlock()
		return
	}
	w.removed = true
	if w.finished {
		delete(p.workers, uid)
		p.mu.Unlock()
		p.deps.Removed(w.pod)
		p.deps.Statuses.Forget(uid)
		return
	}
	w.interrupt()
	w.poke()
	p.mu.Unlock()
}

// Evict fails the pod for a reason and stops it within the grace period, in seconds.
func (p *Pool) Evict(uid types.UID, reason, message string, grace int64, cond *corev1.PodCondition) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.workers[uid]
	if !ok || w.finished || w.forced != nil {
		return false
	}
	w.forced, w.grace, w.condition = &status.Failure{Reason: reason, Message: message}, &grace, cond
	w.interrupt()
	w.poke()
	return true
}

// Wake makes the pod's worker look again; an unknown pod is ignored.
func (p *Pool) Wake(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.workers[uid]; ok {
		w.poke()
	}
}

// WakeAll makes every worker look again.
func (p *Pool) WakeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		w.poke()
	}
}

// Pods lists the pods with a worker, finished ones included.
func (p *Pool) Pods() []*corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*corev1.Pod, 0, len(p.workers))
	for _, w := range p.workers {
		out = append(out, w.pod)
	}
	return out
}

// Active lists the pods that use the node, admitted and not finished, with the resources they were granted.
func (p *Pool) Active() []*corev1.Pod { return p.others("") }

func (p *Pool) others(except types.UID) []*corev1.Pod {
	p.mu.Lock()
	out := p.active(except)
	p.mu.Unlock()
	for i := range out {
		out[i], _, _ = p.deps.Books.Granted(out[i])
	}
	return out
}

func (p *Pool) active(except types.UID) []*corev1.Pod {
	var out []*corev1.Pod
	for uid, w := range p.workers {
		if uid != except && w.admitted && !w.finished && w.forced == nil && !podspec.IsTerminal(w.pod.Status.Phase) {
			out = append(out, w.pod)
		}
	}
	return out
}

// admit decides once whether the pod may run beside the others.
func (p *Pool) admit(ctx context.Context, w *worker, pod *corev1.Pod) (reason, message string) {
	p.granting.Lock()
	defer p.granting.Unlock()
	reason, message = p.deps.Node.Admit(ctx, pod, p.others(pod.UID))
	if reason == "" {
		if err := p.deps.Books.Grant(pod); err != nil {
			return "UnexpectedAdmissionError", err.Error()
		}
	}
	p.mu.Lock()
	w.admitted = reason == ""
	p.mu.Unlock()
	return reason, message
}

// grant gives a running pod what it declares now, or says why not yet or never.
func (p *Pool) grant(pod *corev1.Pod) (reason, message string) {
	p.granting.Lock()
	defer p.granting.Unlock()
	if reason, message = allocate.Decide(pod, p.others(pod.UID), p.deps.Allocatable()); reason != "" {
		return reason, message
	}
	if err := p.deps.Books.Grant(pod); err != nil {
		return corev1.PodReasonDeferred, err.Error()
	}
	p.wakePending(pod.UID)
	return "", ""
}

// wakePending makes the workers look again whose pods wait for room.
func (p *Pool) wakePending(except types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, w := range p.workers {
		if uid != except && w.waits {
			w.poke()
		}
	}
}

// ended is called by a worker whose pod has nothing left on the node.
func (p *Pool) ended(ctx context.Context, w *worker) {
	p.mu.Lock()
	w.finished = true
	pod, removed := w.pod, w.removed
	if removed {
		delete(p.workers, pod.UID)
	}
	next, waits := p.pending[podspec.FullName(pod)]
	if waits {
		delete(p.pending, podspec.FullName(pod))
		p.start(ctx, next)
	}
	p.mu.Unlock()
	if err := p.deps.Books.Forget(pod.UID); err != nil {
		p.deps.Log.Warn("forget resources of pod", zap.Error(err))
	}
	p.wakePending(pod.UID)
	if removed {
		p.deps.Removed(pod)
		p.deps.Statuses.Forget(pod.UID)
	} else {
		p.deps.Statuses.Finish(pod)
	}
}

// known reports whether a worker, or a waiting static pod, has the UID.
func (p *Pool) known(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.workers[uid]
	return ok
}

// running reports whether the pod's worker has not ended.
func (p *Pool) running(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.workers[uid]
	return ok && !w.finished
}

// sandboxConfig is kept by a worker between the making of a sandbox and of its containers.
type sandboxConfig = runtimeapi.PodSandboxConfig
