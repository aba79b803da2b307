package plugin

import (
	"strconv"

	v1 "k8s.io/api/core/v1"

	"flagship/scheduler/internal/snapshot"
)

// TaintToleration filters by NoSchedule and NoExecute taints and ranks by untolerated PreferNoSchedule taints.
type TaintToleration struct{}

// Name is upstream's plugin name.
func (TaintToleration) Name() string { return "TaintToleration" }

// tolerates says whether any toleration covers the taint (k8s.io/api's rules, with the Lt and Gt operators).
func tolerates(list []v1.Toleration, taint *v1.Taint) bool {
	for i := range list {
		if toleratesOne(&list[i], taint) {
			return true
		}
	}
	return false
}

func toleratesOne(t *v1.Toleration, taint *v1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case "", v1.TolerationOpEqual:
		return t.Value == taint.Value
	case v1.TolerationOpExists:
		return true
	case v1.TolerationOpLt, v1.TolerationOpGt:
		want, err := strconv.ParseInt(t.Value, 10, 64)
		if err != nil {
			return false
		}
		have, err := strconv.ParseInt(taint.Value, 10, 64)
		if err != nil {
			return false
		}
		if t.Operator == v1.TolerationOpLt {
			return have < want
		}
		return have > want
	default:
		return false
	}
}

func untolerated(taints []v1.Taint, list []v1.Toleration, effects ...v1.TaintEffect) (n int64) {
	for i := range taints {
		for _, e := range effects {
			if taints[i].Effect == e && !tolerates(list, &taints[i]) {
				n++
			}
		}
	}
	return n
}

// Prepare implements Filter.
func (TaintToleration) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	no := verdict(Unresolvable, "node(s) had untolerated taint(s)")
	return Prepared{Check: func(node int) *Verdict {
		taints := c.Nodes[node].Spec.Taints
		if len(taints) > 0 && untolerated(taints, p.Spec.Tolerations, v1.TaintEffectNoSchedule, v1.TaintEffectNoExecute) > 0 {
			return no
		}
		return nil
	}}
}

// Wake implements Filter.
func (t TaintToleration) Wake(c *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	if ev.Kind != snapshot.KindNode || ev.Action == snapshot.Delete || c.Nodes[ev.Node] == nil {
		return false
	}
	return (ev.Action == snapshot.Add || ev.Change.Taints) && t.Prepare(c, p).Check(ev.Node) == nil
}

// Rank implements Scorer.
func (TaintToleration) Rank(c *snapshot.Cluster, p *snapshot.Pod, _ []int) *Ranking {
	var list []v1.Toleration
	for _, t := range p.Spec.Tolerations {
		if t.Effect == "" || t.Effect == v1.TaintEffectPreferNoSchedule {
			list = append(list, t)
		}
	}
	return &Ranking{
		Score: func(node int) int64 {
			return untolerated(c.Nodes[node].Spec.Taints, list, v1.TaintEffectPreferNoSchedule)
		},
		Normalize: normalize(true),
	}
}
