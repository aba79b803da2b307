package node

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func condition(st *corev1.NodeStatus, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == t {
			return &st.Conditions[i]
		}
	}
	return nil
}

func readiness(n *corev1.Node) corev1.ConditionStatus {
	if c := condition(&n.Status, corev1.NodeReady); c != nil {
		return c.Status
	}
	return corev1.ConditionUnknown
}

// health is what was last seen of a node's signs of life.
type health struct {
	// seen is when a new sign of life was last noticed, by this process' clock.
	seen      time.Time
	heartbeat metav1.Time
	renewed   metav1.MicroTime
	hasReady  bool
	ready     corev1.ConditionStatus
}

// observe takes what the cache shows and returns the health now. A node that is new to this process counts as seen now,
// except where it never reported: then its creation counts.
func observe(old *health, n *corev1.Node, renewed *metav1.MicroTime, now time.Time) health {
	c := condition(&n.Status, corev1.NodeReady)
	h := health{seen: now, hasReady: c != nil, ready: readiness(n)}
	if c != nil {
		h.heartbeat = c.LastHeartbeatTime
	} else {
		h.seen = n.CreationTimestamp.Time
	}
	if old != nil && old.hasReady == h.hasReady && (c == nil || old.heartbeat.Equal(&h.heartbeat)) {
		h.seen = old.seen
	}
	if old != nil {
		h.renewed = old.renewed
	}
	if renewed != nil && h.renewed.Before(renewed) {
		h.renewed, h.seen = *renewed, now
	}
	return h
}

// grace is how long a node may be silent.
func grace(n *corev1.Node, running, starting time.Duration) time.Duration {
	if condition(&n.Status, corev1.NodeReady) == nil {
		return starting
	}
	return running
}

// silentConditions sets to Unknown what the kubelet no longer reports and says whether something changed.
func silentConditions(st *corev1.NodeStatus, created metav1.Time, now time.Time) bool {
	changed := false
	for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		c := condition(st, t)
		switch {
		case c == nil:
			st.Conditions = append(st.Conditions, corev1.NodeCondition{
				Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: created, LastTransitionTime: metav1.NewTime(now),
			})
			changed = true
		case c.Status != corev1.ConditionUnknown:
			c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			c.LastTransitionTime = metav1.NewTime(now)
			changed = true
		}
	}
	return changed
}

// conditionTaints are the taints that follow from a node's conditions, by condition and its status.
func conditionTaints(st *corev1.NodeStatus) []string {
	var keys []string
	for _, c := range st.Conditions {
		switch {
		case c.Type == corev1.NodeReady && c.Status == corev1.ConditionFalse:
			keys = append(keys, corev1.TaintNodeNotReady)
		case c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown:
			keys = append(keys, corev1.TaintNodeUnreachable)
		case c.Status != corev1.ConditionTrue:
		case c.Type == corev1.NodeMemoryPressure:
			keys = append(keys, corev1.TaintNodeMemoryPressure)
		case c.Type == corev1.NodeDiskPressure:
			keys = append(keys, corev1.TaintNodeDiskPressure)
		case c.Type == corev1.NodePIDPressure:
			keys = append(keys, corev1.TaintNodePIDPressure)
		case c.Type == corev1.NodeNetworkUnavailable:
			keys = append(keys, corev1.TaintNodeNetworkUnavailable)
		}
	}
	return keys
}

// scheduleTaints returns the taints that a node should have, and whether they differ from those it has: of the effect
// NoSchedule, those of its conditions and of spec.unschedulable and no other of these keys.
func scheduleTaints(n *corev1.Node, now time.Time) ([]corev1.Taint, bool) {
	want := conditionTaints(&n.Status)
	if n.Spec.Unschedulable {
		want = append(want, corev1.TaintNodeUnschedulable)
	}
	ours := []string{
		corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure,
		corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable, corev1.TaintNodeUnschedulable,
	}
	var out []corev1.Taint
	changed := false
	have := map[string]bool{}
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoSchedule && slices.Contains(ours, t.Key) {
			if !slices.Contains(want, t.Key) {
				changed = true
				continue
			}
			have[t.Key] = true
		}
		out = append(out, t)
	}
	for _, key := range want {
		if !have[key] {
			at := metav1.NewTime(now)
			out = append(out, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule, TimeAdded: &at})
			changed = true
		}
	}
	return out, changed
}

// executeTaints swaps the two NoExecute taints of health: key is the one to have, "" for none.
func executeTaints(n *corev1.Node, key string, now time.Time) ([]corev1.Taint, bool) {
	var out []corev1.Taint
	changed, have := false, false
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable) {
			if t.Key != key {
				changed = true
				continue
			}
			have = true
		}
		out = append(out, t)
	}
	if key != "" && !have {
		at := metav1.NewTime(now)
		out = append(out, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &at})
		changed = true
	}
	return out, changed
}

// executeKey is the NoExecute taint that a node's readiness calls for.
func executeKey(ready corev1.ConditionStatus) string {
	switch ready {
	case corev1.ConditionTrue:
		return ""
	case corev1.ConditionFalse:
		return corev1.TaintNodeNotReady
	default:
		return corev1.TaintNodeUnreachable
	}
}

// zoneState is how far a zone is disrupted.
type zoneState int

const (
	zoneNormal zoneState = iota
	zonePartial
	zoneFull
)

// disruption judges a zone by the numbers of its nodes.
func disruption(ready, notReady int, threshold float32) zoneState {
	switch {
	case ready == 0 && notReady > 0:
		return zoneFull
	case notReady > 2 && float32(notReady)/float32(notReady+ready) >= threshold:
		return zonePartial
	default:
		return zoneNormal
	}
}

// zoneRate is how many nodes per second of a zone may be tainted NoExecute. all says that every zone is fully disrupted:
// then more likely this process is cut off than all nodes are, and nothing is evicted.
func zoneRate(s zoneState, nodes int, all bool, normal, secondary float32, large int32) float32 {
	switch {
	case all:
		return 0
	case s == zonePartial && nodes > int(large):
		return secondary
	case s == zonePartial:
		return 0
	default:
		return normal
	}
}

func zone(n *corev1.Node) string {
	return n.Labels[corev1.LabelTopologyRegion] + ":\x00:" + n.Labels[corev1.LabelTopologyZone]
}
