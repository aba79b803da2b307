// Package allocate gives Services their cluster IPs and node ports, and checks
// what a role or binding would grant: the hooks of the write path that need
// more than the object.
//
// Data in: Services, Roles and bindings being written. Data out: the same with
// addresses and ports filled in, and IPAddress objects that hold each address
// (KEP-1880), so that no two Services share one. It owns no goroutine.
package allocate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/resource"
)

// Objects reads and writes API objects as the server itself.
type Objects interface {
	Each(gvr schema.GroupVersionResource, namespace string, visit func(runtime.Object) bool) error
	CreateObject(ctx context.Context, gvr schema.GroupVersionResource, obj runtime.Object) error
	DeleteObject(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error
}

// Config are the ranges.
type Config struct {
	// Ranges are the service CIDRs, the primary family first.
	Ranges []netip.Prefix
	// FirstPort and LastPort bound node ports, both inclusive.
	FirstPort, LastPort int32
	// Privileged lets pods have privileged containers.
	Privileged bool
}

// Escalation checks what a role or binding would grant.
type Escalation func(ctx context.Context, obj runtime.Object) error

// Hooks implements rest.Hooks.
type Hooks struct {
	cfg        Config
	objects    Objects
	escalation Escalation

	mu sync.Mutex // guards ports
	// ports are node ports that are given out and perhaps not yet in a cached
	// Service, by port and protocol.
	ports map[portKey]struct{}
}

type portKey struct {
	port     int32
	protocol corev1.Protocol
}

// New returns the hooks. It does no I/O.
func New(cfg Config, objects Objects, escalation Escalation) *Hooks {
	return &Hooks{cfg: cfg, objects: objects, escalation: escalation, ports: map[portKey]struct{}{}}
}

var (
	addresses = networkingv1.SchemeGroupVersion.WithResource("ipaddresses")
	servicesR = corev1.SchemeGroupVersion.WithResource("services")
)

// BeforeCreate fills in a Service's addresses and ports.
func (h *Hooks) BeforeCreate(ctx context.Context, k *resource.Kind, obj runtime.Object, dryRun bool) (func(), error) {
	if !h.cfg.Privileged {
		if err := checkPrivileged(k, obj); err != nil {
			return nil, err
		}
	}
	if k.Group == "rbac.authorization.k8s.io" {
		return nil, h.escalation(ctx, obj)
	}
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	return h.allocate(ctx, svc, nil, dryRun)
}

// BeforeUpdate keeps a Service's addresses and ports, or gives it what its new
// type needs.
func (h *Hooks) BeforeUpdate(ctx context.Context, k *resource.Kind, obj, old runtime.Object, dryRun bool) (func(), error) {
	if !h.cfg.Privileged {
		if err := checkPrivileged(k, obj); err != nil {
			return nil, err
		}
	}
	if k.Group == "rbac.authorization.k8s.io" {
		return nil, h.escalation(ctx, obj)
	}
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	was := old.(*corev1.Service)
	carryOver(svc, was)
	return h.allocate(ctx, svc, was, dryRun)
}

// AfterDelete gives back what a Service held.
func (h *Hooks) AfterDelete(ctx context.Context, _ *resource.Kind, obj runtime.Object) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return
	}
	h.release(context.WithoutCancel(ctx), svc.Spec.ClusterIPs, nodePorts(svc))
}

// carryOver keeps what a client left out of an update.
func carryOver(svc, was *corev1.Service) {
	if needsIP(svc) && needsIP(was) {
		if svc.Spec.ClusterIP == "" {
			svc.Spec.ClusterIP, svc.Spec.ClusterIPs = was.Spec.ClusterIP, slices.Clone(was.Spec.ClusterIPs)
		}
		if len(svc.Spec.ClusterIPs) == 0 && svc.Spec.ClusterIP == was.Spec.ClusterIP {
			svc.Spec.ClusterIPs = slices.Clone(was.Spec.ClusterIPs)
		}
		if svc.Spec.ClusterIP != was.Spec.ClusterIP && len(svc.Spec.ClusterIPs) > 0 && slices.Equal(svc.Spec.ClusterIPs, was.Spec.ClusterIPs) {
			svc.Spec.ClusterIPs = append([]string{svc.Spec.ClusterIP}, was.Spec.ClusterIPs[1:]...)
		}
		if len(svc.Spec.IPFamilies) == 0 {
			svc.Spec.IPFamilies = slices.Clone(was.Spec.IPFamilies)
		}
		if svc.Spec.IPFamilyPolicy == nil {
			svc.Spec.IPFamilyPolicy = was.Spec.IPFamilyPolicy
		}
	}
	if needsPort(svc) && needsPort(was) {
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			if p.NodePort != 0 {
				continue
			}
			for _, o := range was.Spec.Ports {
				if o.Port == p.Port && o.Protocol == p.Protocol && !slices.ContainsFunc(svc.Spec.Ports, func(x corev1.ServicePort) bool { return x.NodePort == o.NodePort && x.Protocol == o.Protocol }) {
					p.NodePort = o.NodePort
				}
			}
		}
	}
	if svc.Spec.HealthCheckNodePort == 0 && needsHealthPort(svc) {
		svc.Spec.HealthCheckNodePort = was.Spec.HealthCheckNodePort
	}
	dropUnneeded(svc, was)
}

