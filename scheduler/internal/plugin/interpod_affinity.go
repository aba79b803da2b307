package plugin

import (
	"math"

	schedconfig "k8s.io/kube-scheduler/config/v1"

	"flagship/scheduler/internal/snapshot"
)

// InterPodAffinity filters and ranks by which pods are near, in terms of the topology keys that terms name.
type InterPodAffinity struct {
	hardWeight      int64
	ignorePreferred bool
}

// NewInterPodAffinity takes defaulted arguments.
func NewInterPodAffinity(args schedconfig.InterPodAffinityArgs) *InterPodAffinity {
	return &InterPodAffinity{hardWeight: int64(*args.HardPodAffinityWeight), ignorePreferred: args.IgnorePreferredTermsOfExistingPods}
}

// Name is upstream's plugin name.
func (*InterPodAffinity) Name() string { return "InterPodAffinity" }

// place is a topology key with pod counts by domain.
type place struct {
	of      []int32
	domains []int64
}

func (d place) count(node int) (n int64, labelled bool) {
	o := d.of[node]
	if o < 0 {
		return 0, false
	}
	if int(o) >= len(d.domains) {
		return 0, true
	}
	return d.domains[o], true
}

// Prepare implements Filter.
func (a *InterPodAffinity) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	var existing, affinity, anti []place
	ns := c.NamespaceLabels(p.Namespace)
	c.OwnedTerms(snapshot.TermAntiAffinity, func(t *snapshot.Term, domains []int64) {
		if t.Matches(p.Namespace, p.Labels, ns) {
			existing = append(existing, place{c.Topology(t.TopologyKey).Of, domains})
		}
	})
	for i := range p.AntiAffinity {
		t := &p.AntiAffinity[i]
		m := c.Match(p.AntiAffinity[i:i+1], false)
		anti = append(anti, place{c.Topology(t.TopologyKey).Of, c.Domains(m, t.TopologyKey)})
	}
	first := true // no placed pod matches, anywhere
	if len(p.Affinity) > 0 {
		m := c.Match(p.Affinity, false)
		for i := range p.Affinity {
			key := p.Affinity[i].TopologyKey
			d := c.Domains(m, key)
			for _, n := range d {
				first = first && n == 0
			}
			affinity = append(affinity, place{c.Topology(key).Of, d})
		}
	}
	if len(existing)+len(affinity)+len(anti) == 0 {
		return Prepared{}
	}
	self := first && matchesAll(p, p.Affinity, c)
	return Prepared{Check: affinityCheck(existing, affinity, anti, self)}
}

func matchesAll(p *snapshot.Pod, terms []snapshot.Term, c *snapshot.Cluster) bool {
	for i := range terms {
		if !terms[i].Matches(p.Namespace, p.Labels, c.NamespaceLabels(p.Namespace)) {
			return false
		}
	}
	return true
}

func affinityCheck(existing, affinity, anti []place, self bool) Check {
	noAffinity := verdict(Unresolvable, "node(s) didn't match pod affinity rules")
	noAnti := verdict(Unschedulable, "node(s) didn't match pod anti-affinity rules")
	noExisting := verdict(Unschedulable, "node(s) didn't satisfy existing pods anti-affinity rules")
	return func(node int) *Verdict {
		met := true
		for _, d := range affinity {
			n, labelled := d.count(node)
			if !labelled {
				return noAffinity
			}
			met = met && n > 0
		}
		// The first pod of a group that wants to be together may go anywhere.
		if !met && !self {
			return noAffinity
		}
		for _, d := range anti {
			if n, _ := d.count(node); n > 0 {
				return noAnti
			}
		}
		for _, d := range existing {
			if n, _ := d.count(node); n > 0 {
				return noExisting
			}
		}
		return nil
	}
}

// Wake implements Filter.
func (a *InterPodAffinity) Wake(c *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	switch ev.Kind {
	case snapshot.KindAssignedPod:
		return a.wakeByPod(c, ev, p)
	case snapshot.KindNode:
		if ev.Action == snapshot.Delete || ev.Action == snapshot.Update && !ev.Change.Labels {
			return false
		}
		return true
	case snapshot.KindNamespace:
		return true
	case snapshot.KindPending:
		return ev.Action == snapshot.Update && ev.Pod.UID == p.UID
	default:
		return false
	}
}

func (a *InterPodAffinity) wakeByPod(c *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	affects := func(other *snapshot.Pod) bool {
		if other == nil {
			return false
		}
		for i := range p.Affinity {
			if p.Affinity[i].Matches(other.Namespace, other.Labels, c.NamespaceLabels(other.Namespace)) {
				return true
			}
		}
		for i := range p.AntiAffinity {
			if p.AntiAffinity[i].Matches(other.Namespace, other.Labels, c.NamespaceLabels(other.Namespace)) {
				return true
			}
		}
		for i := range other.AntiAffinity {
			if other.AntiAffinity[i].Matches(p.Namespace, p.Labels, c.NamespaceLabels(p.Namespace)) {
				return true
			}
		}
		return false
	}
	return affects(ev.Pod) || affects(ev.OldPod)
}

// Rank implements Scorer.
func (a *InterPodAffinity) Rank(c *snapshot.Cluster, p *snapshot.Pod, _ []int) *Ranking {
	type weighted struct {
		place
		weight int64
	}
	var all []weighted
	incoming := func(terms []snapshot.Term, sign int64) {
		for i := range terms {
			t := &terms[i]
			m := c.Match(terms[i:i+1], false)
			if m.Total > 0 {
				all = append(all, weighted{place{c.Topology(t.TopologyKey).Of, c.Domains(m, t.TopologyKey)}, sign * int64(t.Weight)})
			}
		}
	}
	incoming(p.PrefAffinity, 1)
	incoming(p.PrefAnti, -1)
	if !a.ignorePreferred || len(p.PrefAffinity)+len(p.PrefAnti) > 0 {
		ns := c.NamespaceLabels(p.Namespace)
		owned := func(kind snapshot.TermKind, weight func(t *snapshot.Term) int64) {
			c.OwnedTerms(kind, func(t *snapshot.Term, domains []int64) {
				if w := weight(t); w != 0 && t.Matches(p.Namespace, p.Labels, ns) {
					all = append(all, weighted{place{c.Topology(t.TopologyKey).Of, domains}, w})
				}
			})
		}
		owned(snapshot.TermAffinity, func(*snapshot.Term) int64 { return a.hardWeight })
		owned(snapshot.TermPrefAffinity, func(t *snapshot.Term) int64 { return int64(t.Weight) })
		owned(snapshot.TermPrefAnti, func(t *snapshot.Term) int64 { return -int64(t.Weight) })
	}
	if len(all) == 0 {
		return nil
	}
	return &Ranking{
		Score: func(node int) (s int64) {
			for _, w := range all {
				n, _ := w.count(node)
				s += n * w.weight
			}
			return s
		},
		Normalize: spreadOut,
	}
}

// spreadOut maps the lowest score to 0 and the highest to MaxScore.
func spreadOut(_ []int, scores []int64) {
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	for _, s := range scores {
		lo, hi = min(lo, s), max(hi, s)
	}
	for i, s := range scores {
		scores[i] = 0
		if hi > lo {
			scores[i] = int64(MaxScore * (float64(s-lo) / float64(hi-lo)))
		}
	}
}
