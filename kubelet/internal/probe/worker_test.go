package probe

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/plan"
)

type script struct{ bad atomic.Bool }

func (s *script) Probe(context.Context, *corev1.Pod, *corev1.PodStatus, *corev1.Container, string, *corev1.Probe) (Outcome, string, error) {
	if s.bad.Load() {
		return Failure, "no", nil
	}
	return Success, "", nil
}

func TestLiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		started := true
		st := corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "c", ContainerID: "containerd://1", Started: &started, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		}}}
		var woken, events atomic.Int32
		m := New(Deps{
			Log: zap.NewNop(), Prober: s, Status: func(types.UID) (corev1.PodStatus, bool) { return st, true }, Wake: func(types.UID) { woken.Add(1) },
			Events: func(*corev1.Pod, string, string, string, string) { events.Add(1) }, Count: func(*corev1.Pod, string, Kind, Outcome) {}, Start: time.Now().Add(-time.Hour),
		})
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", LivenessProbe: &corev1.Probe{InitialDelaySeconds: 5, PeriodSeconds: 10, FailureThreshold: 3, SuccessThreshold: 1},
		}}}}
		ctx, cancel := context.WithCancel(context.Background())
		m.Sync(ctx, pod)
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		if r := m.Results().Liveness["1"]; r != plan.Success {
			t.Errorf("before the first probe: %v, want success", r)
		}
		s.bad.Store(true)
		time.Sleep(25 * time.Second) // probes at 10 and 20 s fail: below the threshold
		synctest.Wait()
		if r := m.Results().Liveness["1"]; r != plan.Success {
			t.Errorf("after two failures: %v, want success", r)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r := m.Results().Liveness["1"]; r != plan.Failure {
			t.Errorf("after three failures: %v, want failure", r)
		}
		if n := events.Load(); n != 3 {
			t.Errorf("%d events, want 3", n)
		}
		time.Sleep(time.Minute) // on hold until the next instance
		synctest.Wait()
		if n := events.Load(); n != 3 {
			t.Errorf("probed a container that is being killed: %d events", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
