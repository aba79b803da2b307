package resource

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

func validateIngress(i *networkingv1.Ingress) field.ErrorList {
	const class = "kubernetes.io/ingress.class"
	c := &checks{list: validateIngressChange(i, nil)}
	if v, ok := i.Annotations[class]; ok && i.Spec.IngressClassName != nil && v != *i.Spec.IngressClassName {
		c.invalid(root("annotations").Child(class), v, "must match `ingressClassName` when both are specified")
	}
	return c.list
}

func validateIngressChange(i, _ *networkingv1.Ingress) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &i.Spec
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		c.invalid(p, shown(s.Rules), "either `defaultBackend` or `rules` must be specified")
	}
	if s.DefaultBackend != nil {
		c.ingressBackend(s.DefaultBackend, p.Child("defaultBackend"))
	}
	for j := range s.Rules {
		c.ingressRule(&s.Rules[j], p.Child("rules").Index(j))
	}
	for j, t := range s.TLS {
		at := p.Child("tls").Index(j)
		for k, host := range t.Hosts {
			c.host(at.Child("hosts").Index(k), host)
		}
		if t.SecretName != "" {
			c.subdomain(at.Child("secretName"), t.SecretName)
		}
	}
	if s.IngressClassName != nil {
		c.subdomain(p.Child("ingressClassName"), *s.IngressClassName)
	}
	return c.list
}

// host is a DNS name whose first label may be a wildcard.
func (c *checks) host(p *field.Path, host string) {
	if strings.Contains(host, "*") {
		c.invalid(p, host, validation.IsWildcardDNS1123Subdomain(host)...)
		return
	}
	c.subdomain(p, host)
}

func (c *checks) ingressRule(r *networkingv1.IngressRule, p *field.Path) {
	if r.Host != "" {
		if netutils.ParseIPSloppy(r.Host) != nil {
			c.invalid(p.Child("host"), r.Host, "must be a DNS name, not an IP address")
		}
		c.host(p.Child("host"), r.Host)
	}
	if r.HTTP == nil {
		return
	}
	at := p.Child("http", "paths")
	if len(r.HTTP.Paths) == 0 {
		c.required(at, "")
	}
	for i := range r.HTTP.Paths {
		c.ingressPath(&r.HTTP.Paths[i], at.Index(i))
	}
}

