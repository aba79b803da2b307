package preempt

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"flagship/scheduler/internal/cycle"
	"flagship/scheduler/internal/plugin"
	"flagship/scheduler/internal/snapshot"
)

// Limits bound how many nodes are tried: at least Percentage of those that could help and at least Absolute.
type Limits struct {
	Percentage, Absolute int
}

// Plan is what to do.
type Plan struct {
	// Node is empty when there is no candidate.
	Node    string
	Victims []*snapshot.Pod
	// Lower are pods of a lower priority that were nominated to the node and lose that.
	Lower []*snapshot.Pod
	// Message says what was found, for the pod's condition.
	Message string
}

// candidate is a node with the pods that would have to go.
type candidate struct {
	node       int
	victims    []*snapshot.Pod
	violations int
}

// Decide looks for the node where a preemption does the least harm.
func Decide(c *snapshot.Cluster, pr *cycle.Profile, in cycle.Input, d *cycle.Decision, pdbs []*policyv1.PodDisruptionBudget, lim Limits) Plan {
	if why := ineligible(c, in.Pod, d); why != "" {
		return Plan{Message: "preemption: " + why}
	}
	potential := potentialNodes(d)
	reasons := map[string]int{}
	var found []candidate
	want := min(len(potential), max(len(potential)*lim.Percentage/100, lim.Absolute))
	for i := range potential {
		node := potential[(in.Start+i)%len(potential)]
		cand, refused := victimsOn(c, pr, in, node, pdbs)
		if refused != nil {
			for _, r := range refused.Reasons {
				reasons[r]++
			}
			continue
		}
		if found = append(found, *cand); len(found) >= want {
			break
		}
	}
	if len(found) == 0 {
		if rest := d.Nodes - len(potential); rest > 0 {
			reasons["Preemption is not helpful for scheduling"] += rest
		}
		return Plan{Message: fmt.Sprintf("preemption: 0/%d nodes are available: %s.", d.Nodes, cycle.Histogram(reasons))}
	}
	best := slices.MinFunc(found, compare)
	p := Plan{Node: c.Name(best.node), Victims: best.victims}
	p.Message = fmt.Sprintf("preemption: found a potential placement for pod on node %s, preempting %d victims", p.Node, len(p.Victims))
	if in.Nominated != nil {
		for _, n := range in.Nominated(p.Node) {
			if n.UID != in.Pod.UID && n.Priority < in.Pod.Priority {
				p.Lower = append(p.Lower, n)
			}
		}
	}
	return p
}

