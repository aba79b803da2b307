package podnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/knftables"
)

const (
	// Protocol marks the routes in the kernel's table: `ip route show proto 75` lists them.
	Protocol = 75
	// Table is the nftables table that masquerades.
	Table = "flagship-pods"
	// resync is how often routes are looked at without a change: an interface that went down has lost them.
	resync = 30 * time.Second
)

// Network keeps the routes of one node.
type Network struct {
	self    string
	subnets []netip.Prefix
	log     *zap.Logger
	dirty   chan struct{} // holds one token while a change waits

	mu    sync.Mutex // guards nodes
	nodes map[string]Node
}

// New returns a network of the node named self in a cluster whose pods have addresses of subnets.
func New(self string, subnets []netip.Prefix, log *zap.Logger) *Network {
	return &Network{self: self, subnets: subnets, log: log, dirty: make(chan struct{}, 1), nodes: map[string]Node{}}
}

// SetNode takes a node's newest state; gone forgets it. It may be called from anywhere.
func (n *Network) SetNode(o *v1.Node, gone bool) {
	node := Node{Name: o.Name}
	for _, c := range o.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(c); err == nil {
			node.PodCIDRs = append(node.PodCIDRs, p.Masked())
		}
	}
	for _, a := range o.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == v1.NodeInternalIP {
			node.Addresses = append(node.Addresses, ip.Unmap())
		}
	}
	n.mu.Lock()
	old, had := n.nodes[o.Name]
	if gone {
		delete(n.nodes, o.Name)
	} else {
		n.nodes[o.Name] = node
	}
	n.mu.Unlock()
	if had && !gone && slices.Equal(old.PodCIDRs, node.PodCIDRs) && slices.Equal(old.Addresses, node.Addresses) {
		return
	}
	select {
	case n.dirty <- struct{}{}:
	default:
	}
}

// Run keeps routes and masquerading until ctx ends. What cannot be done is logged and tried again.
func (n *Network) Run(ctx context.Context) error {
	tick := time.NewTicker(resync)
	defer tick.Stop()
	masquerades, said := false, ""
	for {
		var err error
		if !masquerades {
			err = n.masquerade(ctx)
			masquerades = err == nil
		}
		if err = errors.Join(err, n.sync()); err != nil && err.Error() != said {
			n.log.Error("pod network not complete, trying again", zap.Error(err))
		}
		said = ""
		if err != nil {
			said = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.dirty:
		case <-tick.C:
		}
	}
}

func (n *Network) sync() error {
	n.mu.Lock()
	want := Want(n.self, n.nodes)
	n.mu.Unlock()
	have, err := current()
	if err != nil {
		return err
	}
	var problems []error
	for _, c := range Diff(have, want) {
		if err := apply(c); err != nil {
			problems = append(problems, err)
			continue
		}
		n.log.Info("pod route", zap.Stringer("to", c.To), zap.Stringer("via", c.Via), zap.Bool("removed", c.Remove))
	}
	return errors.Join(problems...)
}

// current is the routes that are there, by the mark.
func current() (Routes, error) {
	out := Routes{}
	list, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: Protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		ip, _ := netip.AddrFromSlice(r.Dst.IP)
		via, _ := netip.AddrFromSlice(r.Gw)
		ones, _ := r.Dst.Mask.Size()
		out[netip.PrefixFrom(ip.Unmap(), ones)] = via.Unmap()
	}
	return out, nil
}

func apply(c Change) error {
	r := &netlink.Route{
		Dst: &net.IPNet{IP: c.To.Addr().AsSlice(), Mask: net.CIDRMask(c.To.Bits(), c.To.Addr().BitLen())},
		Gw:  c.Via.AsSlice(), Protocol: Protocol,
	}
	if c.Remove {
		if err := netlink.RouteDel(r); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("remove the route to %s: %w", c.To, err)
		}
		return nil
	}
	err := netlink.RouteReplace(r)
	if errors.Is(err, syscall.ENETUNREACH) {
		return fmt.Errorf("route to pods %s by %s: that node is on no network of this one's, so its pods cannot be reached: install a network plugin that tunnels, and leave --pod-network off", c.To, c.Via)
	}
	if err != nil {
		return fmt.Errorf("route to pods %s by %s: %w", c.To, c.Via, err)
	}
	return nil
}

// masquerade gives packets that pods send out of the cluster the node's address. Between pods addresses stay.
func (n *Network) masquerade(ctx context.Context) error {
	for _, subnet := range n.subnets {
		family := knftables.IPv4Family
		if subnet.Addr().Is6() {
			family = knftables.IPv6Family
		}
		nft, err := knftables.New(family, Table)
		if err != nil {
			return fmt.Errorf("masquerade pods %s: %w", subnet, err)
		}
		tx := nft.NewTransaction()
		tx.Add(&knftables.Table{Comment: knftables.PtrTo("pods of this cluster that talk to the outside")})
		tx.Add(&knftables.Chain{
			Name: "postrouting", Type: knftables.PtrTo(knftables.NATType), Hook: knftables.PtrTo(knftables.PostroutingHook),
			Priority: knftables.PtrTo(knftables.SNATPriority),
		})
		tx.Flush(&knftables.Chain{Name: "postrouting"})
		for _, rule := range masqueradeRules(subnet) {
			tx.Add(&knftables.Rule{Chain: "postrouting", Rule: rule})
		}
		if err := nft.Run(ctx, tx); err != nil {
			return fmt.Errorf("masquerade pods %s: %w", subnet, err)
		}
	}
	return nil
}

func masqueradeRules(subnet netip.Prefix) []string {
	ip, multicast := "ip", "224.0.0.0/4"
	if subnet.Addr().Is6() {
		ip, multicast = "ip6", "ff00::/8"
	}
	return []string{fmt.Sprintf("%s saddr %s %s daddr != { %s, %s } masquerade", ip, subnet, ip, subnet, multicast)}
}

// Cleanup removes all routes and rules that Run makes.
func Cleanup(ctx context.Context) error {
	have, err := current()
	if err != nil {
		return err
	}
	var problems []error
	for _, c := range Diff(have, nil) {
		problems = append(problems, apply(c))
	}
	for _, family := range []knftables.Family{knftables.IPv4Family, knftables.IPv6Family} {
		nft, err := knftables.New(family, Table)
		if err != nil {
			continue // without nftables there is no table
		}
		tx := nft.NewTransaction()
		tx.Add(&knftables.Table{})
		tx.Delete(&knftables.Table{})
		problems = append(problems, nft.Run(ctx, tx))
	}
	return errors.Join(problems...)
}
