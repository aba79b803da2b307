package allocate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// managedBy is the label of the addresses that are taken here, upstream's.
const managedBy = "ipallocator.k8s.io"

// errFull is that no address or port is left.
var errFull = errors.New("range is full")

// addresses takes the cluster IPs that a service needs and has not, and says which it took and which the service gives up.
func (h *Hooks) addresses(ctx context.Context, svc, was *corev1.Service, dryRun bool) (taken, left []string, err error) {
	switch {
	case asBefore(svc, was):
		return nil, nil, nil
	case was == nil || !needsIP(was):
		if !needsIP(svc) || headless(svc) {
			return nil, nil, nil
		}
		for i := range svc.Spec.IPFamilies {
			if err := h.address(ctx, svc, i, dryRun, &taken); err != nil {
				h.free(ctx, taken)
				return nil, nil, err
			}
		}
		return taken, nil, nil
	case headless(was):
		return nil, nil, nil
	case !needsIP(svc):
		return nil, was.Spec.ClusterIPs, nil
	case len(was.Spec.IPFamilies) == 1 && len(svc.Spec.IPFamilies) == 2:
		err := h.address(ctx, svc, 1, dryRun, &taken)
		return taken, nil, err
	case len(was.Spec.IPFamilies) == 2 && len(svc.Spec.IPFamilies) == 1 && len(was.Spec.ClusterIPs) == 2:
		return nil, was.Spec.ClusterIPs[1:], nil
	}
	return nil, nil, nil
}

