package status

import (
	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
)

// tally counts containers by what their status means for the phase.
type tally struct {
	pendingInit, pendingSidecars, initFailed           int
	unknown, running, waiting, stopped, final, success int
}

// phase is the pod's phase from its containers' statuses. terminal says that nothing will be started again.
func phase(pod *corev1.Pod, statuses []corev1.ContainerStatus, terminal, wasInitialized bool) corev1.PodPhase {
	var t tally
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if podspec.IsRestartableInit(c) {
			t.sidecar(find(statuses, c.Name))
		} else {
			t.init(pod, c, find(statuses, c.Name))
		}
	}
	for i := range pod.Spec.Containers {
		t.regular(pod, &pod.Spec.Containers[i], find(statuses, pod.Spec.Containers[i].Name))
	}
	if t.initFailed > 0 {
		return corev1.PodFailed
	}
	switch {
	case t.pendingInit > 0 || (t.pendingSidecars > 0 && !wasInitialized), t.waiting > 0:
		return corev1.PodPending
	case t.running > 0 && t.unknown == 0:
		return corev1.PodRunning
	case t.running == 0 && t.stopped > 0 && t.unknown == 0:
		if t.stopped != t.final && !(terminal && !podspec.IsStatic(pod)) {
			return corev1.PodRunning
		}
		if t.stopped == t.success {
			return corev1.PodSucceeded
		}
		return corev1.PodFailed
	}
	return corev1.PodPending
}

func (t *tally) init(pod *corev1.Pod, c *corev1.Container, st *corev1.ContainerStatus) {
	if st == nil {
		t.pendingInit++
		return
	}
	end := st.State.Terminated
	if st.State.Waiting != nil {
		end = st.LastTerminationState.Terminated
	}
	switch {
	case end == nil:
		t.pendingInit++
	case end.ExitCode != 0 && end.Reason != reasonRestarting && !podspec.RestartAllowed(pod, c, end.ExitCode):
		t.initFailed++
	}
}

func (t *tally) sidecar(st *corev1.ContainerStatus) {
	switch {
	case st == nil:
		t.unknown++
	case st.State.Running != nil:
		if st.Started == nil || !*st.Started {
			t.pendingSidecars++
		}
		t.running++
	case st.State.Terminated != nil:
	case st.State.Waiting != nil:
		if st.LastTerminationState.Terminated == nil {
			t.pendingSidecars++
			t.waiting++
		}
	default:
		t.pendingSidecars++
		t.unknown++
	}
}

func (t *tally) regular(pod *corev1.Pod, c *corev1.Container, st *corev1.ContainerStatus) {
	if st == nil {
		t.unknown++
		return
	}
	end := st.State.Terminated
	switch {
	case st.State.Running != nil:
		t.running++
		return
	case end != nil:
		if end.ExitCode == 0 {
			t.success++
		}
	case st.State.Waiting != nil:
		if end = st.LastTerminationState.Terminated; end == nil {
			t.waiting++
			return
		}
	default:
		t.unknown++
		return
	}
	t.stopped++
	if end.Reason != reasonRestarting && !podspec.RestartAllowed(pod, c, end.ExitCode) {
		t.final++
	}
}
