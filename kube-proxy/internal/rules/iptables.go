package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flagship/kube-proxy/internal/track"
)

// Jump sends packets from one of the kernel's chains to one of ours.
type Jump struct {
	Table, From, To, Comment string
	Match                    []string
	// Append puts the rule last; else it is the first.
	Append bool
}

// Jumps are the rules in the kernel's chains, in the order in which they are to be looked at. The names are upstream's.
func Jumps() []Jump {
	fresh := []string{"-m", "conntrack", "--ctstate", "NEW"}
	const portals, outside = "kubernetes service portals", "kubernetes externally-visible service portals"
	const firewall = "kubernetes load balancer firewall"
	return []Jump{
		{Table: "filter", From: "INPUT", To: "KUBE-EXTERNAL-SERVICES", Comment: outside, Match: fresh},
		{Table: "filter", From: "FORWARD", To: "KUBE-EXTERNAL-SERVICES", Comment: outside, Match: fresh},
		{Table: "filter", From: "INPUT", To: "KUBE-NODEPORTS", Comment: "kubernetes health check service ports"},
		{Table: "filter", From: "FORWARD", To: "KUBE-SERVICES", Comment: portals, Match: fresh},
		{Table: "filter", From: "OUTPUT", To: "KUBE-SERVICES", Comment: portals, Match: fresh},
		{Table: "filter", From: "FORWARD", To: "KUBE-FORWARD", Comment: "kubernetes forwarding rules"},
		{Table: "filter", From: "INPUT", To: "KUBE-PROXY-FIREWALL", Comment: firewall, Match: fresh},
		{Table: "filter", From: "OUTPUT", To: "KUBE-PROXY-FIREWALL", Comment: firewall, Match: fresh},
		{Table: "filter", From: "FORWARD", To: "KUBE-PROXY-FIREWALL", Comment: firewall, Match: fresh},
		{Table: "nat", From: "OUTPUT", To: "KUBE-SERVICES", Comment: portals},
		{Table: "nat", From: "PREROUTING", To: "KUBE-SERVICES", Comment: portals},
		{Table: "nat", From: "POSTROUTING", To: "KUBE-POSTROUTING", Comment: "kubernetes postrouting rules"},
	}
}

// Chains are our chains of one table, with their rules.
type Chains map[string][]string

// chain adds rules to a chain, making it when it is not there.
func (t Chains) chain(name string, rules ...string) { t[name] = append(t[name], rules...) }

// ipt builds the tables filter and nat of one family.
type ipt struct {
	filter, nat Chains
	cfg         Config
}

// IPTables gives our chains of the tables filter and nat, for a snapshot of all services.
func IPTables(cfg Config, s *track.Snapshot) (filter, nat Chains) {
	t := &ipt{filter: Chains{}, nat: Chains{}, cfg: cfg}
	t.frame()
	for i := range s.Ports {
		t.port(choose(&s.Ports[i], s.NodeName, s.Zone))
	}
	t.nodePortJump()
	return t.filter, t.nat
}

