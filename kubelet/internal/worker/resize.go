package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/kubelet/internal/allocate"
	"flagship/kubelet/internal/plan"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// grant takes up a changed declaration of resources where the node has room for it, and returns the pod with what it was
// granted.
func (w *worker) grant(pod *corev1.Pod) *corev1.Pod {
	d := &w.pool.deps
	granted, differs, known := d.Books.Granted(pod)
	if known && !differs {
		w.pending = nil
		return pod
	}
	reason, message := w.pool.grant(pod)
	if reason == "" {
		w.pending, w.progress = nil, resizeCondition(nil, corev1.PodResizeInProgress, "", "", pod.Generation)
		d.Events(pod, "", corev1.EventTypeNormal, "ResizeStarted", allocate.Message("Pod resize started", pod, pod.Generation, ""))
		return pod
	}
	if old := w.pending; old == nil || old.Reason != reason || old.ObservedGeneration != pod.Generation {
		event := map[string]string{corev1.PodReasonDeferred: "ResizeDeferred", corev1.PodReasonInfeasible: "ResizeInfeasible"}[reason]
		d.Events(pod, "", corev1.EventTypeWarning, event, allocate.Message("Pod resize "+reason, pod, pod.Generation, message))
		d.Decided(pod, "waiting", event, message)
	}
	w.pending = resizeCondition(w.pending, corev1.PodResizePending, reason, message, pod.Generation)
	return granted
}

func resizeCondition(old *corev1.PodCondition, t corev1.PodConditionType, reason, message string, generation int64) *corev1.PodCondition {
	now := metav1.NewTime(time.Now())
	c := &corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: generation, LastProbeTime: now, LastTransitionTime: now}
	if old != nil {
		c.LastTransitionTime = old.LastTransitionTime
		if old.Reason == reason && old.Message == message {
			c.LastProbeTime = old.LastProbeTime
		}
	}
	return c
}

func (w *worker) planInput(pod *corev1.Pod, state *podstate.Pod) plan.Input {
	d := &w.pool.deps
	have := d.Books.Actuated(pod.UID)
	return plan.Input{Pod: pod, State: state, Probes: d.Probes.Results(), Actuated: &plan.Actuated{Containers: have.ContainerResources, Pod: have.PodLevelResources}}
}

// resizeConditions are the conditions that tell of a resize; one that is complete is told by an event.
func (w *worker) resizeConditions(pod *corev1.Pod, state *podstate.Pod) []corev1.PodCondition {
	if w.phase != syncing || w.first {
		return nil
	}
	if plan.Resizing(w.planInput(pod, state)) {
		if w.progress == nil {
			w.progress = resizeCondition(nil, corev1.PodResizeInProgress, "", "", pod.Generation)
		}
	} else if w.progress != nil {
		w.pool.deps.Events(pod, "", corev1.EventTypeNormal, "ResizeCompleted", allocate.Message("Pod resize completed", pod, w.progress.ObservedGeneration, ""))
		w.progress = nil
	}
	var out []corev1.PodCondition
	for _, c := range []*corev1.PodCondition{w.pending, w.progress} {
		if c != nil {
			out = append(out, *c)
		}
	}
	return out
}

// resize lets what was granted take effect: the pod's cgroup first allows both the old and the new, then the containers
// change, then the cgroup allows the new only.
func (w *worker) resize(ctx context.Context, pod *corev1.Pod, a plan.Actions) error {
	if !a.ResizePod {
		return nil
	}
	d := &w.pool.deps
	err := w.fits(ctx, pod, a.Resize)
	if err == nil {
		err = d.Cgroups.Widen(pod)
	}
	for _, r := range a.Resize {
		if err != nil {
			break
		}
		c, _ := podspec.Find(pod, r.Name)
		if err = d.Runtime.UpdateContainer(ctx, r.ID, d.Builder.Resources(pod, c)); err == nil {
			err = d.Books.Actuate(pod.UID, c.Name, c.Resources)
		}
	}
	if err == nil {
		err = d.Cgroups.Settle(pod)
	}
	if err == nil {
		err = d.Books.ActuatePod(pod.UID, pod.Spec.Resources)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	generation := pod.Generation
	if w.progress != nil {
		generation = w.progress.ObservedGeneration
	}
	next := resizeCondition(w.progress, corev1.PodResizeInProgress, corev1.PodReasonError, err.Error(), generation)
	if w.progress == nil || w.progress.Message != next.Message {
		d.Events(pod, "", corev1.EventTypeWarning, "ResizeError", allocate.Message("Pod resize error", pod, generation, err.Error()))
	}
	w.progress = next
	return fmt.Errorf("resize: %w", err)
}

// fits refuses a memory limit below what is used now, which the kernel would refuse or kill for.
func (w *worker) fits(ctx context.Context, pod *corev1.Pod, list []plan.Resize) error {
	d := &w.pool.deps
	have := d.Books.Actuated(pod.UID)
	var errs []error
	for _, r := range list {
		c, _ := podspec.Find(pod, r.Name)
		old := have.ContainerResources[r.Name]
		before, now := podspec.EffectiveLimits(have.PodLevelResources, &old), podspec.EffectiveLimits(pod.Spec.Resources, &c.Resources)
		limit := now.Memory().Value()
		if limit == 0 || (!before.Memory().IsZero() && limit >= before.Memory().Value()) {
			continue
		}
		used, err := d.Runtime.MemoryUsage(ctx, r.ID)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("missing container %q memory usage: %w", r.Name, err))
		case used >= uint64(limit):
			errs = append(errs, fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)", r.Name, limit, used))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("cannot decrease memory limits: %w", errors.Join(errs...))
	}
	return nil
}
