package workload

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagship/controller-manager/internal/pod"
)

// disruptionTimeout is how long an eviction that the API server allowed is waited for.
const disruptionTimeout = 2 * time.Minute

// expectedPods is how many pods a budget counts on, and how many of them must be healthy. scale is the wanted size of
// the pods' controllers, which a budget in percent or of maxUnavailable needs.
func expectedPods(b *policyv1.PodDisruptionBudget, pods int32, scale int32) (expected, desired int32, err error) {
	switch {
	case b.Spec.MaxUnavailable != nil:
		n, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MaxUnavailable, int(scale), true)
		if err != nil {
			return 0, 0, err
		}
		return scale, max(scale-int32(n), 0), nil
	case b.Spec.MinAvailable != nil && b.Spec.MinAvailable.Type == intstr.String:
		n, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MinAvailable, int(scale), true)
		return scale, int32(n), err
	case b.Spec.MinAvailable != nil:
		return pods, b.Spec.MinAvailable.IntVal, nil
	}
	return pods, 0, nil
}

// liveDisruptions drops those of the allowed evictions that have happened or never will, and returns when the next runs
// out, 0 where none waits.
func liveDisruptions(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, now time.Time) (map[string]metav1.Time, time.Duration) {
	out := map[string]metav1.Time{}
	var next time.Duration
	for _, p := range pods {
		at, ok := b.Status.DisruptedPods[p.Name]
		if !ok || p.DeletionTimestamp != nil {
			continue
		}
		left := at.Add(disruptionTimeout).Sub(now)
		if left <= 0 {
			continue
		}
		out[p.Name] = at
		if next == 0 || left < next {
			next = left
		}
	}
	return out, next
}

// countHealthy counts the ready pods that are not about to be evicted.
func countHealthy(pods []*corev1.Pod, disrupted map[string]metav1.Time) (n int32) {
	for _, p := range pods {
		if _, going := disrupted[p.Name]; !going && p.DeletionTimestamp == nil && pod.Ready(p) {
			n++
		}
	}
	return n
}

// budgetStatus is a budget's status; evictions are allowed as long as more are healthy than must be.
func budgetStatus(b *policyv1.PodDisruptionBudget, expected, desired, healthy int32, disrupted map[string]metav1.Time, now time.Time) policyv1.PodDisruptionBudgetStatus {
	st := *b.Status.DeepCopy()
	st.ExpectedPods, st.DesiredHealthy, st.CurrentHealthy, st.ObservedGeneration = expected, desired, healthy, b.Generation
	st.DisruptionsAllowed = max(healthy-desired, 0)
	if expected <= 0 {
		st.DisruptionsAllowed = 0
	}
	st.DisruptedPods = disrupted
	if len(disrupted) == 0 {
		st.DisruptedPods = nil
	}
	if st.DisruptionsAllowed > 0 {
		setBudgetCondition(&st, b.Generation, metav1.ConditionTrue, policyv1.SufficientPodsReason, "", now)
	} else {
		setBudgetCondition(&st, b.Generation, metav1.ConditionFalse, policyv1.InsufficientPodsReason, "", now)
	}
	return st
}

func setBudgetCondition(st *policyv1.PodDisruptionBudgetStatus, generation int64, status metav1.ConditionStatus, reason, message string, now time.Time) {
	c := metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: status, Reason: reason, Message: message, ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
	}
	for i := range st.Conditions {
		if st.Conditions[i].Type == c.Type {
			if st.Conditions[i].Status == status {
				c.LastTransitionTime = st.Conditions[i].LastTransitionTime
			}
			st.Conditions[i] = c
			return
		}
	}
	st.Conditions = append(st.Conditions, c)
}
