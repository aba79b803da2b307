package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/plan"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
	"flagship/kubelet/internal/status"
)

// minGrace is the least time a container gets to stop, in seconds, as upstream's.
const minGrace = 2

// terminate stops everything of the pod within its grace period.
func (w *worker) terminate(ctx context.Context, pod *corev1.Pod) error {
	d := &w.pool.deps
	state, err := d.Runtime.Pod(ctx, pod.UID)
	if err != nil {
		return err
	}
	w.report(pod, state, false)
	d.Probes.StopLiveness(pod)
	w.pool.mu.Lock()
	grace := w.grace
	w.pool.mu.Unlock()
	if err := w.killAll(ctx, pod, state, grace); err != nil {
		return err
	}
	d.Probes.Remove(pod.UID)
	if state, err = d.Runtime.Pod(ctx, pod.UID); err != nil {
		return err
	}
	if state.AnyRunning() {
		return errors.New("containers still running after they were stopped")
	}
	w.report(pod, state, true)
	return nil
}

// cleanup removes what a stopped pod has on the node, its dead containers and logs aside.
func (w *worker) cleanup(ctx context.Context, pod *corev1.Pod) error {
	d := &w.pool.deps
	state, err := d.Runtime.Pod(ctx, pod.UID)
	if err != nil {
		return err
	}
	s := w.report(pod, state, true)
	if err := d.Volumes.Unmount(pod.UID); err != nil {
		return err
	}
	if err := d.Cgroups.Remove(pod.UID); err != nil {
		return err
	}
	d.Statuses.Set(pod, status.Ended(pod, s))
	return nil
}

// stop is one container instance to stop.
type stop struct {
	id, name  string
	container *corev1.Container // nil when the pod no longer declares it
	message   string
	reason    plan.KillReason
	grace     *int64 // override, seconds
	preStop   string
}

// killAll stops all containers, sidecars after the others in reverse order, and then the sandboxes.
func (w *worker) killAll(ctx context.Context, pod *corev1.Pod, state *podstate.Pod, grace *int64) error {
	var first, sidecars []stop
	for i := range state.Containers {
		c := &state.Containers[i]
		if c.State != podstate.Running && c.State != podstate.Unknown && c.State != podstate.Created {
			continue
		}
		spec, kind := podspec.Find(pod, c.Name)
		s := stop{id: c.ID, name: c.Name, container: spec, grace: grace, preStop: c.PreStop}
		if spec != nil && kind == podspec.Init && podspec.IsRestartableInit(spec) {
			sidecars = append(sidecars, s)
		} else {
			first = append(first, s)
		}
	}
	started := time.Now()
	if err := w.stopAll(ctx, pod, first); err != nil {
		return err
	}
	for i := len(pod.Spec.InitContainers) - 1; i >= 0; i-- {
		for _, s := range sidecars {
			if s.name != pod.Spec.InitContainers[i].Name {
				continue
			}
			left := max(gracePeriod(pod, s)-int64(time.Since(started)/time.Second), 0)
			s.grace = &left
			if err := w.killOne(ctx, pod, s); err != nil {
				return err
			}
		}
	}
	for _, sb := range state.Sandboxes {
		if err := w.pool.deps.Runtime.StopSandbox(ctx, sb.ID); err != nil {
			return err
		}
	}
	return nil
}

// stopAll stops the containers at the same time.
func (w *worker) stopAll(ctx context.Context, pod *corev1.Pod, list []stop) error {
	var wg sync.WaitGroup
	errs := make([]error, len(list))
	for i := range list {
		wg.Go(func() { errs[i] = w.killOne(ctx, pod, list[i]) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (w *worker) killSome(ctx context.Context, pod *corev1.Pod, state *podstate.Pod, kills []plan.Kill) error {
	list := make([]stop, 0, len(kills))
	for _, k := range kills {
		c, _ := podspec.Find(pod, k.Name)
		s := stop{id: k.ID, name: k.Name, container: c, message: k.Message, reason: k.Reason}
		if last := state.Latest(k.Name); last != nil {
			s.preStop = last.PreStop
		}
		list = append(list, s)
	}
	return w.stopAll(ctx, pod, list)
}

// gracePeriod is how many seconds the container has to stop.
func gracePeriod(pod *corev1.Pod, s stop) int64 {
	if s.grace != nil {
		return *s.grace
	}
	if pod.DeletionGracePeriodSeconds != nil {
		return *pod.DeletionGracePeriodSeconds
	}
	grace := int64(30)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	if s.container == nil {
		return grace
	}
	for reason, p := range map[plan.KillReason]*corev1.Probe{plan.ByLiveness: s.container.LivenessProbe, plan.ByStartup: s.container.StartupProbe} {
		if s.reason == reason && p != nil && p.TerminationGracePeriodSeconds != nil {
			grace = *p.TerminationGracePeriodSeconds
		}
	}
	return grace
}

// killOne runs the preStop hook and stops the container within its grace period.
func (w *worker) killOne(ctx context.Context, pod *corev1.Pod, s stop) error {
	d := &w.pool.deps
	grace := gracePeriod(pod, s)
	if s.message == "" {
		s.message = fmt.Sprintf("Stopping container %s", s.name)
	}
	d.Events(pod, s.name, corev1.EventTypeNormal, "Killing", s.message)
	if pre := preStop(s); pre != nil && grace > 0 {
		grace -= w.runPreStop(ctx, pod, s, pre, grace)
	}
	return d.Runtime.StopContainer(ctx, s.id, time.Duration(max(grace, minGrace))*time.Second)
}

func preStop(s stop) *corev1.LifecycleHandler {
	if s.container != nil {
		if s.container.Lifecycle == nil {
			return nil
		}
		return s.container.Lifecycle.PreStop
	}
	if s.preStop == "" {
		return nil
	}
	h := &corev1.LifecycleHandler{}
	if json.Unmarshal([]byte(s.preStop), h) != nil {
		return nil
	}
	return h
}

// runPreStop returns how many seconds the hook took, at most the grace period.
func (w *worker) runPreStop(ctx context.Context, pod *corev1.Pod, s stop, h *corev1.LifecycleHandler, grace int64) int64 {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(grace)*time.Second)
	defer cancel()
	c := s.container
	if c == nil {
		c = &corev1.Container{Name: s.name}
	}
	if _, err := w.hook(ctx, pod, c, s.id, h); err != nil && ctx.Err() == nil {
		w.pool.deps.Events(pod, s.name, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
	}
	return int64(time.Since(started) / time.Second)
}
