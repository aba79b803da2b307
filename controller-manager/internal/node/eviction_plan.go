package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

func noExecute(n *corev1.Node) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

func tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	if (t.Effect != "" && t.Effect != taint.Effect) || (t.Key != "" && t.Key != taint.Key) {
		return false
	}
	return t.Operator == corev1.TolerationOpExists || ((t.Operator == "" || t.Operator == corev1.TolerationOpEqual) && t.Value == taint.Value && t.Key != "")
}

// evictAt is when a pod has to leave a node with these NoExecute taints: at once where it does not tolerate one, after
// the shortest of its tolerationSeconds where it tolerates all for a time. ok is false where it may stay. The time
// counts from the taint or from the pod's creation, whichever was later.
func evictAt(p *corev1.Pod, taints []corev1.Taint, now time.Time) (at time.Time, ok bool) {
	for i := range taints {
		taint := &taints[i]
		start := p.CreationTimestamp.Time
		if taint.TimeAdded != nil && taint.TimeAdded.After(start) {
			start = taint.TimeAdded.Time
		}
		if taint.TimeAdded == nil {
			start = now
		}
		tolerated, forever := false, false
		var until time.Time
		for j := range p.Spec.Tolerations {
			t := &p.Spec.Tolerations[j]
			if !tolerates(t, taint) {
				continue
			}
			if t.TolerationSeconds == nil {
				tolerated, forever = true, !tolerated || forever
				continue
			}
			end := start.Add(time.Duration(max(*t.TolerationSeconds, 0)) * time.Second)
			if !tolerated || forever || end.Before(until) {
				until, forever = end, false
			}
			tolerated = true
		}
		switch {
		case !tolerated:
			return now, true
		case forever:
		case !ok || until.Before(at):
			at, ok = until, true
		}
	}
	return at, ok
}
