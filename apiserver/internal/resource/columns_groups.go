package resource

import (
	"strconv"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func budgetTable() table {
	return table{columns: columns(`
Name
Min Available               | The minimum number of pods that must be available.
Max Unavailable             | The maximum number of pods that may be unavailable.
Allowed Disruptions:integer | Calculated number of pods that may be disrupted at this time.
Age
`), row: rowOf(func(p *policyv1.PodDisruptionBudget) []any {
		least, most := "N/A", "N/A"
		if p.Spec.MinAvailable != nil {
			least = p.Spec.MinAvailable.String()
		}
		if p.Spec.MaxUnavailable != nil {
			most = p.Spec.MaxUnavailable.String()
		}
		return []any{p.Name, least, most, int64(p.Status.DisruptionsAllowed), p.CreationTimestamp}
	})}
}

func leaseTable() table {
	return table{columns: columns(`
Name
Holder | @LeaseSpec.holderIdentity
Age
`), row: rowOf(func(l *coordinationv1.Lease) []any {
		return []any{l.Name, deref(l.Spec.HolderIdentity), l.CreationTimestamp}
	})}
}

func endpointSliceTable() table {
	return table{columns: columns(`
Name
AddressType | @EndpointSlice.addressType
Ports       | @EndpointSlice.ports
Endpoints   | @EndpointSlice.endpoints
Age
`), row: rowOf(func(e *discoveryv1.EndpointSlice) []any {
		var ports, addresses []string
		for _, p := range e.Ports {
			text := orElse(p.Name, "*")
			if p.Port != nil {
				text = strconv.Itoa(int(*p.Port))
			}
			ports = append(ports, text)
		}
		for _, p := range e.Endpoints {
			addresses = append(addresses, p.Addresses...)
		}
		return []any{e.Name, string(e.AddressType), fewOrUnset(ports), fewOrUnset(addresses), e.CreationTimestamp}
	})}
}

func ingressTable() table {
	return table{columns: columns(`
Name
Class   | The name of the IngressClass resource that should be used for additional configuration
Hosts   | Hosts that incoming requests are matched against before the ingress rule
Address | Address is a list containing ingress points for the load-balancer
Ports   | Ports of TLS configurations that open
Age
`), row: rowOf(func(i *networkingv1.Ingress) []any {
		var addresses []string
		for _, in := range i.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				addresses = append(addresses, in.IP)
			} else if in.Hostname != "" {
				addresses = append(addresses, in.Hostname)
			}
		}
		ports := "80"
		if len(i.Spec.TLS) > 0 {
			ports = "80, 443"
		}
		return []any{i.Name, orElse(i.Spec.IngressClassName, "<none>"), ingressHosts(i.Spec.Rules), strings.Join(distinct(addresses), ","), ports, i.CreationTimestamp}
	})}
}

// ingressHosts are the first three; the rules after those are counted, with a
// host or without.
func ingressHosts(rules []networkingv1.IngressRule) string {
	var hosts []string
	more := ""
	for _, r := range rules {
		if len(hosts) == 3 {
			more = " + " + strconv.Itoa(len(rules)-3) + " more..."
			break
		}
		if r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	if len(hosts) == 0 {
		return "*"
	}
	return strings.Join(hosts, ",") + more
}

func ingressClassTable() table {
	return table{columns: columns(`
Name
Controller | Controller that is responsible for handling this class
Parameters | A reference to a resource with additional parameters
Age
`), row: rowOf(func(c *networkingv1.IngressClass) []any {
		name, parameters := c.Name, "<none>"
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			name += " (default)"
		}
		if p := c.Spec.Parameters; p != nil {
			parameters = p.Kind
			if p.APIGroup != nil {
				parameters += "." + *p.APIGroup
			}
			parameters += "/" + p.Name
		}
		return []any{name, c.Spec.Controller, parameters, c.CreationTimestamp}
	})}
}

func networkPolicyTable() table {
	return table{columns: columns(`
Name
Pod-Selector | @NetworkPolicySpec.podSelector
Age
`), row: rowOf(func(n *networkingv1.NetworkPolicy) []any {
		return []any{n.Name, selectorText(&n.Spec.PodSelector), n.CreationTimestamp}
	})}
}

// ipAddressTable has a cell more than columns, as upstream's has.
func ipAddressTable() table {
	return table{columns: columns(`
Name
ParentRef | @IPAddressSpec.parentRef
`), row: rowOf(func(a *networkingv1.IPAddress) []any {
		parent := "<none>"
		if p := a.Spec.ParentRef; p != nil {
			resource := schema.GroupResource{Group: p.Group, Resource: p.Resource}
			parent = strings.ToLower(resource.String())
			if p.Namespace != "" {
				parent += "/" + p.Namespace
			}
			parent += "/" + p.Name
		}
		return []any{a.Name, parent, a.CreationTimestamp}
	})}
}

