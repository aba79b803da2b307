package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/plan"
	"flagship/kubelet/internal/podspec"
)

// attempts is how often a probe that could not be carried out is tried at once.
const attempts = 3

// worker runs one probe of one container, over all its instances.
type worker struct {
	m         *Manager
	key       key
	pod       *corev1.Pod // guarded by m.mu
	container *corev1.Container
	probe     *corev1.Probe
	cancel    context.CancelFunc
	nudge     chan struct{}

	id     string // instance that the results are about; guarded by m.mu where m.set touches it
	seen   string
	last   Outcome
	inRow  int32 // equal outcomes in a row
	onHold bool  // the instance failed for good: wait for the next one
}

func (w *worker) period() time.Duration {
	return time.Duration(max(w.probe.PeriodSeconds, 1)) * time.Second
}

func (w *worker) run(ctx context.Context) {
	// A restarted kubelet spreads the probes of what already runs over their period.
	if time.Since(w.m.deps.Start) < w.period() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(rand.Int64N(int64(min(w.period(), time.Second))))):
		}
	}
	tick := time.NewTicker(w.period())
	defer tick.Stop()
	for {
		if !w.once(ctx) {
			w.m.forget(w)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.nudge:
		}
	}
}

// forget drops a worker that ended on its own.
func (m *Manager) forget(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.workers[w.key] == w {
		delete(m.workers, w.key)
	}
}

// once probes if it is time to, and returns false when there is nothing left to probe.
func (w *worker) once(ctx context.Context) bool {
	pod := w.m.current(w)
	st, ok := w.m.deps.Status(pod.UID)
	if !ok {
		return true
	}
	if podspec.IsTerminal(st.Phase) {
		return false
	}
	c := containerStatus(&st, w.container.Name)
	if c == nil || c.ContainerID == "" {
		return true
	}
	_, id, _ := strings.Cut(c.ContainerID, "://")
	if id != w.seen {
		first := initial(w.key.kind)
		// What an earlier process of the kubelet found out about the instance stands until it is probed again.
		if w.seen == "" && ((w.key.kind == Readiness && c.Ready) || (w.key.kind == Startup && c.Started != nil && *c.Started)) {
			first = plan.Success
		}
		w.seen, w.last, w.inRow, w.onHold = id, "", 0, false
		w.m.set(w, id, first)
	}
	if w.onHold {
		return true
	}
	if c.State.Running == nil {
		if w.key.kind != Liveness || c.State.Terminated != nil {
			w.m.set(w, id, plan.Failure)
			if w.key.kind == Liveness || w.key.kind == Startup {
				w.m.set(w, id, initial(w.key.kind)) // it has ended: there is nothing to kill
			}
		}
		return c.State.Terminated == nil || pod.Spec.RestartPolicy != corev1.RestartPolicyNever
	}
	if pod.DeletionTimestamp != nil && w.key.kind != Readiness {
		w.m.set(w, id, plan.Success)
		return false
	}
	if time.Since(c.State.Running.StartedAt.Time) < time.Duration(w.probe.InitialDelaySeconds)*time.Second {
		return true
	}
	started := c.Started != nil && *c.Started
	if (w.key.kind == Startup) == started && w.container.StartupProbe != nil || (w.key.kind == Startup && started) {
		return true // a startup probe ends once it passed; the others begin then
	}
	if w.key.kind != Startup && !started {
		return true
	}
	w.conclude(ctx, pod, &st, id)
	return true
}

func initial(k Kind) plan.Result {
	switch k {
	case Liveness:
		return plan.Success
	case Readiness:
		return plan.Failure
	}
	return plan.Unset
}

func containerStatus(st *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{st.ContainerStatuses, st.InitContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// conclude runs the probe and publishes a result once the threshold is reached.
func (w *worker) conclude(ctx context.Context, pod *corev1.Pod, st *corev1.PodStatus, id string) {
	out, text := w.try(ctx, pod, st, id)
	if ctx.Err() != nil || out == Unknown {
		return
	}
	w.m.deps.Count(pod, w.container.Name, w.key.kind, out)
	if out == Warning {
		w.event(pod, corev1.EventTypeWarning, "ProbeWarning", fmt.Sprintf("%s probe warning: %s", w.key.kind, text))
		out = Success
	}
	if out == Failure {
		w.event(pod, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %s", w.key.kind, text))
	}
	if out == w.last {
		w.inRow++
	} else {
		w.last, w.inRow = out, 1
	}
	if (out == Failure && w.inRow < w.probe.FailureThreshold) || (out == Success && w.inRow < w.probe.SuccessThreshold) {
		return
	}
	if out == Success {
		w.m.set(w, id, plan.Success)
		return
	}
	w.m.set(w, id, plan.Failure)
	if w.key.kind != Readiness {
		// The container will be killed: probe no more until the next instance is there.
		w.onHold, w.inRow = true, 0
	}
}

func (w *worker) event(pod *corev1.Pod, kind, reason, message string) {
	w.m.deps.Events(pod, w.container.Name, kind, reason, message)
}

func (w *worker) try(ctx context.Context, pod *corev1.Pod, st *corev1.PodStatus, id string) (Outcome, string) {
	var out Outcome
	var text string
	var err error
	for range attempts {
		if out, text, err = w.m.deps.Prober.Probe(ctx, pod, st, w.container, id, w.probe); err == nil {
			return out, text
		}
	}
	if ctx.Err() == nil {
		w.event(pod, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe errored and resulted in %s state: %s", w.key.kind, Unknown, err))
	}
	return Unknown, err.Error()
}
