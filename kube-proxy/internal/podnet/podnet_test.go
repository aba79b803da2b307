package podnet

import (
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var compare = []cmp.Option{cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})}

func node(name, cidr string, addrs ...string) Node {
	n := Node{Name: name}
	if cidr != "" {
		n.PodCIDRs = []netip.Prefix{netip.MustParsePrefix(cidr)}
	}
	for _, a := range addrs {
		n.Addresses = append(n.Addresses, netip.MustParseAddr(a))
	}
	return n
}

func TestWantAndDiff(t *testing.T) {
	a, b := node("a", "10.244.0.0/24", "192.168.1.1"), node("b", "10.244.1.0/24", "fd00::2", "192.168.1.2")
	for scenario, tc := range map[string]struct {
		nodes []Node
		have  Routes
		want  []Change
	}{
		"alone":                          {nodes: []Node{a}},
		"another":                        {nodes: []Node{a, b}, want: []Change{{To: b.PodCIDRs[0], Via: b.Addresses[1]}}},
		"there already":                  {nodes: []Node{a, b}, have: Routes{b.PodCIDRs[0]: b.Addresses[1]}},
		"moved":                          {nodes: []Node{a, b}, have: Routes{b.PodCIDRs[0]: a.Addresses[0]}, want: []Change{{To: b.PodCIDRs[0], Via: b.Addresses[1]}}},
		"gone":                           {nodes: []Node{a}, have: Routes{b.PodCIDRs[0]: b.Addresses[1]}, want: []Change{{To: b.PodCIDRs[0], Via: b.Addresses[1], Remove: true}}},
		"no range yet":                   {nodes: []Node{a, node("b", "", "192.168.1.2")}},
		"no address yet":                 {nodes: []Node{a, node("b", "10.244.1.0/24")}},
		"range of this node":             {nodes: []Node{a, node("b", "10.244.0.0/24", "192.168.1.2")}},
		"one range, two nodes":           {nodes: []Node{a, b, node("c", "10.244.1.0/24", "192.168.1.3")}, want: []Change{{To: b.PodCIDRs[0], Via: b.Addresses[1]}}},
		"this node is not known":         {nodes: []Node{b}, want: []Change{{To: b.PodCIDRs[0], Via: b.Addresses[1]}}},
		"an address of each family fits": {nodes: []Node{a, node("d", "fd10::/64", "192.168.1.4", "fd00::4")}, want: []Change{{To: netip.MustParsePrefix("fd10::/64"), Via: netip.MustParseAddr("fd00::4")}}},
	} {
		t.Run(scenario, func(t *testing.T) {
			nodes := map[string]Node{}
			for _, n := range tc.nodes {
				nodes[n.Name] = n
			}
			if diff := cmp.Diff(tc.want, Diff(tc.have, Want("a", nodes)), compare...); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKernel applies routes and rules in a network namespace of its own.
func TestKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	// The thread is never unlocked: it ends with the goroutine, and the namespace with it.
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "net0"}, PeerName: "net1"}
	addr, _ := netlink.ParseAddr("192.168.1.1/24")
	for _, step := range []func() error{
		func() error { return netlink.LinkAdd(link) },
		func() error { return netlink.AddrAdd(link, addr) },
		func() error { return netlink.LinkSetUp(link) },
		func() error {
			peer, err := netlink.LinkByName("net1")
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(peer)
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	n := New("a", []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, zap.NewNop())
	other := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: v1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}}}
	other.Status.Addresses = []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.168.1.2"}}
	far := other.DeepCopy()
	far.Name, far.Spec.PodCIDRs, far.Status.Addresses[0].Address = "far", []string{"10.244.2.0/24"}, "172.16.0.9"
	n.SetNode(other, false)
	for range 2 { // safe to repeat
		if err := n.masquerade(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.sync(); err != nil {
			t.Fatal(err)
		}
	}
	want := Routes{netip.MustParsePrefix("10.244.1.0/24"): netip.MustParseAddr("192.168.1.2")}
	if have, err := current(); err != nil || !cmp.Equal(want, have, compare...) {
		t.Errorf("routes: %v, %v", have, err)
	}
	n.SetNode(far, false)
	if err := n.sync(); err == nil {
		t.Error("a node on no network of ours has no error")
	}
	if have, _ := current(); !cmp.Equal(want, have, compare...) {
		t.Errorf("a node that cannot be reached changed the other's routes: %v", have)
	}
	if err := Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if have, _ := current(); len(have) > 0 {
		t.Errorf("left behind: %v", have)
	}
}
