package podnet

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Node is what of a node matters here.
type Node struct {
	Name     string
	PodCIDRs []netip.Prefix
	// Addresses are the node's internal ones.
	Addresses []netip.Addr
}

// Routes maps ranges of pod addresses to the next hop.
type Routes map[netip.Prefix]netip.Addr

// Want is the routes that node self needs: to each other node's ranges by its first address of the same family. A range
// that two nodes claim goes to the one whose name comes first. Nodes without an address are not reached.
func Want(self string, nodes map[string]Node) Routes {
	out := Routes{}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		if name == self {
			continue
		}
		for _, cidr := range n.PodCIDRs {
			for _, via := range n.Addresses {
				if _, taken := out[cidr]; !taken && via.Is6() == cidr.Addr().Is6() {
					out[cidr] = via
				}
			}
		}
	}
	for _, own := range nodes[self].PodCIDRs {
		delete(out, own)
	}
	return out
}

// Change is one route to set or to remove.
type Change struct {
	To     netip.Prefix
	Via    netip.Addr
	Remove bool
}

// Diff is what turns the routes that are there into those wanted, removals first.
func Diff(have, want Routes) []Change {
	var out []Change
	for to, via := range have {
		if _, ok := want[to]; !ok {
			out = append(out, Change{To: to, Via: via, Remove: true})
		}
	}
	for to, via := range want {
		if have[to] != via {
			out = append(out, Change{To: to, Via: via})
		}
	}
	slices.SortFunc(out, func(a, b Change) int {
		if a.Remove != b.Remove {
			return map[bool]int{true: -1, false: 1}[a.Remove]
		}
		return cmp.Compare(a.To.String(), b.To.String())
	})
	return out
}
