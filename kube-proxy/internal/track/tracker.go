package track

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Tracker holds the newest Services, EndpointSlices and node. It is safe for concurrent use.
type Tracker struct {
	nodeName string
	changed  func()

	mu       sync.Mutex // guards all below
	services map[types.NamespacedName]*v1.Service
	slices   map[types.NamespacedName]map[string]*discoveryv1.EndpointSlice // by service, then by slice name
	node     *v1.Node
	dirty    Names // since Changed was called last; nil for everything
}

// New returns an empty tracker that calls changed, without holding a lock, after every change.
func New(nodeName string, changed func()) *Tracker {
	return &Tracker{
		nodeName: nodeName, changed: changed, services: map[types.NamespacedName]*v1.Service{},
		slices: map[types.NamespacedName]map[string]*discoveryv1.EndpointSlice{},
	}
}

// SetService takes a service's newest state; gone forgets it.
func (t *Tracker) SetService(s *v1.Service, gone bool) {
	key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	t.mu.Lock()
	same := !gone && t.services[key] == s
	if gone {
		delete(t.services, key)
	} else {
		t.services[key] = s
	}
	t.unlock(key, same)
}

// unlock ends a change of a service. An informer that gives what it has again, the same object, changes nothing.
func (t *Tracker) unlock(key types.NamespacedName, same bool) {
	if t.dirty != nil && !same {
		t.dirty[key] = struct{}{}
	}
	t.mu.Unlock()
	if !same {
		t.changed()
	}
}

// SetSlice takes a slice's newest state; gone forgets it.
func (t *Tracker) SetSlice(s *discoveryv1.EndpointSlice, gone bool) {
	key := types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
	t.mu.Lock()
	same := !gone && t.slices[key][s.Name] == s
	if gone {
		delete(t.slices[key], s.Name)
		if len(t.slices[key]) == 0 {
			delete(t.slices, key)
		}
	} else {
		if t.slices[key] == nil {
			t.slices[key] = map[string]*discoveryv1.EndpointSlice{}
		}
		t.slices[key][s.Name] = s
	}
	t.unlock(key, same)
}

// SetNode takes this node's newest state; other nodes are ignored.
func (t *Tracker) SetNode(n *v1.Node) {
	if n.Name != t.nodeName {
		return
	}
	t.mu.Lock()
	old := t.node
	t.node = n
	same := old != nil && old.Labels[v1.LabelTopologyZone] == n.Labels[v1.LabelTopologyZone] &&
		slices.Equal(old.Spec.PodCIDRs, n.Spec.PodCIDRs) && slices.Equal(old.Status.Addresses, n.Status.Addresses)
	if !same {
		t.dirty = nil
	}
	t.mu.Unlock()
	if !same {
		t.changed()
	}
}

// NodeDeleting says whether this node is about to go, so that load balancers should not use it.
func (t *Tracker) NodeDeleting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.node == nil {
		return false
	}
	return t.node.DeletionTimestamp != nil || slices.ContainsFunc(t.node.Spec.Taints, func(x v1.Taint) bool {
		return x.Key == "ToBeDeletedByClusterAutoscaler"
	})
}

// Changed lists the services that changed since it was called last, nil for all of them: at first, and when the node is
// another. The list is the caller's.
func (t *Tracker) Changed() Names {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.dirty
	t.dirty = Names{}
	return out
}

// Snapshot gives the state of one family for some services, nil for all.
func (t *Tracker) Snapshot(ipv6 bool, only Names) *Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &Snapshot{NodeName: t.nodeName, Only: only}
	if t.node != nil {
		s.Zone = t.node.Labels[v1.LabelTopologyZone]
		s.NodeIPs, s.PodCIDR = addresses(t.node, ipv6)
	}
	names := maps.Keys(t.services)
	if only != nil {
		names = maps.Keys(only)
	}
	for _, name := range slices.SortedFunc(names, Compare) {
		if svc := t.services[name]; svc != nil {
			s.Ports = append(s.Ports, t.ports(name, svc, ipv6)...)
		}
	}
	return s
}

// Compare orders services.
func Compare(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func addresses(n *v1.Node, ipv6 bool) (own []netip.Addr, pods netip.Prefix) {
	for _, a := range n.Status.Addresses {
		if a.Type == v1.NodeInternalIP || a.Type == v1.NodeExternalIP {
			if ip, ok := parse(a.Address, ipv6); ok && !slices.Contains(own, ip) {
				own = append(own, ip)
			}
		}
	}
	for _, c := range n.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(c); err == nil && p.Addr().Is6() == ipv6 {
			pods = p
		}
	}
	return own, pods
}

