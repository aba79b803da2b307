package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"flagship/kube-proxy/internal/track"
)

// NFT is the nftables table of one family. It is kept between syncs as a fragment per service, so that a change costs what
// it changes, however many services there are. It is for one goroutine.
type NFT struct {
	cfg Config
	// parts are the fragments. That of no service is the frame.
	parts map[types.NamespacedName]*Fragment
	// claims are who wants an element, sorted by service: the last one has it. There is none without a claim.
	claims map[slot][]claim
}

type slot struct{ set, key string }

type claim struct {
	service types.NamespacedName
	value   string
}

// NewNFT returns a table with nothing in it, not even the frame: the first Apply is to be of all services.
func NewNFT(cfg Config) *NFT {
	return &NFT{cfg: cfg, parts: map[types.NamespacedName]*Fragment{}, claims: map[slot][]claim{}}
}

// Apply makes the table what the snapshot asks for and says what differs from what it was. Local traffic may be told in
// another way than before only when the snapshot is of all services.
func (t *NFT) Apply(s *track.Snapshot, local LocalTraffic) *Delta {
	t.cfg.Local = local
	b := newNFTBuilder(t.cfg)
	c := change{NFT: t, before: map[slot]string{}}
	ports := s.Ports
	for _, name := range t.names(s) {
		n := 0
		for n < len(ports) && ports[n].Service == name {
			n++
		}
		if name == (types.NamespacedName{}) {
			b.frame()
		}
		for i := range ports[:n] {
			b.port(choose(&ports[i], s.NodeName, s.Zone))
		}
		ports = ports[n:]
		c.replace(name, b.take())
	}
	c.elements()
	return &c.delta
}

// names are the fragments that a snapshot is about, sorted.
func (t *NFT) names(s *track.Snapshot) []types.NamespacedName {
	if s.Only != nil {
		return slices.SortedFunc(maps.Keys(s.Only), track.Compare)
	}
	names := append(slices.Collect(maps.Keys(t.parts)), types.NamespacedName{})
	for i := range s.Ports {
		names = append(names, s.Ports[i].Service)
	}
	slices.SortFunc(names, track.Compare)
	return slices.Compact(names)
}

// change is one Apply.
type change struct {
	*NFT
	delta Delta
	// before has the values that elements had which were claimed or given up, absent for those that were not there.
	before map[slot]string
}

const absent = "\x00"

func (t *NFT) value(at slot) string {
	if list := t.claims[at]; len(list) > 0 {
		return list[len(list)-1].value
	}
	return absent
}

// replace exchanges one fragment.
func (c *change) replace(name types.NamespacedName, now *Fragment) {
	old := c.parts[name]
	if old == nil {
		old = &Fragment{}
	}
	c.delta.add(old, now)
	if len(now.Chains)+len(now.Sets)+len(now.Elements) > 0 {
		c.parts[name] = now
	} else {
		delete(c.parts, name)
	}
	if slices.Equal(old.Elements, now.Elements) {
		return
	}
	for _, e := range old.Elements {
		at := c.touch(e)
		list := slices.DeleteFunc(c.claims[at], func(x claim) bool { return x.service == name })
		if len(list) > 0 {
			c.claims[at] = list
		} else {
			delete(c.claims, at)
		}
	}
	for _, e := range now.Elements {
		at := c.touch(e)
		list := c.claims[at]
		i, _ := slices.BinarySearchFunc(list, name, func(x claim, name types.NamespacedName) int { return track.Compare(x.service, name) })
		c.claims[at] = slices.Insert(list, i, claim{name, e.Value})
	}
}

func (c *change) touch(e Element) slot {
	at := slot{e.Set, e.Key}
	if _, known := c.before[at]; !known {
		c.before[at] = c.value(at)
	}
	return at
}

// elements puts those into the delta whose value is another than before.
func (c *change) elements() {
	d := &c.delta
	for at, was := range c.before {
		is := c.value(at)
		if was != absent && was != is {
			d.DropElements = append(d.DropElements, Element{at.set, at.key, was})
		}
		if is != absent && was != is {
			d.AddElements = append(d.AddElements, Element{at.set, at.key, is})
		}
	}
	for _, list := range [][]Element{d.AddElements, d.DropElements} {
		slices.SortFunc(list, func(a, b Element) int { return cmp.Or(cmp.Compare(a.Set, b.Set), cmp.Compare(a.Key, b.Key)) })
	}
}

// String renders the table for golden files, sorted.
func (t *NFT) String() string {
	var sets []Set
	var chains []Chain
	for _, f := range t.parts {
		sets = append(sets, f.Sets...)
		chains = append(chains, f.Chains...)
	}
	slices.SortFunc(sets, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(chains, func(a, b Chain) int { return cmp.Compare(a.Name, b.Name) })
	elements := map[string][]string{}
	for at := range t.claims {
		elements[at.set] = append(elements[at.set], at.key)
	}
	var b strings.Builder
	for _, s := range sets {
		fmt.Fprintf(&b, "%s %s { type %s", s.Kind(), s.Name, s.Type)
		if s.Flags != "" {
			fmt.Fprintf(&b, "; flags %s; timeout %ds", s.Flags, s.Timeout)
		}
		b.WriteString(" }\n")
		for _, key := range slices.Sorted(slices.Values(elements[s.Name])) {
			b.WriteString("\t" + key)
			if v := t.value(slot{s.Name, key}); v != "" {
				b.WriteString(" : " + v)
			}
			b.WriteByte('\n')
		}
	}
	for _, c := range chains {
		fmt.Fprintf(&b, "chain %s", c.Name)
		if c.Base != nil {
			fmt.Fprintf(&b, " { type %s hook %s priority %s }", c.Base.Type, c.Base.Hook, c.Base.Priority)
		}
		b.WriteByte('\n')
		for _, r := range c.Rules {
			b.WriteString("\t" + r + "\n")
		}
	}
	return b.String()
}

// Kind is the word for a set or a map.
func (s *Set) Kind() string {
	if s.Map {
		return "map"
	}
	return "set"
}
