package plugin

import (
	"fmt"
	"math"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	schedconfig "k8s.io/kube-scheduler/config/v1"

	"flagship/scheduler/internal/snapshot"
)

// PodTopologySpread spreads pods that a selector selects over the values of a node label.
type PodTopologySpread struct {
	defaults []v1.TopologySpreadConstraint
	system   bool
}

// NewPodTopologySpread takes defaulted arguments.
//
// Errors: default constraints together with system defaulting.
func NewPodTopologySpread(args schedconfig.PodTopologySpreadArgs) (*PodTopologySpread, error) {
	if args.DefaultingType == schedconfig.ListDefaulting {
		return &PodTopologySpread{defaults: args.DefaultConstraints}, nil
	}
	if args.DefaultingType != schedconfig.SystemDefaulting {
		return nil, fmt.Errorf("defaultingType: unsupported value %q: supported values: \"System\", \"List\"", args.DefaultingType)
	}
	if len(args.DefaultConstraints) > 0 {
		return nil, fmt.Errorf("defaultConstraints: when .defaultingType is System, there must be no .defaultConstraints")
	}
	return &PodTopologySpread{system: true, defaults: []v1.TopologySpreadConstraint{
		{TopologyKey: v1.LabelHostname, WhenUnsatisfiable: v1.ScheduleAnyway, MaxSkew: 3},
		{TopologyKey: v1.LabelTopologyZone, WhenUnsatisfiable: v1.ScheduleAnyway, MaxSkew: 5},
	}}, nil
}

// Name is upstream's plugin name.
func (*PodTopologySpread) Name() string { return "PodTopologySpread" }

// spread is a constraint made ready to be evaluated.
type spread struct {
	key        string
	maxSkew    int64
	minDomains int64
	selector   labels.Selector
	affinity   bool // honour the pod's node affinity
	taints     bool // honour node taints
	of         []int32
	perNode    *snapshot.Matcher
	counts     []int64 // eligible pods by domain
	seen       []bool  // domains with an eligible node
	min        int64
	self       int64
	weight     float64
}

func (t *PodTopologySpread) constraints(c *snapshot.Cluster, p *snapshot.Pod, mode v1.UnsatisfiableConstraintAction) ([]*spread, error) {
	list, selector := p.Spec.TopologySpreadConstraints, labels.Selector(nil)
	if len(list) == 0 {
		if len(t.defaults) == 0 {
			return nil, nil
		}
		if selector = defaultSelector(c, p); selector.Empty() {
			return nil, nil
		}
		list = t.defaults
	}
	var out []*spread
	for i := range list {
		if list[i].WhenUnsatisfiable != mode {
			continue
		}
		s, err := newSpread(&list[i], p, selector)
		if err != nil {
			return nil, err
		}
		s.of = c.Topology(s.key).Of
		term := snapshot.NewTerm([]string{p.Namespace}, nil, s.selector, s.key, 0)
		s.perNode = c.Match([]snapshot.Term{term}, true)
		if s.selector.Matches(labels.Set(p.Labels)) {
			s.self = 1
		}
		out = append(out, s)
	}
	return out, nil
}

func newSpread(in *v1.TopologySpreadConstraint, p *snapshot.Pod, selector labels.Selector) (*spread, error) {
	s := &spread{key: in.TopologyKey, maxSkew: int64(in.MaxSkew), minDomains: 1, selector: selector, affinity: true}
	if selector == nil {
		var err error
		if s.selector, err = metav1.LabelSelectorAsSelector(in.LabelSelector); err != nil {
			return nil, err
		}
		for _, key := range in.MatchLabelKeys {
			if value, ok := p.Labels[key]; ok {
				r, err := labels.NewRequirement(key, selection.In, []string{value})
				if err != nil {
					return nil, err
				}
				s.selector = s.selector.Add(*r)
			}
		}
	}
	if in.MinDomains != nil {
		s.minDomains = int64(*in.MinDomains)
	}
	if in.NodeAffinityPolicy != nil {
		s.affinity = *in.NodeAffinityPolicy == v1.NodeInclusionPolicyHonor
	}
	if in.NodeTaintsPolicy != nil {
		s.taints = *in.NodeTaintsPolicy == v1.NodeInclusionPolicyHonor
	}
	return s, nil
}

// defaultSelector selects what the pod's services and its owner select.
func defaultSelector(c *snapshot.Cluster, p *snapshot.Pod) labels.Selector {
	set := labels.Set{}
	for name, sel := range c.Selectors.Services {
		if name.Namespace == p.Namespace && len(sel) > 0 && labels.SelectorFromSet(sel).Matches(labels.Set(p.Labels)) {
			set = labels.Merge(set, sel)
		}
	}
	selector := set.AsSelector()
	owner := metav1.GetControllerOfNoCopy(p.Pod)
	if owner == nil {
		return selector
	}
	if s, ok := c.Selectors.Owners[snapshot.OwnerKey{Kind: owner.Kind, Namespace: p.Namespace, Name: owner.Name}]; ok {
		if reqs, selectable := s.Requirements(); selectable {
			selector = selector.Add(reqs...)
		}
	}
	return selector
}