func ineligible(c *snapshot.Cluster, p *snapshot.Pod, d *cycle.Decision) string {
	if p.Spec.PreemptionPolicy != nil && *p.Spec.PreemptionPolicy == v1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	node, ok := c.Index(p.Status.NominatedNodeName)
	if p.Status.NominatedNodeName == "" || !ok {
		return ""
	}
	for _, r := range d.Refusals {
		if r.Node == node && r.Code == plugin.Unresolvable {
			return ""
		}
	}
	for _, other := range c.Pods(node) {
		if other.DeletionTimestamp != nil && other.Priority < p.Priority && disrupted(other) {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

func disrupted(p *snapshot.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonPreemptionByScheduler
	})
}

// potentialNodes are those that refused in a way that fewer pods could change.
func potentialNodes(d *cycle.Decision) []int {
	var out []int
	for _, r := range d.Refusals {
		if r.Code == plugin.Unschedulable {
			out = append(out, r.Node)
		}
	}
	return out
}

// victimsOn finds the least important pods that have to go from a node, or why that would not help.
func victimsOn(c *snapshot.Cluster, pr *cycle.Profile, in cycle.Input, node int, pdbs []*policyv1.PodDisruptionBudget) (*candidate, *plugin.Verdict) {
	var lower []*snapshot.Pod
	for _, p := range c.Pods(node) {
		if p.Priority < in.Pod.Priority {
			lower = append(lower, p)
		}
	}
	if len(lower) == 0 {
		return nil, &plugin.Verdict{Code: plugin.Unresolvable, Reasons: []string{"No preemption victims found for incoming pod"}}
	}
	name := c.Name(node)
	gone := map[*snapshot.Pod]bool{}
	remove := func(p *snapshot.Pod) { c.RemovePod(p.UID); gone[p] = true }
	restore := func(p *snapshot.Pod) { c.Place(p, name); delete(gone, p) }
	defer func() {
		for p := range gone {
			c.Place(p, name)
		}
	}()
	for _, p := range lower {
		remove(p)
	}
	if r := pr.Fits(c, in, node); r != nil {
		return nil, r.Verdict
	}
	slices.SortStableFunc(lower, moreImportant)
	violating, others := split(lower, pdbs)
	cand := &candidate{node: node}
	for i, p := range append(slices.Clone(violating), others...) {
		restore(p)
		if pr.Fits(c, in, node) == nil {
			continue
		}
		remove(p)
		cand.victims = append(cand.victims, p)
		if i < len(violating) {
			cand.violations++
		}
	}
	slices.SortStableFunc(cand.victims, moreImportant)
	return cand, nil
}

// moreImportant puts the higher priority first, and of equals the one that has run for longer.
func moreImportant(a, b *snapshot.Pod) int {
	if d := cmp.Compare(b.Priority, a.Priority); d != 0 {
		return d
	}
	return started(a).Compare(started(b).Time)
}

func started(p *snapshot.Pod) metav1.Time {
	if p.Status.StartTime != nil {
		return *p.Status.StartTime
	}
	return metav1.Unix(math.MaxInt32, 0)
}

// split finds the pods whose eviction would violate a disruption budget. pods are in the order of importance, so that the
// more important ones use up the budgets.
func split(pods []*snapshot.Pod, pdbs []*policyv1.PodDisruptionBudget) (violating, others []*snapshot.Pod) {
	left := make([]int32, len(pdbs))
	for i, b := range pdbs {
		left[i] = b.Status.DisruptionsAllowed
	}
	for _, p := range pods {
		violates := false
		for i, b := range pdbs {
			if b.Namespace != p.Namespace || len(p.Labels) == 0 {
				continue
			}
			s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil || s.Empty() || !s.Matches(labels.Set(p.Labels)) {
				continue
			}
			if _, already := b.Status.DisruptedPods[p.Name]; already {
				continue
			}
			left[i]--
			violates = violates || left[i] < 0
		}
		if violates {
			violating = append(violating, p)
		} else {
			others = append(others, p)
		}
	}
	return violating, others
}

// compare prefers fewer budget violations, then a lower highest priority, a lower sum of priorities, fewer victims, and
// the node whose most important victim started last.
func compare(a, b candidate) int {
	if d := cmp.Compare(a.violations, b.violations); d != 0 {
		return d
	}
	if len(a.victims) == 0 || len(b.victims) == 0 {
		return cmp.Compare(len(a.victims), len(b.victims))
	}
	if d := cmp.Compare(a.victims[0].Priority, b.victims[0].Priority); d != 0 {
		return d
	}
	if d := cmp.Compare(sum(a.victims), sum(b.victims)); d != 0 {
		return d
	}
	if d := cmp.Compare(len(a.victims), len(b.victims)); d != 0 {
		return d
	}
	return earliest(b.victims).Compare(earliest(a.victims).Time)
}

// sum shifts priorities so that negative ones do not make more victims look better.
func sum(pods []*snapshot.Pod) (s int64) {
	for _, p := range pods {
		s += int64(p.Priority) + math.MaxInt32 + 1
	}
	return s
}

// earliest is the first start among the victims of the highest priority.
func earliest(pods []*snapshot.Pod) metav1.Time {
	at := started(pods[0])
	for _, p := range pods {
		if p.Priority == pods[0].Priority {
			if s := started(p); s.Before(&at) {
				at = s
			}
		}
	}
	return at
}
