package conntrack

import (
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"

	"flagship/kube-proxy/internal/rules"
	"flagship/kube-proxy/internal/track"
)

// Flow is a UDP flow: where the client sent to and where the answers come from.
type Flow struct{ To, From netip.AddrPort }

// Plan says which flows are stale.
type Plan struct {
	addresses map[netip.AddrPort]map[netip.AddrPort]bool
	nodePorts map[uint16]map[netip.AddrPort]bool
}

// NewPlan notes where the UDP ports of a snapshot lead to. Ports without endpoints are left out: their flows end by the
// reject that clients get. An address that two services claim, of which the snapshot has but one, may lose flows that are
// not stale: the next packet makes another.
func NewPlan(s *track.Snapshot) *Plan {
	p := &Plan{addresses: map[netip.AddrPort]map[netip.AddrPort]bool{}, nodePorts: map[uint16]map[netip.AddrPort]bool{}}
	for i := range s.Ports {
		port := &s.Ports[i]
		if port.Protocol != v1.ProtocolUDP {
			continue
		}
		ends := map[netip.AddrPort]bool{}
		for _, e := range rules.Reachable(port, s) {
			ends[e.Addr] = true
		}
		if len(ends) == 0 {
			continue
		}
		number := uint16(port.Port) //nolint:gosec // the API server has validated 1 to 65535
		p.addresses[netip.AddrPortFrom(port.ClusterIP, number)] = ends
		for _, ip := range append(append([]netip.Addr{}, port.ExternalIPs...), port.BalancerIPs...) {
			p.addresses[netip.AddrPortFrom(ip, number)] = ends
		}
		if port.NodePort != 0 {
			p.nodePorts[uint16(port.NodePort)] = ends //nolint:gosec // as above
		}
	}
	return p
}

// Empty says whether no flow can be stale.
func (p *Plan) Empty() bool { return len(p.addresses)+len(p.nodePorts) == 0 }

// Stale says whether a flow to a service does not end at one of its endpoints. nodeAddrs are those that node ports are at.
func (p *Plan) Stale(f Flow, nodeAddrs []netip.Addr) bool {
	if ends, ok := p.addresses[f.To]; ok {
		return !ends[f.From]
	}
	if ends, ok := p.nodePorts[f.To.Port()]; ok && slices.Contains(nodeAddrs, f.To.Addr()) {
		return !ends[f.From]
	}
	return false
}