// tally sums the pods of the eligible nodes by domain.
func tally(c *snapshot.Cluster, p *snapshot.Pod, list []*spread, requireAll bool) {
	required := nodeaffinity.GetRequiredNodeAffinity(p.Pod)
	for _, s := range list {
		n := len(c.Topology(s.key).Values)
		s.counts, s.seen = make([]int64, n), make([]bool, n)
	}
	for _, node := range c.Order() {
		if requireAll && !hasAllKeys(list, node) {
			continue
		}
		affine, known := false, false
		for _, s := range list {
			d := s.of[node]
			if d < 0 {
				continue
			}
			if s.affinity {
				if !known {
					affine, _ = required.Match(c.Nodes[node])
					known = true
				}
				if !affine {
					continue
				}
			}
			if s.taints && untolerated(c.Nodes[node].Spec.Taints, p.Spec.Tolerations, v1.TaintEffectNoSchedule, v1.TaintEffectNoExecute) > 0 {
				continue
			}
			s.seen[d] = true
			s.counts[d] += int64(s.perNode.At(node))
		}
	}
}

func hasAllKeys(list []*spread, node int) bool {
	for _, s := range list {
		if s.of[node] < 0 {
			return false
		}
	}
	return true
}

// Prepare implements Filter.
func (t *PodTopologySpread) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	list, err := t.constraints(c, p, v1.DoNotSchedule)
	if err != nil {
		return Prepared{Rejected: verdict(Failed, fmt.Sprintf("get constraints from pod: %v", err))}
	}
	if len(list) == 0 {
		return Prepared{}
	}
	tally(c, p, list, true)
	for _, s := range list {
		s.min = minimum(s)
	}
	unlabelled := verdict(Unresolvable, "node(s) didn't match pod topology spread constraints (missing required label)")
	skewed := verdict(Unschedulable, "node(s) didn't match pod topology spread constraints")
	return Prepared{Check: func(node int) *Verdict {
		for _, s := range list {
			d := s.of[node]
			if d < 0 {
				return unlabelled
			}
			if s.counts[d]+s.self-s.min > s.maxSkew {
				return skewed
			}
		}
		return nil
	}}
}

// minimum is the fewest pods in any eligible domain, 0 when there are fewer domains than asked for.
func minimum(s *spread) int64 {
	least, domains := int64(math.MaxInt32), int64(0)
	for d, seen := range s.seen {
		if seen {
			domains++
			least = min(least, s.counts[d])
		}
	}
	if domains < s.minDomains {
		return 0
	}
	return least
}

// Wake implements Filter.
func (t *PodTopologySpread) Wake(c *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	switch ev.Kind {
	case snapshot.KindNode:
		return ev.Action != snapshot.Update || ev.Change.Labels || ev.Change.Taints
	case snapshot.KindPending:
		return ev.Action == snapshot.Update && ev.Pod.UID == p.UID
	case snapshot.KindAssignedPod:
		list, err := t.constraints(c, p, v1.DoNotSchedule)
		if err != nil || ev.Pod.Namespace != p.Namespace {
			return err != nil
		}
		for _, s := range list {
			if s.selector.Matches(labels.Set(ev.Pod.Labels)) || ev.OldPod != nil && s.selector.Matches(labels.Set(ev.OldPod.Labels)) {
				return true
			}
		}
		return false
	default:
		return false
	}
}

// Rank implements Scorer.
func (t *PodTopologySpread) Rank(c *snapshot.Cluster, p *snapshot.Pod, feasible []int) *Ranking {
	list, err := t.constraints(c, p, v1.ScheduleAnyway)
	if err != nil || len(list) == 0 {
		return nil
	}
	requireAll := len(p.Spec.TopologySpreadConstraints) > 0 || !t.system
	tally(c, p, list, requireAll)
	ignored := map[int]bool{}
	for _, node := range feasible {
		if requireAll && !hasAllKeys(list, node) {
			ignored[node] = true
		}
	}
	for _, s := range list {
		size := len(feasible) - len(ignored)
		if s.key != v1.LabelHostname {
			size = domainsOf(s, feasible, ignored)
		}
		s.weight = math.Log(float64(size + 2))
	}
	return &Ranking{
		Score: func(node int) int64 {
			if ignored[node] {
				return 0
			}
			score := 0.0
			for _, s := range list {
				d := s.of[node]
				if d < 0 {
					continue
				}
				n := s.counts[d]
				if s.key == v1.LabelHostname {
					n = int64(s.perNode.At(node))
				}
				score += float64(n)*s.weight + float64(s.maxSkew-1)
			}
			return int64(math.Round(score))
		},
		Normalize: func(nodes []int, scores []int64) { invert(nodes, scores, ignored) },
	}
}

func domainsOf(s *spread, feasible []int, ignored map[int]bool) int {
	seen := map[int32]bool{}
	for _, node := range feasible {
		if !ignored[node] && s.of[node] >= 0 {
			seen[s.of[node]] = true
		}
	}
	return len(seen)
}

// invert makes few pods a high score.
func invert(nodes []int, scores []int64, ignored map[int]bool) {
	lo, hi := int64(math.MaxInt64), int64(0)
	for i, s := range scores {
		if !ignored[nodes[i]] {
			lo, hi = min(lo, s), max(hi, s)
		}
	}
	for i, s := range scores {
		switch {
		case ignored[nodes[i]]:
			scores[i] = 0
		case hi == 0:
			scores[i] = MaxScore
		default:
			scores[i] = MaxScore * (hi + lo - s) / hi
		}
	}
}
