package resource

import (
	"fmt"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
)

// Signal is a means of the node that eviction watches, by upstream's name.
type Signal string

// The signals.
const (
	MemoryAvailable   Signal = "memory.available"
	NodeFSAvailable   Signal = "nodefs.available"
	NodeFSInodesFree  Signal = "nodefs.inodesFree"
	ImageFSAvailable  Signal = "imagefs.available"
	ImageFSInodesFree Signal = "imagefs.inodesFree"
	ContainerFSAvail  Signal = "containerfs.available"
	ContainerFSInodes Signal = "containerfs.inodesFree"
	PIDAvailable      Signal = "pid.available"
	allocatableMemory Signal = "allocatableMemory.available"
)

// Threshold is a bound of a signal.
type Threshold struct {
	Signal  Signal
	Value   string        // quantity or percentage
	Grace   time.Duration // 0 for a hard threshold
	Reclaim string
}

// Observation is a signal's present value.
type Observation struct{ Available, Capacity int64 }

// condition is the node condition that a signal belongs to.
func (s Signal) condition() corev1.NodeConditionType {
	switch s {
	case MemoryAvailable, allocatableMemory:
		return corev1.NodeMemoryPressure
	case PIDAvailable:
		return corev1.NodePIDPressure
	}
	return corev1.NodeDiskPressure
}

func (s Signal) resource() string {
	switch s {
	case MemoryAvailable:
		return "memory"
	case PIDAvailable:
		return "pids"
	case NodeFSInodesFree, ImageFSInodesFree, ContainerFSInodes:
		return "inodes"
	}
	return "ephemeral-storage"
}

// Met lists the thresholds that the observations are below.
func Met(list []Threshold, seen map[Signal]Observation) ([]Threshold, error) {
	var out []Threshold
	for _, t := range list {
		o, ok := seen[t.Signal]
		if !ok {
			continue
		}
		bound, err := threshold(t.Value, o.Capacity)
		if err != nil {
			return nil, fmt.Errorf("eviction threshold %s: %w", t.Signal, err)
		}
		if o.Available < bound {
			out = append(out, t)
		}
	}
	return out, nil
}

// Usage is what a pod uses of a resource under pressure, and what it asked for.
type Usage struct {
	Pod           *corev1.Pod
	Used, Request int64
}

// Rank orders pods by who goes first: those over their request, the lowest priority, the most over the request. Critical
// pods are left out.
func Rank(pods []Usage) []Usage {
	var out []Usage
	for _, u := range pods {
		if !podspec.IsCritical(u.Pod) {
			out = append(out, u)
		}
	}
	priority := func(p *corev1.Pod) int32 {
		if p.Spec.Priority == nil {
			return 0
		}
		return *p.Spec.Priority
	}
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if x, y := a.Used > a.Request, b.Used > b.Request; x != y {
			return x
		}
		if x, y := priority(a.Pod), priority(b.Pod); x != y {
			return x < y
		}
		return a.Used-a.Request > b.Used-b.Request
	})
	return out
}
