package status

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestEnded(t *testing.T) {
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
	ended := func(code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
	}
	one := func(name string, s corev1.ContainerState) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: s}
	}
	type result struct {
		Phase corev1.PodPhase
		Codes []int32 // init containers first; -1 for one that waits
	}
	tests := map[string]struct {
		init, main []corev1.ContainerStatus
		phase      corev1.PodPhase
		want       result
	}{
		"it never started":            {nil, []corev1.ContainerStatus{one("c", waiting)}, "Pending", result{"Failed", []int32{137}}},
		"it succeeded":                {nil, []corev1.ContainerStatus{one("c", ended(0))}, "Succeeded", result{"Succeeded", []int32{0}}},
		"it was not initialized":      {[]corev1.ContainerStatus{one("i", waiting), one("j", waiting)}, []corev1.ContainerStatus{one("c", waiting)}, "Pending", result{"Failed", []int32{137, -1, -1}}},
		"initialized, never started":  {[]corev1.ContainerStatus{one("i", ended(0)), one("j", ended(0))}, []corev1.ContainerStatus{one("c", waiting)}, "Pending", result{"Failed", []int32{0, 0, 137}}},
		"an init container was lost":  {[]corev1.ContainerStatus{one("i", ended(0)), one("j", corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})}, []corev1.ContainerStatus{one("c", waiting)}, "Pending", result{"Failed", []int32{0, 137, -1}}},
		"one of two containers ended": {nil, []corev1.ContainerStatus{one("c", ended(0)), one("d", waiting)}, "Running", result{"Failed", []int32{0, 137}}},
	}
	for name, tc := range tests {
		pod := &corev1.Pod{}
		for _, s := range tc.init {
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: s.Name})
		}
		s := Ended(pod, corev1.PodStatus{Phase: tc.phase, InitContainerStatuses: tc.init, ContainerStatuses: tc.main})
		got := result{Phase: s.Phase}
		for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
			code := int32(-1)
			if c.State.Terminated != nil {
				code = c.State.Terminated.ExitCode
			}
			got.Codes = append(got.Codes, code)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
