package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Base hooks a chain into the kernel (nftables only).
type Base struct{ Type, Hook, Priority string }

// Chain is an ordered list of rules.
type Chain struct {
	Base  *Base
	Rules []string
}

// Set is a set, or a map when its type has a value. Elements map keys (parts joined by " . ") to values, "" in a set.
type Set struct {
	Type string
	// Map says that it is a verdict map.
	Map bool
	// Flags and Timeout (seconds) are for sets that the kernel fills.
	Flags   string
	Timeout int32
	// Elements that Dynamic sets have are the kernel's: they are not compared.
	Elements map[string]string
}

// Table is the rules of one table.
type Table struct {
	Chains map[string]*Chain
	Sets   map[string]*Set
}

func newTable() *Table { return &Table{Chains: map[string]*Chain{}, Sets: map[string]*Set{}} }

// Chain adds rules to a chain, making it when it is not there.
func (t *Table) chain(name string, rules ...string) *Chain {
	c := t.Chains[name]
	if c == nil {
		c = &Chain{}
		t.Chains[name] = c
	}
	c.Rules = append(c.Rules, rules...)
	return c
}

func (t *Table) element(set, key, value string) { t.Sets[set].Elements[key] = value }

// String renders the table for golden files, sorted.
func (t *Table) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t.Sets)) {
		s := t.Sets[name]
		kind := "set"
		if s.Map {
			kind = "map"
		}
		fmt.Fprintf(&b, "%s %s { type %s", kind, name, s.Type)
		if s.Flags != "" {
			fmt.Fprintf(&b, "; flags %s; timeout %ds", s.Flags, s.Timeout)
		}
		b.WriteString(" }\n")
		for _, key := range slices.Sorted(maps.Keys(s.Elements)) {
			if v := s.Elements[key]; v != "" {
				fmt.Fprintf(&b, "\t%s : %s\n", key, v)
			} else {
				fmt.Fprintf(&b, "\t%s\n", key)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Chains)) {
		c := t.Chains[name]
		fmt.Fprintf(&b, "chain %s", name)
		if c.Base != nil {
			fmt.Fprintf(&b, " { type %s hook %s priority %s }", c.Base.Type, c.Base.Hook, c.Base.Priority)
		}
		b.WriteByte('\n')
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t%s\n", r)
		}
	}
	return b.String()
}

// Element is one element of a set or map.
type Element struct{ Set, Key, Value string }

// Delta is what leads from one table to another. All lists are sorted.
type Delta struct {
	AddSets, DropSets         []string
	AddChains, DropChains     []string
	RewriteChains             []string // new ones too
	AddElements, DropElements []Element
}

// Empty says whether there is nothing to do.
func (d *Delta) Empty() bool {
	return len(d.AddSets)+len(d.DropSets)+len(d.AddChains)+len(d.DropChains)+len(d.RewriteChains)+len(d.AddElements)+len(d.DropElements) == 0
}

// Diff finds what leads from old to now. A nil old is an empty table.
func Diff(old, now *Table) *Delta {
	if old == nil {
		old = newTable()
	}
	d := &Delta{}
	for name, n := range now.Chains {
		o, known := old.Chains[name]
		if !known {
			d.AddChains = append(d.AddChains, name)
		}
		if !known || !slices.Equal(o.Rules, n.Rules) {
			d.RewriteChains = append(d.RewriteChains, name)
		}
	}
	for name := range old.Chains {
		if now.Chains[name] == nil {
			d.DropChains = append(d.DropChains, name)
		}
	}
	for name, o := range old.Sets {
		if n := now.Sets[name]; n == nil || n.Timeout != o.Timeout {
			d.DropSets = append(d.DropSets, name)
		}
	}
	for name, n := range now.Sets {
		o := old.Sets[name]
		if o == nil || o.Timeout != n.Timeout {
			d.AddSets = append(d.AddSets, name)
			o = &Set{}
		}
		diffElements(d, name, o.Elements, n.Elements)
	}
	// What differs is little, what is there may be much: only the former is sorted.
	for _, names := range [][]string{d.AddSets, d.DropSets, d.AddChains, d.DropChains, d.RewriteChains} {
		slices.Sort(names)
	}
	for _, list := range [][]Element{d.AddElements, d.DropElements} {
		slices.SortFunc(list, func(a, b Element) int { return cmp.Or(cmp.Compare(a.Set, b.Set), cmp.Compare(a.Key, b.Key)) })
	}
	return d
}

func diffElements(d *Delta, set string, old, now map[string]string) {
	for key, was := range old {
		if v, ok := now[key]; !ok || v != was {
			d.DropElements = append(d.DropElements, Element{set, key, was})
		}
	}
	for key, is := range now {
		if v, ok := old[key]; !ok || v != is {
			d.AddElements = append(d.AddElements, Element{set, key, is})
		}
	}
}
