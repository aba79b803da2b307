package rules

import "slices"

// Base hooks a chain into the kernel.
type Base struct{ Type, Hook, Priority string }

// Chain is an ordered list of rules.
type Chain struct {
	Name  string
	Base  *Base
	Rules []string
}

// Set is a set, or a verdict map.
type Set struct {
	Name, Type string
	Map        bool
	// Flags and Timeout (seconds) are for sets that the kernel fills.
	Flags   string
	Timeout int32
}

// Element is one element of a set or map. Key has its parts joined by " . "; Value is "" in a set.
type Element struct{ Set, Key, Value string }

// Fragment is what one service adds to the table. Chains and sets are its own: their names have the service's in them.
// Elements go into sets that all services share, so that two services may claim the same one.
type Fragment struct {
	Chains   []Chain
	Sets     []Set
	Elements []Element
}

// Delta is what leads from one table to another. A set that is in both of its lists is made anew, and then all chains that
// refer to it are rewritten.
type Delta struct {
	AddSets, DropSets []Set
	// RewriteChains have the rules that the chains are to have, new ones too.
	AddChains, RewriteChains  []Chain
	DropChains                []string
	AddElements, DropElements []Element
}

// Size is the number of objects that differ.
func (d *Delta) Size() int {
	return len(d.AddSets) + len(d.DropSets) + len(d.DropChains) + len(d.RewriteChains) + len(d.AddElements) + len(d.DropElements)
}

// add puts what leads from one version of a fragment to another into the delta, but for the elements.
func (d *Delta) add(old, now *Fragment) {
	anew := false
	for _, o := range old.Sets {
		if !slices.Contains(now.Sets, o) {
			d.DropSets = append(d.DropSets, o)
			anew = true
		}
	}
	for _, n := range now.Sets {
		if !slices.Contains(old.Sets, n) {
			d.AddSets = append(d.AddSets, n)
		}
	}
	had := make(map[string]*Chain, len(old.Chains))
	for i := range old.Chains {
		had[old.Chains[i].Name] = &old.Chains[i]
	}
	for _, n := range now.Chains {
		o := had[n.Name]
		delete(had, n.Name)
		if o == nil {
			d.AddChains = append(d.AddChains, n)
		}
		if o == nil || anew || !slices.Equal(o.Rules, n.Rules) {
			d.RewriteChains = append(d.RewriteChains, n)
		}
	}
	for _, o := range old.Chains {
		if had[o.Name] != nil {
			d.DropChains = append(d.DropChains, o.Name)
		}
	}
}
