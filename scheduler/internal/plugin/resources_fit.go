package plugin

import (
	"fmt"
	"math"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	schedconfig "k8s.io/kube-scheduler/config/v1"

	"flagship/scheduler/internal/snapshot"
)

// NodeResourcesFit filters by what nodes have left, and ranks by the strategy of its arguments.
type NodeResourcesFit struct {
	args schedconfig.NodeResourcesFitArgs
}

// NewNodeResourcesFit takes defaulted arguments.
//
// Errors: a strategy or a shape that is not known or not valid.
func NewNodeResourcesFit(args schedconfig.NodeResourcesFitArgs) (*NodeResourcesFit, error) {
	s := args.ScoringStrategy
	switch s.Type {
	case schedconfig.LeastAllocated, schedconfig.MostAllocated:
	case schedconfig.RequestedToCapacityRatio:
		if s.RequestedToCapacityRatio == nil || len(s.RequestedToCapacityRatio.Shape) == 0 {
			return nil, fmt.Errorf("scoringStrategy.requestedToCapacityRatio.shape: at least one point must be specified")
		}
	default:
		return nil, fmt.Errorf("scoringStrategy.type: scoring strategy %s is not supported", s.Type)
	}
	return &NodeResourcesFit{args: args}, nil
}

// Name is upstream's plugin name.
func (*NodeResourcesFit) Name() string { return "NodeResourcesFit" }

func (f *NodeResourcesFit) ignored(name v1.ResourceName) bool {
	group, _, extended := strings.Cut(string(name), "/")
	return extended && (slices.Contains(f.args.IgnoredResources, string(name)) ||
		slices.Contains(f.args.IgnoredResourceGroups, group))
}

// Prepare implements Filter.
func (f *NodeResourcesFit) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	return Prepared{Check: func(node int) *Verdict { return f.fit(c, &p.Req, node) }}
}

func (f *NodeResourcesFit) fit(c *snapshot.Cluster, req *snapshot.Resources, node int) *Verdict {
	var v *Verdict
	fail := func(reason string, beyond bool) {
		if v == nil {
			v = &Verdict{Code: Unschedulable}
		}
		v.Reasons = append(v.Reasons, reason)
		if beyond {
			v.Code = Unresolvable
		}
	}
	if int64(len(c.Pods(node)))+1 > c.AllowedPods[node] {
		fail("Too many pods", false)
	}
	if req.Zero() {
		return v
	}
	compare := func(name string, want int64, col *snapshot.Column) {
		if want <= 0 {
			return
		}
		var allocatable, used int64
		if col != nil {
			allocatable, used = col.Allocatable[node], col.Requested[node]
		}
		if want > allocatable-used {
			fail("Insufficient "+name, want > allocatable)
		}
	}
	compare("cpu", req.MilliCPU, &c.CPU)
	compare("memory", req.Memory, &c.Memory)
	compare("ephemeral-storage", req.Ephemeral, &c.Ephemeral)
	for name, want := range req.Scalar {
		if !f.ignored(name) {
			compare(string(name), want, c.Scalar[name])
		}
	}
	if v != nil && len(req.Scalar) > 1 {
		slices.Sort(v.Reasons)
	}
	return v
}

// Wake implements Filter.
func (f *NodeResourcesFit) Wake(c *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	switch ev.Kind {
	case snapshot.KindAssignedPod:
		if ev.Action == snapshot.Delete {
			return true
		}
		return ev.Action == snapshot.Update && ev.OldPod != nil && shrunk(&ev.OldPod.Req, &ev.Pod.Req)
	case snapshot.KindNode:
		if ev.Action == snapshot.Delete || ev.Action == snapshot.Update && !ev.Change.Allocatable || c.Nodes[ev.Node] == nil {
			return false
		}
		v := f.fit(c, &p.Req, ev.Node)
		return v == nil || v.Code == Unschedulable
	case snapshot.KindPending:
		return ev.Action == snapshot.Update && ev.Pod.UID == p.UID
	default:
		return false
	}
}