// dropUnneeded clears what the old type had and the new one has not, where the
// client left it as it was: an update may change nothing but the type.
func dropUnneeded(svc, was *corev1.Service) {
	if needsPort(was) && !needsPort(svc) {
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			if slices.ContainsFunc(was.Spec.Ports, func(o corev1.ServicePort) bool { return o.NodePort == p.NodePort && o.Protocol == p.Protocol }) {
				p.NodePort = 0
			}
		}
	}
	if needsHealthPort(was) && !needsHealthPort(svc) && svc.Spec.HealthCheckNodePort == was.Spec.HealthCheckNodePort {
		svc.Spec.HealthCheckNodePort = 0
	}
	if needsIP(was) && !needsIP(svc) {
		if svc.Spec.ClusterIP == was.Spec.ClusterIP {
			svc.Spec.ClusterIP = ""
		}
		if slices.Equal(svc.Spec.ClusterIPs, was.Spec.ClusterIPs) {
			svc.Spec.ClusterIPs = nil
		}
		if slices.Equal(svc.Spec.IPFamilies, was.Spec.IPFamilies) {
			svc.Spec.IPFamilies = nil
		}
		if svc.Spec.IPFamilyPolicy != nil && was.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == *was.Spec.IPFamilyPolicy {
			svc.Spec.IPFamilyPolicy = nil
		}
	}
}

func needsIP(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }

func needsPort(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

func needsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func nodePorts(s *corev1.Service) []portKey {
	var out []portKey
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			out = append(out, portKey{p.NodePort, p.Protocol})
		}
	}
	if s.Spec.HealthCheckNodePort != 0 {
		out = append(out, portKey{s.Spec.HealthCheckNodePort, corev1.ProtocolTCP})
	}
	return out
}

// allocate gives a Service what it needs and does not have. The returned
// function takes it back if the write fails.
func (h *Hooks) allocate(ctx context.Context, svc, was *corev1.Service, dryRun bool) (func(), error) {
	var had []string
	var hadPorts []portKey
	if was != nil {
		had, hadPorts = was.Spec.ClusterIPs, nodePorts(was)
	}
	if err := families(svc, h.cfg.Ranges); err != nil {
		return nil, err
	}
	ips, err := h.addresses(ctx, svc, had, dryRun)
	if err != nil {
		return nil, err
	}
	ports, err := h.nodePorts(svc, hadPorts, dryRun)
	if err != nil {
		h.release(context.WithoutCancel(ctx), ips, ports)
		return nil, err
	}
	if was != nil && !dryRun {
		// What the update gives up is free once it is written; the periodic
		// repair of upstream has the same window.
		h.release(context.WithoutCancel(ctx), without(had, svc.Spec.ClusterIPs), withoutPorts(hadPorts, nodePorts(svc)))
	}
	return func() { h.release(context.WithoutCancel(ctx), ips, ports) }, nil
}

func without(list, kept []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(kept, s) })
}

func withoutPorts(list, kept []portKey) []portKey {
	return slices.DeleteFunc(slices.Clone(list), func(p portKey) bool { return slices.Contains(kept, p) })
}

