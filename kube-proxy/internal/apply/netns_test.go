package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kube-proxy/internal/rules"
	"flagship/kube-proxy/internal/track"
)

// The test network: a client and two pods, each in a namespace of its own, routed by the node's namespace, where the
// rules are.
const (
	nodeToClient, client = "10.6.0.1", "10.6.0.2"
	gateA, podA          = "10.5.1.1", "10.5.1.2"
	gateB, podB          = "10.5.2.1", "10.5.2.2"
	uplink               = "10.7.0.2"
	podPort              = 8080
)

type world struct {
	t    *testing.T
	node netns.NsHandle
	ns   map[string]netns.NsHandle
}

// in runs f with this goroutine's thread in a namespace.
func (w *world) in(ns netns.NsHandle, f func()) {
	w.t.Helper()
	if err := netns.Set(ns); err != nil {
		w.t.Fatal(err)
	}
	f()
	if err := netns.Set(w.node); err != nil {
		w.t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	// The thread is never unlocked: it ends with the goroutine, and the namespace with it.
	runtime.LockOSThread()
	node, err := netns.New()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("network namespaces are not permitted here")
	}
	must(t, err)
	w := &world{t: t, node: node, ns: map[string]netns.NsHandle{}}
	t.Cleanup(func() { _ = node.Close() })
	up(t, "lo", "")
	for i, l := range []struct{ name, gate, addr string }{{"client", nodeToClient, client}, {"a", gateA, podA}, {"b", gateB, podB}, {"uplink", "10.7.0.1", uplink}} {
		w.link(l.name, fmt.Sprintf("n%d", i), l.gate, l.addr)
	}
	// The node's way to everything else, as a real node has one: without it addresses of services are unreachable.
	must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(uplink)}))
	w.forward()
	return w
}

// forward turns routing on. /proc/sys/net shows the namespace of the process that reads it, so a child does it.
func (w *world) forward() {
	out, err := exec.Command("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward").CombinedOutput()
	if err != nil {
		w.t.Fatalf("turn routing on: %v: %s", err, out)
	}
}

func up(t *testing.T, name, addr string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	if addr != "" {
		a, err := netlink.ParseAddr(addr)
		must(t, err)
		must(t, netlink.AddrAdd(l, a))
	}
	must(t, netlink.LinkSetUp(l))
}

func (w *world) link(name, here, gate, addr string) {
	t := w.t
	other, err := netns.New()
	must(t, err)
	t.Cleanup(func() { _ = other.Close() })
	w.ns[name] = other
	must(t, netns.Set(w.node))
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: here}, PeerName: "eth0"}))
	peer, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkSetNsFd(peer, int(other)))
	up(t, here, gate+"/24")
	w.in(other, func() {
		up(t, "lo", "")
		up(t, "eth0", addr+"/24")
		must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gate)}))
	})
}

// listen answers connections to a pod with its name and the client's address.
func (w *world) listen(pod string) {
	w.in(w.ns[pod], func() {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", podPort))
		must(w.t, err)
		w.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				_, _ = io.WriteString(c, pod+" "+host)
				_ = c.Close()
			}
		}()
	})
}

// get connects and returns what the pod says, or the kind of failure.
func (w *world) get(from netns.NsHandle, to string) string {
	var answer string
	w.in(from, func() { answer = dial(to) })
	return answer
}

func dial(to string) string {
	// A raw socket of this thread: net.Dial may use a thread of another namespace.
	addr := netip.MustParseAddrPort(to)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = syscall.Close(fd) }()
	// Over a second: the first SYN is answered while the socket is busy sending it, so that the kernel heeds only the answer
	// to the second.
	limit := syscall.NsecToTimeval((1600 * time.Millisecond).Nanoseconds())
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit)
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
	switch err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.EINPROGRESS), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ETIMEDOUT):
		return "timeout"
	case err != nil:
		return err.Error()
	}
	buf := make([]byte, 256)
	n, err := syscall.Read(fd, buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n])
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ends(local map[string]bool, pods ...string) (out []track.Endpoint) {
	for _, p := range pods {
		out = append(out, track.Endpoint{Addr: netip.AddrPortFrom(ip(p), podPort), Ready: true, Serving: true, Local: local[p]})
	}
	return out
}

// crowd are so many endpoints that a map picks one of them: they are further addresses of pod a.
func crowd() (out []string) {
	for i := range 12 {
		out = append(out, fmt.Sprintf("10.5.1.%d", 100+i))
	}
	return out
}

