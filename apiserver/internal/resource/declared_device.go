package resource

import (
	"context"
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validate"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// driverFormats are what a driver's name must be.
var driverFormats = []textRule[string]{validate.LongNameCaseless[string], func(ctx context.Context, op operation.Operation, p *field.Path, v, old *string) field.ErrorList {
	return validate.MaxLength(ctx, op, p, v, old, resourcev1.DriverNameMaxLength)
}}

// atMost bounds a text in bytes.
func atMost(n int) textRule[string] {
	return func(ctx context.Context, op operation.Operation, p *field.Path, v, old *string) field.ErrorList {
		return validate.MaxBytes(ctx, op, p, v, old, n)
	}
}

func declaredDeviceClass(c, old *resourcev1.DeviceClass) field.ErrorList {
	d, p, s := &declaration{}, root("spec"), &c.Spec
	was := part(old, func(c *resourcev1.DeviceClass) *resourcev1.DeviceClassSpec { return &c.Spec })
	declaredList(d, p.Child("selectors"), s.Selectors, parts(was, func(s *resourcev1.DeviceClassSpec) []resourcev1.DeviceSelector { return s.Selectors }),
		list[resourcev1.DeviceSelector]{most: resourcev1.DeviceSelectorsMaxSize})
	declaredList(d, p.Child("config"), s.Config, parts(was, func(s *resourcev1.DeviceClassSpec) []resourcev1.DeviceClassConfiguration { return s.Config }),
		list[resourcev1.DeviceClassConfiguration]{most: resourcev1.DeviceConfigMaxSize, each: func(d *declaration, p *field.Path, v, _ *resourcev1.DeviceClassConfiguration) {
			d.opaque(p, &v.DeviceConfiguration)
		}})
	if name := s.ExtendedResourceName; name != nil && (was == nil || !equality.Semantic.DeepEqual(name, was.ExtendedResourceName)) {
		d.add(validate.ExtendedResourceName(context.Background(), operation.Operation{}, p.Child("extendedResourceName"), name, nil))
	}
	return d.list
}

// opaque checks the configuration of a new or changed entry.
func (d *declaration) opaque(p *field.Path, c *resourcev1.DeviceConfiguration) {
	if c.Opaque != nil {
		formatted(d, p.Child("opaque", "driver"), c.Opaque.Driver, nil, true, driverFormats...)
	}
}

func declaredClaim(c, old *resourcev1.ResourceClaim) field.ErrorList {
	d := &declaration{}
	if old != nil && !equality.Semantic.DeepEqual(c.Spec, old.Spec) {
		d.invalid(root("spec"), nil, immutable)
	} else if old == nil {
		d.claim(root("spec", "devices"), &c.Spec.Devices)
	}
	d.claimStatus(root("status"), &c.Status, part(old, func(c *resourcev1.ResourceClaim) *resourcev1.ResourceClaimStatus { return &c.Status }))
	return d.list
}

func declaredClaimTemplate(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
	d := &declaration{}
	d.claimSince(root("spec", "spec", "devices"), &t.Spec.Spec.Devices, part(old, func(t *resourcev1.ResourceClaimTemplate) *resourcev1.DeviceClaim { return &t.Spec.Spec.Devices }))
	return d.list
}

func (d *declaration) claim(p *field.Path, c *resourcev1.DeviceClaim) { d.claimSince(p, c, nil) }

func (d *declaration) claimSince(p *field.Path, c, old *resourcev1.DeviceClaim) {
	declaredList(d, p.Child("requests"), c.Requests, parts(old, func(c *resourcev1.DeviceClaim) []resourcev1.DeviceRequest { return c.Requests }), list[resourcev1.DeviceRequest]{
		most: resourcev1.DeviceRequestsMaxSize, same: func(a, b *resourcev1.DeviceRequest) bool { return a.Name == b.Name }, each: declaredRequest,
	})
	declaredList(d, p.Child("constraints"), c.Constraints, parts(old, func(c *resourcev1.DeviceClaim) []resourcev1.DeviceConstraint { return c.Constraints }), list[resourcev1.DeviceConstraint]{
		most: resourcev1.DeviceConstraintsMaxSize, each: func(d *declaration, p *field.Path, v, _ *resourcev1.DeviceConstraint) {
			d.requestRefs(p, v.Requests)
			d.fullName(p.Child("matchAttribute"), v.MatchAttribute)
			d.fullName(p.Child("distinctAttribute"), v.DistinctAttribute)
		},
	})
	declaredList(d, p.Child("config"), c.Config, parts(old, func(c *resourcev1.DeviceClaim) []resourcev1.DeviceClaimConfiguration { return c.Config }), list[resourcev1.DeviceClaimConfiguration]{
		most: resourcev1.DeviceConfigMaxSize, each: func(d *declaration, p *field.Path, v, _ *resourcev1.DeviceClaimConfiguration) {
			d.requestRefs(p, v.Requests)
			d.opaque(p, &v.DeviceConfiguration)
		},
	})
}

func (d *declaration) fullName(p *field.Path, name *resourcev1.FullyQualifiedName) {
	d.add(validate.ResourceFullyQualifiedName(context.Background(), operation.Operation{}, p, name, nil))
}

func (d *declaration) requestRefs(p *field.Path, refs []string) {
	declaredList(d, p.Child("requests"), refs, nil, list[string]{most: resourcev1.DeviceRequestsMaxSize, same: alike[string]})
}

func declaredRequest(d *declaration, p *field.Path, v, old *resourcev1.DeviceRequest) {
	declaredItem(d, p.Child("exactly"), v.Exactly, parts(old, func(r *resourcev1.DeviceRequest) *resourcev1.ExactDeviceRequest { return r.Exactly }),
		func(d *declaration, p *field.Path, v, old *resourcev1.ExactDeviceRequest) {
			d.asked(p, asked{v.Selectors, v.AllocationMode, v.Tolerations}, part(old, func(r *resourcev1.ExactDeviceRequest) *asked {
				return &asked{r.Selectors, r.AllocationMode, r.Tolerations}
			}))
		})
	declaredList(d, p.Child("firstAvailable"), v.FirstAvailable, parts(old, func(r *resourcev1.DeviceRequest) []resourcev1.DeviceSubRequest { return r.FirstAvailable }), list[resourcev1.DeviceSubRequest]{
		most: resourcev1.FirstAvailableDeviceRequestMaxSize, same: func(a, b *resourcev1.DeviceSubRequest) bool { return a.Name == b.Name },
		each: func(d *declaration, p *field.Path, v, old *resourcev1.DeviceSubRequest) {
			formatted(d, p.Child("deviceClassName"), v.DeviceClassName, part(old, func(r *resourcev1.DeviceSubRequest) *string { return &r.DeviceClassName }), true, validate.LongName[string])
			d.asked(p, asked{v.Selectors, v.AllocationMode, v.Tolerations}, part(old, func(r *resourcev1.DeviceSubRequest) *asked {
				return &asked{r.Selectors, r.AllocationMode, r.Tolerations}
			}))
		},
	})
}

// asked is what both kinds of requests have.
type asked struct {
	selectors   []resourcev1.DeviceSelector
	mode        resourcev1.DeviceAllocationMode
	tolerations []resourcev1.DeviceToleration
}

func (d *declaration) asked(p *field.Path, v asked, old *asked) {
	declaredList(d, p.Child("selectors"), v.selectors, parts(old, func(a *asked) []resourcev1.DeviceSelector { return a.selectors }), list[resourcev1.DeviceSelector]{most: resourcev1.DeviceSelectorsMaxSize})
	formatted(d, p.Child("allocationMode"), v.mode, part(old, func(a *asked) *resourcev1.DeviceAllocationMode { return &a.mode }), false,
		oneOfDeclared(resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount))
	declaredList(d, p.Child("tolerations"), v.tolerations, parts(old, func(a *asked) []resourcev1.DeviceToleration { return a.tolerations }), list[resourcev1.DeviceToleration]{each: declaredToleration})
}

var taintEffects = oneOfDeclared(resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone)

func declaredToleration(d *declaration, p *field.Path, v, _ *resourcev1.DeviceToleration) {
	formatted(d, p.Child("key"), v.Key, nil, false, validate.LabelKey[string])
	formatted(d, p.Child("operator"), v.Operator, nil, true, oneOfDeclared(resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists))
	formatted(d, p.Child("effect"), v.Effect, nil, false, taintEffects)
}

func (d *declaration) claimStatus(p *field.Path, s, old *resourcev1.ResourceClaimStatus) {
	allocated := parts(old, func(s *resourcev1.ResourceClaimStatus) *resourcev1.AllocationResult { return s.Allocation })
	declaredItem(d, p.Child("allocation"), s.Allocation, allocated, func(d *declaration, p *field.Path, v, old *resourcev1.AllocationResult) {
		if old != nil {
			d.invalid(p, nil, "field cannot be modified once set")
			return
		}
		p = p.Child("devices")
		declaredList(d, p.Child("results"), v.Devices.Results, nil, list[resourcev1.DeviceRequestAllocationResult]{most: resourcev1.AllocationResultsMaxSize, each: declaredResult})
		declaredList(d, p.Child("config"), v.Devices.Config, nil, list[resourcev1.DeviceAllocationConfiguration]{most: 2 * resourcev1.DeviceConfigMaxSize, each: declaredAllocationConfig})
	})
	declaredList(d, p.Child("reservedFor"), s.ReservedFor, parts(old, func(s *resourcev1.ResourceClaimStatus) []resourcev1.ResourceClaimConsumerReference {
		return s.ReservedFor
	}),
		list[resourcev1.ResourceClaimConsumerReference]{most: resourcev1.ResourceClaimReservedForMaxSize, same: func(a, b *resourcev1.ResourceClaimConsumerReference) bool { return a.UID == b.UID }})
	declaredList(d, p.Child("devices"), s.Devices, parts(old, func(s *resourcev1.ResourceClaimStatus) []resourcev1.AllocatedDeviceStatus { return s.Devices }), list[resourcev1.AllocatedDeviceStatus]{
		same: func(a, b *resourcev1.AllocatedDeviceStatus) bool { return statusDevice(a) == statusDevice(b) },
		each: declaredDeviceStatus,
	})
}

func declaredResult(d *declaration, p *field.Path, v, _ *resourcev1.DeviceRequestAllocationResult) {
	formatted(d, p.Child("driver"), v.Driver, nil, true, driverFormats...)
	formatted(d, p.Child("pool"), v.Pool, nil, true, validate.ResourcePoolName[string])
	declaredList(d, p.Child("tolerations"), v.Tolerations, nil, list[resourcev1.DeviceToleration]{each: declaredToleration})
	declaredList(d, p.Child("bindingConditions"), v.BindingConditions, nil, list[string]{most: resourcev1.BindingConditionsMaxSize})
	declaredList(d, p.Child("bindingFailureConditions"), v.BindingFailureConditions, nil, list[string]{most: resourcev1.BindingFailureConditionsMaxSize})
	d.add(validate.UUID(context.Background(), operation.Operation{}, p.Child("shareID"), v.ShareID, nil))
}

func declaredAllocationConfig(d *declaration, p *field.Path, v, _ *resourcev1.DeviceAllocationConfiguration) {
	formatted(d, p.Child("source"), v.Source, nil, true, oneOfDeclared(resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass))
	d.requestRefs(p, v.Requests)
	d.opaque(p, &v.DeviceConfiguration)
}

func declaredDeviceStatus(d *declaration, p *field.Path, v, old *resourcev1.AllocatedDeviceStatus) {
	if old == nil {
		d.add(validate.UUID(context.Background(), operation.Operation{}, p.Child("shareID"), v.ShareID, nil))
	}
	declaredItem(d, p.Child("networkData"), v.NetworkData, parts(old, func(s *resourcev1.AllocatedDeviceStatus) *resourcev1.NetworkDeviceData { return s.NetworkData }),
		func(d *declaration, p *field.Path, v, old *resourcev1.NetworkDeviceData) {
			formatted(d, p.Child("interfaceName"), v.InterfaceName, part(old, func(n *resourcev1.NetworkDeviceData) *string { return &n.InterfaceName }), false, atMost(resourcev1.NetworkDeviceDataInterfaceNameMaxLength))
			declaredList(d, p.Child("ips"), v.IPs, parts(old, func(n *resourcev1.NetworkDeviceData) []string { return n.IPs }), list[string]{most: resourcev1.NetworkDeviceDataMaxIPs, same: alike[string]})
			formatted(d, p.Child("hardwareAddress"), v.HardwareAddress, part(old, func(n *resourcev1.NetworkDeviceData) *string { return &n.HardwareAddress }), false, atMost(resourcev1.NetworkDeviceDataHardwareAddressMaxLength))
		})
}

func declaredSlice(s, old *resourcev1.ResourceSlice) field.ErrorList {
	d, p := &declaration{}, root("spec")
	was := part(old, func(s *resourcev1.ResourceSlice) *resourcev1.ResourceSliceSpec { return &s.Spec })
	declaredList(d, p.Child("devices"), s.Spec.Devices, parts(was, func(s *resourcev1.ResourceSliceSpec) []resourcev1.Device { return s.Devices }), list[resourcev1.Device]{each: declaredDevice})
	declaredList(d, p.Child("sharedCounters"), s.Spec.SharedCounters, parts(was, func(s *resourcev1.ResourceSliceSpec) []resourcev1.CounterSet { return s.SharedCounters }), list[resourcev1.CounterSet]{
		most: resourcev1.ResourceSliceMaxCounterSets, same: func(a, b *resourcev1.CounterSet) bool { return a.Name == b.Name },
		each: func(d *declaration, p *field.Path, v, old *resourcev1.CounterSet) {
			formatted(d, p.Child("name"), v.Name, part(old, func(c *resourcev1.CounterSet) *string { return &c.Name }), true, validate.ShortName[string])
			d.counters(p.Child("counters"), v.Counters, parts(old, func(c *resourcev1.CounterSet) map[string]resourcev1.Counter { return c.Counters }))
		},
	})
	return d.list
}

func (d *declaration) counters(p *field.Path, m, old map[string]resourcev1.Counter) {
	if len(m) == 0 {
		d.required(p, "")
	}
	for _, name := range sortedKeys(m) {
		if _, had := old[name]; !had {
			d.add(validate.ShortName(context.Background(), operation.Operation{}, p, &name, nil))
		}
	}
}

// declaredDevice checks a device of a list that changed.
func declaredDevice(d *declaration, p *field.Path, v, _ *resourcev1.Device) {
	for _, name := range sortedKeys(v.Attributes) {
		a := v.Attributes[name]
		d.oneValue(p.Child("attributes").Key(string(name)), &a)
	}
	declaredList(d, p.Child("consumesCounters"), v.ConsumesCounters, nil, list[resourcev1.DeviceCounterConsumption]{
		most: resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, same: func(a, b *resourcev1.DeviceCounterConsumption) bool { return a.CounterSet == b.CounterSet },
		each: func(d *declaration, p *field.Path, v, _ *resourcev1.DeviceCounterConsumption) {
			formatted(d, p.Child("counterSet"), v.CounterSet, nil, true, validate.ShortName[string])
			d.counters(p.Child("counters"), v.Counters, nil)
		},
	})
	declaredList(d, p.Child("taints"), v.Taints, nil, list[resourcev1.DeviceTaint]{each: func(d *declaration, p *field.Path, v, _ *resourcev1.DeviceTaint) {
		formatted(d, p.Child("effect"), v.Effect, nil, true, taintEffects)
	}})
	declaredList(d, p.Child("bindingConditions"), v.BindingConditions, nil, list[string]{most: resourcev1.BindingConditionsMaxSize})
	declaredList(d, p.Child("bindingFailureConditions"), v.BindingFailureConditions, nil, list[string]{most: resourcev1.BindingFailureConditionsMaxSize})
}

// oneValue wants an attribute to have exactly one value.
func (d *declaration) oneValue(p *field.Path, a *resourcev1.DeviceAttribute) {
	const all = "`int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`"
	switch have := valuesOf(a); len(have) {
	case 0:
		d.invalid(p, "", "must specify one of: "+all)
	case 1:
	default:
		d.invalid(p, fmt.Sprintf("{%s}", strings.Join(have, ", ")), "must specify exactly one of: "+all)
	}
}
