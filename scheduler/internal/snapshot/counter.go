package snapshot

// Topology numbers the values that one node label has. Ordinals are dense and are not reused while the process lives
// unless the value comes back.
type Topology struct {
	// Of is the domain ordinal of each node, -1 where the label is missing.
	Of []int32
	// Values are the label's values by ordinal.
	Values []string
	index  map[string]int32
	// nodes counts the nodes of each domain.
	nodes []int32
}

func (t *Topology) ordinal(value string) int32 {
	if o, ok := t.index[value]; ok {
		return o
	}
	o := int32(len(t.Values))
	t.index[value] = o
	t.Values = append(t.Values, value)
	t.nodes = append(t.nodes, 0)
	return o
}

// Counter counts pods by node and, for the topology keys that were asked for, by domain.
type Counter struct {
	PerNode []int32
	Total   int64
	domains map[string][]int64
}

func (n *Counter) add(c *Cluster, node int, delta int32) {
	for len(n.PerNode) <= node {
		n.PerNode = append(n.PerNode, 0)
	}
	n.PerNode[node] += delta
	n.Total += int64(delta)
	for key, counts := range n.domains {
		if d := c.topology[key].Of[node]; d >= 0 {
			n.domains[key] = bump(counts, d, int64(delta))
		}
	}
}

// At is the count of one node.
func (n *Counter) At(node int) int32 {
	if node >= len(n.PerNode) {
		return 0
	}
	return n.PerNode[node]
}

// move is called when a node changes its domain of one key.
func (n *Counter) move(key string, node int, from, to int32) {
	counts, ok := n.domains[key]
	if !ok {
		return
	}
	v := int64(n.At(node))
	if v == 0 {
		return
	}
	if from >= 0 {
		counts = bump(counts, from, -v)
	}
	if to >= 0 {
		counts = bump(counts, to, v)
	}
	n.domains[key] = counts
}

func bump(counts []int64, at int32, delta int64) []int64 {
	for int(at) >= len(counts) {
		counts = append(counts, 0)
	}
	counts[at] += delta
	return counts
}

// byDomain gives the counts by domain ordinal of a topology key, kept up to date from then on.
func (n *Counter) byDomain(c *Cluster, key string) []int64 {
	if counts, ok := n.domains[key]; ok {
		return counts
	}
	t := c.Topology(key)
	counts := make([]int64, len(t.Values))
	for node, v := range n.PerNode {
		if d := t.Of[node]; d >= 0 && v != 0 {
			counts[d] += int64(v)
		}
	}
	if n.domains == nil {
		n.domains = map[string][]int64{}
	}
	n.domains[key] = counts
	return counts
}

// Matcher counts the placed pods that match every one of its terms.
type Matcher struct {
	Counter
	terms           []Term
	skipTerminating bool
	used            uint64
}

func (m *Matcher) matches(c *Cluster, p *Pod) bool {
	if m.skipTerminating && p.DeletionTimestamp != nil {
		return false
	}
	ns := c.namespaces[p.Namespace]
	for i := range m.terms {
		if !m.terms[i].Matches(p.Namespace, p.Labels, ns) {
			return false
		}
	}
	return true
}

// At most this many matchers are kept; the least recently used one goes.
const maxMatchers = 1024

// Match returns the matcher of the terms, counting all placed pods the first time and deltas after that. skipTerminating
// leaves pods with a deletion timestamp out, as topology spread wants.
func (c *Cluster) Match(terms []Term, skipTerminating bool) *Matcher {
	key := ""
	if skipTerminating {
		key = "live|"
	}
	for i := range terms {
		key += terms[i].Key + "&"
	}
	c.clock++
	if m, ok := c.matchers[key]; ok {
		m.used = c.clock
		return m
	}
	if len(c.matchers) >= maxMatchers {
		c.evictMatcher()
	}
	m := &Matcher{terms: terms, skipTerminating: skipTerminating, used: c.clock}
	for node, pods := range c.podsOn {
		for _, p := range pods {
			if m.matches(c, p) {
				m.add(c, node, 1)
			}
		}
	}
	c.matchers[key] = m
	return m
}

func (c *Cluster) evictMatcher() {
	oldest, at := "", ^uint64(0)
	for key, m := range c.matchers {
		if m.used < at {
			oldest, at = key, m.used
		}
	}
	delete(c.matchers, oldest)
}

// Domains gives m's counts by domain of the topology key. The slice may be shorter than the number of domains; what is
// missing is zero. It must not be changed.
func (c *Cluster) Domains(m *Matcher, key string) []int64 { return m.byDomain(c, key) }

// TermKind says which list of a placed pod's affinity a term comes from.
type TermKind uint8

// The term kinds.
const (
	TermAffinity TermKind = iota
	TermAntiAffinity
	TermPrefAffinity
	TermPrefAnti
	termKinds
)

// Owned counts the placed pods that carry one affinity term. Pods of one controller share it, so an incoming pod is
// compared with what is distinct, not with every pod.
type Owned struct {
	Counter
	Term Term
}

type ownedKey struct {
	selects, topologyKey string
	weight               int32
}

// OwnedTerms calls fn for each distinct term of a kind, with the pods that carry it counted by domain of its topology key.
func (c *Cluster) OwnedTerms(kind TermKind, fn func(t *Term, domains []int64)) {
	for _, o := range c.owned[kind] {
		fn(&o.Term, o.byDomain(c, o.Term.TopologyKey))
	}
}

func (c *Cluster) countOwned(kind TermKind, terms []Term, node int, delta int32) {
	for i := range terms {
		t := &terms[i]
		key := ownedKey{t.Key, t.TopologyKey, t.Weight}
		o := c.owned[kind][key]
		if o == nil {
			o = &Owned{Term: *t}
			c.owned[kind][key] = o
		}
		o.add(c, node, delta)
		if o.Total == 0 {
			delete(c.owned[kind], key)
		}
	}
}