func parse(s string, ipv6 bool) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return ip, false
	}
	ip = ip.Unmap()
	return ip, ip.Is6() == ipv6
}

func parseAll(list []string, ipv6 bool) (out []netip.Addr) {
	for _, s := range list {
		if ip, ok := parse(s, ipv6); ok {
			out = append(out, ip)
		}
	}
	return out
}

func (t *Tracker) ports(key types.NamespacedName, svc *v1.Service, ipv6 bool) []Port {
	if svc.Spec.Type == v1.ServiceTypeExternalName || svc.Spec.ClusterIP == v1.ClusterIPNone || svc.Spec.ClusterIP == "" {
		return nil
	}
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP}
	}
	own := parseAll(ips, ipv6)
	if len(own) == 0 {
		return nil
	}
	base := Port{
		Service: key, UID: svc.UID, ClusterIP: own[0], ExternalIPs: parseAll(svc.Spec.ExternalIPs, ipv6),
		InternalLocal: svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == v1.ServiceInternalTrafficPolicyLocal,
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == v1.LoadBalancerIPModeVIP {
			base.BalancerIPs = append(base.BalancerIPs, parseAll([]string{in.IP}, ipv6)...)
		}
	}
	base.ExternalLocal = svc.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal
	if base.ExternalLocal {
		base.HealthCheckPort = svc.Spec.HealthCheckNodePort
	}
	for _, r := range svc.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(r)); err == nil && p.Addr().Is6() == ipv6 {
			base.SourceRanges = append(base.SourceRanges, p.Masked())
		}
	}
	if svc.Spec.SessionAffinity == v1.ServiceAffinityClientIP {
		base.AffinitySeconds = v1.DefaultClientIPServiceAffinitySeconds
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			base.AffinitySeconds = *c.ClientIP.TimeoutSeconds
		}
	}
	var out []Port
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		p := base
		p.Name, p.Protocol, p.Port, p.NodePort = sp.Name, sp.Protocol, sp.Port, sp.NodePort
		p.Endpoints = t.endpoints(key, sp, ipv6)
		out = append(out, p)
	}
	return out
}

func (t *Tracker) endpoints(key types.NamespacedName, sp *v1.ServicePort, ipv6 bool) []Endpoint {
	found := map[netip.AddrPort]Endpoint{}
	family := discoveryv1.AddressTypeIPv4
	if ipv6 {
		family = discoveryv1.AddressTypeIPv6
	}
	for _, slice := range t.slices[key] {
		if slice.AddressType != family {
			continue
		}
		for _, port := range slice.Ports {
			if deref(port.Name) != sp.Name || port.Port == nil || *port.Port <= 0 || port.Protocol != nil && *port.Protocol != sp.Protocol {
				continue
			}
			for i := range slice.Endpoints {
				t.endpoint(&slice.Endpoints[i], uint16(*port.Port), ipv6, found)
			}
		}
	}
	out := make([]Endpoint, 0, len(found))
	for _, e := range found {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return a.Addr.Compare(b.Addr) })
	return out
}

func (t *Tracker) endpoint(in *discoveryv1.Endpoint, port uint16, ipv6 bool, into map[netip.AddrPort]Endpoint) {
	if len(in.Addresses) == 0 {
		return
	}
	ip, ok := parse(in.Addresses[0], ipv6)
	if !ok {
		return
	}
	e := Endpoint{
		Addr: netip.AddrPortFrom(ip, port), Local: in.NodeName != nil && *in.NodeName == t.nodeName,
		Ready:       in.Conditions.Ready == nil || *in.Conditions.Ready,
		Terminating: in.Conditions.Terminating != nil && *in.Conditions.Terminating,
	}
	e.Serving = e.Ready
	if in.Conditions.Serving != nil {
		e.Serving = *in.Conditions.Serving
	}
	if in.Hints != nil {
		for _, z := range in.Hints.ForZones {
			e.ZoneHints = append(e.ZoneHints, z.Name)
		}
		for _, n := range in.Hints.ForNodes {
			e.NodeHints = append(e.NodeHints, n.Name)
		}
	}
	// The same address in two slices: what is ready wins.
	if old, twice := into[e.Addr]; twice && (old.Ready || !e.Ready) {
		return
	}
	into[e.Addr] = e
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
