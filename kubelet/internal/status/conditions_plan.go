package status

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/plan"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// Reasons of pod conditions, upstream's.
const (
	reasonUnknownStatuses = "UnknownContainerStatuses"
	reasonPodCompleted    = "PodCompleted"
	reasonPodFailed       = "PodFailed"
	reasonNotReady        = "ContainersNotReady"
	reasonNotInitialized  = "ContainersNotInitialized"
	reasonGates           = "ReadinessGatesNotReady"
	reasonSandbox         = "PodSandboxNotReady"
)

// conditions builds the conditions that the kubelet owns, in upstream's order, after those it does not own.
func conditions(pod *corev1.Pod, s *corev1.PodStatus, state *podstate.Pod) []corev1.PodCondition {
	var out []corev1.PodCondition
	for _, c := range pod.Status.Conditions {
		if !owned(c.Type) {
			out = append(out, c)
		}
	}
	all := append(append([]corev1.ContainerStatus{}, s.InitContainerStatuses...), s.ContainerStatuses...)
	ready := containersReady(pod, all, s.Phase)
	out = append(out, sandboxReady(pod, state), initialized(pod, all, s.Phase), podReady(pod, ready, out), ready,
		corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	for i := range out {
		if owned(out[i].Type) {
			out[i].ObservedGeneration = pod.Generation
		}
	}
	return out
}

func owned(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled, corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting:
		return true
	}
	return false
}

// overwritten tells whether a condition of the kubelet's is not in the API server's status as it is in its own. A pod that has ended there is left as it is.
func overwritten(shown, own corev1.PodStatus) bool {
	if shown.Phase == corev1.PodFailed || shown.Phase == corev1.PodSucceeded {
		return false
	}
	for _, c := range own.Conditions {
		if owned(c.Type) && !slices.ContainsFunc(shown.Conditions, func(o corev1.PodCondition) bool { return o.Type == c.Type && o.Status == c.Status }) {
			return true
		}
	}
	return false
}

func sandboxReady(pod *corev1.Pod, state *podstate.Pod) corev1.PodCondition {
	needed, _, _, reason := plan.SandboxChanged(pod, state)
	if needed {
		return corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse, Reason: reasonSandbox, Message: reason}
	}
	return corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue}
}

func find(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

func unready(unknown, bad []string, what string) string {
	var parts []string
	if len(unknown) > 0 {
		parts = append(parts, fmt.Sprintf("containers with unknown status: %s", unknown))
	}
	if len(bad) > 0 {
		parts = append(parts, fmt.Sprintf("containers with %s status: %s", what, bad))
	}
	return strings.Join(parts, ", ")
}

func containersReady(pod *corev1.Pod, statuses []corev1.ContainerStatus, phase corev1.PodPhase) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	if len(statuses) == 0 {
		c.Reason = reasonUnknownStatuses
		return c
	}
	var unknown, bad []string
	podspec.Visit(pod, func(k *corev1.Container, kind podspec.Kind) bool {
		if kind == podspec.Ephemeral || (kind == podspec.Init && !podspec.IsRestartableInit(k)) {
			return true
		}
		if st := find(statuses, k.Name); st == nil {
			unknown = append(unknown, k.Name)
		} else if !st.Ready {
			bad = append(bad, k.Name)
		}
		return true
	})
	switch {
	case phase == corev1.PodSucceeded && len(unknown) == 0:
		c.Reason = reasonPodCompleted
	case phase == corev1.PodFailed:
		c.Reason = reasonPodFailed
	default:
		if c.Message = unready(unknown, bad, "unready"); c.Message == "" {
			c.Status = corev1.ConditionTrue
		} else {
			c.Reason = reasonNotReady
		}
	}
	return c
}

func podReady(pod *corev1.Pod, ready corev1.PodCondition, others []corev1.PodCondition) corev1.PodCondition {
	c := ready
	c.Type = corev1.PodReady
	if c.Status != corev1.ConditionTrue {
		return c
	}
	var messages []string
	for _, gate := range pod.Spec.ReadinessGates {
		var have *corev1.PodCondition
		for i := range others {
			if others[i].Type == gate.ConditionType {
				have = &others[i]
			}
		}
		if have == nil {
			messages = append(messages, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(gate.ConditionType)))
		} else if have.Status != corev1.ConditionTrue {
			messages = append(messages, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(gate.ConditionType), have.Status))
		}
	}
	if len(messages) > 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, reasonGates, strings.Join(messages, ", ")
	}
	return c
}

func initialized(pod *corev1.Pod, statuses []corev1.ContainerStatus, phase corev1.PodPhase) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if len(statuses) == 0 && len(pod.Spec.InitContainers) > 0 {
		c.Status, c.Reason = corev1.ConditionFalse, reasonUnknownStatuses
		return c
	}
	var unknown, incomplete []string
	for i := range pod.Spec.InitContainers {
		k := &pod.Spec.InitContainers[i]
		st := find(statuses, k.Name)
		switch {
		case st == nil:
			unknown = append(unknown, k.Name)
		case podspec.IsRestartableInit(k) && (st.Started == nil || !*st.Started), !podspec.IsRestartableInit(k) && !st.Ready:
			incomplete = append(incomplete, k.Name)
		}
	}
	if phase == corev1.PodSucceeded && len(unknown) == 0 {
		c.Reason = reasonPodCompleted
		return c
	}
	for i := range pod.Spec.Containers {
		st := find(statuses, pod.Spec.Containers[i].Name)
		if st != nil && (st.State.Running != nil || st.State.Terminated != nil || st.LastTerminationState.Terminated != nil || (st.Started != nil && *st.Started)) {
			return c
		}
	}
	if text := unready(unknown, incomplete, "incomplete"); text != "" {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, reasonNotInitialized, text
	}
	return c
}
