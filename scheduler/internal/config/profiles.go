package config

import (
	"encoding/json"
	"fmt"
	"slices"

	schedconfig "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"
)

// Profile is a resolved profile: what runs for pods of one scheduler name.
type Profile struct {
	Name       string
	Percentage int32
	Filters    []string
	Scorers    []Scorer
	Preempt    bool
	Gates      bool
	Args       Args
}

// Scorer is an enabled score plugin.
type Scorer struct {
	Name   string
	Weight int64
}

// Args are the plugins' arguments, defaulted.
type Args struct {
	Preemption  schedconfig.DefaultPreemptionArgs
	PodAffinity schedconfig.InterPodAffinityArgs
	Fit         schedconfig.NodeResourcesFitArgs
	Balanced    schedconfig.NodeResourcesBalancedAllocationArgs
	Spread      schedconfig.PodTopologySpreadArgs
	Binding     schedconfig.VolumeBindingArgs
	Affinity    schedconfig.NodeAffinityArgs
}

// known is a plugin that may be named in a profile, and the points where it works.
type known struct {
	name                                  string
	weight                                int32 // of the default profile; 0 for none
	filter, score, post, gate, everywhere bool
}

// plugins is every plugin in the order of the default profile.
func plugins() []known {
	return []known{
		{name: "SchedulingGates", gate: true},
		{name: "PrioritySort", everywhere: true},
		{name: "NodeName", filter: true},
		{name: "NodeUnschedulable", filter: true},
		{name: "TaintToleration", weight: 3, filter: true, score: true},
		{name: "NodeAffinity", weight: 2, filter: true, score: true},
		{name: "NodePorts", filter: true},
		{name: "NodeResourcesFit", weight: 1, filter: true, score: true},
		{name: "VolumeRestrictions", filter: true},
		{name: "NodeVolumeLimits", filter: true},
		{name: "VolumeBinding", filter: true},
		{name: "VolumeZone", filter: true},
		{name: "PodTopologySpread", weight: 2, filter: true, score: true},
		{name: "InterPodAffinity", weight: 2, filter: true, score: true},
		{name: "DynamicResources", weight: 2, filter: true},
		{name: "DefaultPreemption", post: true},
		{name: "NodeResourcesBalancedAllocation", weight: 1, score: true},
		{name: "ImageLocality", weight: 1, score: true},
		{name: "DefaultBinder", everywhere: true},
	}
}

func find(name string) (known, bool) {
	for _, k := range plugins() {
		if k.name == name {
			return k, true
		}
	}
	return known{}, false
}

func resolveProfiles(k *schedconfig.KubeSchedulerConfiguration) ([]Profile, error) {
	var out []Profile
	names := map[string]bool{}
	for i := range k.Profiles {
		in := &k.Profiles[i]
		path := fmt.Sprintf("profiles[%d]", i)
		if in.SchedulerName == nil || *in.SchedulerName == "" {
			return nil, fmt.Errorf("%s.schedulerName: required value", path)
		}
		if names[*in.SchedulerName] {
			return nil, fmt.Errorf("%s.schedulerName: duplicate value: %q", path, *in.SchedulerName)
		}
		names[*in.SchedulerName] = true
		p, err := resolveProfile(in, path)
		if err != nil {
			return nil, err
		}
		p.Percentage = *k.PercentageOfNodesToScore
		if in.PercentageOfNodesToScore != nil {
			if p.Percentage = *in.PercentageOfNodesToScore; p.Percentage < 0 || p.Percentage > 100 {
				return nil, fmt.Errorf("%s.percentageOfNodesToScore: invalid value %d: not in valid range [0-100]", path, p.Percentage)
			}
		}
		out = append(out, *p)
	}
	return out, nil
}

// enabled is a plugin with its weight; 0 stands for the default.
type enabled struct {
	known
	weight int32
}

func resolveProfile(in *schedconfig.KubeSchedulerProfile, path string) (*Profile, error) {
	p := &Profile{Name: *in.SchedulerName}
	set := in.Plugins
	if set == nil {
		set = &schedconfig.Plugins{}
	}
	multi, err := mergeMultiPoint(set.MultiPoint, path+".plugins.multiPoint")
	if err != nil {
		return nil, err
	}
	filters, err := point(multi, []schedconfig.PluginSet{set.PreFilter, set.Filter}, path+".plugins.filter", func(k known) bool { return k.filter })
	if err != nil {
		return nil, err
	}
	for _, e := range filters {
		p.Filters = append(p.Filters, e.name)
	}
	scorers, err := point(multi, []schedconfig.PluginSet{set.PreScore, set.Score}, path+".plugins.score", func(k known) bool { return k.score })
	if err != nil {
		return nil, err
	}
	for _, e := range scorers {
		w := e.weight
		if w == 0 {
			w = max(e.known.weight, 1)
		}
		p.Scorers = append(p.Scorers, Scorer{e.name, int64(w)})
	}
	post, err := point(multi, []schedconfig.PluginSet{set.PostFilter}, path+".plugins.postFilter", func(k known) bool { return k.post })
	if err != nil {
		return nil, err
	}
	p.Preempt = len(post) > 0
	gates, err := point(multi, []schedconfig.PluginSet{set.PreEnqueue}, path+".plugins.preEnqueue", func(k known) bool { return k.gate })
	if err != nil {
		return nil, err
	}
	p.Gates = len(gates) > 0
	p.Args, err = decodeArgs(in.PluginConfig, path)
	return p, err
}

