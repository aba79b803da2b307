package rules

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kube-proxy/internal/track"
)

// kernel is what the deltas have made of the kernel's table. It refuses what nft would refuse.
type kernel struct {
	chains   map[string][]string
	sets     map[string]Set
	elements map[Element]string // by set and key
}

func (k *kernel) apply(d *Delta) error {
	for _, c := range d.AddChains {
		if _, twice := k.chains[c.Name]; twice {
			return fmt.Errorf("chain %s is added again", c.Name)
		}
		k.chains[c.Name] = nil
	}
	for _, c := range d.RewriteChains {
		k.chains[c.Name] = nil
	}
	for _, name := range d.DropChains {
		k.chains[name] = nil
	}
	for _, s := range d.DropSets {
		for name, rules := range k.chains {
			if strings.Contains(strings.Join(rules, "\n")+" ", "@"+s.Name+" ") {
				return fmt.Errorf("set %s is dropped while chain %s has it", s.Name, name)
			}
		}
		delete(k.sets, s.Name)
	}
	for _, s := range d.AddSets {
		if _, twice := k.sets[s.Name]; twice {
			return fmt.Errorf("set %s is added again", s.Name)
		}
		k.sets[s.Name] = s
	}
	for _, c := range d.RewriteChains {
		k.chains[c.Name] = c.Rules
	}
	for _, e := range d.DropElements {
		at := Element{Set: e.Set, Key: e.Key}
		if was, known := k.elements[at]; !known || was != e.Value {
			return fmt.Errorf("element %v is dropped, and %q is there", e, was)
		}
		delete(k.elements, at)
	}
	for _, e := range d.AddElements {
		at := Element{Set: e.Set, Key: e.Key}
		if was, known := k.elements[at]; known {
			return fmt.Errorf("element %v is added, and %q is there", e, was)
		}
		k.elements[at] = e.Value
	}
	for _, name := range d.DropChains {
		delete(k.chains, name)
	}
	return k.check()
}

// check finds references to what is not there.
func (k *kernel) check() error {
	texts := slices.Concat(slices.Collect(maps.Values(k.chains))...)
	texts = slices.AppendSeq(texts, maps.Values(k.elements))
	for _, text := range texts {
		words := strings.Fields(text)
		for i, w := range words {
			if i > 0 && (words[i-1] == "goto" || words[i-1] == "jump") {
				if _, known := k.chains[w]; !known {
					return fmt.Errorf("%q leads to no chain", text)
				}
			}
			if _, known := k.sets[strings.TrimPrefix(w, "@")]; w[0] == '@' && !known {
				return fmt.Errorf("%q looks at no set", text)
			}
		}
	}
	return nil
}

// world is a random cluster, small enough that services often claim the same address or port.
type world struct {
	*rand.Rand
	services map[types.NamespacedName][]track.Port
	zone     string
	local    LocalTraffic
}

func (w *world) flip(of int) bool { return w.IntN(of) == 0 }

func (w *world) addr(net byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, net, 0, byte(w.IntN(5))})
}

func (w *world) addrs(net byte) (out []netip.Addr) {
	for range w.IntN(3) {
		out = append(out, w.addr(net))
	}
	return out
}

func (w *world) service(name types.NamespacedName) (out []track.Port) {
	base := track.Port{
		Service: name, ClusterIP: w.addr(1), ExternalLocal: w.flip(2), InternalLocal: w.flip(4),
		AffinitySeconds: int32([]int{0, 0, 60, 90}[w.IntN(4)]), ExternalIPs: w.addrs(2), BalancerIPs: w.addrs(2),
	}
	if w.flip(3) {
		base.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	}
	for i := range 1 + w.IntN(2) {
		p := base
		p.Name, p.Port, p.Protocol = fmt.Sprintf("p%d", i), int32(80+w.IntN(2)), []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP}[w.IntN(2)]
		p.NodePort = int32([]int{0, 30000, 30001}[w.IntN(3)])
		for n := w.IntN(4) * w.IntN(5); n > 0; n-- {
			e := track.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 3, 0, byte(n)}), 8080), Ready: !w.flip(4), Terminating: w.flip(4), Local: w.flip(3)}
			e.Serving = e.Ready || w.flip(2)
			if w.flip(2) {
				e.ZoneHints = []string{[]string{"a", "b"}[w.IntN(2)]}
			}
			p.Endpoints = append(p.Endpoints, e)
		}
		out = append(out, p)
	}
	return out
}

// step changes something and gives the services that a tracker would name.
func (w *world) step() track.Names {
	if w.flip(12) {
		w.zone = []string{"", "a", "b"}[w.IntN(3)]
		w.local = []LocalTraffic{{}, {Bridge: "cni0"}, {CIDRs: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")}}}[w.IntN(3)]
		return nil
	}
	only := track.Names{}
	for range 1 + w.IntN(3) {
		name := types.NamespacedName{Namespace: "ns", Name: fmt.Sprintf("s%d", w.IntN(8))}
		if only[name] = struct{}{}; w.flip(4) {
			delete(w.services, name)
		} else {
			w.services[name] = w.service(name)
		}
	}
	return only
}

func (w *world) snapshot(only track.Names) *track.Snapshot {
	s := &track.Snapshot{NodeName: "n", Zone: w.zone, Only: only}
	for _, name := range slices.SortedFunc(maps.Keys(w.services), track.Compare) {
		if _, asked := only[name]; asked || only == nil {
			s.Ports = append(s.Ports, w.services[name]...)
		}
	}
	return s
}

// TestIncremental makes random changes: the table that they lead to is the one that is built from scratch, and the deltas
// lead the kernel there.
func TestIncremental(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // a seed
	t.Logf("seed %d", seed)
	for range 20 {
		seed++
		w := &world{Rand: rand.New(rand.NewPCG(seed, 0)), services: map[types.NamespacedName][]track.Port{}} //nolint:gosec // not for secrets
		k := &kernel{chains: map[string][]string{}, sets: map[string]Set{}, elements: map[Element]string{}}
		cfg := Config{MasqueradeMark: 0x4000}
		table := NewNFT(cfg)
		var only track.Names
		for step := range 100 {
			d := table.Apply(w.snapshot(only), w.local)
			if err := k.apply(d); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			fresh := NewNFT(cfg)
			whole := &kernel{chains: map[string][]string{}, sets: map[string]Set{}, elements: map[Element]string{}}
			if err := whole.apply(fresh.Apply(w.snapshot(nil), w.local)); err != nil {
				t.Fatalf("seed %d, step %d, from scratch: %v", seed, step, err)
			}
			if diff := cmp.Diff(fresh.String(), table.String()); diff != "" {
				t.Fatalf("seed %d, step %d: the table differs from the one built from scratch:\n%s", seed, step, diff)
			}
			if diff := cmp.Diff(whole, k, cmp.AllowUnexported(kernel{})); diff != "" {
				t.Fatalf("seed %d, step %d: the kernel has another table:\n%s", seed, step, diff)
			}
			only = w.step()
		}
	}
}
