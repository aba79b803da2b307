package resource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// endpointIP forbids the addresses that no endpoint may have.
func (c *checks) endpointIP(p *field.Path, v string) {
	ip := netutils.ParseIPSloppy(v)
	switch {
	case ip == nil:
		c.invalid(p, v, "must be a valid IP address")
		return
	case ip.IsUnspecified():
		c.invalid(p, v, fmt.Sprintf("may not be unspecified (%v)", v))
	}
	if ip.IsLoopback() {
		c.invalid(p, v, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
	}
	if ip.IsLinkLocalUnicast() {
		c.invalid(p, v, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
	}
	if ip.IsLinkLocalMulticast() {
		c.invalid(p, v, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
	}
}

func validateEndpoints(e *corev1.Endpoints) field.ErrorList {
	c := &checks{}
	for i := range e.Subsets {
		s, at := &e.Subsets[i], root("subsets").Index(i)
		if len(s.Addresses)+len(s.NotReadyAddresses) == 0 {
			c.required(at, "must specify `addresses` or `notReadyAddresses`")
		}
		for j := range s.Addresses {
			c.endpointAddress(&s.Addresses[j], at.Child("addresses").Index(j))
		}
		for j := range s.NotReadyAddresses {
			c.endpointAddress(&s.NotReadyAddresses[j], at.Child("notReadyAddresses").Index(j))
		}
		for j, x := range s.Ports {
			at := at.Child("ports").Index(j)
			if x.Name == "" && len(s.Ports) > 1 {
				c.required(at.Child("name"), "")
			} else if x.Name != "" {
				c.label(at.Child("name"), x.Name)
			}
			c.port(at.Child("port"), x.Port)
			c.protocol(at.Child("protocol"), x.Protocol)
			if x.AppProtocol != nil {
				c.qualified(at.Child("appProtocol"), *x.AppProtocol)
			}
		}
	}
	return c.list
}

func (c *checks) endpointAddress(a *corev1.EndpointAddress, p *field.Path) {
	c.add(validation.IsValidIPForLegacyField(p.Child("ip"), a.IP, true, nil))
	if a.Hostname != "" {
		c.label(p.Child("hostname"), a.Hostname)
	}
	if a.NodeName != nil {
		c.subdomain(p.Child("nodeName"), *a.NodeName)
	}
	c.endpointIP(p.Child("ip"), a.IP)
}

func validateEndpointsUpdate(e, old *corev1.Endpoints) field.ErrorList {
	if apiequality.Semantic.DeepEqual(e.Subsets, old.Subsets) {
		return nil
	}
	return validateEndpoints(e)
}

func validateEndpointSlice(e *discoveryv1.EndpointSlice) field.ErrorList {
	c := &checks{}
	if e.AddressType == "" {
		c.required(root("addressType"), "")
	} else {
		oneOf(c, root("addressType"), e.AddressType, discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	}
	const maxEndpoints, maxPorts = 1000, 20000
	if n := len(e.Endpoints); n > maxEndpoints {
		c.list = append(c.list, field.TooMany(root("endpoints"), n, maxEndpoints))
		return c.list
	}
	for i := range e.Endpoints {
		c.endpoint(&e.Endpoints[i], e.AddressType, root("endpoints").Index(i))
	}
	if n := len(e.Ports); n > maxPorts {
		c.list = append(c.list, field.TooMany(root("ports"), n, maxPorts))
		return c.list
	}
	names := sets.Set[string]{}
	for i, x := range e.Ports {
		at := root("ports").Index(i)
		name := ""
		if x.Name != nil {
			name = *x.Name
		}
		if name != "" {
			c.label(at.Child("name"), name)
		}
		if names.Has(name) {
			c.duplicate(at.Child("name"), x.Name)
		}
		names.Insert(name)
		if x.Protocol == nil {
			c.required(at.Child("protocol"), "")
		} else {
			oneOf(c, at.Child("protocol"), *x.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		}
		if x.AppProtocol != nil {
			c.qualified(at.Child("appProtocol"), *x.AppProtocol)
		}
	}
	return c.list
}

func (c *checks) endpoint(e *discoveryv1.Endpoint, t discoveryv1.AddressType, p *field.Path) {
	const maxAddresses, maxTopology = 100, 16
	at := p.Child("addresses")
	if len(e.Addresses) == 0 {
		c.required(at, "")
	} else if n := len(e.Addresses); n > maxAddresses {
		c.list = append(c.list, field.TooMany(at, n, maxAddresses))
	}
	for i, a := range e.Addresses {
		at := at.Index(i)
		switch t {
		case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
			errs := validation.IsValidIPForLegacyField(at, a, true, nil)
			if t == discoveryv1.AddressTypeIPv6 {
				errs = validation.IsValidIP(at, a)
			}
			if len(errs) > 0 {
				c.add(errs)
				continue
			}
			if netutils.IsIPv6String(a) != (t == discoveryv1.AddressTypeIPv6) {
				c.invalid(p.Child("addresses"), a, fmt.Sprintf("must be an %s address", t))
			}
			c.endpointIP(at, a)
		case discoveryv1.AddressTypeFQDN:
			c.add(validation.IsFullyQualifiedDomainName(at, a))
		}
	}
	if e.NodeName != nil {
		c.subdomain(p.Child("nodeName"), *e.NodeName)
	}
	at = p.Child("deprecatedTopology")
	if n := len(e.DeprecatedTopology); n > maxTopology {
		c.list = append(c.list, field.TooMany(at, n, maxTopology))
	}
	c.add(unversioned.ValidateLabels(e.DeprecatedTopology, at))
	if e.Hostname != nil {
		c.label(p.Child("hostname"), *e.Hostname)
	}
	if e.Hints != nil {
		c.endpointHints(e.Hints, p.Child("hints"))
	}
}

func (c *checks) endpointHints(h *discoveryv1.EndpointHints, p *field.Path) {
	const most = 8
	seen := sets.Set[string]{}
	if n := len(h.ForZones); n > most {
		c.list = append(c.list, field.TooMany(p.Child("forZones"), n, most))
		return
	}
	for i, z := range h.ForZones {
		at := p.Child("forZones").Index(i).Child("name")
		if seen.Has(z.Name) {
			c.duplicate(at, z.Name)
		}
		seen.Insert(z.Name)
		c.invalid(at, z.Name, validation.IsValidLabelValue(z.Name)...)
	}
	if n := len(h.ForNodes); n > most {
		c.list = append(c.list, field.TooMany(p.Child("forNodes"), n, most))
		return
	}
	seen = sets.Set[string]{}
	for i, n := range h.ForNodes {
		at := p.Child("forNodes").Index(i).Child("name")
		if seen.Has(n.Name) {
			c.duplicate(at, n.Name)
		}
		seen.Insert(n.Name)
		c.subdomain(at, n.Name)
	}
}

func validateEndpointSliceUpdate(e, old *discoveryv1.EndpointSlice) field.ErrorList {
	c := &checks{list: validateEndpointSlice(e)}
	c.frozen(root("addressType"), e.AddressType, old.AddressType)
	return c.list
}
