package conntrack

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

// filter makes a Plan a netlink filter.
type filter struct {
	plan      *Plan
	nodeAddrs []netip.Addr
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f filter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != syscall.IPPROTO_UDP {
		return false
	}
	return f.plan.Stale(Flow{To: addr(flow.Forward.DstIP, flow.Forward.DstPort), From: addr(flow.Reverse.SrcIP, flow.Reverse.SrcPort)}, f.nodeAddrs)
}

func addr(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}

// Clean removes the stale flows of one family and says how many there were.
func Clean(ipv6 bool, plan *Plan) (uint, error) {
	if plan.Empty() {
		return 0, nil
	}
	nodeAddrs, err := LocalAddrs(ipv6)
	if err != nil {
		return 0, err
	}
	family := netlink.InetFamily(syscall.AF_INET)
	if ipv6 {
		family = syscall.AF_INET6
	}
	n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter{plan, nodeAddrs})
	if err != nil {
		return n, fmt.Errorf("delete stale UDP flows: %w", err)
	}
	return n, nil
}

// LocalAddrs are the addresses of this host's interfaces in one family.
func LocalAddrs(ipv6 bool) ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap().Is6() == ipv6 {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}

// SetSysctl writes a sysctl by its path below /proc/sys, unless it has the value already. raise only ever makes it larger.
func SetSysctl(path string, value int, raise bool) error {
	file := filepath.Join("/proc/sys", path)
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read sysctl %s: %w", path, err)
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err == nil && (now == value || raise && now >= value) {
		return nil
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(value)), 0o644); err != nil { //nolint:gosec // the file exists
		return fmt.Errorf("write sysctl %s=%d: %w", path, value, err)
	}
	return nil
}
