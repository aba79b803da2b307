package app

import (
	"fmt"

	"flagship/scheduler/internal/config"
	"flagship/scheduler/internal/cycle"
	"flagship/scheduler/internal/engine"
	"flagship/scheduler/internal/plugin"
	"flagship/scheduler/internal/preempt"
)

// newProfile makes the plugins of a resolved profile.
func newProfile(p *config.Profile) (*engine.Profile, error) {
	affinity, err := plugin.NewNodeAffinity(p.Args.Affinity.AddedAffinity)
	if err != nil {
		return nil, err
	}
	fit, err := plugin.NewNodeResourcesFit(p.Args.Fit)
	if err != nil {
		return nil, err
	}
	spread, err := plugin.NewPodTopologySpread(p.Args.Spread)
	if err != nil {
		return nil, err
	}
	near := plugin.NewInterPodAffinity(p.Args.PodAffinity)
	filters := map[string]plugin.Filter{}
	for _, f := range []plugin.Filter{
		plugin.NodeName{},
		plugin.NodeUnschedulable{},
		plugin.TaintToleration{},
		affinity,
		plugin.NodePorts{},
		fit,
		plugin.VolumeRestrictions{},
		plugin.NodeVolumeLimits{},
		plugin.VolumeBinding{},
		plugin.VolumeZone{},
		spread, near,
		plugin.DynamicResources{},
	} {
		filters[f.Name()] = f
	}
	scorers := map[string]plugin.Scorer{}
	for _, s := range []plugin.Scorer{
		plugin.TaintToleration{},
		affinity, fit, spread, near,
		plugin.NewNodeResourcesBalancedAllocation(p.Args.Balanced),
		plugin.ImageLocality{},
	} {
		scorers[s.Name()] = s
	}
	out := &engine.Profile{
		Profile: &cycle.Profile{Name: p.Name, Percentage: p.Percentage, Preempt: p.Preempt},
		Limits: preempt.Limits{
			Percentage: int(*p.Args.Preemption.MinCandidateNodesPercentage), Absolute: int(*p.Args.Preemption.MinCandidateNodesAbsolute),
		},
	}
	if p.Gates {
		out.Gate = plugin.SchedulingGates{}.Gate
	}
	for _, name := range p.Filters {
		f, ok := filters[name]
		if !ok {
			return nil, fmt.Errorf("profile %s: filter plugin %q is not made here", p.Name, name)
		}
		out.Filters = append(out.Filters, f)
	}
	for _, s := range p.Scorers {
		made, ok := scorers[s.Name]
		if !ok {
			return nil, fmt.Errorf("profile %s: score plugin %q is not made here", p.Name, s.Name)
		}
		out.Scorers = append(out.Scorers, cycle.Weighted{Scorer: made, Weight: s.Weight})
	}
	return out, nil
}