func (t *ipt) frame() {
	mark := fmt.Sprintf("%#08x", t.cfg.MasqueradeMark)
	for _, name := range []string{"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"} {
		t.filter.chain(name)
	}
	t.filter.chain("KUBE-FORWARD",
		"-m conntrack --ctstate INVALID -j DROP",
		comment("kubernetes forwarding rules")+" -m mark --mark "+mark+"/"+mark+" -j ACCEPT",
		comment("kubernetes forwarding conntrack rule")+" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	t.nat.chain("KUBE-SERVICES")
	t.nat.chain("KUBE-NODEPORTS")
	t.nat.chain("KUBE-MARK-MASQ", "-j MARK --or-mark "+mark)
	t.nat.chain("KUBE-POSTROUTING",
		"-m mark ! --mark "+mark+"/"+mark+" -j RETURN",
		"-j MARK --xor-mark "+mark,
		comment("kubernetes service traffic requiring SNAT")+" -j MASQUERADE --random-fully")
}

func comment(s string) string { return `-m comment --comment "` + s + `"` }

func (t *ipt) nodePortJump() {
	const text = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
	if t.cfg.NodePortAddrs == nil {
		not := ""
		switch {
		case t.cfg.IPv6:
			not = " ! -d ::1/128"
		case !t.cfg.LocalhostNodePorts:
			not = " ! -d 127.0.0.0/8"
		}
		t.nat.chain("KUBE-SERVICES", comment(text)+" -m addrtype --dst-type LOCAL"+not+" -j KUBE-NODEPORTS")
		return
	}
	for _, ip := range t.cfg.NodePortAddrs {
		t.nat.chain("KUBE-SERVICES", comment(text)+" -d "+ip.String()+" -j KUBE-NODEPORTS")
	}
}

func iptName(prefix string, c *choice) string { return prefix + hash(c.String()+proto(c.Protocol), 16) }

func sepName(c *choice, e *track.Endpoint) string {
	return "KUBE-SEP-" + hash(c.String()+proto(c.Protocol)+e.Addr.String(), 16)
}

func (t *ipt) to(c *choice, ip netip.Addr) string {
	p := proto(c.Protocol)
	return fmt.Sprintf("-m %s -p %s -d %s --dport %d", p, p, ip, c.Port.Port)
}

// port adds one service port.
func (t *ipt) port(c choice) {
	name := c.String()
	policy := iptName("KUBE-SVC-", &c)
	if c.InternalLocal {
		policy = iptName("KUBE-SVL-", &c)
	}
	switch {
	case !c.any:
		t.filter.chain("KUBE-SERVICES", comment(name+" has no endpoints")+" "+t.to(&c, c.ClusterIP)+" -j REJECT")
	case len(c.internal()) == 0:
		t.filter.chain("KUBE-SERVICES", comment(name+" has no local endpoints")+" "+t.to(&c, c.ClusterIP)+" -j DROP")
	default:
		t.nat.chain("KUBE-SERVICES", comment(name+" cluster IP")+" "+t.to(&c, c.ClusterIP)+" -j "+policy)
		t.masqueradeOutside(&c, policy)
	}
	if c.External() {
		t.external(&c)
	}
	if c.usesCluster() && len(c.cluster) > 0 {
		t.balance(&c, iptName("KUBE-SVC-", &c), c.cluster)
	}
	if c.usesLocal() && len(c.local) > 0 {
		t.balance(&c, iptName("KUBE-SVL-", &c), c.local)
	}
	for i := range c.all {
		t.endpoint(&c, &c.all[i])
	}
}

// masqueradeOutside marks traffic to the cluster IP that does not come from the cluster's pods.
func (t *ipt) masqueradeOutside(c *choice, policy string) {
	rule := comment(c.String()+" cluster IP") + " " + t.to(c, c.ClusterIP)
	l := t.cfg.Local
	switch {
	case t.cfg.MasqueradeAll:
		t.nat.chain(policy, rule+" -j KUBE-MARK-MASQ")
	case len(l.CIDRs) == 1:
		t.nat.chain(policy, rule+" ! -s "+l.CIDRs[0].String()+" -j KUBE-MARK-MASQ")
	case len(l.CIDRs) > 1:
		// Several ranges: what is in one of them skips the mark, by way of a chain of its own.
		skip := iptName("KUBE-OUT-", c)
		for _, r := range l.CIDRs {
			t.nat.chain(skip, "-s "+r.String()+" -j RETURN")
		}
		t.nat.chain(skip, "-j KUBE-MARK-MASQ")
		t.nat.chain(policy, rule+" -j "+skip)
	case l.Bridge != "":
		t.nat.chain(policy, rule+" ! -i "+l.Bridge+" -j KUBE-MARK-MASQ")
	case l.InterfacePrefix != "":
		t.nat.chain(policy, rule+" ! -i "+l.InterfacePrefix+"+ -j KUBE-MARK-MASQ")
	}
}

func (t *ipt) fromLocal() []string {
	l := t.cfg.Local
	var out []string
	for _, r := range l.CIDRs {
		out = append(out, "-s "+r.String())
	}
	if l.Bridge != "" {
		out = append(out, "-i "+l.Bridge)
	}
	if l.InterfacePrefix != "" {
		out = append(out, "-i "+l.InterfacePrefix+"+")
	}
	return out
}

// external adds external addresses, load balancer addresses and the node port.
func (t *ipt) external(c *choice) {
	name, p := c.String(), proto(c.Protocol)
	ext := iptName("KUBE-EXT-", c)
	dead := len(c.external()) == 0 && (!c.ExternalLocal || len(c.cluster) == 0)
	action, why := "", ""
	switch {
	case !c.any:
		action, why = "REJECT", "has no endpoints"
	case len(c.external()) == 0:
		action, why = "DROP", "has no local endpoints"
	}
	for _, ip := range c.ExternalIPs {
		if !dead {
			t.nat.chain("KUBE-SERVICES", comment(name+" external IP")+" "+t.to(c, ip)+" -j "+ext)
		}
	}
	t.balancer(c, ext, dead)
	for _, ip := range slices.Concat(c.ExternalIPs, c.BalancerIPs) {
		if action != "" {
			t.filter.chain("KUBE-EXTERNAL-SERVICES", comment(name+" "+why)+" "+t.to(c, ip)+" -j "+action)
		}
	}
	if c.NodePort != 0 {
		if !dead {
			t.nat.chain("KUBE-NODEPORTS", comment(name)+fmt.Sprintf(" -m %s -p %s --dport %d -j %s", p, p, c.NodePort, ext))
		}
		if action != "" {
			t.filter.chain("KUBE-EXTERNAL-SERVICES", comment(name+" "+why)+
				fmt.Sprintf(" -m addrtype --dst-type LOCAL -m %s -p %s --dport %d -j %s", p, p, c.NodePort, action))
		}
	}
	if c.HealthCheckPort != 0 {
		t.filter.chain("KUBE-NODEPORTS", comment(name+" health check node port")+
			fmt.Sprintf(" -m tcp -p tcp --dport %d -j ACCEPT", c.HealthCheckPort))
	}
	if !dead {
		t.externalChain(c, ext)
	}
}

func (t *ipt) externalChain(c *choice, ext string) {
	name := c.String()
	svc, svl := iptName("KUBE-SVC-", c), iptName("KUBE-SVL-", c)
	t.nat.chain(ext)
	if !c.ExternalLocal {
		t.nat.chain(ext, comment("masquerade traffic for "+name+" external destinations")+" -j KUBE-MARK-MASQ", "-j "+svc)
		return
	}
	if len(c.cluster) > 0 {
		for _, from := range t.fromLocal() {
			t.nat.chain(ext, comment("pod traffic for "+name+" external destinations")+" "+from+" -j "+svc)
		}
		t.nat.chain(ext,
			comment("masquerade LOCAL traffic for "+name+" external destinations")+" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
			comment("route LOCAL traffic for "+name+" external destinations")+" -m addrtype --src-type LOCAL -j "+svc)
	}
	if len(c.local) > 0 {
		t.nat.chain(ext, "-j "+svl)
	}
}

// balancer adds load balancer addresses, behind their source ranges if there are any.
func (t *ipt) balancer(c *choice, ext string, dead bool) {
	name := c.String()
	for _, ip := range c.BalancerIPs {
		if dead {
			continue
		}
		target := ext
		if len(c.SourceRanges) > 0 {
			target = iptName("KUBE-FW-", c)
			t.filter.chain("KUBE-PROXY-FIREWALL", comment(name+" traffic not accepted by "+target)+" "+t.to(c, ip)+" -j DROP")
		}
		t.nat.chain("KUBE-SERVICES", comment(name+" loadbalancer IP")+" "+t.to(c, ip)+" -j "+target)
	}
	if dead || len(c.SourceRanges) == 0 || len(c.BalancerIPs) == 0 {
		return
	}
	for _, r := range c.SourceRanges {
		t.nat.chain(iptName("KUBE-FW-", c), comment(name+" loadbalancer IP")+" -s "+r.String()+" -j "+ext)
	}
	t.nat.chain(iptName("KUBE-FW-", c), comment("other traffic to "+name+" will be dropped by KUBE-PROXY-FIREWALL"))
}

func (t *ipt) balance(c *choice, chain string, list []track.Endpoint) {
	name := c.String()
	t.nat.chain(chain)
	if c.AffinitySeconds > 0 {
		for i := range list {
			sep := sepName(c, &list[i])
			t.nat.chain(chain, comment(name+" -> "+list[i].Addr.String())+
				fmt.Sprintf(" -m recent --name %s --rcheck --seconds %d --reap -j %s", sep, c.AffinitySeconds, sep))
		}
	}
	for i := range list {
		rule := comment(name + " -> " + list[i].Addr.String())
		if left := len(list) - i; left > 1 {
			rule += " -m statistic --mode random --probability " + strconv.FormatFloat(1/float64(left), 'f', 10, 64)
		}
		t.nat.chain(chain, rule+" -j "+sepName(c, &list[i]))
	}
}

func (t *ipt) endpoint(c *choice, e *track.Endpoint) {
	name, p, sep := c.String(), proto(c.Protocol), sepName(c, e)
	recent := ""
	if c.AffinitySeconds > 0 {
		recent = " -m recent --name " + sep + " --set"
	}
	t.nat.chain(sep, comment(name)+" -s "+e.Addr.Addr().String()+" -j KUBE-MARK-MASQ",
		comment(name)+recent+fmt.Sprintf(" -m %s -p %s -j DNAT --to-destination %s", p, p, e.Addr))
}

// Restore renders what leads from one version of a table to another, as iptables-restore --noflush reads it: a chain that
// is named is emptied and written anew, all others stay. "" when there is nothing to do.
func Restore(table string, old, now Chains) string {
	var rewrite, drop []string
	for name, rules := range now {
		if was, known := old[name]; !known || !slices.Equal(was, rules) {
			rewrite = append(rewrite, name)
		}
	}
	for name := range old {
		if _, wanted := now[name]; !wanted {
			drop = append(drop, name)
		}
	}
	if len(rewrite)+len(drop) == 0 {
		return ""
	}
	// What differs is little, what is there may be much: only the former is sorted.
	slices.Sort(rewrite)
	slices.Sort(drop)
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n", table)
	for _, name := range slices.Concat(rewrite, drop) {
		fmt.Fprintf(&b, ":%s - [0:0]\n", name)
	}
	for _, name := range rewrite {
		for _, r := range now[name] {
			fmt.Fprintf(&b, "-A %s %s\n", name, r)
		}
	}
	for _, name := range drop {
		fmt.Fprintf(&b, "-X %s\n", name)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}
