package status

import (
	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
)

// Ended is the last status of a pod of which nothing is left on the node: what never ended in sight counts as failed, and
// the phase is one that does not change again (static pods aside, which come back).
func Ended(pod *corev1.Pod, s corev1.PodStatus) corev1.PodStatus {
	s = *s.DeepCopy()
	if everInitialized(pod, &s) {
		endAll(s.ContainerStatuses)
	}
	endAll(s.InitContainerStatuses[:reached(s.InitContainerStatuses)])
	if !podspec.IsStatic(pod) && !podspec.IsTerminal(s.Phase) {
		s.Phase = corev1.PodFailed
	}
	return s
}

func endAll(list []corev1.ContainerStatus) {
	for i := range list {
		if list[i].State.Terminated == nil {
			list[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: "ContainerStatusUnknown", Message: "The container could not be located when the pod was terminated", ExitCode: 137,
			}}
		}
	}
}

// everInitialized reports that the pod's containers were due.
func everInitialized(pod *corev1.Pod, s *corev1.PodStatus) bool {
	if len(pod.Spec.InitContainers) == 0 {
		return true
	}
	for _, c := range s.ContainerStatuses {
		if c.LastTerminationState.Terminated != nil || c.State.Waiting == nil {
			return true
		}
	}
	last := &pod.Spec.InitContainers[len(pod.Spec.InitContainers)-1]
	st := find(s.InitContainerStatuses, last.Name)
	switch {
	case st == nil:
		return false
	case podspec.IsRestartableInit(last):
		return st.State.Running != nil && st.Started != nil && *st.Started
	}
	for _, end := range []*corev1.ContainerStateTerminated{st.State.Terminated, st.LastTerminationState.Terminated} {
		if end != nil && end.ExitCode == 0 {
			return true
		}
	}
	return false
}

// reached is how many init containers had their turn, one at least.
func reached(list []corev1.ContainerStatus) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].State.Waiting == nil || list[i].LastTerminationState.Terminated != nil {
			return i + 1
		}
	}
	return min(len(list), 1)
}
