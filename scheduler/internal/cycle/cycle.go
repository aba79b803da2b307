package cycle

import (
	"flagship/scheduler/internal/plugin"
	"flagship/scheduler/internal/snapshot"
)

// Weighted is a scorer with its weight in a profile.
type Weighted struct {
	plugin.Scorer
	Weight int64
}

// Profile is the set of plugins that pods of one scheduler name go through.
type Profile struct {
	Name    string
	Filters []plugin.Filter
	Scorers []Weighted
	// Percentage of the nodes to find feasible before scoring, 0 for a number that adapts to the cluster's size.
	Percentage int32
	// Preempt says whether DefaultPreemption is enabled.
	Preempt bool
}

// Input is all that a decision depends on besides the snapshot.
type Input struct {
	Pod *snapshot.Pod
	// Start is where in the node order to begin, so that not the same nodes are always looked at first.
	Start int
	// Seed breaks ties.
	Seed uint64
	// Nominated gives the pods that are to run on a node after a preemption; nil for none.
	Nominated func(node string) []*snapshot.Pod
}

// Refusal is why one node cannot take the pod.
type Refusal struct {
	Node   int
	Plugin string
	*plugin.Verdict
}

// Score is how one node was ranked.
type Score struct {
	Node  int
	Total int64
}

// Decision is the outcome of a cycle. Node is -1 when no node can take the pod.
type Decision struct {
	Node      int
	Evaluated int
	Feasible  int
	Scores    []Score

	// Nodes is how many nodes there are.
	Nodes    int
	Refusals []Refusal
	// Rejected and RejectedBy say why no node was looked at.
	Rejected   *plugin.Verdict
	RejectedBy string
	// Absent are the plugins that left nodes out before they were looked at.
	Absent []string
	// After is what preemption has to say, appended to the message.
	After string
}

// Fewer feasible nodes than these are never settled for.
const (
	minFeasible        = 100
	minFeasiblePercent = 5
)

// enough is how many feasible nodes are enough in a cluster of n nodes.
func enough(n int, percentage int32) int {
	if n < minFeasible {
		return n
	}
	p := int(percentage)
	if p == 0 {
		p = max(50-n/125, minFeasiblePercent)
	}
	return max(n*p/100, minFeasible)
}

type prepared struct {
	name  string
	check plugin.Check
}

// Decide runs one cycle.
func (pr *Profile) Decide(c *snapshot.Cluster, in Input) *Decision {
	order := c.Order()
	d := &Decision{Node: -1, Nodes: len(order)}
	checks, candidates := pr.prepare(c, in.Pod, d)
	if d.Rejected != nil || len(order) == 0 {
		return d
	}
	if candidates != nil {
		order = candidates
	}
	want := enough(len(order), pr.Percentage)
	var feasible []int
	if n, ok := c.Index(in.Pod.Status.NominatedNodeName); ok && in.Pod.Status.NominatedNodeName != "" {
		if pr.refusal(c, in, checks, n) == nil {
			d.Node, d.Evaluated, d.Feasible = n, 1, 1
			return d
		}
	}
	for i := range order {
		node := order[(in.Start+i)%len(order)]
		d.Evaluated++
		if r := pr.refusal(c, in, checks, node); r != nil {
			d.Refusals = append(d.Refusals, *r)
			continue
		}
		if feasible = append(feasible, node); len(feasible) >= want {
			break
		}
	}
	d.Feasible = len(feasible)
	switch len(feasible) {
	case 0:
	case 1:
		d.Node = feasible[0]
	default:
		d.Scores = pr.score(c, in.Pod, feasible)
		d.Node = best(d.Scores, in.Seed)
	}
	return d
}