func shrunk(old, now *snapshot.Resources) bool {
	if now.MilliCPU < old.MilliCPU || now.Memory < old.Memory || now.Ephemeral < old.Ephemeral {
		return true
	}
	for name, v := range old.Scalar {
		if now.Scalar[name] < v {
			return true
		}
	}
	return false
}

// use is a node's allocatable and used amount of a resource; nonZero counts what containers without requests are taken to use.
func use(c *snapshot.Cluster, name v1.ResourceName, node int, nonZero bool) (allocatable, used int64) {
	switch name {
	case v1.ResourceCPU:
		if nonZero {
			return c.CPU.Allocatable[node], c.NonZeroCPU[node]
		}
		return c.CPU.Allocatable[node], c.CPU.Requested[node]
	case v1.ResourceMemory:
		if nonZero {
			return c.Memory.Allocatable[node], c.NonZeroMemory[node]
		}
		return c.Memory.Allocatable[node], c.Memory.Requested[node]
	case v1.ResourceEphemeralStorage:
		return c.Ephemeral.Allocatable[node], c.Ephemeral.Requested[node]
	default:
		col := c.Scalar[name]
		if col == nil {
			return 0, 0
		}
		return col.Allocatable[node], col.Requested[node]
	}
}

// wants is what a pod asks of a resource, with the same meaning of nonZero.
func wants(p *snapshot.Pod, name v1.ResourceName, nonZero bool) int64 {
	if nonZero && (name == v1.ResourceCPU || name == v1.ResourceMemory) {
		return p.NonZero.Get(name)
	}
	return p.Req.Get(name)
}

func isScalar(name v1.ResourceName) bool {
	return name != v1.ResourceCPU && name != v1.ResourceMemory && name != v1.ResourceEphemeralStorage
}

// Rank implements Scorer.
func (f *NodeResourcesFit) Rank(c *snapshot.Cluster, p *snapshot.Pod, _ []int) *Ranking {
	s := f.args.ScoringStrategy
	return &Ranking{Score: func(node int) int64 {
		var sum, weights int64
		for _, spec := range s.Resources {
			name := v1.ResourceName(spec.Name)
			want := wants(p, name, true)
			if want == 0 && isScalar(name) {
				continue
			}
			allocatable, used := use(c, name, node, true)
			if allocatable == 0 {
				continue
			}
			score := f.one(used+want, allocatable)
			if s.Type == schedconfig.RequestedToCapacityRatio && score <= 0 {
				continue
			}
			sum += score * spec.Weight
			weights += spec.Weight
		}
		if weights == 0 {
			return 0
		}
		if s.Type == schedconfig.RequestedToCapacityRatio {
			return int64(math.Round(float64(sum) / float64(weights)))
		}
		return sum / weights
	}}
}

func (f *NodeResourcesFit) one(requested, capacity int64) int64 {
	s := f.args.ScoringStrategy
	switch s.Type {
	case schedconfig.MostAllocated:
		return min(requested, capacity) * MaxScore / capacity
	case schedconfig.RequestedToCapacityRatio:
		if requested > capacity {
			return broken(s.RequestedToCapacityRatio.Shape, 100)
		}
		return broken(s.RequestedToCapacityRatio.Shape, requested*100/capacity)
	default:
		if requested > capacity {
			return 0
		}
		return (capacity - requested) * MaxScore / capacity
	}
}

// broken is the piecewise linear function of a shape. Shape scores go to 10, node scores to 100.
func broken(shape []schedconfig.UtilizationShapePoint, at int64) int64 {
	const scale = MaxScore / 10
	for i, pt := range shape {
		if at > int64(pt.Utilization) {
			continue
		}
		if i == 0 {
			return int64(pt.Score) * scale
		}
		prev := shape[i-1]
		return (int64(prev.Score) + (int64(pt.Score)-int64(prev.Score))*(at-int64(prev.Utilization))/
			(int64(pt.Utilization)-int64(prev.Utilization))) * scale
	}
	return int64(shape[len(shape)-1].Score) * scale
}
