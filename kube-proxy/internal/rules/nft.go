package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flagship/kube-proxy/internal/track"
)

// Names in the nftables table. They are upstream's.
const (
	NFTTable = "kube-proxy"

	chainServices     = "services"
	chainMasquerading = "masquerading"
	chainMark         = "mark-for-masquerade"
	chainReject       = "reject-chain"
	chainServiceCheck = "service-endpoints-check"
	chainNodeCheck    = "nodeport-endpoints-check"
	chainIPsCheck     = "cluster-ips-check"
	chainFirewall     = "firewall-check"

	setClusterIPs   = "cluster-ips"
	setNodePortIPs  = "nodeport-ips"
	setHairpin      = "hairpin-connections"
	mapServiceIPs   = "service-ips"
	mapNodePorts    = "service-nodeports"
	mapNoEndpoints  = "no-endpoint-services"
	mapNoNodePorts  = "no-endpoint-nodeports"
	mapFirewallIPs  = "firewall-ips"
	affinitySetFlag = "dynamic,timeout"
)

// nft builds one fragment after the other.
type nft struct {
	Fragment
	known map[slot]int // where an element is in Elements
	cfg   Config
	ip    string // ip or ip6
	addr  string // the type of addresses
}

func newNFTBuilder(cfg Config) *nft {
	n := &nft{known: map[slot]int{}, cfg: cfg, ip: "ip", addr: "ipv4_addr"}
	if cfg.IPv6 {
		n.ip, n.addr = "ip6", "ipv6_addr"
	}
	return n
}

// take hands the fragment out and begins another.
func (n *nft) take() *Fragment {
	f := &Fragment{Chains: slices.Clip(n.Chains), Sets: slices.Clip(n.Sets), Elements: slices.Clip(n.Elements)}
	n.Fragment = Fragment{}
	clear(n.known)
	return f
}

func (n *nft) chain(name string, rules ...string) {
	n.Chains = append(n.Chains, Chain{Name: name, Rules: rules})
}

// element adds one. Of two ports of a service that want the same one, the later has it.
func (n *nft) element(set, key, value string) {
	at := slot{set, key}
	i, twice := n.known[at]
	if twice {
		n.Elements[i].Value = value
		return
	}
	n.known[at] = len(n.Elements)
	n.Elements = append(n.Elements, Element{set, key, value})
}

func (n *nft) base(name, kind, hook, priority string, rules ...string) {
	n.Chains = append(n.Chains, Chain{Name: name, Base: &Base{Type: kind, Hook: hook, Priority: priority}, Rules: rules})
}

// frame is what is there without any service. Work per packet does not depend on the number of services: each step is one
// lookup in a map.
func (n *nft) frame() {
	verdict := n.addr + " . inet_proto . inet_service : verdict"
	n.Sets = []Set{
		{Name: setClusterIPs, Type: n.addr},
		{Name: setHairpin, Type: n.addr + " . " + n.addr + " . inet_proto . inet_service"},
		{Name: mapServiceIPs, Type: verdict, Map: true},
		{Name: mapNoEndpoints, Type: verdict, Map: true},
		{Name: mapFirewallIPs, Type: verdict, Map: true},
		{Name: mapNodePorts, Type: "inet_proto . inet_service : verdict", Map: true},
		{Name: mapNoNodePorts, Type: "inet_proto . inet_service : verdict", Map: true},
	}

	dst := n.ip + " daddr . meta l4proto . th dport"
	local := "fib daddr type local " + n.ip + " daddr != " + n.loopback()
	if n.cfg.NodePortAddrs != nil {
		n.Sets = append(n.Sets, Set{Name: setNodePortIPs, Type: n.addr})
		for _, ip := range n.cfg.NodePortAddrs {
			n.element(setNodePortIPs, ip.String(), "")
		}
		local = n.ip + " daddr @" + setNodePortIPs
	}
	services := []string{dst + " vmap @" + mapServiceIPs, local + " meta l4proto . th dport vmap @" + mapNodePorts}
	if who, known := n.masqueraded(); known {
		services = slices.Insert(services, 0, n.ip+" daddr @"+setClusterIPs+who+" jump "+chainMark)
	}
	n.chain(chainServices, services...)
	n.chain(chainServiceCheck, dst+" vmap @"+mapNoEndpoints)
	n.chain(chainNodeCheck, local+" meta l4proto . th dport vmap @"+mapNoNodePorts)
	n.chain(chainFirewall, dst+" vmap @"+mapFirewallIPs)
	n.chain(chainIPsCheck, n.ip+" daddr @"+setClusterIPs+" reject")
	n.chain(chainReject, "reject")
	mark := fmt.Sprintf("%#x", n.cfg.MasqueradeMark)
	n.chain(chainMark, "mark set mark or "+mark)
	n.chain(chainMasquerading,
		"mark and "+mark+" != 0 mark set mark xor "+mark+" masquerade fully-random",
		"ct status dnat "+n.ip+" saddr . "+n.ip+" daddr . meta l4proto . th dport @"+setHairpin+" masquerade fully-random")

	fresh := "ct state new jump "
	n.base("filter-prerouting-pre-dnat", "filter", "prerouting", "-110", fresh+chainFirewall)
	n.base("filter-output-pre-dnat", "filter", "output", "-110", fresh+chainFirewall)
	n.base("filter-input", "filter", "input", "0", fresh+chainNodeCheck, fresh+chainServiceCheck)
	n.base("filter-forward", "filter", "forward", "0", fresh+chainServiceCheck, fresh+chainIPsCheck)
	n.base("filter-output", "filter", "output", "0", fresh+chainServiceCheck, fresh+chainIPsCheck)
	n.base("nat-prerouting", "nat", "prerouting", "-100", "jump "+chainServices)
	n.base("nat-output", "nat", "output", "-100", "jump "+chainServices)
	n.base("nat-postrouting", "nat", "postrouting", "100", "jump "+chainMasquerading)
}

