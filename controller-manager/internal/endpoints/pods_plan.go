package endpoints

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagship/controller-manager/internal/pod"
)

// addressType is the family of a slice.
func addressType(f corev1.IPFamily) discoveryv1.AddressType {
	if f == corev1.IPv6Protocol {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

// families are those that a Service serves; one that has none recorded serves that of its address, IPv4 else.
func families(svc *corev1.Service) []corev1.IPFamily {
	if len(svc.Spec.IPFamilies) > 0 {
		return svc.Spec.IPFamilies
	}
	if a, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil && a.Is6() {
		return []corev1.IPFamily{corev1.IPv6Protocol}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

// podIP returns a pod's address of a family, empty where it has none.
func podIP(p *corev1.Pod, f corev1.IPFamily) string {
	all := p.Status.PodIPs
	if len(all) == 0 && p.Status.PodIP != "" {
		all = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	for _, ip := range all {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is6() == (f == corev1.IPv6Protocol) {
			return ip.IP
		}
	}
	return ""
}

// listed says whether a pod belongs among a Service's endpoints at all.
func listed(p *corev1.Pod, terminating bool) bool {
	return !pod.Terminal(p) && (p.Status.PodIP != "" || len(p.Status.PodIPs) > 0) && (terminating || p.DeletionTimestamp == nil)
}

// targetPort resolves a Service's port on a pod.
func targetPort(p *corev1.Pod, sp *corev1.ServicePort) (int32, error) {
	if sp.TargetPort.Type == intstr.Int {
		if sp.TargetPort.IntVal == 0 {
			return sp.Port, nil
		}
		return sp.TargetPort.IntVal, nil
	}
	name, proto := sp.TargetPort.StrVal, protocol(sp.Protocol)
	match := func(cs []corev1.Container, sidecars bool) (int32, bool) {
		for i := range cs {
			if sidecars && (cs[i].RestartPolicy == nil || *cs[i].RestartPolicy != corev1.ContainerRestartPolicyAlways) {
				continue
			}
			for _, port := range cs[i].Ports {
				if port.Name == name && protocol(port.Protocol) == proto {
					return port.ContainerPort, true
				}
			}
		}
		return 0, false
	}
	if n, ok := match(p.Spec.Containers, false); ok {
		return n, nil
	}
	if n, ok := match(p.Spec.InitContainers, true); ok {
		return n, nil
	}
	return 0, fmt.Errorf("no suitable port %q on pod %s", name, p.Name)
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// slicePorts are a Service's ports as a pod has them; what the pod does not have is left out.
func slicePorts(svc *corev1.Service, p *corev1.Pod) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		n, err := targetPort(p, sp)
		if err != nil {
			continue
		}
		proto := protocol(sp.Protocol)
		out = append(out, discoveryv1.EndpointPort{Name: &sp.Name, Port: &n, Protocol: &proto, AppProtocol: sp.AppProtocol})
	}
	return out
}

// endpointOf describes a pod. zone is its node's.
func endpointOf(svc *corev1.Service, p *corev1.Pod, ip, zone string) discoveryv1.Endpoint {
	serving, terminating := pod.Ready(p), p.DeletionTimestamp != nil
	ready := svc.Spec.PublishNotReadyAddresses || (serving && !terminating)
	e := discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
	if p.Spec.NodeName != "" {
		e.NodeName = &p.Spec.NodeName
	}
	if zone != "" {
		e.Zone = &zone
	}
	if p.Spec.Hostname != "" && p.Spec.Subdomain == svc.Name && svc.Namespace == p.Namespace {
		e.Hostname = &p.Spec.Hostname
	}
	if zone != "" && ready && svc.Spec.TrafficDistribution != nil {
		switch *svc.Spec.TrafficDistribution {
		case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
		case corev1.ServiceTrafficDistributionPreferSameNode:
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}, ForNodes: []discoveryv1.ForNode{{Name: p.Spec.NodeName}}}
		}
	}
	return e
}

// group is the endpoints of one family with the same ports.
type group struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// groupKey names the family and ports that all endpoints of a slice share.
func groupKey(t discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	texts := make([]string, len(ports))
	for i, p := range ports {
		app := ""
		if p.AppProtocol != nil {
			app = *p.AppProtocol
		}
		texts[i] = fmt.Sprintf("%s/%d/%s/%s", deref(p.Name), deref(p.Port), deref(p.Protocol), app)
	}
	slices.Sort(texts)
	return fmt.Sprintf("%s %q", t, texts)
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// groupPods sorts a Service's pods by family and ports. zone returns a node's zone.
func groupPods(svc *corev1.Service, pods []*corev1.Pod, zone func(node string) string) map[string]*group {
	out := map[string]*group{}
	for _, f := range families(svc) {
		for _, p := range pods {
			ip := podIP(p, f)
			if ip == "" || !listed(p, true) {
				continue
			}
			ports := slicePorts(svc, p)
			if len(ports) == 0 && len(svc.Spec.Ports) > 0 {
				// None of its ports is there: like upstream, the pod is listed without ports.
				ports = []discoveryv1.EndpointPort{}
			}
			key := groupKey(addressType(f), ports)
			if out[key] == nil {
				out[key] = &group{family: addressType(f), ports: ports}
			}
			out[key].endpoints = append(out[key].endpoints, endpointOf(svc, p, ip, zone(p.Spec.NodeName)))
		}
	}
	return out
}

// identity is what makes an endpoint the same one after a change.
func identity(e *discoveryv1.Endpoint) string {
	var uid types.UID
	if e.TargetRef != nil {
		uid = e.TargetRef.UID
	}
	return fmt.Sprintf("%s %v", uid, e.Addresses)
}

// familyOf is the address type of an address, false where it is none.
func familyOf(ip string) (discoveryv1.AddressType, bool) {
	a, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
		return "", false
	case a.Is6():
		return discoveryv1.AddressTypeIPv6, true
	default:
		return discoveryv1.AddressTypeIPv4, true
	}
}