func serviceCIDRTable() table {
	return table{columns: columns(`
Name
CIDRs | @ServiceCIDRSpec.cidrs
Age
`), row: rowOf(func(c *networkingv1.ServiceCIDR) []any {
		return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), c.CreationTimestamp}
	})}
}

func roleBindingTable() table {
	return table{columns: columns(`
Name
Role             | @RoleBinding.roleRef
Age
+Users           | Users in the roleBinding
+Groups          | Groups in the roleBinding
+ServiceAccounts | ServiceAccounts in the roleBinding
`), row: rowOf(func(b *rbacv1.RoleBinding) []any {
		users, groups, accounts := subjectsText(b.Subjects)
		return []any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, b.CreationTimestamp, users, groups, accounts}
	})}
}

func clusterRoleBindingTable() table {
	return table{columns: columns(`
Name
Role             | @ClusterRoleBinding.roleRef
Age
+Users           | Users in the clusterRoleBinding
+Groups          | Groups in the clusterRoleBinding
+ServiceAccounts | ServiceAccounts in the clusterRoleBinding
`), row: rowOf(func(b *rbacv1.ClusterRoleBinding) []any {
		users, groups, accounts := subjectsText(b.Subjects)
		return []any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, b.CreationTimestamp, users, groups, accounts}
	})}
}

func subjectsText(subjects []rbacv1.Subject) (users, groups, accounts string) {
	var u, g, a []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			u = append(u, s.Name)
		case rbacv1.GroupKind:
			g = append(g, s.Name)
		case rbacv1.ServiceAccountKind:
			a = append(a, s.Namespace+"/"+s.Name)
		}
	}
	return strings.Join(u, ", "), strings.Join(g, ", "), strings.Join(a, ", ")
}

func priorityClassTable() table {
	return table{columns: columns(`
Name
Value:integer          | @PriorityClass.value
Global-Default:boolean | @PriorityClass.globalDefault
Age
PreemptionPolicy       | @PriorityClass.preemptionPolicy
`), row: rowOf(func(p *schedulingv1.PriorityClass) []any {
		return []any{p.Name, int64(p.Value), p.GlobalDefault, p.CreationTimestamp, orElse(p.PreemptionPolicy, "")}
	})}
}

func runtimeClassTable() table {
	return table{columns: columns(`
Name
Handler
Age
`), row: rowOf(func(r *nodev1.RuntimeClass) []any {
		return []any{r.Name, r.Handler, r.CreationTimestamp}
	})}
}

func signingRequestTable() table {
	return table{columns: columns(`
Name
Age
SignerName        | @CertificateSigningRequestSpec.signerName
Requestor         | @CertificateSigningRequestSpec.request
RequestedDuration | @CertificateSigningRequestSpec.expirationSeconds
Condition         | @CertificateSigningRequestStatus.conditions
`), row: rowOf(func(c *certificatesv1.CertificateSigningRequest) []any {
		requested := "<none>"
		if s := c.Spec.ExpirationSeconds; s != nil {
			requested = secondsText(int64(*s))
		}
		return []any{c.Name, c.CreationTimestamp, orNone(c.Spec.SignerName), c.Spec.Username, requested, signingStatus(c)}
	})}
}

func signingStatus(c *certificatesv1.CertificateSigningRequest) string {
	approved, denied, failed := false, false, false
	for _, cond := range c.Status.Conditions {
		switch cond.Type {
		case certificatesv1.CertificateApproved:
			approved = true
		case certificatesv1.CertificateDenied:
			denied = true
		case certificatesv1.CertificateFailed:
			failed = true
		}
	}
	status := "Pending"
	if denied {
		status = "Denied"
	} else if approved {
		status = "Approved"
	}
	if failed {
		status += ",Failed"
	}
	if len(c.Status.Certificate) > 0 {
		status += ",Issued"
	}
	return status
}

func podCertificateRequestTable() table {
	return table{columns: columns(`
Name
PodName                   | @PodCertificateRequestSpec.podName
ServiceAccountName        | @PodCertificateRequestSpec.serviceAccountName
NodeName                  | @PodCertificateRequestSpec.nodeName
SignerName                | @PodCertificateRequestSpec.signerName
State                     | Is the request Pending, Issued, Denied, or Failed?
UnverifiedUserAnnotations | @PodCertificateRequestSpec.unverifiedUserAnnotations
`), row: rowOf(func(r *certificatesv1.PodCertificateRequest) []any {
		state := "Pending"
		for _, c := range r.Status.Conditions {
			switch c.Type {
			case certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed:
				state = c.Type
			}
		}
		return []any{r.Name, r.Spec.PodName, r.Spec.ServiceAccountName, string(r.Spec.NodeName), r.Spec.SignerName, state, labelText(r.Spec.UnverifiedUserAnnotations)}
	})}
}

func clusterTrustBundleTable() table {
	return table{columns: columns(`
Name
SignerName | @ClusterTrustBundleSpec.signerName
`), row: rowOf(func(b *certificatesv1.ClusterTrustBundle) []any {
		return []any{b.Name, orNone(b.Spec.SignerName)}
	})}
}
