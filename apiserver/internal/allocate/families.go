package allocate

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/resource"
)

func needsIP(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }

func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

// Family is that of an address.
func Family(ip netip.Addr) corev1.IPFamily {
	if ip.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func otherFamily(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func invalid(svc *corev1.Service, errs ...*field.Error) error {
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), svc.Name, errs)
}

// keepAllocated gives an update what was allocated before, where the client left it out: who applies the same manifest again, without addresses and ports, changes nothing.
func keepAllocated(svc, was *corev1.Service) {
	if needsIP(svc) && needsIP(was) {
		if svc.Spec.ClusterIP == "" {
			svc.Spec.ClusterIP = was.Spec.ClusterIP
		}
		if len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIPs = slices.Clone(was.Spec.ClusterIPs)
		}
	}
	if needsPort(svc) && needsPort(was) {
		// A port is the same when its name is.
		named, had := map[string]int32{}, sets.Set[int32]{}
		for _, p := range was.Spec.Ports {
			named[p.Name] = p.NodePort
			had.Insert(p.NodePort)
		}
		kept := sets.Set[int32]{}
		for _, p := range svc.Spec.Ports {
			if p.NodePort != 0 && had.Has(p.NodePort) {
				kept.Insert(p.NodePort)
			}
		}
		for i := range svc.Spec.Ports {
			if p := &svc.Spec.Ports[i]; p.NodePort == 0 && !kept.Has(named[p.Name]) {
				p.NodePort = named[p.Name]
			}
		}
	}
	if needsHealthPort(svc) && needsHealthPort(was) && svc.Spec.HealthCheckNodePort == 0 {
		svc.Spec.HealthCheckNodePort = was.Spec.HealthCheckNodePort
	}
}

// pairIPs brings clusterIPs in line with clusterIP: old clients know the latter alone.
func pairIPs(svc, was *corev1.Service) {
	one, all := svc.Spec.ClusterIP, svc.Spec.ClusterIPs
	switch {
	case was == nil:
		if one != "" && len(all) == 0 {
			svc.Spec.ClusterIPs = []string{one}
		}
	case one == was.Spec.ClusterIP:
		if len(all) == 0 {
			svc.Spec.ClusterIPs = slices.Clone(was.Spec.ClusterIPs)
		}
	case !slices.Equal(all, was.Spec.ClusterIPs):
		// Both were changed; validation tells whether they agree.
	case one == "":
		svc.Spec.ClusterIPs = nil
	default:
		svc.Spec.ClusterIPs = []string{one}
	}
}

// dropUnneeded clears what the old type had and the new one has not, where the client left it as it was: an update may change nothing but the type.
func dropUnneeded(svc, was *corev1.Service) {
	n, o := &svc.Spec, &was.Spec
	if needsPort(was) && !needsPort(svc) && sameNodePorts(svc, was) {
		for i := range n.Ports {
			n.Ports[i].NodePort = 0
		}
	}
	if needsHealthPort(was) && !needsHealthPort(svc) && n.HealthCheckNodePort == o.HealthCheckNodePort {
		n.HealthCheckNodePort = 0
	}
	if needsIP(was) && !needsIP(svc) {
		if n.ClusterIP == o.ClusterIP && slices.Equal(n.ClusterIPs, o.ClusterIPs) {
			n.ClusterIP, n.ClusterIPs = "", nil
		}
		if slices.Equal(n.IPFamilies, o.IPFamilies) {
			n.IPFamilies = nil
		}
		if policy(svc) == policy(was) {
			n.IPFamilyPolicy = nil
		}
	}
}

// sameNodePorts is whether no node port is there that was not before.
func sameNodePorts(svc, was *corev1.Service) bool {
	ports := func(s *corev1.Service) sets.Set[int32] {
		out := sets.Set[int32]{}
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				out.Insert(p.NodePort)
			}
		}
		return out
	}
	return ports(svc).Equal(ports(was))
}

// policy is a service's, empty when it has none.
func policy(s *corev1.Service) corev1.IPFamilyPolicy {
	if s.Spec.IPFamilyPolicy == nil {
		return ""
	}
	return *s.Spec.IPFamilyPolicy
}

// asBefore is whether a service that prefers two families stays as it is: such a one neither gains nor loses a family by itself when the cluster's families change.
func asBefore(svc, was *corev1.Service) bool {
	return was != nil && svc.Spec.Type == was.Spec.Type && needsIP(svc) && svc.Spec.IPFamilyPolicy != nil && policy(svc) == corev1.IPFamilyPolicyPreferDualStack &&
		(was.Spec.IPFamilyPolicy == nil || policy(was) == corev1.IPFamilyPolicyPreferDualStack) &&
		slices.Equal(svc.Spec.ClusterIPs, was.Spec.ClusterIPs) && slices.Equal(svc.Spec.IPFamilies, was.Spec.IPFamilies)
}