func (n *nft) loopback() string {
	if n.cfg.IPv6 {
		return "::1"
	}
	return "127.0.0.0/8"
}

// masqueraded matches the traffic to cluster IPs that is masqueraded: all, or what does not come from the cluster's pods,
// unless that cannot be told.
func (n *nft) masqueraded() (match string, known bool) {
	l := n.cfg.Local
	switch {
	case n.cfg.MasqueradeAll:
		return "", true
	case len(l.CIDRs) > 0:
		return " " + n.ip + " saddr != " + cidrs(l.CIDRs), true
	case l.Bridge != "":
		return fmt.Sprintf(" iifname != %q", l.Bridge), true
	case l.InterfacePrefix != "":
		return fmt.Sprintf(" iifname != %q", l.InterfacePrefix+"*"), true
	default:
		return "", false
	}
}

// fromLocal matches traffic of the cluster's pods, in any of these ways; none when that cannot be told.
func (n *nft) fromLocal() (out []string) {
	l := n.cfg.Local
	switch {
	case len(l.CIDRs) > 0:
		for _, r := range l.CIDRs {
			out = append(out, n.ip+" saddr "+r.String())
		}
	case l.Bridge != "":
		out = append(out, fmt.Sprintf("iifname %q", l.Bridge))
	case l.InterfacePrefix != "":
		out = append(out, fmt.Sprintf("iifname %q", l.InterfacePrefix+"*"))
	}
	return out
}

