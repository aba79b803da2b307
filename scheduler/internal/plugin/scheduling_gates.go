package plugin

import (
	"fmt"

	"flagship/scheduler/internal/snapshot"
)

// SchedulingGates keeps a pod out of the queue while it has scheduling gates.
type SchedulingGates struct{}

// Name is upstream's plugin name.
func (SchedulingGates) Name() string { return "SchedulingGates" }

// Gate returns why a pod must not enter the queue, nil when it may.
func (SchedulingGates) Gate(p *snapshot.Pod) *Verdict {
	if len(p.Spec.SchedulingGates) == 0 {
		return nil
	}
	names := make([]string, 0, len(p.Spec.SchedulingGates))
	for _, g := range p.Spec.SchedulingGates {
		names = append(names, g.Name)
	}
	return verdict(Unresolvable, fmt.Sprintf("waiting for scheduling gates: %v", names))
}