// mergeMultiPoint lays a profile's multiPoint set over the default plugins: what it disables goes, what it enables anew
// takes its weight in the default's place, the rest comes after.
func mergeMultiPoint(set schedconfig.PluginSet, path string) ([]enabled, error) {
	custom := map[string]int32{}
	for i, pl := range set.Enabled {
		k, ok := find(pl.Name)
		if !ok {
			return nil, fmt.Errorf("%s.enabled[%d]: plugin %q does not exist", path, i, pl.Name)
		}
		if _, twice := custom[k.name]; twice {
			return nil, fmt.Errorf("%s.enabled[%d]: plugin %q already registered", path, i, pl.Name)
		}
		custom[k.name] = weightOf(pl)
	}
	var out []enabled
	for _, k := range plugins() {
		if disabled(set, k.name) {
			continue
		}
		w, replaced := custom[k.name]
		if replaced {
			delete(custom, k.name)
		}
		out = append(out, enabled{k, w})
	}
	for _, pl := range set.Enabled {
		if w, ok := custom[pl.Name]; ok {
			k, _ := find(pl.Name)
			out = append(out, enabled{k, w})
		}
	}
	return out, nil
}

func weightOf(pl schedconfig.Plugin) int32 {
	if pl.Weight == nil {
		return 0
	}
	return *pl.Weight
}

func disabled(set schedconfig.PluginSet, name string) bool {
	return slices.ContainsFunc(set.Disabled, func(pl schedconfig.Plugin) bool { return pl.Name == "*" || pl.Name == name })
}

// point lists what runs at one extension point: what its own sets enable, then what multiPoint does. The last set is the
// point's own, those before it belong to it (preFilter to filter); disabling counts in each.
func point(multi []enabled, sets []schedconfig.PluginSet, path string, works func(known) bool) ([]enabled, error) {
	var out []enabled
	has := func(name string) bool {
		return slices.ContainsFunc(out, func(e enabled) bool { return e.name == name })
	}
	for _, set := range sets {
		for i, pl := range set.Enabled {
			k, ok := find(pl.Name)
			if !ok || !works(k) {
				return nil, fmt.Errorf("%s.enabled[%d]: plugin %q does not exist or does not extend this point", path, i, pl.Name)
			}
			if !has(k.name) {
				out = append(out, enabled{k, weightOf(pl)})
			}
		}
	}
	own := sets[len(sets)-1]
	for _, e := range multi {
		if works(e.known) && !disabled(own, e.name) && !has(e.name) {
			out = append(out, e)
		}
	}
	return out, nil
}

func decodeArgs(list []schedconfig.PluginConfig, path string) (Args, error) {
	a := Args{}
	seen := map[string]bool{}
	targets := map[string]any{
		"DefaultPreemption": &a.Preemption, "InterPodAffinity": &a.PodAffinity, "NodeResourcesFit": &a.Fit,
		"NodeResourcesBalancedAllocation": &a.Balanced, "PodTopologySpread": &a.Spread, "VolumeBinding": &a.Binding,
		"NodeAffinity": &a.Affinity, "DynamicResources": &schedconfig.DynamicResourcesArgs{},
	}
	for i, pc := range list {
		at := fmt.Sprintf("%s.pluginConfig[%d]", path, i)
		into, ok := targets[pc.Name]
		switch {
		case !ok:
			return a, fmt.Errorf("%s: plugin %q does not exist or takes no arguments", at, pc.Name)
		case seen[pc.Name]:
			return a, fmt.Errorf("%s: duplicate value: %q", at, pc.Name)
		}
		seen[pc.Name] = true
		if len(pc.Args.Raw) == 0 {
			continue
		}
		var meta struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(pc.Args.Raw, &meta); err != nil {
			return a, fmt.Errorf("%s.args: %w", at, err)
		}
		if want := pc.Name + "Args"; meta.Kind != "" && meta.Kind != want {
			return a, fmt.Errorf("%s: args for plugin %s were not of type %s.%s, got %s", at, pc.Name, want, schedconfig.GroupName, meta.Kind)
		}
		if err := yaml.UnmarshalStrict(pc.Args.Raw, into, yaml.DisallowUnknownFields); err != nil {
			return a, fmt.Errorf("%s.args: %w", at, err)
		}
	}
	defaultArgs(&a)
	return a, nil
}

func defaultArgs(a *Args) {
	fill(&a.Preemption.MinCandidateNodesPercentage, ptr(int32(10)))
	fill(&a.Preemption.MinCandidateNodesAbsolute, ptr(int32(100)))
	fill(&a.PodAffinity.HardPodAffinityWeight, ptr(int32(1)))
	fill(&a.Binding.BindTimeoutSeconds, ptr(int64(600)))
	if a.Spread.DefaultingType == "" {
		a.Spread.DefaultingType = schedconfig.SystemDefaulting
	}
	if a.Fit.ScoringStrategy == nil {
		a.Fit.ScoringStrategy = &schedconfig.ScoringStrategy{Type: schedconfig.LeastAllocated}
	}
	a.Fit.ScoringStrategy.Resources = defaultResources(a.Fit.ScoringStrategy.Resources)
	a.Balanced.Resources = defaultResources(a.Balanced.Resources)
}

func defaultResources(in []schedconfig.ResourceSpec) []schedconfig.ResourceSpec {
	if len(in) == 0 {
		return []schedconfig.ResourceSpec{{Name: "cpu", Weight: 1}, {Name: "memory", Weight: 1}}
	}
	for i := range in {
		if in[i].Weight == 0 {
			in[i].Weight = 1
		}
	}
	return in
}
