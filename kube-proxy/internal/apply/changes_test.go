package apply

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kube-proxy/internal/rules"
	"flagship/kube-proxy/internal/track"
)

// forms are what one service may look like, by name; the form of none is a service that is gone.
func forms(ipv6 bool) map[string][]track.Port {
	net := map[bool]string{false: "10.%d.0.%d", true: "fd00:%d::%d"}[ipv6]
	at := func(n, host int) netip.Addr { return ip(fmt.Sprintf(net, n, host)) }
	port := func(endpoints int, change func(p *track.Port)) []track.Port {
		p := track.Port{Service: types.NamespacedName{Namespace: "t", Name: "one"}, Name: "p", Protocol: v1.ProtocolTCP, ClusterIP: at(97, 1), Port: 80}
		for i := range endpoints {
			p.Endpoints = append(p.Endpoints, track.Endpoint{Addr: netip.AddrPortFrom(at(5, i+1), podPort), Ready: true, Serving: true, Local: i%2 == 0})
		}
		if change != nil {
			change(&p)
		}
		return []track.Port{p}
	}
	return map[string][]track.Port{
		"gone":     nil,
		"none":     port(0, nil),
		"one":      port(1, nil),
		"three":    port(3, nil),
		"many":     port(20, nil),
		"udp":      port(3, func(p *track.Port) { p.Protocol = v1.ProtocolUDP }),
		"sctp":     port(20, func(p *track.Port) { p.Protocol = v1.ProtocolSCTP }),
		"sticky":   port(3, func(p *track.Port) { p.AffinitySeconds = 60 }),
		"stickier": port(20, func(p *track.Port) { p.AffinitySeconds = 90 }),
		"external": port(2, func(p *track.Port) {
			p.NodePort, p.ExternalIPs, p.BalancerIPs = 30080, []netip.Addr{at(98, 1)}, []netip.Addr{at(99, 1)}
			p.SourceRanges = []netip.Prefix{netip.PrefixFrom(at(3, 0), 24).Masked()}
		}),
		"external local": port(3, func(p *track.Port) { p.NodePort, p.ExternalLocal = 30080, true }),
		"external none":  port(0, func(p *track.Port) { p.NodePort, p.ExternalIPs = 30080, []netip.Addr{at(98, 1)} }),
	}
}

var block = regexp.MustCompile(`(?m)^\t\}\n`)

// listed is the kernel's table, its parts sorted: they are listed in the order in which they were made.
func listed(t *testing.T, family string) string {
	t.Helper()
	out, err := exec.Command("nft", "--stateless", "list", "table", family, rules.NFTTable).CombinedOutput()
	if err != nil {
		t.Fatalf("nft list: %v: %s", err, out)
	}
	parts := block.Split(string(out), -1)
	slices.Sort(parts[1:])
	return strings.ReplaceAll(strings.Join(parts, "\t}\n"), "\n\n", "\n")
}

// TestChanges turns a service from each form into each other: nft takes every transaction, and what is in the kernel then
// is what it has of a first sync of the latter.
func TestChanges(t *testing.T) {
	newWorld(t)
	for _, ipv6 := range []bool{false, true} {
		n, err := NewNFTables(t.Context(), rules.Config{MasqueradeMark: 1 << 14, IPv6: ipv6})
		must(t, err)
		sync := func(ports []track.Port, only track.Names) string {
			t.Helper()
			if _, err := n.Sync(t.Context(), &track.Snapshot{NodeName: "n", Ports: ports, Only: only}, rules.LocalTraffic{Bridge: "cni0"}); err != nil {
				t.Fatal(err)
			}
			return listed(t, n.family())
		}
		all, fresh := forms(ipv6), map[string]string{}
		for name, ports := range all {
			n.committed = nil
			fresh[name] = sync(ports, nil)
		}
		one := track.Names{{Namespace: "t", Name: "one"}: {}}
		for from, before := range all {
			for to, after := range all {
				sync(before, one)
				if d := cmp.Diff(fresh[to], sync(after, one)); d != "" {
					t.Fatalf("ipv6 %v: %s became %s, and the kernel has (-of a first sync +now):\n%s", ipv6, from, to, d)
				}
			}
		}
	}
}
