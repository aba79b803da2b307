package resource

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

const lbOnly = "may only be used when `type` is 'LoadBalancer'"

// maxAffinitySeconds is a day.
const maxAffinitySeconds = 86400

func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

// reachable is whether a service is for clients outside the cluster.
func reachable(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer || s.Spec.Type == corev1.ServiceTypeNodePort ||
		s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

func healthChecked(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func validateService(s *corev1.Service) field.ErrorList { return checkService(s, nil) }

// checkService checks a service; the old one's addresses stay valid.
func checkService(s, old *corev1.Service) field.ErrorList {
	c := &checks{}
	p := root("spec")
	const hints, mode = corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode
	a, okA := s.Annotations[hints]
	if b, ok := s.Annotations[mode]; ok && okA && a != b {
		c.invalid(root("metadata", "annotations").Key(mode), b, fmt.Sprintf("must match annotations[%s] when both are specified", hints))
	}
	c.serviceType(s, p)
	c.servicePorts(s, p.Child("ports"))
	c.add(unversioned.ValidateLabels(s.Spec.Selector, p.Child("selector")))
	c.sessionAffinity(s, p)
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		c.clusterIPs(s, old, p)
	}
	var had []string
	if old != nil {
		had = old.Spec.ExternalIPs
	}
	for i, ip := range s.Spec.ExternalIPs {
		at := p.Child("externalIPs").Index(i)
		if errs := validation.IsValidIPForLegacyField(at, ip, true, had); len(errs) > 0 {
			c.add(errs)
		} else {
			c.endpointIP(at, ip)
		}
	}
	c.loadBalancer(s, old, p)
	c.trafficPolicies(s, p)
	return c.list
}

func (c *checks) serviceType(s *corev1.Service, p *field.Path) {
	if len(s.Spec.Ports) == 0 && !headless(s) && s.Spec.Type != corev1.ServiceTypeExternalName {
		c.required(p.Child("ports"), "")
	}
	switch t := s.Spec.Type; t {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if headless(s) {
			c.invalid(p.Child("clusterIPs").Index(0), s.Spec.ClusterIPs[0], fmt.Sprintf("may not be set to 'None' for %s services", t))
		}
	case corev1.ServiceTypeExternalName:
		const not = "may not be set for ExternalName services"
		if len(s.Spec.ClusterIPs) > 0 {
			c.forbidden(p.Child("clusterIPs"), not)
		}
		if len(s.Spec.IPFamilies) > 0 {
			c.forbidden(p.Child("ipFamilies"), not)
		}
		if s.Spec.IPFamilyPolicy != nil {
			c.forbidden(p.Child("ipFamilyPolicy"), not)
		}
		c.requiredOr(p.Child("externalName"), strings.TrimSuffix(s.Spec.ExternalName, "."), c.subdomain)
	case corev1.ServiceTypeClusterIP:
		for i := range s.Spec.Ports {
			if s.Spec.Ports[i].NodePort != 0 {
				c.forbidden(p.Child("ports").Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'")
			}
		}
	case "":
		c.required(p.Child("type"), "")
	default:
		oneOf(c, p.Child("type"), t, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	}
}

func (c *checks) servicePorts(s *corev1.Service, p *field.Path) {
	names := sets.Set[string]{}
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	nodePorts, ports := sets.Set[key]{}, sets.Set[key]{}
	for i := range s.Spec.Ports {
		x, at := &s.Spec.Ports[i], p.Index(i)
		if x.Name == "" && len(s.Spec.Ports) > 1 {
			c.required(at.Child("name"), "")
		} else if x.Name != "" {
			c.label(at.Child("name"), x.Name)
			if names.Has(x.Name) {
				c.duplicate(at.Child("name"), x.Name)
			}
			names.Insert(x.Name)
		}
		c.port(at.Child("port"), x.Port)
		c.protocol(at.Child("protocol"), x.Protocol)
		c.portOrName(at.Child("targetPort"), x.TargetPort)
		if x.AppProtocol != nil {
			c.qualified(at.Child("appProtocol"), *x.AppProtocol)
		}
		if k := (key{x.Protocol, x.NodePort}); x.NodePort != 0 {
			if nodePorts.Has(k) {
				c.duplicate(at.Child("nodePort"), x.NodePort)
			}
			nodePorts.Insert(k)
		}
		k := key{x.Protocol, x.Port}
		if ports.Has(k) {
			c.duplicate(at, shown(internalPort{Protocol: x.Protocol, Port: x.Port, TargetPort: 0}))
		}
		ports.Insert(k)
	}
}

// internalPort is a port as upstream shows one in errors.
type internalPort struct {
	Name        string
	Protocol    corev1.Protocol
	AppProtocol *string
	Port        int32
	TargetPort  int32
	NodePort    int32
}

func (c *checks) sessionAffinity(s *corev1.Service, p *field.Path) {
	if s.Spec.SessionAffinity == "" {
		c.required(p.Child("sessionAffinity"), "")
		return
	}
	oneOf(c, p.Child("sessionAffinity"), s.Spec.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	at, config := p.Child("sessionAffinityConfig"), s.Spec.SessionAffinityConfig
	switch {
	case s.Spec.SessionAffinity == corev1.ServiceAffinityNone && config != nil:
		c.forbidden(at, "must not be set when session affinity is None")
	case s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP && config != nil && config.ClientIP != nil && config.ClientIP.TimeoutSeconds != nil:
		if t := config.ClientIP.TimeoutSeconds; *t <= 0 || *t > maxAffinitySeconds {
			c.invalid(at.Child("clientIP", "timeoutSeconds"), t, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds))
		}
	}
}

// ValidateClusterIPs checks a service's addresses and families alone; those that the old one, if any, had stay valid. They are checked before any is given out.
func ValidateClusterIPs(s, old *corev1.Service) field.ErrorList {
	c := &checks{}
	c.clusterIPs(s, old, root("spec"))
	return c.list
}

func (c *checks) clusterIPs(s, old *corev1.Service, p *field.Path) {
	at, ips := p.Child("clusterIPs"), s.Spec.ClusterIPs
	switch one := s.Spec.ClusterIP; {
	case one != "" && len(ips) == 0:
		c.required(at, "")
	case one != "" && ips[0] != one:
		c.invalid(at, ips, "first value must match `clusterIP`")
	case one == "" && len(ips) > 0:
		c.invalid(at, ips, "must be empty when `clusterIP` is not specified")
	}
	seen := sets.Set[corev1.IPFamily]{}
	for i, f := range s.Spec.IPFamilies {
		oneOf(c, p.Child("ipFamilies").Index(i), f, corev1.IPv4Protocol, corev1.IPv6Protocol)
		if seen.Has(f) {
			c.duplicate(p.Child("ipFamilies").Index(i), f)
		}
		seen.Insert(f)
	}
	if s.Spec.IPFamilyPolicy != nil {
		oneOf(c, p.Child("ipFamilyPolicy"), *s.Spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)
	}
	var had []string
	if old != nil {
		had = old.Spec.ClusterIPs
	}
	before := len(c.list)
	for i, ip := range ips {
		if i == 0 && ip == corev1.ClusterIPNone {
			if len(ips) > 1 {
				c.invalid(at, ips, "'None' must be the first and only value")
			}
			continue
		}
		c.add(validation.IsValidIPForLegacyField(at.Index(i), ip, true, had))
	}
	bad := len(c.list) > before
	if len(ips) > 2 {
		c.invalid(at, ips, "may only hold up to 2 values")
	}
	if bad {
		return
	}
	if ok, err := netutils.IsDualStackIPStrings(ips); len(ips) > 1 && (err != nil || !ok) {
		c.invalid(at, ips, "may specify no more than one IP for each IP family")
	}
	if headless(s) {
		return
	}
	for i := 0; i < len(ips) && i < len(s.Spec.IPFamilies); i++ {
		if f := s.Spec.IPFamilies[i]; (f == corev1.IPv6Protocol) != netutils.IsIPv6String(ips[i]) && (f == corev1.IPv4Protocol || f == corev1.IPv6Protocol) {
			c.invalid(at.Index(i), ips[i], fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%v]`", f, i))
		}
	}
}

func (c *checks) loadBalancer(s, old *corev1.Service, p *field.Path) {
	balanced := s.Spec.Type == corev1.ServiceTypeLoadBalancer
	const key = corev1.AnnotationLoadBalancerSourceRangesKey
	if ranges := s.Spec.LoadBalancerSourceRanges; len(ranges) > 0 {
		at := p.Child("LoadBalancerSourceRanges")
		if !balanced {
			c.forbidden(at, lbOnly)
		}
		var had []string
		if old != nil {
			for _, r := range old.Spec.LoadBalancerSourceRanges {
				had = append(had, strings.TrimSpace(r))
			}
		}
		for i, r := range ranges {
			c.add(validation.IsValidCIDRForLegacyField(at.Index(i), strings.TrimSpace(r), true, had))
		}
	} else if v, ok := s.Annotations[key]; ok {
		at := root("metadata", "annotations").Key(key)
		if !balanced {
			c.forbidden(at, lbOnly)
		}
		if v = strings.TrimSpace(v); v != "" && (old == nil || old.Annotations[key] != s.Annotations[key]) {
			for _, r := range strings.Split(v, ",") {
				c.add(validation.IsValidCIDRForLegacyField(at, strings.TrimSpace(r), true, nil))
			}
		}
	}
	if s.Spec.AllocateLoadBalancerNodePorts != nil && !balanced {
		c.forbidden(p.Child("allocateLoadBalancerNodePorts"), lbOnly)
	}
	if class := s.Spec.LoadBalancerClass; class != nil {
		if balanced {
			c.qualified(p.Child("loadBalancerClass"), *class)
		} else {
			c.forbidden(p.Child("loadBalancerClass"), lbOnly)
		}
	}
}

func (c *checks) trafficPolicies(s *corev1.Service, p *field.Path) {
	at, policy := p.Child("externalTrafficPolicy"), s.Spec.ExternalTrafficPolicy
	switch {
	case !reachable(s) && policy != "":
		c.invalid(at, policy, "may only be set for externally-accessible services")
	case reachable(s) && policy == "":
		c.required(at, "")
	case reachable(s):
		oneOf(c, at, policy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	}
	at, port := p.Child("healthCheckNodePort"), s.Spec.HealthCheckNodePort
	switch {
	case !healthChecked(s) && port != 0:
		c.invalid(at, port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")
	case healthChecked(s) && port != 0:
		c.port(at, port)
	}
	if s.Spec.InternalTrafficPolicy == nil {
		if s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer || s.Spec.Type == corev1.ServiceTypeClusterIP {
			c.required(p.Child("internalTrafficPolicy"), "")
		}
	} else {
		oneOf(c, p.Child("internalTrafficPolicy"), *s.Spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	}
	if t := s.Spec.TrafficDistribution; t != nil {
		oneOfListed(c, p.Child("trafficDistribution"), *t, corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)
	}
}

func validateServiceUpdate(s, old *corev1.Service) field.ErrorList {
	c := &checks{}
	p := root("spec")
	if s.Spec.Type != corev1.ServiceTypeExternalName && old.Spec.Type != corev1.ServiceTypeExternalName {
		if !headless(s) || !headless(old) {
			c.kept(p, "clusterIPs", "clusterIP", s.Spec.ClusterIPs, old.Spec.ClusterIPs, len(s.Spec.ClusterIPs), s.Spec.IPFamilyPolicy)
		}
		if !headless(s) && !headless(old) {
			families := func(s *corev1.Service) []string {
				out := make([]string, len(s.Spec.IPFamilies))
				for i, f := range s.Spec.IPFamilies {
					out[i] = string(f)
				}
				return out
			}
			c.kept(p, "ipFamilies", "ipFamily", families(s), families(old), len(s.Spec.ClusterIPs), s.Spec.IPFamilyPolicy)
		}
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer && !apiequality.Semantic.DeepEqual(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		c.invalid(p.Child("loadBalancerClass"), s.Spec.LoadBalancerClass, "may not change once set")
	}
	if healthChecked(s) && healthChecked(old) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		c.forbidden(p.Child("healthCheckNodePort"), immutable)
	}
	c.add(checkService(s, old))
	return c.list
}

// kept lets a second address or family come and go, but not the first change.
func (c *checks) kept(p *field.Path, name, singular string, n, old []string, ips int, policy *corev1.IPFamilyPolicy) {
	at := p.Child(name)
	const not = "may not change once set"
	switch {
	case len(n) == len(old):
		for i := range n {
			if n[i] != old[i] {
				if name == "ipFamilies" {
					c.invalid(at.Index(0), n, not)
				} else {
					c.invalid(at.Index(i), n, not)
				}
			}
		}
	case len(n) < len(old):
		if ips == 0 {
			c.invalid(at.Index(0), n, fmt.Sprintf("primary %s can not be unset", singular))
		}
		if len(n) > 0 && n[0] != old[0] {
			c.invalid(at.Index(0), n, not)
		}
		if len(n) == 1 && (policy == nil || *policy != corev1.IPFamilyPolicySingleStack) {
			c.invalid(p.Child("ipFamilyPolicy"), policy, fmt.Sprintf("must be set to 'SingleStack' when releasing the secondary %s", singular))
		}
	case len(old) > 0 && n[0] != old[0]:
		c.invalid(at.Index(0), n, not)
	}
}

func validateServiceStatus(s, old *corev1.Service) field.ErrorList {
	c := &checks{}
	at := root("status", "loadBalancer", "ingress")
	list := s.Status.LoadBalancer.Ingress
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(list) > 0 {
		c.forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'")
		return c.list
	}
	var had []string
	for _, in := range old.Status.LoadBalancer.Ingress {
		had = append(had, in.IP)
	}
	for i, in := range list {
		at := at.Index(i)
		if in.IP != "" {
			c.add(validation.IsValidIPForLegacyField(at.Child("ip"), in.IP, true, had))
		}
		switch {
		case in.IPMode == nil && in.IP != "":
			c.required(at.Child("ipMode"), "must be specified when `ip` is set")
		case in.IPMode == nil:
		case in.IP == "":
			c.forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set")
		default:
			oneOf(c, at.Child("ipMode"), *in.IPMode, corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy)
		}
		c.ingressHost(at.Child("hostname"), in.Hostname)
	}
	return c.list
}

func (c *checks) ingressHost(p *field.Path, name string) {
	if name == "" {
		return
	}
	c.subdomain(p, name)
	if netutils.ParseIPSloppy(name) != nil {
		c.invalid(p, name, "must be a DNS name, not an IP address")
	}
}
