package app

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/rest"
)

// Forbids holds claims of devices to what their namespace's label and the
// rights of who writes allow (KEP-5018, KEP-4817).
func (h hooks) Forbids(ctx context.Context, verb, sub string, obj, old runtime.Object) field.ErrorList {
	switch x := obj.(type) {
	case *resourcev1.ResourceClaim:
		if was, ok := old.(*resourcev1.ResourceClaim); ok && sub == "status" {
			return h.forbidsStatus(ctx, verb, x, was)
		}
		if old == nil {
			return h.adminAccess(ctx, x.Namespace, requestedAdmin(x.Spec.Devices.Requests))
		}
	case *resourcev1.ResourceClaimTemplate:
		if old == nil {
			return h.adminAccess(ctx, x.Namespace, requestedAdmin(x.Spec.Spec.Devices.Requests))
		}
	}
	return nil
}

// requestedAdmin is where a claim asks for access beside the devices' users,
// nil where it does not. Upstream's path leaves out the kind of request, and
// the template's spec.
func requestedAdmin(list []resourcev1.DeviceRequest) *field.Path {
	for i, r := range list {
		if r.Exactly != nil && r.Exactly.AdminAccess != nil && *r.Exactly.AdminAccess {
			return field.NewPath("spec", "devices", "requests").Index(i).Child("adminAccess")
		}
	}
	return nil
}

func allocatedAdmin(a *resourcev1.AllocationResult) *field.Path {
	if a == nil {
		return nil
	}
	for i, r := range a.Devices.Results {
		if r.AdminAccess != nil && *r.AdminAccess {
			return field.NewPath("status", "allocation", "devices", "results").Index(i).Child("adminAccess")
		}
	}
	return nil
}

// adminAccess wants a namespace to allow what is asked for at a path.
func (h hooks) adminAccess(ctx context.Context, namespace string, at *field.Path) field.ErrorList {
	if at == nil {
		return nil
	}
	ns, err := h.namespace(ctx, namespace)
	if err != nil {
		return field.ErrorList{field.InternalError(at, fmt.Errorf("could not retrieve namespace to verify admin access: %w", err))}
	}
	if ns.Labels[resourcev1.DRAAdminNamespaceLabelKey] != "true" {
		return field.ErrorList{field.Forbidden(at, fmt.Sprintf("admin access to devices requires the `%s: true` label on the containing namespace", resourcev1.DRAAdminNamespaceLabelKey))}
	}
	return nil
}

func (l *local) namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	return ns, l.Get(ctx, ns)
}

// forbidsStatus wants the rights to bind a claim, and to report on the devices
// of each driver whose reports change.
func (h hooks) forbidsStatus(ctx context.Context, verb string, c, old *resourcev1.ResourceClaim) field.ErrorList {
	var out field.ErrorList
	if allocatedAdmin(old.Status.Allocation) == nil {
		out = h.adminAccess(ctx, c.Namespace, allocatedAdmin(c.Status.Allocation))
	}
	s, was := &c.Status, &old.Status
	at := authz.Attributes{
		User: rest.UserFrom(ctx), Verb: verb, ResourceRequest: true,
		APIGroup: resourcev1.GroupName, APIVersion: resourcev1.SchemeGroupVersion.Version, Resource: "resourceclaims", Subresource: resourcev1.SubresourceBinding,
	}
	if !apiequality.Semantic.DeepEqual(s.Allocation, was.Allocation) || !apiequality.Semantic.DeepEqual(s.ReservedFor, was.ReservedFor) {
		if err := h.allowed(ctx, at); err != nil {
			out = append(out, field.Forbidden(field.NewPath("status", "allocation"),
				fmt.Sprintf(`changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="%s" permission: %s`, verb, err)))
		}
	}
	if s.Allocation == nil {
		return out
	}
	verbs := []string{resourcev1.VerbPrefixArbitraryNode + verb}
	if onNode(at.User, allocatedNode(s.Allocation)) {
		verbs = []string{resourcev1.VerbPrefixAssociatedNode + verb, verbs[0]}
	}
	at.Namespace, at.Subresource = c.Namespace, resourcev1.SubresourceDriver
	for _, driver := range sets.List(changedDrivers(s.Devices, was.Devices)) {
		var first error
		for _, v := range verbs {
			at.Name, at.Verb = driver, v
			err := h.allowed(ctx, at)
			if err == nil {
				first = nil
				break
			}
			if first == nil {
				first = err
			}
		}
		if first != nil {
			out = append(out, field.Forbidden(field.NewPath("status", "devices"),
				fmt.Sprintf(`changing status.devices requires resource="resourceclaims/driver", verb="%s" permission: %s`, verbs, first)))
		}
	}
	return out
}

// allowed is nil or why the user may not.
func (h hooks) allowed(ctx context.Context, at authz.Attributes) error {
	d, reason, err := h.authz.Authorize(ctx, at)
	if d == authz.Allow {
		return nil
	}
	switch {
	case err != nil && reason != "":
		reason = fmt.Sprintf("%v: %s", err, reason)
	case err != nil:
		reason = err.Error()
	}
	return errors.New(authz.Forbidden(at, reason).Error())
}

// reported is the device, or share of one, that an entry of a status is about.
type reported struct{ driver, pool, device, share string }

// changedDrivers are the drivers of the entries that were added, changed or
// removed.
func changedDrivers(list, old []resourcev1.AllocatedDeviceStatus) sets.Set[string] {
	key := func(s *resourcev1.AllocatedDeviceStatus) reported {
		k := reported{driver: s.Driver, pool: s.Pool, device: s.Device}
		if s.ShareID != nil {
			k.share = *s.ShareID
		}
		return k
	}
	was := map[reported]*resourcev1.AllocatedDeviceStatus{}
	for i := range old {
		was[key(&old[i])] = &old[i]
	}
	out := sets.Set[string]{}
	for i := range list {
		k := key(&list[i])
		if before, ok := was[k]; !ok || !apiequality.Semantic.DeepEqual(before, &list[i]) {
			out.Insert(k.driver)
		}
		delete(was, k)
	}
	for k := range was {
		out.Insert(k.driver)
	}
	return out
}

// allocatedNode is the node that an allocation is for, empty where it is for
// several.
func allocatedNode(a *resourcev1.AllocationResult) string {
	if a.NodeSelector == nil || len(a.NodeSelector.NodeSelectorTerms) != 1 {
		return ""
	}
	t := a.NodeSelector.NodeSelectorTerms[0]
	if len(t.MatchExpressions) != 0 || len(t.MatchFields) != 1 {
		return ""
	}
	f := t.MatchFields[0]
	if f.Key != metav1.ObjectNameField || f.Operator != corev1.NodeSelectorOpIn || len(f.Values) != 1 {
		return ""
	}
	return f.Values[0]
}

// onNode is whether a user is a pod's service account on a node.
func onNode(u *authn.Identity, node string) bool {
	names := u.Extra[authn.NodeNameKey]
	if _, _, ok := authn.SplitServiceAccount(u.Name); !ok || node == "" || len(names) != 1 {
		return false
	}
	return names[0] == node && len(validation.NameIsDNSSubdomain(node, false)) == 0
}
