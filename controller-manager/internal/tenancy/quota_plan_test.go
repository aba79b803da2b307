package tenancy

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRecounts(t *testing.T) {
	quota := func(spec, hard, used string) *corev1.ResourceQuota {
		list := func(s string) corev1.ResourceList { return corev1.ResourceList{"pods": resource.MustParse(s)} }
		return &corev1.ResourceQuota{
			Spec: corev1.ResourceQuotaSpec{Hard: list(spec)}, Status: corev1.ResourceQuotaStatus{Hard: list(hard), Used: list(used)},
		}
	}
	for scenario, c := range map[string]struct {
		old, now *corev1.ResourceQuota
		want     bool
	}{
		"new":             {nil, quota("5", "5", "0"), true},
		"limit changed":   {quota("5", "5", "1"), quota("6", "5", "1"), true},
		"status disputed": {quota("5", "5", "1"), quota("5", "9", "1"), true},
		"charged":         {quota("5", "5", "1"), quota("5", "5", "2"), false},
	} {
		t.Run(scenario, func(t *testing.T) {
			if got := recounts(c.old, c.now); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestPodFrees(t *testing.T) {
	running := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	ended := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}
	deleted := running.DeepCopy()
	deleted.DeletionTimestamp = &metav1.Time{}
	resized := running.DeepCopy()
	resized.Generation = 2
	ready := running.DeepCopy()
	ready.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady}}
	for scenario, c := range map[string]struct {
		now  *corev1.Pod
		want bool
	}{"ended": {ended, true}, "deleted": {deleted, true}, "resized": {resized, true}, "ready": {ready, false}} {
		t.Run(scenario, func(t *testing.T) {
			if got := podFrees(running, c.now); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