func familyOf(ip netip.Addr) corev1.IPFamily {
	if ip.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// families fills in ipFamilyPolicy and ipFamilies, KEP-563.
func families(svc *corev1.Service, ranges []netip.Prefix) error {
	if !needsIP(svc) {
		return nil
	}
	if len(svc.Spec.ClusterIPs) == 0 && svc.Spec.ClusterIP != "" {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
	if svc.Spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if len(svc.Spec.IPFamilies) == 2 || len(svc.Spec.ClusterIPs) == 2 {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		if svc.Spec.ClusterIP == corev1.ClusterIPNone && len(svc.Spec.Selector) == 0 && len(svc.Spec.IPFamilies) == 0 {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		svc.Spec.IPFamilyPolicy = &policy
	}
	if len(svc.Spec.IPFamilies) == 0 {
		for _, text := range svc.Spec.ClusterIPs {
			if ip, err := netip.ParseAddr(text); err == nil {
				svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, familyOf(ip))
			}
		}
	}
	if len(svc.Spec.IPFamilies) == 0 {
		svc.Spec.IPFamilies = []corev1.IPFamily{familyOf(ranges[0].Addr())}
	}
	if *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack || len(svc.Spec.IPFamilies) == 2 {
		return nil
	}
	headless := svc.Spec.ClusterIP == corev1.ClusterIPNone && len(svc.Spec.Selector) == 0
	if len(ranges) < 2 && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && !headless {
		return invalid(svc, field.Invalid(field.NewPath("spec", "ipFamilyPolicy"), *svc.Spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	if len(ranges) > 1 || headless {
		second := corev1.IPv6Protocol
		if svc.Spec.IPFamilies[0] == second {
			second = corev1.IPv4Protocol
		}
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, second)
	}
	return nil
}

func invalid(svc *corev1.Service, e *field.Error) error {
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), svc.Name, field.ErrorList{e})
}

// addresses reserves a cluster IP per family and returns those it reserved.
func (h *Hooks) addresses(ctx context.Context, svc *corev1.Service, had []string, dryRun bool) ([]string, error) {
	if !needsIP(svc) || svc.Spec.ClusterIP == corev1.ClusterIPNone || malformed(svc) {
		return nil, nil
	}
	var taken []string
	for i, family := range svc.Spec.IPFamilies {
		want := ""
		if i < len(svc.Spec.ClusterIPs) {
			want = svc.Spec.ClusterIPs[i]
		}
		if want != "" && slices.Contains(had, want) {
			continue
		}
		ip, err := h.reserve(ctx, svc, family, want, dryRun)
		if err != nil {
			h.release(context.WithoutCancel(ctx), taken, nil)
			return nil, err
		}
		if !dryRun {
			taken = append(taken, ip)
		}
		if i < len(svc.Spec.ClusterIPs) {
			svc.Spec.ClusterIPs[i] = ip
		} else {
			svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, ip)
		}
	}
	if len(svc.Spec.ClusterIPs) > 0 {
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	}
	return taken, nil
}

// malformed is whether the addresses asked for are such that validation will
// refuse them, which says better why.
func malformed(svc *corev1.Service) bool {
	if len(svc.Spec.ClusterIPs) > 0 && svc.Spec.ClusterIPs[0] != svc.Spec.ClusterIP {
		return true
	}
	for _, f := range svc.Spec.IPFamilies {
		if f != corev1.IPv4Protocol && f != corev1.IPv6Protocol {
			return true
		}
	}
	return slices.ContainsFunc(svc.Spec.ClusterIPs, func(text string) bool {
		_, err := netip.ParseAddr(text)
		return err != nil
	})
}

// maxReserveTries bounds the search for a free address.
const maxReserveTries = 1024

func (h *Hooks) reserve(ctx context.Context, svc *corev1.Service, family corev1.IPFamily, want string, dryRun bool) (string, error) {
	i := slices.IndexFunc(h.cfg.Ranges, func(p netip.Prefix) bool { return familyOf(p.Addr()) == family })
	if i < 0 {
		return "", invalid(svc, field.Invalid(field.NewPath("spec", "ipFamilies").Index(0), family, "not configured on this cluster"))
	}
	pool := h.cfg.Ranges[i]
	path := field.NewPath("spec", "clusterIPs")
	if want != "" {
		ip, err := netip.ParseAddr(want)
		if err != nil {
			return "", invalid(svc, field.Invalid(path, svc.Spec.ClusterIPs, "must be a valid IP address"))
		}
		if !pool.Contains(ip) {
			return "", invalid(svc, field.Invalid(path, svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: the provided IP (%s) is not in the valid range. The range of valid IPs is %s", want, want, pool)))
		}
		if dryRun {
			return want, nil
		}
		err = h.claim(ctx, svc, ip)
		if apierrors.IsAlreadyExists(err) {
			return "", invalid(svc, field.Invalid(path, svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", want)))
		}
		return want, err
	}
	if dryRun {
		return randomIn(pool).String(), nil
	}
	for range maxReserveTries {
		ip := randomIn(pool)
		err := h.claim(ctx, svc, ip)
		if err == nil {
			return ip.String(), nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return "", apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP: %w", err))
		}
	}
	return "", apierrors.NewInternalError(errors.New("failed to allocate a serviceIP: range is full"))
}

// lowPart is the part of a range that is left for addresses that users choose,
// KEP-3070: between 16 and 256 addresses, a sixteenth of the range.
func lowPart(size uint64) uint64 { return min(max(size/16, 16), 256) }

// randomIn picks an address of the range's upper part; not the network's, the
// API server's (the first) or the broadcast address.
func randomIn(p netip.Prefix) netip.Addr {
	bits := min(p.Addr().BitLen()-p.Bits(), 62)
	size := uint64(1) << bits
	low := uint64(1)
	if size > 32 {
		low = lowPart(size)
	}
	n := low + rand.Uint64N(max(size-1-low, 1)) //nolint:gosec // an address is no secret
	raw := p.Masked().Addr().As16()
	tail := binary.BigEndian.Uint64(raw[8:]) + n
	binary.BigEndian.PutUint64(raw[8:], tail)
	return netip.AddrFrom16(raw).Unmap()
}

func (h *Hooks) claim(ctx context.Context, svc *corev1.Service, ip netip.Addr) error {
	return h.objects.CreateObject(ctx, addresses, &networkingv1.IPAddress{
		TypeMeta: metav1.TypeMeta{Kind: "IPAddress", APIVersion: "networking.k8s.io/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: ip.String(), Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: string(familyOf(ip)), networkingv1.LabelManagedBy: "ipallocator.k8s.io",
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: svc.Namespace, Name: svc.Name}},
	})
}

func (h *Hooks) release(ctx context.Context, ips []string, ports []portKey) {
	for _, ip := range ips {
		if ip == corev1.ClusterIPNone || ip == "" {
			continue
		}
		// One that cannot be deleted now is left for the next repair.
		_ = h.objects.DeleteObject(ctx, addresses, "", ip)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range ports {
		delete(h.ports, p)
	}
}

// nodePorts gives a Service its node ports and returns those it took.
func (h *Hooks) nodePorts(svc *corev1.Service, had []portKey, dryRun bool) ([]portKey, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	used, err := h.usedPorts()
	if err != nil {
		return nil, err
	}
	var taken []portKey
	take := func(port *int32, protocol corev1.Protocol, path *field.Path) error {
		key := portKey{*port, protocol}
		switch {
		case *port != 0 && (slices.Contains(had, key) || slices.Contains(taken, key)):
			return nil
		case *port != 0 && dryRun:
			return nil
		case *port != 0 && (*port < h.cfg.FirstPort || *port > h.cfg.LastPort):
			return invalid(svc, field.Invalid(path, *port, fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", h.cfg.FirstPort, h.cfg.LastPort)))
		case *port != 0 && used[key]:
			return invalid(svc, field.Invalid(path, *port, "provided port is already allocated"))
		case *port == 0:
			free := h.freePort(used, taken, protocol)
			if free == 0 {
				return apierrors.NewInternalError(errors.New("failed to allocate a nodePort: range is full"))
			}
			*port = free
			key.port = free
		}
		taken = append(taken, key)
		h.ports[key] = struct{}{}
		return nil
	}
	if needsPort(svc) {
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			if err := take(&p.NodePort, p.Protocol, field.NewPath("spec", "ports").Index(i).Child("nodePort")); err != nil {
				return taken, err
			}
		}
	}
	if needsHealthPort(svc) {
		if err := take(&svc.Spec.HealthCheckNodePort, corev1.ProtocolTCP, field.NewPath("spec", "healthCheckNodePort")); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// usedPorts are the ports of cached Services and of those being written.
func (h *Hooks) usedPorts() (map[portKey]bool, error) {
	used := map[portKey]bool{}
	for p := range h.ports {
		used[p] = true
	}
	err := h.objects.Each(servicesR, "", func(o runtime.Object) bool {
		for _, p := range nodePorts(o.(*corev1.Service)) {
			used[p] = true
		}
		return true
	})
	return used, err
}

func (h *Hooks) freePort(used map[portKey]bool, taken []portKey, protocol corev1.Protocol) int32 {
	n := h.cfg.LastPort - h.cfg.FirstPort + 1
	first := rand.Int32N(n) //nolint:gosec // a port is no secret
	for i := range n {
		key := portKey{h.cfg.FirstPort + (first+i)%n, protocol}
		if !used[key] && !slices.Contains(taken, key) {
			return key.port
		}
	}
	return 0
}
