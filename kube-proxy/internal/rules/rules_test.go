package rules

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kube-proxy/internal/track"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// port is a service port with two endpoints, the first of which is on this node.
func port(change func(p *track.Port)) track.Port {
	p := track.Port{
		Service: types.NamespacedName{Namespace: "ns", Name: "svc"}, Name: "p80", Protocol: v1.ProtocolTCP,
		ClusterIP: ip("172.30.0.41"), Port: 80,
		Endpoints: []track.Endpoint{
			{Addr: netip.MustParseAddrPort("10.180.0.1:8080"), Local: true, Ready: true, Serving: true},
			{Addr: netip.MustParseAddrPort("10.180.1.1:8080"), Ready: true, Serving: true},
		},
	}
	if change != nil {
		change(&p)
	}
	return p
}

func config() Config {
	return Config{
		MasqueradeMark: 1 << 14, LocalhostNodePorts: true,
		Local: LocalTraffic{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.180.0.0/14")}},
	}
}

// TestGolden has a file per feature and backend.
func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *track.Port)
		config func(c *Config)
	}{
		"cluster-ip":   {},
		"none":         {change: func(p *track.Port) { p.ClusterIP = ip("172.30.0.42"); p.Endpoints = nil }},
		"node-port":    {change: func(p *track.Port) { p.NodePort = 30080 }},
		"udp":          {change: func(p *track.Port) { p.Protocol = v1.ProtocolUDP }},
		"affinity":     {change: func(p *track.Port) { p.AffinitySeconds = 10800 }},
		"external-ip":  {change: func(p *track.Port) { p.ExternalIPs = []netip.Addr{ip("192.0.2.4")} }},
		"no-endpoints": {change: func(p *track.Port) { p.NodePort = 30080; p.Endpoints = nil }},
		"load-balancer": {change: func(p *track.Port) {
			p.BalancerIPs = []netip.Addr{ip("192.0.2.5")}
			p.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/25"), netip.MustParsePrefix("198.51.100.0/24")}
		}},
		"external-local": {change: func(p *track.Port) {
			p.NodePort, p.ExternalLocal, p.HealthCheckPort = 30080, true, 30900
			p.BalancerIPs = []netip.Addr{ip("192.0.2.5")}
		}},
		"external-local-none": {change: func(p *track.Port) {
			p.NodePort, p.ExternalLocal, p.Endpoints = 30080, true, p.Endpoints[1:]
		}},
		"internal-local":      {change: func(p *track.Port) { p.InternalLocal = true }},
		"internal-local-none": {change: func(p *track.Port) { p.InternalLocal, p.Endpoints = true, p.Endpoints[1:] }},
		"terminating": {change: func(p *track.Port) {
			for i := range p.Endpoints {
				p.Endpoints[i].Ready, p.Endpoints[i].Terminating = false, true
			}
		}},
		"zone-hints": {change: func(p *track.Port) {
			p.Endpoints[0].ZoneHints, p.Endpoints[1].ZoneHints = []string{"other"}, []string{"zone-a"}
		}},
		"node-hints": {change: func(p *track.Port) {
			p.Endpoints[0].NodeHints, p.Endpoints[1].NodeHints = []string{"me"}, []string{"other"}
		}},
		"masquerade-all":     {config: func(c *Config) { c.MasqueradeAll = true }},
		"bridge-interface":   {config: func(c *Config) { c.Local = LocalTraffic{Bridge: "cni0"} }},
		"interface-prefix":   {config: func(c *Config) { c.Local = LocalTraffic{InterfacePrefix: "veth"} }},
		"nodeport-addresses": {change: func(p *track.Port) { p.NodePort = 30080 }, config: func(c *Config) { c.NodePortAddrs = []netip.Addr{ip("192.168.0.2")} }},
		"ipv6": {config: func(c *Config) {
			c.IPv6, c.Local = true, LocalTraffic{CIDRs: []netip.Prefix{netip.MustParsePrefix("fd00:10::/64")}}
		}, change: func(p *track.Port) {
			p.ClusterIP, p.NodePort = ip("fd00:172:30::41"), 30080
			p.Endpoints = []track.Endpoint{{Addr: netip.MustParseAddrPort("[fd00:10::1]:8080"), Ready: true, Serving: true}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			if c.config != nil {
				c.config(&cfg)
			}
			s := &track.Snapshot{NodeName: "me", Zone: "zone-a", Ports: []track.Port{port(c.change)}}
			golden(t, name+".nft", scratch(cfg, s).String())
			filter, nat := IPTables(cfg, s)
			golden(t, name+".iptables", Restore("filter", nil, filter)+Restore("nat", nil, nat))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, d)
	}
}

// scratch is the whole table of a snapshot.
func scratch(cfg Config, s *track.Snapshot) *NFT {
	t := NewNFT(cfg)
	t.Apply(s, cfg.Local)
	return t
}

// TestDelta shows that a change of one service costs what it changes, however many there are.
func TestDelta(t *testing.T) {
	table := scratch(config(), services(1000))
	for _, c := range []struct {
		name   string
		change func(p *track.Port)
		want   int
	}{
		{"nothing", func(*track.Port) {}, 0},
		{"endpoint lost", func(p *track.Port) { p.Endpoints = p.Endpoints[:1] }, 1},
		{"all lost", func(p *track.Port) { p.Endpoints = nil }, 3},
		{"node port", func(p *track.Port) { p.NodePort = 30000 }, 5},
		{"affinity", func(p *track.Port) { p.AffinitySeconds = 60 }, 7},
		{"affinity for longer", func(p *track.Port) { p.AffinitySeconds = 90 }, 7},
	} {
		p := services(1000).Ports[500]
		c.change(&p)
		d := table.Apply(&track.Snapshot{NodeName: "n", Only: track.Names{p.Service: {}}, Ports: []track.Port{p}}, config().Local)
		if d.Size() != c.want {
			t.Errorf("%s: %d changes, want %d: %+v", c.name, d.Size(), c.want, d)
		}
	}
}

// TestNames pins the chain names, which people look for, to upstream's: those of the services of its documentation.
func TestNames(t *testing.T) {
	p := port(func(p *track.Port) { p.Service = types.NamespacedName{Namespace: "ns1", Name: "svc1"} })
	c := choose(&p, "", "")
	if got, want := iptName("KUBE-SVC-", &c), "KUBE-SVC-XPGD46QRK7WJZT7O"; got != want {
		t.Errorf("service chain %s, want %s", got, want)
	}
	e := track.Endpoint{Addr: netip.MustParseAddrPort("10.180.0.1:80")}
	if got, want := sepName(&c, &e), "KUBE-SEP-SXIVWICOYRO3J4NJ"; got != want {
		t.Errorf("endpoint chain %s, want %s", got, want)
	}
	if got, want := "service-"+nftName(&c), "service-ULMVA6XW-ns1/svc1/tcp/p80"; got != want {
		t.Errorf("nftables chain %s, want %s", got, want)
	}
}
