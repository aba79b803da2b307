package rules

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"flagship/kube-proxy/internal/track"
)

// LocalTraffic is how traffic of this cluster's pods is told from other traffic. With all fields empty it cannot be told.
type LocalTraffic struct {
	CIDRs           []netip.Prefix
	Bridge          string
	InterfacePrefix string
}

// Config is what does not change while the process runs.
type Config struct {
	IPv6          bool
	MasqueradeAll bool
	// MasqueradeMark is the firewall mark of packets to masquerade, one bit.
	MasqueradeMark uint32
	Local          LocalTraffic
	// NodePortAddrs are the addresses that node ports answer on; nil means every address of the node.
	NodePortAddrs []netip.Addr
	// LocalhostNodePorts lets node ports answer on 127.0.0.1 (iptables only).
	LocalhostNodePorts bool
}

// choice is where a port's traffic goes.
type choice struct {
	*track.Port
	// cluster and local are for the two traffic policies; all is every endpoint that either uses.
	cluster, local, all []track.Endpoint
	// any says whether there is an endpoint anywhere: a Local policy without a local one drops, without any rejects.
	any bool
}

func (c *choice) usesCluster() bool { return !c.InternalLocal || c.External() && !c.ExternalLocal }
func (c *choice) usesLocal() bool   { return c.InternalLocal || c.External() && c.ExternalLocal }

// internal are the endpoints for the cluster IP, external those for all other addresses.
func (c *choice) internal() []track.Endpoint {
	if c.InternalLocal {
		return c.local
	}
	return c.cluster
}

func (c *choice) external() []track.Endpoint {
	if c.ExternalLocal {
		return c.local
	}
	return c.cluster
}

func filter(list []track.Endpoint, keep func(e *track.Endpoint) bool) (out []track.Endpoint) {
	for i := range list {
		if keep(&list[i]) {
			out = append(out, list[i])
		}
	}
	return out
}

// choose applies readiness, termination (KEP-1669), traffic policies and topology hints (KEP-2433, KEP-3015).
func choose(p *track.Port, node, zone string) choice {
	c := choice{Port: p}
	terminating := func(e *track.Endpoint) bool { return e.Serving && e.Terminating }
	near := func(*track.Endpoint) bool { return true }
	hinted := false
	if c.usesCluster() {
		near, hinted = topology(p.Endpoints, node, zone)
		c.cluster = filter(p.Endpoints, func(e *track.Endpoint) bool { return e.Ready && near(e) })
		if len(c.cluster) == 0 {
			c.cluster = filter(p.Endpoints, terminating)
		}
		c.any = len(c.cluster) > 0
	}
	if !c.usesLocal() {
		c.all = c.cluster
		return c
	}
	c.local = filter(p.Endpoints, func(e *track.Endpoint) bool { return e.Local && e.Ready })
	going := false
	if len(c.local) == 0 {
		c.local = filter(p.Endpoints, func(e *track.Endpoint) bool { return e.Local && terminating(e) })
		going = len(c.local) > 0
	}
	c.any = c.any || slices.ContainsFunc(p.Endpoints, func(e track.Endpoint) bool { return e.Ready || terminating(&e) })
	switch {
	case !c.usesCluster():
		c.all = c.local
	case !hinted && !going:
		c.all = c.cluster
	default:
		c.all = slices.Clone(c.cluster)
		for _, e := range c.local {
			if !slices.ContainsFunc(c.all, func(o track.Endpoint) bool { return o.Addr == e.Addr }) {
				c.all = append(c.all, e)
			}
		}
		slices.SortFunc(c.all, func(a, b track.Endpoint) int { return a.Addr.Compare(b.Addr) })
	}
	return c
}

// topology says which endpoints are near by the slices' hints: those of this node, else those of this zone, and only when
// every ready endpoint has such a hint and one is for us.
func topology(list []track.Endpoint, node, zone string) (near func(*track.Endpoint) bool, hinted bool) {
	ready, nodes, zones, ourNode, ourZone := false, true, true, false, false
	for i := range list {
		e := &list[i]
		if !e.Ready {
			continue
		}
		ready = true
		nodes = nodes && len(e.NodeHints) > 0
		zones = zones && len(e.ZoneHints) > 0
		ourNode = ourNode || slices.Contains(e.NodeHints, node)
		ourZone = ourZone || zone != "" && slices.Contains(e.ZoneHints, zone)
	}
	switch {
	case ready && nodes && ourNode:
		return func(e *track.Endpoint) bool { return slices.Contains(e.NodeHints, node) }, true
	case ready && zones && ourZone:
		return func(e *track.Endpoint) bool { return slices.Contains(e.ZoneHints, zone) }, true
	default:
		return func(*track.Endpoint) bool { return true }, false
	}
}

func proto(p v1.Protocol) string { return strings.ToLower(string(p)) }

// hash is the start of a base32 SHA-256, as upstream shortens names.
func hash(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:n]
}

// LocalReady counts a service's local endpoints, for its health check node port.
func LocalReady(p *track.Port) int {
	return len(filter(p.Endpoints, func(e *track.Endpoint) bool { return e.Local && e.Ready }))
}

// Reachable lists the endpoints that a port's traffic can go to now, for conntrack cleanup.
func Reachable(p *track.Port, s *track.Snapshot) []track.Endpoint {
	c := choose(p, s.NodeName, s.Zone)
	return c.all
}