// families fills in ipFamilyPolicy and ipFamilies, KEP-563.
//
// Errors: the fields contradict each other or the cluster's families.
func (h *Hooks) families(svc, was *corev1.Service) error {
	if !needsIP(svc) || asBefore(svc, was) {
		return nil
	}
	s, spec := &svc.Spec, field.NewPath("spec")
	free := s.ClusterIP == corev1.ClusterIPNone && len(s.Selector) == 0 // its endpoints are whatever their owner says
	if s.IPFamilyPolicy == nil {
		p := corev1.IPFamilyPolicySingleStack
		switch {
		case was != nil && was.Spec.IPFamilyPolicy != nil:
			p = *was.Spec.IPFamilyPolicy
		case free:
			p = corev1.IPFamilyPolicyRequireDualStack
		}
		s.IPFamilyPolicy = &p
	}
	if errs := resource.ValidateClusterIPs(svc, was); len(errs) > 0 {
		return invalid(svc, errs...)
	}
	errs := checkPolicy(svc, was)
	for i, text := range s.ClusterIPs {
		ip, err := netip.ParseAddr(text)
		if err != nil || i < len(s.IPFamilies) {
			continue // None, or told by the client
		}
		if f := Family(ip.Unmap()); h.configured(f) {
			s.IPFamilies = append(s.IPFamilies, f)
		} else {
			errs = append(errs, field.Invalid(spec.Child("clusterIPs").Index(i), s.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", f)))
		}
	}
	if len(errs) > 0 {
		return invalid(svc, errs...)
	}
	first := Family(h.cfg.Ranges[0].Addr())
	if free {
		if len(s.IPFamilies) == 0 {
			s.IPFamilies = []corev1.IPFamily{first}
		}
		if len(s.IPFamilies) < 2 && policy(svc) != corev1.IPFamilyPolicySingleStack {
			s.IPFamilies = append(s.IPFamilies, otherFamily(s.IPFamilies[0]))
		}
		return nil
	}
	dual := h.configured(corev1.IPv4Protocol) && h.configured(corev1.IPv6Protocol)
	if policy(svc) == corev1.IPFamilyPolicyRequireDualStack && !dual {
		errs = append(errs, field.Invalid(spec.Child("ipFamilyPolicy"), s.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range s.IPFamilies {
		if !h.configured(f) {
			errs = append(errs, field.Invalid(spec.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	if len(errs) > 0 {
		return invalid(svc, errs...)
	}
	if len(s.IPFamilies) == 0 {
		s.IPFamilies = []corev1.IPFamily{first}
	}
	if policy(svc) != corev1.IPFamilyPolicySingleStack && len(s.IPFamilies) == 1 && dual {
		s.IPFamilies = append(s.IPFamilies, otherFamily(s.IPFamilies[0]))
	}
	return nil
}

// checkPolicy compares the policy with the number of addresses and families. Who asks for one family alone gives up the second of what is left as it was.
func checkPolicy(svc, was *corev1.Service) (errs field.ErrorList) {
	s, at := &svc.Spec, field.NewPath("spec", "ipFamilyPolicy")
	single := policy(svc) == corev1.IPFamilyPolicySingleStack
	switch {
	case was == nil:
	case single:
		if len(s.ClusterIPs) > 1 && slices.Equal(s.ClusterIPs, was.Spec.ClusterIPs) {
			s.ClusterIPs = s.ClusterIPs[:1]
		}
		if len(s.IPFamilies) > 1 && slices.Equal(s.IPFamilies, was.Spec.IPFamilies) {
			s.IPFamilies = s.IPFamilies[:1]
		}
	default:
		if n := len(s.ClusterIPs); n > 0 && n < len(was.Spec.ClusterIPs) {
			errs = append(errs, field.Invalid(at, s.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
		}
		if n := len(s.IPFamilies); n > 0 && n < len(was.Spec.IPFamilies) {
			errs = append(errs, field.Invalid(at, s.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
		}
	}
	if single && len(s.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(at, s.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
	}
	if single && len(s.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(at, s.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"))
	}
	return errs
}

// configured is whether the cluster has service addresses of a family.
func (h *Hooks) configured(f corev1.IPFamily) bool {
	return slices.ContainsFunc(h.cfg.Ranges, func(p netip.Prefix) bool { return Family(p.Addr()) == f })
}