// address takes a service's cluster IP of its i-th family.
func (h *Hooks) address(ctx context.Context, svc *corev1.Service, i int, dryRun bool, taken *[]string) error {
	for len(svc.Spec.ClusterIPs) <= i {
		svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, "")
	}
	family, want, path := svc.Spec.IPFamilies[i], svc.Spec.ClusterIPs[i], field.NewPath("spec", "clusterIPs")
	pools, err := h.pools(family)
	if err != nil {
		return err
	}
	ip, err := h.reserve(ctx, svc, pools, want, dryRun)
	switch {
	case errors.Is(err, errFull):
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: %w", svc.Name, err))
	case err != nil && want != "":
		return invalid(svc, field.Invalid(path, svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: %v", want, err)))
	case err != nil:
		return invalid(svc, field.Invalid(path, svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP: %v", err)))
	}
	if !dryRun {
		*taken = append(*taken, ip)
	}
	svc.Spec.ClusterIPs[i] = ip
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	return nil
}

// reserve takes the wanted address, or any when none is wanted.
func (h *Hooks) reserve(ctx context.Context, svc *corev1.Service, pools []netip.Prefix, want string, dryRun bool) (string, error) {
	if want != "" {
		ip, err := netip.ParseAddr(want)
		if err != nil {
			return "", err
		}
		ip = ip.Unmap()
		at := slices.IndexFunc(pools, func(p netip.Prefix) bool { return usable(p, ip) })
		if at < 0 {
			if i := slices.IndexFunc(pools, func(p netip.Prefix) bool { return p.Contains(ip) }); i >= 0 && !dryRun {
				h.metrics.ipError(pools[i], static)
			}
			if dryRun && len(pools) > 0 {
				return "", fmt.Errorf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", ip, pools[0])
			}
			return "", errors.New("the provided network does not match the current range")
		}
		if dryRun {
			return want, nil
		}
		start := time.Now()
		if err = h.claim(ctx, svc, ip); err != nil {
			h.metrics.ipError(pools[at], static)
			if apierrors.IsAlreadyExists(err) {
				err = errors.New("provided IP is already allocated")
			}
			return "", err
		}
		h.metrics.ip(pools[at], static, start)
		return want, nil
	}
	if dryRun && len(pools) > 0 {
		return pools[0].Masked().Addr().String(), nil
	}
	var known sets.Set[string] // of addresses; it is looked up when a first try shows that the pool is not empty
	for _, pool := range pools {
		start := time.Now()
		for ip := range candidates(pool) {
			if known.Has(ip.String()) {
				continue
			}
			err := h.claim(ctx, svc, ip)
			if err == nil {
				h.metrics.ip(pool, dynamic, start)
				return ip.String(), nil
			}
			if known != nil || !apierrors.IsAlreadyExists(err) { // the first try is a blind one
				h.metrics.ipError(pool, dynamic)
			}
			if !apierrors.IsAlreadyExists(err) {
				return "", err
			}
			if known == nil {
				if known, err = h.known(); err != nil {
					return "", err
				}
			}
		}
		h.metrics.ipError(pool, dynamic)
	}
	return "", errFull
}

// known are the addresses that are taken, as the cache has them.
func (h *Hooks) known() (sets.Set[string], error) {
	out := sets.Set[string]{}
	err := h.objects.Each(addresses, "", func(o runtime.Object) bool {
		out.Insert(o.(*networkingv1.IPAddress).Name)
		return true
	})
	return out, err
}

// pools are the ranges of a family that addresses may be taken from: those of the ServiceCIDRs that are ready (KEP-1880), the server's own first. Before there is any
// ServiceCIDR it is the server's own alone.
func (h *Hooks) pools(family corev1.IPFamily) ([]netip.Prefix, error) {
	var ready []netip.Prefix
	none := true
	err := h.objects.Each(serviceCIDRs, "", func(o runtime.Object) bool {
		c := o.(*networkingv1.ServiceCIDR)
		none = false
		if c.DeletionTimestamp == nil && meta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			for _, text := range c.Spec.CIDRs {
				if p, err := netip.ParsePrefix(text); err == nil && Family(p.Addr()) == family && !slices.Contains(ready, p.Masked()) {
					ready = append(ready, p.Masked())
				}
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	own := func(p netip.Prefix) bool { return slices.Contains(h.cfg.Ranges, p) }
	if none {
		for _, p := range h.cfg.Ranges {
			if Family(p.Addr()) == family {
				ready = append(ready, p)
			}
		}
	}
	slices.SortStableFunc(ready, func(a, b netip.Prefix) int {
		switch {
		case own(a) == own(b):
			return 0
		case own(a):
			return -1
		}
		return 1
	})
	return ready, nil
}

// last is the last address of a range that may be taken: in IPv4 the very last is that of broadcasts.
func last(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().As16()
	for bit := 128 - p.Addr().BitLen() + p.Bits(); bit < 128; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	ip := netip.AddrFrom16(raw)
	if p.Addr().Is4() {
		return ip.Unmap().Prev()
	}
	return ip
}

func usable(p netip.Prefix, ip netip.Addr) bool {
	return p.Contains(ip) && ip != p.Masked().Addr() && !last(p).Less(ip)
}

// lowPart is how many of the first addresses of a range of so many are left for those that users choose, as long as there are others, KEP-3070.
func lowPart(size uint64) uint64 {
	if size <= 16 {
		return 0
	}
	return min(max(size/16, 16), 256)
}

// candidates are the addresses of a range in the order in which they are tried: from a random one on, those of the upper part before those of the lower.
func candidates(p netip.Prefix) iter.Seq[netip.Addr] {
	bits := min(p.Addr().BitLen()-p.Bits(), 62)
	low := lowPart(uint64(1) << bits)
	first, end := p.Masked().Addr().Next(), last(p)
	middle := plus(first, low)
	return func(yield func(netip.Addr) bool) {
		if around(middle, end, uint64(1)<<bits-low, yield) && low > 0 {
			around(first, middle.Prev(), low, yield)
		}
	}
}

// around visits the addresses from first to end, beginning at one of the n that follow first. It says whether yield wants more.
func around(first, end netip.Addr, n uint64, yield func(netip.Addr) bool) bool {
	start := plus(first, rand.Uint64N(n)) //nolint:gosec // an address is no secret
	if end.Less(start) {
		start = first
	}
	for ip := start; !end.Less(ip); ip = ip.Next() {
		if !yield(ip) {
			return false
		}
	}
	for ip := first; ip.Less(start) && !end.Less(ip); ip = ip.Next() {
		if !yield(ip) {
			return false
		}
	}
	return true
}

func plus(ip netip.Addr, n uint64) netip.Addr {
	raw := ip.As16()
	binary.BigEndian.PutUint64(raw[8:], binary.BigEndian.Uint64(raw[8:])+n)
	out := netip.AddrFrom16(raw)
	if ip.Is4() {
		return out.Unmap()
	}
	return out
}

// claim makes the object that holds an address.
func (h *Hooks) claim(ctx context.Context, svc *corev1.Service, ip netip.Addr) error {
	return h.objects.CreateObject(ctx, addresses, ipAddress(svc, ip))
}

func ipAddress(svc *corev1.Service, ip netip.Addr) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		TypeMeta: metav1.TypeMeta{Kind: "IPAddress", APIVersion: "networking.k8s.io/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: ip.String(), Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: string(Family(ip)), networkingv1.LabelManagedBy: managedBy,
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: svc.Namespace, Name: svc.Name}},
	}
}

// free gives addresses back.
func (h *Hooks) free(ctx context.Context, ips []string) {
	for _, ip := range ips {
		if ip == corev1.ClusterIPNone || ip == "" {
			continue
		}
		if h.objects.DeleteObject(context.WithoutCancel(ctx), addresses, "", ip) != nil {
			continue // one that cannot be deleted now is left for the next repair
		}
		if pool, ok := h.poolOf(ip); ok {
			h.metrics.held(pool, -1)
		}
	}
}

// poolOf is the range that an address is counted in.
func (h *Hooks) poolOf(text string) (netip.Prefix, bool) {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	pools, err := h.pools(Family(ip.Unmap()))
	if err != nil {
		return netip.Prefix{}, false
	}
	return firstWith(pools, ip.Unmap())
}

func firstWith(pools []netip.Prefix, ip netip.Addr) (netip.Prefix, bool) {
	i := slices.IndexFunc(pools, func(p netip.Prefix) bool { return usable(p, ip) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return pools[i], true
}
