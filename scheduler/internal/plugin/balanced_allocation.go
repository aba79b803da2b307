package plugin

import (
	"math"

	v1 "k8s.io/api/core/v1"
	schedconfig "k8s.io/kube-scheduler/config/v1"

	"flagship/scheduler/internal/snapshot"
)

// NodeResourcesBalancedAllocation prefers nodes whose resources a pod would leave used in equal parts.
type NodeResourcesBalancedAllocation struct {
	resources []schedconfig.ResourceSpec
}

// NewNodeResourcesBalancedAllocation takes defaulted arguments.
func NewNodeResourcesBalancedAllocation(args schedconfig.NodeResourcesBalancedAllocationArgs) *NodeResourcesBalancedAllocation {
	return &NodeResourcesBalancedAllocation{resources: args.Resources}
}

// Name is upstream's plugin name.
func (*NodeResourcesBalancedAllocation) Name() string { return "NodeResourcesBalancedAllocation" }

// Rank implements Scorer.
func (b *NodeResourcesBalancedAllocation) Rank(c *snapshot.Cluster, p *snapshot.Pod, _ []int) *Ranking {
	wanted := false
	for _, spec := range b.resources {
		wanted = wanted || wants(p, v1.ResourceName(spec.Name), false) != 0
	}
	if !wanted {
		return nil
	}
	return &Ranking{Score: func(node int) int64 {
		with, without := make([]float64, 0, 4), make([]float64, 0, 4)
		for _, spec := range b.resources {
			name := v1.ResourceName(spec.Name)
			want := wants(p, name, false)
			if want == 0 && isScalar(name) {
				continue
			}
			allocatable, used := use(c, name, node, false)
			if allocatable == 0 {
				continue
			}
			with = append(with, min(1, float64(used+want)/float64(allocatable)))
			without = append(without, min(1, float64(used)/float64(allocatable)))
		}
		return MaxScore/2 + (MaxScore/2+balance(with)-balance(without))/2
	}}
}

// balance is 100 for equal fractions and less the more they deviate.
func balance(fractions []float64) int64 {
	std := 0.0
	switch n := len(fractions); {
	case n == 2:
		std = math.Abs(fractions[0]-fractions[1]) / 2
	case n > 2:
		mean, sum := 0.0, 0.0
		for _, f := range fractions {
			mean += f / float64(n)
		}
		for _, f := range fractions {
			sum += (f - mean) * (f - mean)
		}
		std = math.Sqrt(sum / float64(n))
	}
	return int64((1 - std) * MaxScore)
}