func (c *checks) ingressPath(x *networkingv1.HTTPIngressPath, p *field.Path) {
	if x.PathType == nil {
		c.required(p.Child("pathType"), "pathType must be specified")
		return
	}
	at := p.Child("path")
	switch t := *x.PathType; t {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !strings.HasPrefix(x.Path, "/") {
			c.invalid(at, x.Path, "must be an absolute path")
		}
		for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(x.Path, bad) {
				c.invalid(at, x.Path, fmt.Sprintf("must not contain '%s'", bad))
			}
		}
		for _, bad := range []string{"/..", "/."} {
			if strings.HasSuffix(x.Path, bad) {
				c.invalid(at, x.Path, fmt.Sprintf("cannot end with '%s'", bad))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if x.Path != "" && !strings.HasPrefix(x.Path, "/") {
			c.invalid(at, x.Path, "must be an absolute path")
		}
	default:
		oneOf(c, p.Child("pathType"), t, networkingv1.PathTypeExact, networkingv1.PathTypePrefix, networkingv1.PathTypeImplementationSpecific)
	}
	c.ingressBackend(&x.Backend, p.Child("backend"))
}

func (c *checks) ingressBackend(b *networkingv1.IngressBackend, p *field.Path) {
	switch {
	case b.Resource != nil && b.Service != nil:
		c.invalid(p, "", "cannot set both resource and service backends")
	case b.Resource != nil:
		c.typedReference(b.Resource.APIGroup, b.Resource.Kind, b.Resource.Name, p.Child("resource"))
	case b.Service != nil:
		c.requiredOr(p.Child("service", "name"), b.Service.Name, c.serviceName)
		switch port := b.Service.Port; {
		case port.Name != "" && port.Number != 0:
			c.invalid(p, "", "cannot set both port name & port number")
		case port.Name != "":
			c.invalid(p.Child("service", "port", "name"), port.Name, validation.IsValidPortName(port.Name)...)
		case port.Number != 0:
			c.port(p.Child("service", "port", "number"), port.Number)
		default:
			c.required(p, "port name or number is required")
		}
	default:
		c.invalid(p, "", "resource or service backend is required")
	}
}

func (c *checks) serviceName(p *field.Path, name string) {
	c.invalid(p, name, validServiceName(name, false)...)
}

func (c *checks) typedReference(group *string, kind, name string, p *field.Path) {
	if group != nil {
		c.subdomain(p.Child("apiGroup"), *group)
	}
	segment := func(p *field.Path, s string) { c.invalid(p, s, path.IsValidPathSegmentName(s)...) }
	c.requiredOr(p.Child("kind"), kind, segment)
	c.requiredOr(p.Child("name"), name, segment)
}

func validateIngressStatus(i, old *networkingv1.Ingress) field.ErrorList {
	c := &checks{}
	var had []string
	for _, x := range old.Status.LoadBalancer.Ingress {
		had = append(had, x.IP)
	}
	for j, x := range i.Status.LoadBalancer.Ingress {
		at := root("status", "loadBalancer", "ingress").Index(j)
		if x.IP != "" {
			c.add(validation.IsValidIPForLegacyField(at.Child("ip"), x.IP, true, had))
		}
		c.ingressHost(at.Child("hostname"), x.Hostname)
	}
	return c.list
}

func validateIngressClass(i *networkingv1.IngressClass) field.ErrorList {
	const longest = 250
	c := &checks{}
	p := root("spec")
	if len(i.Spec.Controller) > longest {
		c.list = append(c.list, field.TooLong(p.Child("controller"), "", longest))
	}
	c.add(validation.IsDomainPrefixedPath(p.Child("controller"), i.Spec.Controller))
	r := i.Spec.Parameters
	if r == nil {
		return c.list
	}
	at := p.Child("parameters")
	c.typedReference(r.APIGroup, r.Kind, r.Name, at)
	scope := ""
	if r.Scope == nil {
		c.required(at.Child("scope"), "")
	} else {
		scope = *r.Scope
		oneOf(c, at.Child("scope"), scope, networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace)
	}
	switch {
	case r.Namespace != nil && *r.Namespace == "":
		c.required(at.Child("namespace"), "")
	case r.Namespace != nil && scope == networkingv1.IngressClassParametersReferenceScopeNamespace:
		c.label(at.Child("namespace"), *r.Namespace)
	case r.Namespace != nil && scope == networkingv1.IngressClassParametersReferenceScopeCluster:
		c.forbidden(at.Child("namespace"), "`parameters.scope` is set to 'Cluster'")
	case r.Namespace == nil && scope == networkingv1.IngressClassParametersReferenceScopeNamespace:
		c.required(at.Child("namespace"), "`parameters.scope` is set to 'Namespace'")
	}
	return c.list
}

func validateIngressClassUpdate(i, old *networkingv1.IngressClass) field.ErrorList {
	c := &checks{}
	c.same(root("spec", "controller"), i.Spec.Controller, old.Spec.Controller)
	c.add(validateIngressClass(i))
	return c.list
}

func validateNetworkPolicy(n *networkingv1.NetworkPolicy) field.ErrorList {
	return checkNetworkPolicy(n, nil)
}

func validateNetworkPolicyUpdate(n, old *networkingv1.NetworkPolicy) field.ErrorList {
	var had []string
	each := func(peers []networkingv1.NetworkPolicyPeer) {
		for _, x := range peers {
			if x.IPBlock != nil {
				had = append(append(had, x.IPBlock.CIDR), x.IPBlock.Except...)
			}
		}
	}
	for _, r := range old.Spec.Ingress {
		each(r.From)
	}
	for _, r := range old.Spec.Egress {
		each(r.To)
	}
	return checkNetworkPolicy(n, had)
}

func checkNetworkPolicy(n *networkingv1.NetworkPolicy, had []string) field.ErrorList {
	c := &checks{}
	p := root("spec")
	c.selector(p.Child("podSelector"), &n.Spec.PodSelector)
	for i, r := range n.Spec.Ingress {
		at := p.Child("ingress").Index(i)
		c.policyPorts(r.Ports, at.Child("ports"))
		c.policyPeers(r.From, at.Child("from"), had)
	}
	for i, r := range n.Spec.Egress {
		at := p.Child("egress").Index(i)
		c.policyPorts(r.Ports, at.Child("ports"))
		c.policyPeers(r.To, at.Child("to"), had)
	}
	at := p.Child("policyTypes")
	if len(n.Spec.PolicyTypes) > 2 {
		c.invalid(at, n.Spec.PolicyTypes, "may not specify more than two policyTypes")
		return c.list
	}
	for i, t := range n.Spec.PolicyTypes {
		oneOfListed(c, at.Index(i), t, networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)
	}
	return c.list
}

func (c *checks) policyPorts(list []networkingv1.NetworkPolicyPort, p *field.Path) {
	for i, x := range list {
		at := p.Index(i)
		if x.Protocol != nil {
			oneOfListed(c, at.Child("protocol"), *x.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		}
		end := at.Child("endPort")
		switch {
		case x.Port == nil:
			if x.EndPort != nil {
				c.invalid(end, *x.EndPort, "may not be specified when `port` is not specified")
			}
		case x.Port.Type == intstr.Int:
			c.port(at.Child("port"), x.Port.IntVal)
			if x.EndPort != nil {
				if *x.EndPort < x.Port.IntVal {
					c.invalid(end, *x.EndPort, "must be greater than or equal to `port`")
				}
				c.port(end, *x.EndPort)
			}
		default:
			if x.EndPort != nil {
				c.invalid(end, *x.EndPort, "may not be specified when `port` is non-numeric")
			}
			c.invalid(at.Child("port"), x.Port.StrVal, validation.IsValidPortName(x.Port.StrVal)...)
		}
	}
}

func (c *checks) policyPeers(list []networkingv1.NetworkPolicyPeer, p *field.Path, had []string) {
	for i, x := range list {
		at, n := p.Index(i), 0
		if x.PodSelector != nil {
			n++
			c.selector(at.Child("podSelector"), x.PodSelector)
		}
		if x.NamespaceSelector != nil {
			n++
			c.selector(at.Child("namespaceSelector"), x.NamespaceSelector)
		}
		if x.IPBlock != nil {
			n++
			c.ipBlock(x.IPBlock, at.Child("ipBlock"), had)
		}
		if n == 0 {
			c.required(at, "must specify a peer")
		} else if n > 1 && x.IPBlock != nil {
			c.forbidden(at, "may not specify both ipBlock and another peer")
		}
	}
}

func (c *checks) ipBlock(b *networkingv1.IPBlock, p *field.Path, had []string) {
	if b.CIDR == "" {
		c.required(p.Child("cidr"), "")
		return
	}
	c.add(validation.IsValidCIDRForLegacyField(p.Child("cidr"), b.CIDR, true, had))
	_, whole, err := netutils.ParseCIDRSloppy(b.CIDR)
	if err != nil {
		return
	}
	for i, e := range b.Except {
		at := p.Child("except").Index(i)
		c.add(validation.IsValidCIDRForLegacyField(at, e, true, had))
		_, part, err := netutils.ParseCIDRSloppy(e)
		if err != nil {
			continue
		}
		wide, _ := whole.Mask.Size()
		narrow, _ := part.Mask.Size()
		if !whole.Contains(part.IP) || wide >= narrow {
			c.invalid(at, e, "must be a strict subset of `cidr`")
		}
	}
}
