package plugin

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"flagship/scheduler/internal/snapshot"
)

// NodeAffinity keeps pods to the nodes that their node selector and affinity ask for, and to those that the profile adds.
type NodeAffinity struct {
	addedRequired  *nodeaffinity.NodeSelector
	addedPreferred *nodeaffinity.PreferredSchedulingTerms
}

// NewNodeAffinity takes the affinity that the profile adds to every pod; nil for none.
//
// Errors: a selector that does not parse.
func NewNodeAffinity(added *v1.NodeAffinity) (*NodeAffinity, error) {
	n := &NodeAffinity{}
	if added == nil {
		return n, nil
	}
	var err error
	if r := added.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		if n.addedRequired, err = nodeaffinity.NewNodeSelector(r); err != nil {
			return nil, fmt.Errorf("parsing addedAffinity.requiredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	if p := added.PreferredDuringSchedulingIgnoredDuringExecution; len(p) != 0 {
		if n.addedPreferred, err = nodeaffinity.NewPreferredSchedulingTerms(p); err != nil {
			return nil, fmt.Errorf("parsing addedAffinity.preferredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	return n, nil
}

// Name is upstream's plugin name.
func (*NodeAffinity) Name() string { return "NodeAffinity" }

func requiredTerms(p *snapshot.Pod) *v1.NodeSelector {
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

// Prepare implements Filter.
func (n *NodeAffinity) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	required := requiredTerms(p)
	if n.addedRequired == nil && len(p.Spec.NodeSelector) == 0 && required == nil {
		return Prepared{}
	}
	names, conflict := namedNodes(required)
	if conflict {
		return Prepared{Rejected: verdict(Unresolvable, "pod affinity terms conflict")}
	}
	own := nodeaffinity.GetRequiredNodeAffinity(p.Pod)
	enforced := verdict(Unresolvable, "node(s) didn't match scheduler-enforced node affinity")
	no := verdict(Unresolvable, "node(s) didn't match Pod's node affinity/selector")
	return Prepared{Nodes: names, Check: func(node int) *Verdict {
		if n.addedRequired != nil && !n.addedRequired.Match(c.Nodes[node]) {
			return enforced
		}
		if ok, _ := own.Match(c.Nodes[node]); !ok {
			return no
		}
		return nil
	}}
}

// namedNodes finds the nodes that terms on metadata.name leave, nil for no such limit: every term must name nodes for the
// limit to hold. conflict says that no node is left.
func namedNodes(required *v1.NodeSelector) (names []string, conflict bool) {
	if required == nil || len(required.NodeSelectorTerms) == 0 {
		return nil, false
	}
	var all []string
	for _, term := range required.NodeSelectorTerms {
		var left map[string]bool
		for _, f := range term.MatchFields {
			if f.Key != metav1.ObjectNameField || f.Operator != v1.NodeSelectorOpIn {
				continue
			}
			next := map[string]bool{}
			for _, v := range f.Values {
				if left == nil || left[v] {
					next[v] = true
				}
			}
			left = next
		}
		if left == nil {
			return nil, false
		}
		for v := range left {
			all = append(all, v)
		}
	}
	return all, len(all) == 0
}

// Wake implements Filter.
func (n *NodeAffinity) Wake(c *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	if ev.Kind != snapshot.KindNode || ev.Action == snapshot.Delete || c.Nodes[ev.Node] == nil {
		return false
	}
	if ev.Action == snapshot.Update && !ev.Change.Labels {
		return false
	}
	check := n.Prepare(c, p).Check
	return check != nil && check(ev.Node) == nil
}

// Rank implements Scorer.
func (n *NodeAffinity) Rank(c *snapshot.Cluster, p *snapshot.Pod, _ []int) *Ranking {
	var own *nodeaffinity.PreferredSchedulingTerms
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		if terms := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
			parsed, err := nodeaffinity.NewPreferredSchedulingTerms(terms)
			if err == nil {
				own = parsed
			}
		}
	}
	if own == nil && n.addedPreferred == nil {
		return nil
	}
	return &Ranking{
		Score: func(node int) (s int64) {
			if n.addedPreferred != nil {
				s += n.addedPreferred.Score(c.Nodes[node])
			}
			if own != nil {
				s += own.Score(c.Nodes[node])
			}
			return s
		},
		Normalize: normalize(false),
	}
}
