package conntrack

import (
	"net/netip"
	"testing"

	v1 "k8s.io/api/core/v1"

	"flagship/kube-proxy/internal/track"
)

func TestStale(t *testing.T) {
	at := netip.MustParseAddrPort
	node := netip.MustParseAddr("192.168.0.2")
	ready := []track.Endpoint{{Addr: at("10.0.0.1:53"), Ready: true, Serving: true}}
	p := NewPlan(&track.Snapshot{Ports: []track.Port{
		{Protocol: v1.ProtocolUDP, ClusterIP: netip.MustParseAddr("172.30.0.10"), Port: 53, NodePort: 30053, Endpoints: ready},
		{Protocol: v1.ProtocolTCP, ClusterIP: netip.MustParseAddr("172.30.0.11"), Port: 53, Endpoints: ready},
		{Protocol: v1.ProtocolUDP, ClusterIP: netip.MustParseAddr("172.30.0.12"), Port: 53},
	}})
	for name, c := range map[string]struct {
		to, from string
		want     bool
	}{
		"to an endpoint":              {"172.30.0.10:53", "10.0.0.1:53", false},
		"to an endpoint that is gone": {"172.30.0.10:53", "10.0.0.2:53", true},
		"never translated":            {"172.30.0.10:53", "172.30.0.10:53", true},
		"node port":                   {"192.168.0.2:30053", "10.0.0.2:53", true},
		"the port of another host":    {"192.168.0.3:30053", "192.168.0.3:30053", false},
		"TCP service":                 {"172.30.0.11:53", "10.0.0.2:53", false},
		"service without endpoints":   {"172.30.0.12:53", "172.30.0.12:53", false},
		"no service":                  {"8.8.8.8:53", "8.8.8.8:53", false},
	} {
		if got := p.Stale(Flow{To: at(c.to), From: at(c.from)}, []netip.Addr{node}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
