package status

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// sink is an API server that keeps the patches.
type sink struct {
	mu      sync.Mutex
	patches []string
}

func (s *sink) PatchPodStatus(_ context.Context, _, name string, patch []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patches = append(s.patches, name+" "+string(patch))
	return nil
}

func (s *sink) DeletePod(context.Context, string, string, types.UID, int64) error { return nil }

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.patches)
}

// TestOverwrittenConditions is about a node that was lost and is back: the node controller has set Ready of its pods to False.
func TestOverwrittenConditions(t *testing.T) {
	condition := func(kind corev1.PodConditionType, s corev1.ConditionStatus) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: s}
	}
	own := corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{condition(corev1.PodReady, corev1.ConditionTrue)}}
	for scenario, tc := range map[string]struct {
		shown corev1.PodStatus
		uid   types.UID
		want  int // writes after the first
	}{
		"as written":                 {shown: own},
		"Ready is False":             {shown: corev1.PodStatus{Conditions: []corev1.PodCondition{condition(corev1.PodReady, corev1.ConditionFalse)}}, want: 1},
		"no condition":               {want: 1},
		"one more, another's":        {shown: corev1.PodStatus{Conditions: append([]corev1.PodCondition{condition("x/y", corev1.ConditionFalse)}, own.Conditions...)}},
		"ended by the pod collector": {shown: corev1.PodStatus{Phase: corev1.PodFailed}},
		"another pod of that name":   {uid: "other"},
	} {
		t.Run(scenario, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &sink{}
				m := NewManager(zap.NewNop(), api, nil)
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- m.Run(ctx) }()
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p", UID: "u"}}
				m.Set(pod, own)
				synctest.Wait()
				if api.count() != 1 {
					t.Fatalf("%d writes of a new status, want one", api.count())
				}
				shown := pod.DeepCopy()
				shown.Status = tc.shown
				if tc.uid != "" {
					shown.UID = tc.uid
				}
				m.Observe("u", shown)
				time.Sleep(resync + time.Second)
				synctest.Wait()
				if got := api.count() - 1; got != tc.want {
					t.Errorf("%d writes after the first, want %d", got, tc.want)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
