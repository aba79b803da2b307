// Package pod answers questions about a pod that several controllers ask: is it ready, available, active, terminal.
//
// Data in: a pod and the time. Data out: an answer. It is pure.
package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Condition returns a condition of the pod's status, nil where it has none.
func Condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// Ready says whether the Ready condition is true.
func Ready(p *corev1.Pod) bool {
	c := Condition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Available says whether the pod has been ready for minReady seconds.
func Available(p *corev1.Pod, minReady int32, now time.Time) bool {
	if !Ready(p) {
		return false
	}
	c := Condition(p, corev1.PodReady)
	if minReady == 0 {
		return true
	}
	at := c.LastTransitionTime
	return !at.IsZero() && !at.Add(time.Duration(minReady)*time.Second).After(now)
}

// Terminal says whether the pod has run to its end.
func Terminal(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Active says whether the pod runs or will: neither at its end nor being deleted.
func Active(p *corev1.Pod) bool { return !Terminal(p) && p.DeletionTimestamp == nil }

// FilterActive keeps the active pods.
func FilterActive(pods []*corev1.Pod) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range pods {
		if Active(p) {
			out = append(out, p)
		}
	}
	return out
}

// SetCondition puts a condition into a status and says whether it changed; now is the time of a transition.
func SetCondition(st *corev1.PodStatus, c corev1.PodCondition) bool {
	for i := range st.Conditions {
		old := &st.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		if *old == c {
			return false
		}
		*old = c
		return true
	}
	st.Conditions = append(st.Conditions, c)
	return true
}