func snapshot() *track.Snapshot {
	name := func(n string) types.NamespacedName { return types.NamespacedName{Namespace: "t", Name: n} }
	return &track.Snapshot{NodeName: "n", NodeIPs: []netip.Addr{ip(nodeToClient)}, Ports: []track.Port{
		{Service: name("balanced"), Protocol: v1.ProtocolTCP, ClusterIP: ip("10.97.0.3"), Port: 80, NodePort: 30082, Endpoints: ends(nil, podA, podB)},
		{Service: name("crowd"), Protocol: v1.ProtocolTCP, ClusterIP: ip("10.97.0.9"), Port: 80, Endpoints: ends(nil, crowd()...)},
		{Service: name("empty"), Protocol: v1.ProtocolTCP, ClusterIP: ip("10.97.0.2"), Port: 80, NodePort: 30081},
		{
			Service: name("guarded"), Protocol: v1.ProtocolTCP, ClusterIP: ip("10.97.0.5"), Port: 80, BalancerIPs: []netip.Addr{ip("203.0.113.5")},
			SourceRanges: []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}, Endpoints: ends(nil, podA),
		},
		{
			Service: name("lb"), Protocol: v1.ProtocolTCP, ClusterIP: ip("10.97.0.6"), Port: 80, BalancerIPs: []netip.Addr{ip("203.0.113.6")},
			ExternalIPs: []netip.Addr{ip("203.0.113.7")}, SourceRanges: []netip.Prefix{netip.MustParsePrefix("10.6.0.0/16")}, Endpoints: ends(nil, podA),
		},
		{Service: name("local"), Protocol: v1.ProtocolTCP, ClusterIP: ip("10.97.0.7"), Port: 80, NodePort: 30083, ExternalLocal: true, Endpoints: ends(map[string]bool{podA: true}, podA, podB)},
		{Service: name("nolocal"), Protocol: v1.ProtocolTCP, ClusterIP: ip("10.97.0.8"), Port: 80, NodePort: 30084, ExternalLocal: true, Endpoints: ends(nil, podA)},
		{Service: name("sticky"), Protocol: v1.ProtocolTCP, ClusterIP: ip("10.97.0.4"), Port: 80, AffinitySeconds: 60, Endpoints: ends(nil, podA, podB)},
		{Service: name("web"), Protocol: v1.ProtocolTCP, ClusterIP: ip("10.97.0.1"), Port: 80, NodePort: 30080, Endpoints: ends(map[string]bool{podA: true}, podA)},
	}}
}

type syncer interface {
	Sync(ctx context.Context, s *track.Snapshot, local rules.LocalTraffic) (int, error)
	Cleanup(ctx context.Context) error
}

// TestTraffic loads the rules into a real kernel and connects through them.
func TestTraffic(t *testing.T) {
	cfg := rules.Config{MasqueradeMark: 1 << 14, LocalhostNodePorts: true}
	nftCfg := cfg
	nftCfg.NodePortAddrs = []netip.Addr{ip(nodeToClient)}
	for name, newBackend := range map[string]func() (syncer, error){
		"nftables": func() (syncer, error) { return NewNFTables(t.Context(), nftCfg) },
		"iptables": func() (syncer, error) { return NewIPTables(cfg) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.listen("a")
			w.listen("b")
			w.in(w.ns["a"], func() {
				for _, addr := range crowd() {
					up(t, "eth0", addr+"/24")
				}
			})
			b, err := newBackend()
			must(t, err)
			traffic(t, w, b)
		})
	}
}

func traffic(t *testing.T, w *world, b syncer) {
	local := rules.LocalTraffic{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.5.0.0/16")}}
	snap := snapshot()
	if _, err := b.Sync(t.Context(), snap, local); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		from netns.NsHandle
		to   string
		want []string // any of these
	}{
		{"cluster IP from the node", w.node, "10.97.0.1:80", []string{"a " + gateA}},
		{"cluster IP from a pod keeps its address", w.ns["b"], "10.97.0.1:80", []string{"a " + podB}},
		{"cluster IP from outside is masqueraded", w.ns["client"], "10.97.0.1:80", []string{"a " + gateA}},
		{"hairpin", w.ns["a"], "10.97.0.1:80", []string{"a " + gateA}},
		{"node port from outside", w.ns["client"], nodeToClient + ":30080", []string{"a " + gateA}},
		{"node port from the node", w.node, nodeToClient + ":30080", []string{"a " + gateA}},
		{"no endpoints", w.ns["client"], "10.97.0.2:80", []string{"refused"}},
		{"no endpoints from the node", w.node, "10.97.0.2:80", []string{"refused"}},
		{"no endpoints at the node port", w.ns["client"], nodeToClient + ":30081", []string{"refused"}},
		{"source range keeps out", w.ns["client"], "203.0.113.5:80", []string{"timeout"}},
		{"source range lets in", w.ns["client"], "203.0.113.6:80", []string{"a " + gateA}},
		{"external IP", w.ns["client"], "203.0.113.7:80", []string{"a " + gateA}},
		{"external Local keeps the client's address", w.ns["client"], nodeToClient + ":30083", []string{"a " + client}},
		{"external Local without a local endpoint", w.ns["client"], nodeToClient + ":30084", []string{"timeout"}},
		{"the same from a pod", w.ns["b"], nodeToClient + ":30084", []string{"a " + podB}},
		{"balanced", w.ns["client"], "10.97.0.3:80", []string{"a " + gateA, "b " + gateB}},
		{"many endpoints", w.ns["client"], "10.97.0.9:80", []string{"a " + gateA}},
	} {
		got := w.get(c.from, c.to)
		if !contains(c.want, got) {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
	first := w.get(w.ns["client"], "10.97.0.4:80")
	for range 8 {
		if got := w.get(w.ns["client"], "10.97.0.4:80"); got != first {
			t.Errorf("session affinity: got %q after %q", got, first)
		}
	}
	if n, err := b.Sync(t.Context(), snap, local); err != nil || n != 0 {
		t.Errorf("unchanged sync: %d operations, %v", n, err)
	}
	snap.Ports[len(snap.Ports)-1].Endpoints = ends(nil, podB)
	n, err := b.Sync(t.Context(), snap, local)
	if err != nil || n > 20 {
		t.Errorf("one endpoint changed: %d operations, %v", n, err)
	}
	if got := w.get(w.ns["client"], "10.97.0.1:80"); got != "b "+gateB {
		t.Errorf("after the endpoint changed: got %q", got)
	}
	must(t, b.Cleanup(t.Context()))
	for _, command := range []string{"nft list ruleset", "iptables-save"} {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil || strings.Contains(string(out), "KUBE-") || strings.Contains(string(out), "kube-proxy") {
			t.Errorf("%s after cleanup: %v\n%s", command, err, out)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