// prepare asks the filters what they think of the pod as such. candidates is nil for all nodes.
func (pr *Profile) prepare(c *snapshot.Cluster, p *snapshot.Pod, d *Decision) (checks []prepared, candidates []int) {
	var names map[string]bool
	for _, f := range pr.Filters {
		prep := f.Prepare(c, p)
		if prep.Rejected != nil {
			d.Rejected, d.RejectedBy = prep.Rejected, f.Name()
			return nil, nil
		}
		if prep.Check != nil {
			checks = append(checks, prepared{f.Name(), prep.Check})
		}
		if prep.Nodes != nil {
			d.Absent = append(d.Absent, f.Name())
			next := map[string]bool{}
			for _, n := range prep.Nodes {
				if names == nil || names[n] {
					next[n] = true
				}
			}
			names = next
		}
	}
	if names == nil {
		return checks, nil
	}
	candidates = []int{}
	for _, n := range c.Order() {
		if names[c.Name(n)] {
			candidates = append(candidates, n)
		}
	}
	return checks, candidates
}

func run(checks []prepared, node int) *Refusal {
	for _, ch := range checks {
		if v := ch.check(node); v != nil {
			return &Refusal{Node: node, Plugin: ch.name, Verdict: v}
		}
	}
	return nil
}

// refusal checks a node as it is and, if pods of the same or a higher priority are nominated to it, as it will be.
func (pr *Profile) refusal(c *snapshot.Cluster, in Input, checks []prepared, node int) *Refusal {
	if r := run(checks, node); r != nil || in.Nominated == nil {
		return r
	}
	var placed []*snapshot.Pod
	for _, n := range in.Nominated(c.Name(node)) {
		if _, there := c.NodeOf(n.UID); n.UID != in.Pod.UID && n.Priority >= in.Pod.Priority && !there {
			placed = append(placed, n)
		}
	}
	if len(placed) == 0 {
		return nil
	}
	for _, n := range placed {
		c.Place(n, c.Name(node))
	}
	r := pr.check(c, in.Pod, node)
	for _, n := range placed {
		c.RemovePod(n.UID)
	}
	return r
}

// check prepares and checks one node afresh.
func (pr *Profile) check(c *snapshot.Cluster, p *snapshot.Pod, node int) *Refusal {
	var d Decision
	checks, _ := pr.prepare(c, p, &d)
	if d.Rejected != nil {
		return &Refusal{Node: node, Plugin: d.RejectedBy, Verdict: d.Rejected}
	}
	return run(checks, node)
}

// Fits says why a pod does not fit on a node as the snapshot now is, nil when it does. Preemption asks it after taking
// pods off.
func (pr *Profile) Fits(c *snapshot.Cluster, in Input, node int) *Refusal {
	var d Decision
	checks, _ := pr.prepare(c, in.Pod, &d)
	if d.Rejected != nil {
		return &Refusal{Node: node, Plugin: d.RejectedBy, Verdict: d.Rejected}
	}
	return pr.refusal(c, in, checks, node)
}

func (pr *Profile) score(c *snapshot.Cluster, p *snapshot.Pod, feasible []int) []Score {
	out := make([]Score, len(feasible))
	for i, node := range feasible {
		out[i].Node = node
	}
	scores := make([]int64, len(feasible))
	for _, s := range pr.Scorers {
		r := s.Rank(c, p, feasible)
		if r == nil {
			continue
		}
		for i, node := range feasible {
			scores[i] = r.Score(node)
		}
		if r.Normalize != nil {
			r.Normalize(feasible, scores)
		}
		for i := range scores {
			out[i].Total += scores[i] * s.Weight
		}
	}
	return out
}

func best(scores []Score, seed uint64) int {
	top, ties := scores[0].Total, uint64(0)
	for _, s := range scores {
		switch {
		case s.Total > top:
			top, ties = s.Total, 1
		case s.Total == top:
			ties++
		}
	}
	pick := seed % ties
	for _, s := range scores {
		if s.Total != top {
			continue
		}
		if pick == 0 {
			return s.Node
		}
		pick--
	}
	panic("cycle: no node has the top score")
}
