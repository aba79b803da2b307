package worker

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/kubelet/internal/plan"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
	"flagship/kubelet/internal/status"
)

// retryPeriod is the wait after a failed sync, as upstream's.
const retryPeriod = 10 * time.Second

type phase int

const (
	syncing phase = iota
	terminating
	terminated
)

// worker is one pod's state machine. Only its own goroutine touches the fields below the line.
type worker struct {
	pool *Pool
	wake chan struct{} // capacity 1

	// Guarded by pool.mu.
	pod       *corev1.Pod
	removed   bool // gone from its source
	finished  bool
	admitted  bool
	forced    *status.Failure
	grace     *int64
	condition *corev1.PodCondition
	waits     bool               // for room to grow
	cancel    context.CancelFunc // ends the current step, nil between steps

	// ---
	log      *zap.Logger
	phase    phase
	first    bool
	failures map[string]status.Failure
	backoff  plan.Backoff
	sandbox  *sandboxConfig
	mounts   bool                 // volumes may exist
	rejected bool                 // by admission: the pod never ran here
	pending  *corev1.PodCondition // a resize that is not granted
	progress *corev1.PodCondition // a resize that is granted and not in effect
}

func newWorker(p *Pool, pod *corev1.Pod) *worker {
	return &worker{
		pool: p, wake: make(chan struct{}, 1), pod: pod, first: true, failures: map[string]status.Failure{},
		backoff: plan.Backoff{Max: p.cfg.BackoffMax},
		log:     p.deps.Log.With(zap.String("pod", pod.Namespace+"/"+pod.Name), zap.String("podUID", string(pod.UID))),
	}
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// interrupt ends the step in progress. pool.mu is held.
func (w *worker) interrupt() {
	if w.cancel != nil {
		w.cancel()
	}
}

// look takes the current pod and the orders about it.
func (w *worker) look() (pod *corev1.Pod, removed bool, forced *status.Failure) {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	return w.pod, w.removed, w.forced
}

func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		step, cancel := context.WithCancel(ctx)
		w.pool.mu.Lock()
		w.cancel = cancel
		w.pool.mu.Unlock()
		again, done := w.step(step)
		w.pool.mu.Lock()
		w.cancel = nil
		w.pool.mu.Unlock()
		interrupted := step.Err() != nil && ctx.Err() == nil
		cancel()
		if done {
			w.pool.ended(ctx, w)
			return
		}
		if interrupted {
			again = 0
		}
		timer.Reset(again)
	}
}

// step does what the pod's phase asks for and returns when to look again.
func (w *worker) step(ctx context.Context) (again time.Duration, done bool) {
	pod, removed, forced := w.look()
	if !w.first {
		pod, _, _ = w.pool.deps.Books.Granted(pod)
	}
	if w.phase == syncing && (pod.DeletionTimestamp != nil || removed || forced != nil || podspec.IsTerminal(pod.Status.Phase)) {
		w.phase = terminating
	}
	switch w.phase {
	case syncing:
		declared, _, _ := w.look()
		again, terminal, err := w.sync(ctx, declared)
		if err != nil && ctx.Err() == nil {
			w.log.Warn("pod sync failed, will retry", zap.Error(err))
		}
		if terminal {
			w.phase = terminating
			return 0, false
		}
		return again, false
	case terminating:
		if err := w.terminate(ctx, pod); err != nil {
			if ctx.Err() == nil {
				w.log.Warn("pod termination failed, will retry", zap.Error(err))
				w.pool.deps.Events(pod, "", corev1.EventTypeWarning, "FailedKillPod", "error killing pod: "+err.Error())
			}
			return retryPeriod / 5, false
		}
		w.phase = terminated
		return 0, false
	default:
		if err := w.cleanup(ctx, pod); err != nil {
			w.log.Warn("pod cleanup failed, will retry", zap.Error(err))
			return retryPeriod / 5, false
		}
		return 0, true
	}
}

// jittered spreads periodic syncs so that a node's pods do not all wake at once.
func (w *worker) jittered() time.Duration {
	d := w.pool.cfg.SyncPeriod
	return d + time.Duration(rand.Int64N(int64(d)/2+1))
}

// report generates and hands over the pod's status.
func (w *worker) report(pod *corev1.Pod, state *podstate.Pod, terminal bool) corev1.PodStatus {
	_, _, forced := w.look()
	d := &w.pool.deps
	if w.rejected {
		start := metav1.Now()
		s := corev1.PodStatus{Phase: corev1.PodFailed, Reason: forced.Reason, Message: forced.Message, QOSClass: podspec.QOS(pod), ObservedGeneration: pod.Generation, StartTime: &start}
		if old, ok := d.Statuses.Get(pod.UID); ok {
			s.StartTime = old.StartTime
		}
		d.Statuses.Set(pod, s)
		return s
	}
	old, ok := d.Statuses.Get(pod.UID)
	if !ok {
		old = pod.Status
	}
	s := status.Generate(status.Input{
		Pod: pod, Old: old, State: state, Failures: w.failures, Probes: d.Probes.View(), Terminal: terminal, HostIPs: d.Node.HostIPs(),
		Runtime: d.Runtime.RuntimeName(), Forced: forced, Now: time.Now(), Resize: w.resizeConditions(pod, state), Recursive: d.RecursiveReadOnly(), Actuated: d.Books.Actuated(pod.UID),
	})
	w.pool.mu.Lock()
	cond := w.condition
	w.pool.mu.Unlock()
	if cond != nil {
		s.Conditions = append(s.Conditions, *cond)
	}
	d.Statuses.Set(pod, s)
	return s
}
