package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// allocatedDevice is a device that a claim holds, or a share of one.
type allocatedDevice struct{ Driver, Pool, Device, ShareID string }

func resultDevice(r *resourcev1.DeviceRequestAllocationResult) allocatedDevice {
	d := allocatedDevice{Driver: r.Driver, Pool: r.Pool, Device: r.Device}
	if r.ShareID != nil {
		d.ShareID = string(*r.ShareID)
	}
	return d
}

func statusDevice(s *resourcev1.AllocatedDeviceStatus) allocatedDevice {
	d := allocatedDevice{Driver: s.Driver, Pool: s.Pool, Device: s.Device}
	if s.ShareID != nil {
		d.ShareID = *s.ShareID
	}
	return d
}

func allocatedDevices(a *resourcev1.AllocationResult) sets.Set[allocatedDevice] {
	out := sets.Set[allocatedDevice]{}
	if a != nil {
		for i := range a.Devices.Results {
			out.Insert(resultDevice(&a.Devices.Results[i]))
		}
	}
	return out
}

func validateResourceClaimStatus(r, old *resourcev1.ResourceClaim) field.ErrorList {
	c, p, s := &checks{}, root("status"), &r.Status
	for i, u := range within(s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize) {
		at := p.Child("reservedFor").Index(i)
		c.needed(at.Child("resource"), u.Resource)
		c.needed(at.Child("name"), u.Name)
		c.needed(at.Child("uid"), string(u.UID))
	}
	allocated := allocatedDevices(s.Allocation)
	for i := range s.Devices {
		c.deviceStatus(&s.Devices[i], allocated, p.Child("devices").Index(i))
	}
	if len(s.ReservedFor) > 0 {
		at := p.Child("reservedFor")
		if s.Allocation == nil {
			c.forbidden(at, "may not be specified when `allocated` is not set")
		} else if r.DeletionTimestamp != nil && !sets.New(old.Status.ReservedFor...).HasAll(s.ReservedFor...) {
			c.forbidden(at, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set")
		}
	}
	if s.Allocation != nil && old.Status.Allocation == nil {
		c.allocation(s.Allocation, requestNamesOf(&r.Spec.Devices), p.Child("allocation"))
	}
	return withDeclared(c.list, declaredClaim(r, old))
}

func (c *checks) deviceStatus(s *resourcev1.AllocatedDeviceStatus, allocated sets.Set[allocatedDevice], p *field.Path) {
	c.csiDriverName(s.Driver, p.Child("driver"))
	c.poolName(p.Child("pool"), s.Pool)
	c.label(p.Child("device"), s.Device)
	if d := statusDevice(s); !allocated.Has(d) {
		c.invalid(p, d, "must be an allocated device in the claim")
	}
	if n := len(s.Conditions); n > resourcev1.AllocatedDeviceStatusMaxConditions {
		c.list = append(c.list, field.TooMany(p.Child("conditions"), n, resourcev1.AllocatedDeviceStatusMaxConditions))
	}
	c.add(unversioned.ValidateConditions(s.Conditions, p.Child("conditions")))
	if s.Data != nil && len(s.Data.Raw) > 0 {
		c.jsonObject(p.Child("data"), *s.Data, resourcev1.AllocatedDeviceStatusDataMaxLength)
	}
	if s.NetworkData != nil {
		for i, ip := range within(s.NetworkData.IPs, resourcev1.NetworkDeviceDataMaxIPs) {
			c.add(validation.IsValidInterfaceAddress(p.Child("networkData", "ips").Index(i), ip))
		}
	}
}

// allocation checks a new allocation.
func (c *checks) allocation(a *resourcev1.AllocationResult, names requestNames, p *field.Path) {
	at := p.Child("devices")
	for i, r := range within(a.Devices.Results, resourcev1.AllocationResultsMaxSize) {
		at := at.Child("results").Index(i)
		c.requestRef(at.Child("request"), r.Request, names)
		c.label(at.Child("device"), r.Device)
		c.bindingConditions(r.BindingConditions, r.BindingFailureConditions, at)
		c.deviceTolerations(at, r.Tolerations)
	}
	for i, x := range within(a.Devices.Config, 2*resourcev1.DeviceConfigMaxSize) {
		at := at.Child("config").Index(i)
		c.requestRefs(at, x.Requests, names)
		c.deviceConfig(at, &x.DeviceConfiguration, false)
	}
	if a.NodeSelector != nil {
		c.nodeSelector(a.NodeSelector, p.Child("nodeSelector"))
	}
}

// bindingConditions checks what a device waits for before a pod is bound, and
// what says that it waits in vain.
func (c *checks) bindingConditions(ready, failed []string, p *field.Path) {
	readyAt, failedAt := p.Child("bindingConditions"), p.Child("bindingFailureConditions")
	for i, x := range within(ready, resourcev1.BindingConditionsMaxSize) {
		c.labelName(readyAt.Index(i), x)
	}
	for i, x := range within(failed, resourcev1.BindingFailureConditionsMaxSize) {
		c.labelName(failedAt.Index(i), x)
	}
	seen := sets.Set[string]{}
	for i, x := range ready {
		if seen.Has(x) {
			c.duplicate(readyAt.Index(i), x)
		}
		seen.Insert(x)
	}
	seenFailed := sets.Set[string]{}
	for i, x := range failed {
		if seenFailed.Has(x) {
			c.duplicate(failedAt.Index(i), x)
		}
		seenFailed.Insert(x)
		if seen.Has(x) {
			c.invalid(failedAt.Index(i), x, "bindingFailureConditions must not overlap with bindingConditions")
		}
	}
	if len(ready) == 0 && len(failed) > 0 {
		c.invalid(readyAt, ready, "bindingConditions are required to use bindingFailureConditions")
	}
	if len(failed) == 0 && len(ready) > 0 {
		c.invalid(failedAt, failed, "bindingFailureConditions are required to use bindingConditions")
	}
}

// dropDeallocated removes what the status says of devices that the claim no
// longer holds, for clients that know nothing of it.
func dropDeallocated(s, old *resourcev1.ResourceClaimStatus) {
	gone := allocatedDevices(old.Allocation).Difference(allocatedDevices(s.Allocation))
	var kept []resourcev1.AllocatedDeviceStatus
	for i := range s.Devices {
		if !gone.Has(statusDevice(&s.Devices[i])) {
			kept = append(kept, s.Devices[i])
		}
	}
	s.Devices = kept
}
