package resource

import (
	"context"
	"fmt"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validate"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

func validateVolumeAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	return checkVolumeAttachment(a, true)
}

func checkVolumeAttachment(a *storagev1.VolumeAttachment, isNew bool) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &a.Spec
	switch at := p.Child("attacher"); {
	case !isNew:
		c.csiDriverName(s.Attacher, at)
	case s.Attacher == "":
		c.required(at, "")
	default:
		// Of a new one, upstream declares it beside the type, whose words are others than those for drivers.
		ctx, op := context.Background(), operation.Operation{Type: operation.Create}
		c.add(validate.LongNameCaseless(ctx, op, at, &s.Attacher, nil))
		c.add(validate.MaxLength(ctx, op, at, &s.Attacher, nil, 63))
	}
	name, inline := s.Source.PersistentVolumeName, s.Source.InlineVolumeSpec
	switch at := p.Child("source"); {
	case inline == nil && name == nil:
		c.required(at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
	case inline != nil && name != nil:
		c.forbidden(at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
	case name != nil && *name == "":
		c.required(at.Child("persistentVolumeName"), "must specify non empty persistentVolumeName")
	case inline != nil:
		c.volumeSpec(inline, "", at.Child("inlineVolumeSpec"), true)
	}
	c.subdomain(p.Child("nodeName"), s.NodeName)
	if name != nil {
		c.subdomain(root("spec.source.persistentVolumeName"), *name)
	}
	return c.list
}

func validateVolumeAttachmentUpdate(a, old *storagev1.VolumeAttachment) field.ErrorList {
	c := &checks{list: checkVolumeAttachment(a, false)}
	c.frozen(root("spec"), a.Spec, old.Spec)
	return c.list
}

func validateCSIDriverUpdate(d, old *storagev1.CSIDriver) field.ErrorList {
	c := &checks{list: validateCSIDriver(d)}
	c.same(root("spec", "attachedRequired"), d.Spec.AttachRequired, old.Spec.AttachRequired)
	c.same(root("spec", "volumeLifecycleModes"), d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes)
	return c.list
}

// validateCSINodeUpdate keeps what a driver on a node is known by; how many
// volumes it takes may change.
func validateCSINodeUpdate(n, old *storagev1.CSINode) field.ErrorList {
	c := &checks{list: validateCSINode(n)}
	for _, was := range old.Spec.Drivers {
		for _, is := range n.Spec.Drivers {
			if was.Name == is.Name {
				was.Allocatable, is.Allocatable = nil, nil
				c.same(root("spec", "drivers"), is, was)
			}
		}
	}
	return c.list
}

func validateCSIDriver(d *storagev1.CSIDriver) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &d.Spec
	c.csiDriverName(d.Name, root("metadata", "name"))
	for _, m := range s.VolumeLifecycleModes {
		oneOfListed(c, p.Child("volumeLifecycleModes"), m, storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)
	}
	if s.FSGroupPolicy != nil {
		oneOf(c, p.Child("fsGroupPolicy"), *s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy)
	}
	if n := s.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < 10 {
		c.invalid(p.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds")
	}
	seen := sets.Set[string]{}
	for i, t := range s.TokenRequests {
		at := p.Child("tokenRequests").Index(i)
		if seen.Has(t.Audience) {
			c.duplicate(at.Child("audience"), t.Audience)
		}
		seen.Insert(t.Audience)
		if t.ExpirationSeconds != nil && *t.ExpirationSeconds < 600 {
			c.invalid(at.Child("expirationSeconds"), *t.ExpirationSeconds, "may not specify a duration less than 10 minutes")
		}
	}
	return c.list
}

func validateCSINode(n *storagev1.CSINode) field.ErrorList {
	const longestID = 192
	c := &checks{}
	names := sets.Set[string]{}
	for i, d := range n.Spec.Drivers {
		at := root("spec", "drivers").Index(i)
		c.csiDriverName(d.Name, at.Child("name"))
		if names.Has(d.Name) {
			c.duplicate(at.Child("name"), d.Name)
		}
		names.Insert(d.Name)
		c.needed(at.Child("nodeID"), d.NodeID)
		if len(d.NodeID) > longestID {
			c.invalid(at.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", longestID))
		}
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			c.nonNegative(at.Child("allocatable", "count"), int64(*d.Allocatable.Count))
		}
		keys := sets.Set[string]{}
		for _, k := range d.TopologyKeys {
			if k == "" {
				c.required(at.Child("topologyKeys"), "")
				continue
			}
			if keys.Has(k) {
				c.duplicate(at.Child("topologyKeys"), k)
			}
			keys.Insert(k)
			c.qualified(at.Child("topologyKeys"), k)
		}
	}
	return c.list
}

func validateServiceCIDR(s *networkingv1.ServiceCIDR) field.ErrorList {
	c := &checks{}
	at := root("spec", "cidrs")
	if len(s.Spec.CIDRs) == 0 {
		c.required(at, "at least one CIDR required")
	} else if len(s.Spec.CIDRs) > 2 {
		c.invalid(at, shown(s.Spec), "may only hold up to 2 values")
	}
	for i, v := range s.Spec.CIDRs {
		c.add(validation.IsValidCIDR(at.Index(i), v))
	}
	return c.list
}

func validateFlowSchema(f *flowcontrolv1.FlowSchema) field.ErrorList {
	const most = 10000
	c := &checks{}
	p, s := root("spec"), &f.Spec
	at := p.Child("matchingPrecedence")
	if s.MatchingPrecedence <= 0 {
		c.invalid(at, s.MatchingPrecedence, "must be a positive value")
	}
	if s.MatchingPrecedence > most {
		c.invalid(at, s.MatchingPrecedence, fmt.Sprintf("must not be greater than %v", most))
	}
	if s.MatchingPrecedence == 1 && f.Name != "exempt" {
		c.invalid(at, s.MatchingPrecedence, "only the schema named 'exempt' may have matchingPrecedence 1")
	}
	if m := s.DistinguisherMethod; m != nil && m.Type != flowcontrolv1.FlowDistinguisherMethodByNamespaceType && m.Type != flowcontrolv1.FlowDistinguisherMethodByUserType {
		c.list = append(c.list, field.NotSupported(p.Child("distinguisherMethod", "type"), shown(m), []string{"ByNamespace", "ByUser"}))
	}
	at = p.Child("priorityLevelConfiguration", "name")
	if s.PriorityLevelConfiguration.Name == "" {
		c.required(at, "must reference a priority level")
	} else {
		c.subdomain(at, s.PriorityLevelConfiguration.Name)
	}
	for i := range s.Rules {
		c.flowRule(&s.Rules[i], p.Child("rules").Index(i))
	}
	return c.list
}

func (c *checks) flowRule(r *flowcontrolv1.PolicyRulesWithSubjects, p *field.Path) {
	if len(r.Subjects) == 0 {
		c.required(p.Child("subjects"), "subjects must contain at least one value")
	}
	for i := range r.Subjects {
		c.flowSubject(&r.Subjects[i], p.Child("subjects").Index(i))
	}
	if len(r.ResourceRules)+len(r.NonResourceRules) == 0 {
		c.required(p, "at least one of resourceRules and nonResourceRules has to be non-empty")
	}
	for i, x := range r.ResourceRules {
		at := p.Child("resourceRules").Index(i)
		c.flowVerbs(x.Verbs, at.Child("verbs"))
		c.wildcard(x.APIGroups, at.Child("apiGroups"), "resource rules must supply at least one api group", "api groups")
		c.wildcard(x.Resources, at.Child("resources"), "resource rules must supply at least one resource", "resources")
		switch all := contains(x.Namespaces, "*"); {
		case len(x.Namespaces) == 0 && !x.ClusterScope:
			c.required(at.Child("namespaces"), "resource rules that are not cluster scoped must supply at least one namespace")
		case all && len(x.Namespaces) > 1:
			c.invalid(at.Child("namespaces"), x.Namespaces, "if '*' is present, must not specify other namespaces")
		case !all:
			for j, ns := range x.Namespaces {
				for _, msg := range apivalidation.ValidateNamespaceName(ns, false) {
					c.invalid(at.Child("namespaces").Index(j), ns, "each member of this list must be '*' or a DNS-1123 label; "+msg)
				}
			}
		}
	}
	for i, x := range r.NonResourceRules {
		at := p.Child("nonResourceRules").Index(i)
		c.flowVerbs(x.Verbs, at.Child("verbs"))
		c.wildcard(x.NonResourceURLs, at.Child("nonResourceURLs"), "nonResourceURLs must contain at least one value", "non-resource URLs")
		if !contains(x.NonResourceURLs, "*") {
			for j, u := range x.NonResourceURLs {
				if !strings.HasPrefix(u, "/") {
					c.invalid(at.Child("nonResourceURLs").Index(j), u, "must start with slash")
				}
			}
		}
	}
}

func (c *checks) wildcard(list []string, p *field.Path, empty, what string) {
	if len(list) == 0 {
		c.required(p, empty)
	} else if len(list) > 1 && contains(list, "*") {
		c.invalid(p, list, "if '*' is present, must not specify other "+what)
	}
}

func (c *checks) flowVerbs(list []string, p *field.Path) {
	known := sets.New("get", "list", "create", "update", "delete", "deletecollection", "patch", "watch", "proxy")
	c.wildcard(list, p, "verbs must contain at least one value", "verbs")
	if len(list) > 0 && !contains(list, "*") && !known.HasAll(list...) {
		c.list = append(c.list, field.NotSupported(p, list, sets.List(known)))
	}
}

func (c *checks) flowSubject(s *flowcontrolv1.Subject, p *field.Path) {
	kinds := []struct {
		kind  flowcontrolv1.SubjectKind
		field string
		set   bool
		check func(*field.Path)
	}{
		{flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil, func(p *field.Path) {
			if n := s.ServiceAccount.Name; n == "" {
				c.required(p.Child("name"), "")
			} else if n != "*" {
				c.invalid(p.Child("name"), n, apivalidation.ValidateServiceAccountName(n, false)...)
			}
			if ns := s.ServiceAccount.Namespace; ns == "" {
				c.required(p.Child("namespace"), "must specify namespace for service account")
			} else {
				c.invalid(p.Child("namespace"), ns, apivalidation.ValidateNamespaceName(ns, false)...)
			}
		}},
		{flowcontrolv1.SubjectKindUser, "user", s.User != nil, func(p *field.Path) { c.needed(p.Child("name"), s.User.Name) }},
		{flowcontrolv1.SubjectKindGroup, "group", s.Group != nil, func(p *field.Path) { c.needed(p.Child("name"), s.Group.Name) }},
	}
	if s.Kind != flowcontrolv1.SubjectKindServiceAccount && s.Kind != flowcontrolv1.SubjectKindUser && s.Kind != flowcontrolv1.SubjectKindGroup {
		c.list = append(c.list, field.NotSupported(p.Child("kind"), s.Kind, []string{"Group", "ServiceAccount", "User"}))
		return
	}
	for _, k := range kinds {
		at := p.Child(k.field)
		switch {
		case k.kind == s.Kind && !k.set:
			c.required(at, fmt.Sprintf("%s is required when subject kind is '%s'", k.field, k.kind))
		case k.kind == s.Kind:
			k.check(at)
		case k.set:
			c.forbidden(at, fmt.Sprintf("%s is forbidden when subject kind is not '%s'", k.field, k.kind))
		}
	}
}

// onlyNames drops all but the names of a service account's secrets.
func onlyNames(a *corev1.ServiceAccount) {
	for i := range a.Secrets {
		a.Secrets[i] = corev1.ObjectReference{Name: a.Secrets[i].Name}
	}
}

func validateIPAddress(a *networkingv1.IPAddress) field.ErrorList {
	c := &checks{}
	r, p := a.Spec.ParentRef, root("spec", "parentRef")
	if r == nil {
		c.required(p, "")
		return c.list
	}
	if r.Group != "" {
		c.subdomain(p.Child("group"), r.Group)
	}
	segment := func(p *field.Path, s string) { c.invalid(p, s, path.IsValidPathSegmentName(s)...) }
	c.requiredOr(p.Child("resource"), r.Resource, segment)
	c.requiredOr(p.Child("name"), r.Name, segment)
	if r.Namespace != "" {
		segment(p.Child("namespace"), r.Namespace)
	}
	return c.list
}

func validateIPAddressUpdate(a, old *networkingv1.IPAddress) field.ErrorList {
	c := &checks{list: validateIPAddress(a)}
	c.frozen(root("spec", "parentRef"), a.Spec.ParentRef, old.Spec.ParentRef)
	return c.list
}

// addressName wants an IP address in canonical form.
func addressName(name string, _ bool) []string {
	var out []string
	for _, e := range validation.IsValidIP(root(""), name) {
		out = append(out, e.Detail)
	}
	if ip := netutils.ParseIPSloppy(name); len(out) == 0 && ip.String() != name {
		out = append(out, "must be in canonical form (\""+ip.String()+"\")")
	}
	return out
}

func validatePriorityLevel(l *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	const exempt = "exempt"
	c := &checks{}
	p, s := root("spec"), &l.Spec
	if (l.Name == exempt) != (s.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		c.invalid(p.Child("type"), s.Type, "must be 'Exempt' if and only if `name` is 'exempt'")
	}
	switch s.Type {
	case "":
		c.required(p.Child("type"), "")
	case flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited:
	default:
		oneOf(c, p.Child("type"), s.Type, flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited)
	}
	if s.Limited != nil && s.Type != flowcontrolv1.PriorityLevelEnablementLimited {
		c.forbidden(p.Child("limited"), "")
		if r := s.Limited.LimitResponse; r.Queuing != nil && r.Type != flowcontrolv1.LimitResponseTypeQueue {
			c.forbidden(p.Child("limited", "limitResponse", "queuing"), "")
		}
	}
	if s.Exempt != nil && s.Type != flowcontrolv1.PriorityLevelEnablementExempt {
		c.forbidden(p.Child("exempt"), "")
	}
	switch {
	case s.Type == flowcontrolv1.PriorityLevelEnablementLimited && s.Limited == nil:
		c.required(p.Child("limited"), "")
	case s.Limited != nil && s.Type == flowcontrolv1.PriorityLevelEnablementLimited:
		c.limited(s.Limited, p.Child("limited"))
	}
	if e := s.Exempt; e != nil && s.Type == flowcontrolv1.PriorityLevelEnablementExempt {
		c.shares(e.NominalConcurrencyShares, e.LendablePercent, p.Child(exempt))
	}
	return c.list
}

func (c *checks) shares(nominal, lendable *int32, p *field.Path) {
	if nominal != nil && *nominal < 0 {
		c.invalid(p.Child("nominalConcurrencyShares"), *nominal, "must be a non-negative integer")
	}
	if lendable != nil && (*lendable < 0 || *lendable > 100) {
		c.invalid(p.Child("lendablePercent"), *lendable, "must be between 0 and 100, inclusive")
	}
}

func (c *checks) limited(l *flowcontrolv1.LimitedPriorityLevelConfiguration, p *field.Path) {
	// A flow is dealt its hand by a hash, of which no more bits are used.
	const mostQueues, handBits = 10_000_000, 60
	c.shares(l.NominalConcurrencyShares, l.LendablePercent, p)
	if l.BorrowingLimitPercent != nil && *l.BorrowingLimitPercent < 0 {
		c.invalid(p.Child("borrowingLimitPercent"), *l.BorrowingLimitPercent, "if specified, must be a non-negative integer")
	}
	at, q := p.Child("limitResponse"), l.LimitResponse.Queuing
	switch l.LimitResponse.Type {
	case "":
		c.required(at.Child("type"), "")
	case flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject:
	default:
		oneOf(c, at.Child("type"), l.LimitResponse.Type, flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject)
	}
	queues := l.LimitResponse.Type == flowcontrolv1.LimitResponseTypeQueue
	at = at.Child("queuing")
	switch {
	case queues && q == nil:
		c.required(at, "")
		return
	case !queues && q != nil:
		c.forbidden(at, "")
		return
	case q == nil:
		return
	}
	for name, v := range map[string]int32{"queueLengthLimit": q.QueueLengthLimit, "queues": q.Queues, "handSize": q.HandSize} {
		if v <= 0 {
			c.invalid(at.Child(name), v, "must be positive")
		}
	}
	if q.Queues > mostQueues {
		c.invalid(at.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", mostQueues))
	}
	switch {
	case q.HandSize <= 0:
	case q.HandSize > q.Queues:
		c.invalid(at.Child("handSize"), q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues))
	case math.Log2(float64(q.Queues))*float64(q.HandSize) > handBits:
		c.invalid(at.Child("handSize"), q.HandSize, fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, handBits))
	}
}

func validateCapacity(s *storagev1.CSIStorageCapacity) field.ErrorList {
	c := &checks{}
	c.subdomain(root("storageClassName"), s.StorageClassName)
	c.selector(root("nodeTopology"), s.NodeTopology)
	if s.Capacity != nil {
		c.quantityNotNegative(root("capacity"), *s.Capacity)
	}
	if s.MaximumVolumeSize != nil {
		c.quantityNotNegative(root("maximumVolumeSize"), *s.MaximumVolumeSize)
	}
	return c.list
}

func validateCapacityUpdate(s, old *storagev1.CSIStorageCapacity) field.ErrorList {
	c := &checks{list: validateCapacity(s)}
	c.same(root("nodeTopology"), s.NodeTopology, old.NodeTopology)
	c.same(root("storageClassName"), s.StorageClassName, old.StorageClassName)
	return c.list
}