func cidrs(list []netip.Prefix) string {
	if len(list) == 1 {
		return list[0].String()
	}
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = p.String()
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// nftMaxName is the kernel's limit for names of chains and sets, less the longest prefix.
const nftMaxName = 240

// hashed puts a short hash before a name, so that names differ in the part that people see first.
func hashed(name string) string {
	name = hash(name, 8) + "-" + name
	if len(name) > nftMaxName {
		return name[:nftMaxName-3] + "..."
	}
	return name
}

func nftPlain(c *choice) string {
	return c.Service.Namespace + "/" + c.Service.Name + "/" + proto(c.Protocol) + "/" + c.Name
}

func nftName(c *choice) string { return hashed(nftPlain(c)) }

func (n *nft) endpointName(c *choice, e *track.Endpoint) string {
	addr := strings.ReplaceAll(e.Addr.Addr().String(), ":", ".")
	return hashed(nftPlain(c) + "__" + addr + "/" + strconv.Itoa(int(e.Addr.Port())))
}

// port adds one service port.
func (n *nft) port(c choice) {
	base := nftName(&c)
	at := func(ip netip.Addr) string {
		return ip.String() + " . " + proto(c.Protocol) + " . " + strconv.Itoa(int(c.Port.Port))
	}
	nodePort := proto(c.Protocol) + " . " + strconv.Itoa(int(c.NodePort))
	n.element(setClusterIPs, c.ClusterIP.String(), "")

	refuse := ""
	switch {
	case !c.any:
		refuse = "goto " + chainReject
	case len(c.internal()) == 0:
		refuse = "drop"
	}
	if refuse != "" {
		n.element(mapNoEndpoints, at(c.ClusterIP), refuse)
	} else {
		n.element(mapServiceIPs, at(c.ClusterIP), "goto "+n.policyChain(base, c.InternalLocal))
	}
	if c.External() {
		n.external(&c, base, at, nodePort)
	}
	if len(c.cluster) > 0 && c.usesCluster() {
		n.balance(&c, "service-"+base, c.cluster)
	}
	if len(c.local) > 0 && c.usesLocal() {
		n.balance(&c, "local-"+base, c.local)
	}
	for i := range c.all {
		n.endpoint(&c, &c.all[i])
	}
}

func (n *nft) policyChain(base string, local bool) string {
	if local {
		return "local-" + base
	}
	return "service-" + base
}

// external adds node port, external addresses and load balancer addresses. They share one chain.
func (n *nft) external(c *choice, base string, at func(netip.Addr) string, nodePort string) {
	n.firewall(c, base, at)
	addrs := append(append([]netip.Addr{}, c.ExternalIPs...), c.BalancerIPs...)
	// With policy Local and no local endpoint, pods and the node itself still reach all endpoints.
	dead := len(c.external()) == 0 && (!c.ExternalLocal || len(c.cluster) == 0)
	for _, ip := range addrs {
		switch {
		case !c.any:
			n.element(mapNoEndpoints, at(ip), "goto "+chainReject)
		case len(c.external()) == 0:
			n.element(mapNoEndpoints, at(ip), "drop")
		}
		if !dead {
			n.element(mapServiceIPs, at(ip), "goto external-"+base)
		}
	}
	if c.NodePort != 0 {
		switch {
		case !c.any:
			n.element(mapNoNodePorts, nodePort, "goto "+chainReject)
		case len(c.external()) == 0:
			n.element(mapNoNodePorts, nodePort, "drop")
		}
		if !dead {
			n.element(mapNodePorts, nodePort, "goto external-"+base)
		}
	}
	if dead {
		return
	}
	if !c.ExternalLocal {
		n.chain("external-"+base, "jump "+chainMark, "goto service-"+base)
		return
	}
	var ext []string
	if len(c.cluster) > 0 {
		for _, local := range n.fromLocal() {
			ext = append(ext, local+" goto service-"+base)
		}
		ext = append(ext, "fib saddr type local jump "+chainMark, "fib saddr type local goto service-"+base)
	}
	if len(c.local) > 0 {
		ext = append(ext, "goto local-"+base)
	}
	n.chain("external-"+base, ext...)
}

// firewall keeps those out that a load balancer's source ranges do not let in.
func (n *nft) firewall(c *choice, base string, at func(netip.Addr) string) {
	if len(c.SourceRanges) == 0 || len(c.BalancerIPs) == 0 {
		return
	}
	var rules []string
	for _, r := range c.SourceRanges {
		rules = append(rules, n.ip+" saddr "+r.String()+" return")
	}
	n.chain("firewall-"+base, append(rules, "drop")...)
	for _, ip := range c.BalancerIPs {
		n.element(mapFirewallIPs, at(ip), "goto firewall-"+base)
	}
}

// balance adds the chain that picks an endpoint: the one a client had before, else any.
//
// A map of the endpoints would be an anonymous set, and the kernel goes through all sets of a table to make another or to
// find it: with one per service the first sync took a time that grew with the square of their number. So few endpoints are
// picked by a rule each, the first by one in n, the next by one in n-1; for many, whose rules a packet would have to pass
// one by one, the map is worth it.
func (n *nft) balance(c *choice, name string, list []track.Endpoint) {
	const few = 8
	var rules []string
	if c.AffinitySeconds > 0 {
		for i := range list {
			e := n.endpointName(c, &list[i])
			rules = append(rules, n.ip+" saddr @affinity-"+e+" goto endpoint-"+e)
		}
	}
	if len(list) > few && c.AffinitySeconds == 0 {
		ends := make([]string, len(list))
		for i := range list {
			ends[i] = fmt.Sprintf("%d : %s . %d", i, list[i].Addr.Addr(), list[i].Addr.Port())
		}
		n.chain(name, fmt.Sprintf("meta l4proto %s dnat %s addr . port to numgen random mod %d map { %s }",
			proto(c.Protocol), n.ip, len(list), strings.Join(ends, " , ")))
		return
	}
	for i := range list {
		pick := ""
		if left := len(list) - i; left > 1 {
			pick = "numgen random mod " + strconv.Itoa(left) + " 0 "
		}
		if c.AffinitySeconds > 0 {
			rules = append(rules, pick+"goto endpoint-"+n.endpointName(c, &list[i]))
		} else {
			rules = append(rules, pick+dnat(c, &list[i]))
		}
	}
	n.chain(name, rules...)
}

func dnat(c *choice, e *track.Endpoint) string {
	return "meta l4proto " + proto(c.Protocol) + " dnat to " + e.Addr.String()
}

// endpoint adds what is there for one endpoint: with affinity, a chain that notes the client. A packet that an endpoint
// sends to itself is masqueraded, or the answer would not come back this way: by the cluster IP it gets here from a pod of
// this node alone, by an external address that keeps the client's also from one of another node.
func (n *nft) endpoint(c *choice, e *track.Endpoint) {
	if e.Local || c.External() && c.ExternalLocal {
		ip := e.Addr.Addr().String()
		n.element(setHairpin, ip+" . "+ip+" . "+proto(c.Protocol)+" . "+strconv.Itoa(int(e.Addr.Port())), "")
	}
	if c.AffinitySeconds > 0 {
		name := n.endpointName(c, e)
		n.Sets = append(n.Sets, Set{Name: "affinity-" + name, Type: n.addr, Flags: affinitySetFlag, Timeout: c.AffinitySeconds})
		n.chain("endpoint-"+name, "update @affinity-"+name+" { "+n.ip+" saddr }", dnat(c, e))
	}
}
