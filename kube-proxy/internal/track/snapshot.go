package track

import (
	"net/netip"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Port is one port of a service, in one address family.
type Port struct {
	Service  types.NamespacedName
	UID      types.UID
	Name     string
	Protocol v1.Protocol

	ClusterIP   netip.Addr
	Port        int32
	NodePort    int32
	ExternalIPs []netip.Addr
	// BalancerIPs are the addresses of load balancers that are to be served here (ipMode VIP).
	BalancerIPs []netip.Addr
	// SourceRanges limit who may come by a load balancer's address; none means everybody.
	SourceRanges []netip.Prefix
	// ExternalLocal and InternalLocal are the traffic policies.
	ExternalLocal, InternalLocal bool
	// AffinitySeconds is how long a client keeps its endpoint, 0 for no affinity.
	AffinitySeconds int32
	HealthCheckPort int32

	Endpoints []Endpoint
}

// String is namespace/name:port, as upstream names a service port.
func (p *Port) String() string {
	if p.Name == "" {
		return p.Service.String()
	}
	return p.Service.String() + ":" + p.Name
}

// External says whether the port can be reached by other than the cluster IP.
func (p *Port) External() bool {
	return p.NodePort != 0 || len(p.ExternalIPs) > 0 || len(p.BalancerIPs) > 0
}

// Endpoint is where a port's traffic can go.
type Endpoint struct {
	Addr                               netip.AddrPort
	Local, Ready, Serving, Terminating bool
	NodeHints, ZoneHints               []string
}

// Names is a set of services.
type Names map[types.NamespacedName]struct{}

// Snapshot is what the rules of one family follow from: of all services, or of some.
type Snapshot struct {
	// Only are the services that the snapshot is of: one of them that has no port here is gone, or not of this family. Nil
	// says that it is of all.
	Only Names
	// Ports are sorted by service, and those of a service stand as it lists them.
	Ports    []Port
	NodeName string
	Zone     string
	// NodeIPs are the node's own addresses of the family.
	NodeIPs []netip.Addr
	// PodCIDR is the node's, not valid when it has none.
	PodCIDR netip.Prefix
}
