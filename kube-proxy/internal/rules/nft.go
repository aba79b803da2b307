package rules

import (
	"fmt"
	"net/netip"
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
	mapServiceIPs   = "service-ips"
	mapNodePorts    = "service-nodeports"
	mapNoEndpoints  = "no-endpoint-services"
	mapNoNodePorts  = "no-endpoint-nodeports"
	mapFirewallIPs  = "firewall-ips"
	affinitySetFlag = "dynamic,timeout"
)

// nft builds the table of one family.
type nft struct {
	*Table
	cfg  Config
	ip   string // ip or ip6
	addr string // the type of addresses
}

// NFT gives the whole table that the snapshot asks for. Work per packet does not depend on the number of services: each
// step is one lookup in a map.
func NFT(cfg Config, s *track.Snapshot) *Table {
	n := &nft{Table: newTable(), cfg: cfg, ip: "ip", addr: "ipv4_addr"}
	if cfg.IPv6 {
		n.ip, n.addr = "ip6", "ipv6_addr"
	}
	n.frame()
	for i := range s.Ports {
		n.port(choose(&s.Ports[i], s.NodeName, s.Zone))
	}
	return n.Table
}

func (n *nft) base(name, kind, hook, priority string, rules ...string) {
	n.chain(name, rules...).Base = &Base{Type: kind, Hook: hook, Priority: priority}
}

// frame is what is there without any service.
func (n *nft) frame() {
	verdict := n.addr + " . inet_proto . inet_service : verdict"
	for name, typ := range map[string]string{
		mapServiceIPs: verdict, mapNoEndpoints: verdict, mapFirewallIPs: verdict,
		mapNodePorts: "inet_proto . inet_service : verdict", mapNoNodePorts: "inet_proto . inet_service : verdict",
	} {
		n.Sets[name] = &Set{Type: typ, Map: true, Elements: map[string]string{}}
	}
	n.Sets[setClusterIPs] = &Set{Type: n.addr, Elements: map[string]string{}}

	dst := n.ip + " daddr . meta l4proto . th dport"
	local := "fib daddr type local " + n.ip + " daddr != " + n.loopback()
	if n.cfg.NodePortAddrs != nil {
		n.Sets[setNodePortIPs] = &Set{Type: n.addr, Elements: map[string]string{}}
		for _, ip := range n.cfg.NodePortAddrs {
			n.element(setNodePortIPs, ip.String(), "")
		}
		local = n.ip + " daddr @" + setNodePortIPs
	}
	if n.cfg.MasqueradeAll {
		n.chain(chainServices, n.ip+" daddr @"+setClusterIPs+" jump "+chainMark)
	} else {
		for _, not := range n.notLocal() {
			n.chain(chainServices, n.ip+" daddr @"+setClusterIPs+" "+not+" jump "+chainMark)
		}
	}
	n.chain(chainServices, dst+" vmap @"+mapServiceIPs, local+" meta l4proto . th dport vmap @"+mapNodePorts)
	n.chain(chainServiceCheck, dst+" vmap @"+mapNoEndpoints)
	n.chain(chainNodeCheck, local+" meta l4proto . th dport vmap @"+mapNoNodePorts)
	n.chain(chainFirewall, dst+" vmap @"+mapFirewallIPs)
	n.chain(chainIPsCheck, n.ip+" daddr @"+setClusterIPs+" reject")
	n.chain(chainReject, "reject")
	mark := fmt.Sprintf("%#x", n.cfg.MasqueradeMark)
	n.chain(chainMark, "mark set mark or "+mark)
	n.chain(chainMasquerading,
		"mark and "+mark+" == 0 return",
		"mark set mark xor "+mark,
		"masquerade fully-random")

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

// notLocal matches traffic that does not come from the cluster's pods; none when that cannot be told.
func (n *nft) notLocal() []string {
	l := n.cfg.Local
	switch {
	case len(l.CIDRs) > 0:
		return []string{n.ip + " saddr != " + cidrs(l.CIDRs)}
	case l.Bridge != "":
		return []string{fmt.Sprintf("iifname != %q", l.Bridge)}
	case l.InterfacePrefix != "":
		return []string{fmt.Sprintf("iifname != %q", l.InterfacePrefix+"*")}
	default:
		return nil
	}
}

// fromLocal matches traffic of the cluster's pods; "" when that cannot be told.
func (n *nft) fromLocal() string {
	l := n.cfg.Local
	switch {
	case len(l.CIDRs) > 0:
		return n.ip + " saddr " + cidrs(l.CIDRs)
	case l.Bridge != "":
		return fmt.Sprintf("iifname %q", l.Bridge)
	case l.InterfacePrefix != "":
		return fmt.Sprintf("iifname %q", l.InterfacePrefix+"*")
	default:
		return ""
	}
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
	ext := n.chain("external-" + base)
	if len(c.cluster) > 0 {
		if local := n.fromLocal(); local != "" {
			ext.Rules = append(ext.Rules, local+" goto service-"+base)
		}
		ext.Rules = append(ext.Rules, "fib saddr type local jump "+chainMark, "fib saddr type local goto service-"+base)
	}
	if len(c.local) > 0 {
		ext.Rules = append(ext.Rules, "goto local-"+base)
	}
}

// firewall keeps those out that a load balancer's source ranges do not let in.
func (n *nft) firewall(c *choice, base string, at func(netip.Addr) string) {
	if len(c.SourceRanges) == 0 || len(c.BalancerIPs) == 0 {
		return
	}
	chain := n.chain("firewall-" + base)
	chain.Rules = append(chain.Rules, n.ip+" saddr != "+"{ "+strings.Trim(cidrs(c.SourceRanges), "{ }")+" } drop")
	for _, ip := range c.BalancerIPs {
		n.element(mapFirewallIPs, at(ip), "goto firewall-"+base)
	}
}

// balance adds the chain that picks an endpoint: the one a client had before, else any.
func (n *nft) balance(c *choice, name string, list []track.Endpoint) {
	chain := n.chain(name)
	if c.AffinitySeconds > 0 {
		for i := range list {
			e := n.endpointName(c, &list[i])
			chain.Rules = append(chain.Rules, n.ip+" saddr @affinity-"+e+" goto endpoint-"+e)
		}
	}
	picks := make([]string, len(list))
	for i := range list {
		picks[i] = strconv.Itoa(i) + " : goto endpoint-" + n.endpointName(c, &list[i])
	}
	chain.Rules = append(chain.Rules, fmt.Sprintf("numgen random mod %d vmap { %s }", len(list), strings.Join(picks, " , ")))
}

// endpoint adds the chain that sends a packet to one endpoint. A packet that an endpoint sends to itself is masqueraded,
// or the answer would not come back this way.
func (n *nft) endpoint(c *choice, e *track.Endpoint) {
	name := n.endpointName(c, e)
	chain := n.chain("endpoint-"+name, n.ip+" saddr "+e.Addr.Addr().String()+" jump "+chainMark)
	if c.AffinitySeconds > 0 {
		n.Sets["affinity-"+name] = &Set{Type: n.addr, Flags: affinitySetFlag, Timeout: c.AffinitySeconds, Elements: map[string]string{}}
		chain.Rules = append(chain.Rules, "update @affinity-"+name+" { "+n.ip+" saddr }")
	}
	chain.Rules = append(chain.Rules, "meta l4proto "+proto(c.Protocol)+" dnat to "+e.Addr.String())
}
