package config

import (
	"fmt"
	"net/netip"
	"strings"
)

func prefixes(flag, text string) ([]netip.Prefix, error) {
	if text == "" {
		return nil, nil
	}
	var out []netip.Prefix
	for _, part := range strings.Split(text, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		out = append(out, p.Masked())
	}
	if len(out) > 2 || (len(out) == 2 && out[0].Addr().Is4() == out[1].Addr().Is4()) {
		return nil, fmt.Errorf("%s: %q must be one range, or one of each IP family", flag, text)
	}
	return out, nil
}

// node validates what concerns nodes and resolves the mask sizes.
func (c *Config) node() error {
	n := &c.Node
	switch {
	case n.MonitorPeriod <= 0:
		return fmt.Errorf("--node-monitor-period: must be greater than zero")
	case n.GracePeriod <= 0:
		return fmt.Errorf("--node-monitor-grace-period: must be greater than zero")
	case n.AllocateCIDRs && len(n.ClusterCIDRs) == 0:
		return fmt.Errorf("--cluster-cidr: must be specified when --allocate-node-cidrs is set to true")
	case len(n.ClusterCIDRs) < 2 && (n.MaskSizeV4 != 0 || n.MaskSizeV6 != 0) && n.MaskSize != 0:
		return fmt.Errorf("--node-cidr-mask-size: cannot be combined with --node-cidr-mask-size-ipv4 or -ipv6")
	}
	for _, p := range n.ClusterCIDRs {
		mask := n.Mask(p)
		if mask < p.Bits() || mask > p.Addr().BitLen() {
			return fmt.Errorf("--node-cidr-mask-size: %d does not fit into %s", mask, p)
		}
		if mask-p.Bits() > 16 {
			return fmt.Errorf("--cluster-cidr: %s holds more than 65536 ranges with mask size %d", p, mask)
		}
	}
	return nil
}

// Mask is the mask size of a node's range out of p.
func (n *Node) Mask(p netip.Prefix) int {
	byFamily, otherwise := n.MaskSizeV4, 24
	if p.Addr().Is6() {
		byFamily, otherwise = n.MaskSizeV6, 64
	}
	switch {
	case byFamily != 0:
		return int(byFamily)
	case n.MaskSize != 0 && len(n.ClusterCIDRs) < 2:
		return int(n.MaskSize)
	}
	return otherwise
}
