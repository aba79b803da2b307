package status

import (
	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// reasonRestarting is why a container is not there while all of its pod's containers are made to run anew.
const reasonRestarting = "RestartingAllContainers"

// podRestarts reports that a container has exited whose rule makes all run anew, and that they do not yet: by what the
// runtime shows, or by the last status once the container is removed.
func podRestarts(in Input) bool {
	found := false
	podspec.Visit(in.Pod, func(c *corev1.Container, kind podspec.Kind) bool {
		if kind == podspec.Ephemeral || found {
			return !found
		}
		if last := in.State.Latest(c.Name); last != nil {
			found = last.State == podstate.Exited && podspec.RestartsPod(c, last.ExitCode)
			return !found
		}
		for _, list := range [][]corev1.ContainerStatus{in.Old.InitContainerStatuses, in.Old.ContainerStatuses} {
			if st := find(list, c.Name); st != nil {
				for _, end := range []*corev1.ContainerStateTerminated{st.State.Terminated, st.LastTerminationState.Terminated} {
					found = found || (end != nil && (podspec.RestartsPod(c, end.ExitCode) || end.Reason == reasonRestarting) && st.State.Running == nil)
				}
			}
		}
		return !found
	})
	return found
}

// removed is the status of a container that was removed so that all run anew.
func removed(st corev1.ContainerStatus, old *corev1.ContainerStatus) corev1.ContainerStatus {
	const why = "The container is removed because RestartAllContainers in place"
	st.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reasonRestarting, Message: why}}
	st.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: reasonRestarting, Message: why, ExitCode: 137}
	st.RestartCount = old.RestartCount + 1
	return st
}

// restarting is the condition that tells of it.
func restarting(in Input, phase corev1.PodPhase) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.AllContainersRestarting, Status: corev1.ConditionFalse}
	switch {
	case phase == corev1.PodSucceeded:
		c.Reason = reasonPodCompleted
	case phase == corev1.PodFailed:
		c.Reason = reasonPodFailed
	case podRestarts(in):
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return c
}
