package plugin

import (
	"flagship/scheduler/internal/snapshot"
)

// MaxScore is the best normalized score of a node.
const MaxScore = 100

// Code is the outcome of a check.
type Code uint8

// The codes. Unresolvable means that removing pods from the node cannot help.
const (
	Unschedulable Code = iota
	Unresolvable
	Failed
)

// Verdict is why a node (or every node) cannot take a pod; nil means that it can.
type Verdict struct {
	Code    Code
	Reasons []string
}

// Check says why a node, given by ordinal, cannot take the pod. The verdict may be shared: it must not be changed.
type Check func(node int) *Verdict

// Prepared is what a filter has computed for one pod.
type Prepared struct {
	// Check is nil when the filter has nothing to say about the pod.
	Check Check
	// Nodes, when not nil, are the only nodes worth looking at.
	Nodes []string
	// Rejected stops the cycle: no node can take the pod.
	Rejected *Verdict
}

// Filter decides which nodes can take a pod.
type Filter interface {
	Name() string
	Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared
	// Wake says whether a change may make schedulable a pod that this plugin rejected.
	Wake(c *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool
}

// Ranking ranks nodes for one pod.
type Ranking struct {
	Score func(node int) int64
	// Normalize brings the scores of the feasible nodes into 0..MaxScore, in place; nil when they are there already.
	Normalize func(nodes []int, scores []int64)
}

// Scorer ranks the feasible nodes. A nil Ranking means that the plugin has nothing to say about the pod.
type Scorer interface {
	Name() string
	Rank(c *snapshot.Cluster, p *snapshot.Pod, feasible []int) *Ranking
}

func verdict(code Code, reason string) *Verdict {
	return &Verdict{Code: code, Reasons: []string{reason}}
}

// normalize scales scores to the highest one, turned round when reverse is set.
func normalize(reverse bool) func([]int, []int64) {
	return func(_ []int, scores []int64) {
		var top int64
		for _, s := range scores {
			top = max(top, s)
		}
		for i, s := range scores {
			if top > 0 {
				s = MaxScore * s / top
			}
			if reverse {
				s = MaxScore - s
			}
			scores[i] = s
		}
	}
}
