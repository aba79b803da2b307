package plan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

func container(name string) corev1.Container { return corev1.Container{Name: name, Image: "i"} }

func sidecar(name string) corev1.Container {
	c, always := container(name), corev1.ContainerRestartPolicyAlways
	c.RestartPolicy = &always
	return c
}

func instance(name, id string, state podstate.State, code int32) podstate.Container {
	c := container(name)
	return podstate.Container{ID: id, Name: name, SandboxID: "sb", State: state, ExitCode: code, Hash: podspec.HashContainer(&c)}
}

func state(list ...podstate.Container) *podstate.Pod {
	return &podstate.Pod{Sandboxes: []podstate.Sandbox{{ID: "sb", Ready: true, IPs: []string{"10.0.0.2"}}}, Containers: list}
}

func TestCompute(t *testing.T) {
	pod := func(policy corev1.RestartPolicy, init []corev1.Container, main ...corev1.Container) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: policy, InitContainers: init, Containers: main}}
	}
	changed := instance("a", "1", podstate.Running, 0)
	changed.Hash++
	tests := map[string]struct {
		in   Input
		want Actions
	}{
		"a new pod gets a sandbox and its containers": {
			Input{Pod: pod("Always", nil, container("a"), container("b")), State: &podstate.Pod{}},
			Actions{KillPod: true, CreateSandbox: true, Start: []int{0, 1}},
		},
		"a new pod with init containers starts with the first": {
			Input{Pod: pod("Always", []corev1.Container{container("i"), container("j")}, container("a")), State: &podstate.Pod{}},
			Actions{KillPod: true, CreateSandbox: true, PurgeInit: true, StartInit: []int{0}},
		},
		"a dead sandbox is replaced by the next attempt": {
			Input{Pod: pod("Always", nil, container("a")), State: &podstate.Pod{Sandboxes: []podstate.Sandbox{{ID: "sb", Attempt: 2}}, Containers: []podstate.Container{instance("a", "1", podstate.Exited, 0)}}},
			Actions{KillPod: true, CreateSandbox: true, SandboxID: "sb", Attempt: 3, Start: []int{0}},
		},
		"a dead sandbox of a pod that never restarts is left": {
			Input{Pod: pod("Never", nil, container("a")), State: &podstate.Pod{Sandboxes: []podstate.Sandbox{{ID: "sb"}}, Containers: []podstate.Container{instance("a", "1", podstate.Exited, 0)}}},
			Actions{KillPod: true, SandboxID: "sb", Attempt: 1},
		},
		"all is well": {
			Input{Pod: pod("Always", nil, container("a")), State: state(instance("a", "1", podstate.Running, 0))},
			Actions{SandboxID: "sb"},
		},
		"an exited container restarts": {
			Input{Pod: pod("Always", nil, container("a"), container("b")), State: state(instance("a", "1", podstate.Exited, 0), instance("b", "2", podstate.Running, 0))},
			Actions{SandboxID: "sb", Start: []int{0}},
		},
		"OnFailure keeps a success": {
			Input{Pod: pod("OnFailure", nil, container("a"), container("b")), State: state(instance("a", "1", podstate.Exited, 0), instance("b", "2", podstate.Exited, 1))},
			Actions{SandboxID: "sb", Start: []int{1}},
		},
		"a finished pod is stopped": {
			Input{Pod: pod("Never", nil, container("a")), State: state(instance("a", "1", podstate.Exited, 1))},
			Actions{SandboxID: "sb", KillPod: true},
		},
		"a failed liveness probe kills and restarts": {
			Input{Pod: pod("Always", nil, container("a")), State: state(instance("a", "1", podstate.Running, 0)), Probes: Probes{Liveness: map[string]Result{"1": Failure}}},
			Actions{SandboxID: "sb", Start: []int{0}, Kill: []Kill{{"1", "a", "Container a failed liveness probe, will be restarted", ByLiveness}}},
		},
		"a changed image restarts whatever the policy": {
			Input{Pod: pod("Never", nil, container("a")), State: state(changed)},
			Actions{SandboxID: "sb", Start: []int{0}, Kill: []Kill{{"1", "a", "Container a definition changed, will be restarted", ByChange}}},
		},
		"the next init container follows a success": {
			Input{Pod: pod("Always", []corev1.Container{container("i"), container("j")}, container("a")), State: state(instance("i", "1", podstate.Exited, 0))},
			Actions{SandboxID: "sb", StartInit: []int{1}},
		},
		"a failed init container of a pod that never restarts fails the pod": {
			Input{Pod: pod("Never", []corev1.Container{container("i")}, container("a")), State: state(instance("i", "1", podstate.Exited, 1))},
			Actions{SandboxID: "sb", KillPod: true},
		},
		"a running sidecar lets the pod go on": {
			Input{Pod: pod("Always", []corev1.Container{sidecar("i")}, container("a")), State: state(instance("i", "1", podstate.Running, 0))},
			Actions{SandboxID: "sb", Start: []int{0}},
		},
		"a sidecar that ended restarts beside the others": {
			Input{Pod: pod("Always", []corev1.Container{sidecar("i")}, container("a")), State: func() *podstate.Pod {
				a := instance("a", "2", podstate.Running, 0)
				return state(instance("i", "1", podstate.Exited, 0), a)
			}()},
			Actions{SandboxID: "sb", StartInit: []int{0}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Compute(tc.in), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	var b Backoff
	now := time.Unix(1000, 0)
	var delays []time.Duration
	for range 8 {
		delay, until := b.Check("c", now, now)
		delays = append(delays, delay)
		if delay > 0 {
			now = until
			if again, _ := b.Check("c", until.Add(-delay), now); again != 0 {
				t.Fatalf("start refused after the delay: %s", again)
			}
		}
	}
	want := []time.Duration{0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second, 300 * time.Second}
	if diff := cmp.Diff(want, delays); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
	if d, _ := b.Check("c", now.Add(11*time.Minute), now.Add(11*time.Minute)); d != 0 {
		t.Errorf("after ten quiet minutes: delay %s, want none", d)
	}
}
