package status

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podstate"
)

func TestGenerate(t *testing.T) {
	yes := func(*corev1.Container, string) (bool, bool) { return true, true }
	no := func(*corev1.Container, string) (bool, bool) { return false, true }
	run := func(name string, s podstate.State, code int32) podstate.Container {
		return podstate.Container{ID: "1", Name: name, SandboxID: "sb", State: s, ExitCode: code, StartedAt: time.Unix(1, 0)}
	}
	sandbox := []podstate.Sandbox{{ID: "sb", Ready: true, IPs: []string{"10.0.0.2"}}}
	tests := map[string]struct {
		policy   corev1.RestartPolicy
		init     bool
		state    []podstate.Container
		failures map[string]Failure
		ready    func(*corev1.Container, string) (bool, bool)
		forced   *Failure
		terminal bool
		phase    corev1.PodPhase
		waiting  string
		isReady  corev1.ConditionStatus
		reason   string
	}{
		"creating":         {policy: "Always", ready: yes, phase: corev1.PodPending, waiting: "ContainerCreating", isReady: "False", reason: "ContainersNotReady"},
		"initializing":     {policy: "Always", init: true, ready: yes, phase: corev1.PodPending, waiting: "PodInitializing", isReady: "False", reason: "ContainersNotReady"},
		"running":          {policy: "Always", state: []podstate.Container{run("c", podstate.Running, 0)}, ready: yes, phase: corev1.PodRunning, isReady: "True"},
		"not ready":        {policy: "Always", state: []podstate.Container{run("c", podstate.Running, 0)}, ready: no, phase: corev1.PodRunning, isReady: "False", reason: "ContainersNotReady"},
		"pull failed":      {policy: "Always", failures: map[string]Failure{"c": {"ErrImagePull", "x"}}, ready: yes, phase: corev1.PodPending, waiting: "ErrImagePull", isReady: "False", reason: "ContainersNotReady"},
		"crash loop":       {policy: "Always", state: []podstate.Container{run("c", podstate.Exited, 1)}, failures: map[string]Failure{"c": {"CrashLoopBackOff", "x"}}, ready: yes, phase: corev1.PodRunning, waiting: "CrashLoopBackOff", isReady: "False", reason: "ContainersNotReady"},
		"succeeded":        {policy: "Never", state: []podstate.Container{run("c", podstate.Exited, 0)}, ready: yes, phase: corev1.PodSucceeded, isReady: "False", reason: "PodCompleted"},
		"failed":           {policy: "Never", state: []podstate.Container{run("c", podstate.Exited, 1)}, ready: yes, phase: corev1.PodFailed, isReady: "False", reason: "PodFailed"},
		"restarts":         {policy: "OnFailure", state: []podstate.Container{run("c", podstate.Exited, 1)}, ready: yes, phase: corev1.PodRunning, isReady: "False", reason: "ContainersNotReady"},
		"evicted":          {policy: "Always", state: []podstate.Container{run("c", podstate.Running, 0)}, ready: yes, forced: &Failure{"Evicted", "low"}, phase: corev1.PodFailed, isReady: "False", reason: "PodFailed"},
		"deleted and done": {policy: "Always", state: []podstate.Container{run("c", podstate.Exited, 0)}, ready: yes, terminal: true, phase: corev1.PodSucceeded, isReady: "False", reason: "PodCompleted"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: tc.policy, Containers: []corev1.Container{{Name: "c"}}}}
			pod.Generation = 3
			if tc.init {
				pod.Spec.InitContainers = []corev1.Container{{Name: "i"}}
			}
			s := Generate(Input{
				Pod: pod, State: &podstate.Pod{Sandboxes: sandbox, Containers: tc.state, IPs: []string{"10.0.0.2"}}, Failures: tc.failures,
				Probes: ProbeView{Started: yes, Ready: tc.ready}, Forced: tc.forced, Terminal: tc.terminal, Runtime: "containerd", Now: time.Unix(9, 0),
			})
			type view struct {
				Phase   corev1.PodPhase
				Waiting string
				Ready   corev1.ConditionStatus
				Reason  string
				Seen    int64
			}
			got := view{Phase: s.Phase}
			if w := s.ContainerStatuses[0].State.Waiting; w != nil {
				got.Waiting = w.Reason
			}
			for _, c := range s.Conditions {
				if c.Type == corev1.PodReady {
					got.Ready, got.Reason, got.Seen = c.Status, c.Reason, c.ObservedGeneration
				}
			}
			if diff := cmp.Diff(view{tc.phase, tc.waiting, tc.isReady, tc.reason, 3}, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}
