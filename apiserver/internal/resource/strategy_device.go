package resource

import (
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// dropUnused drops each field of a feature that is off, unless the old object
// uses it.
func dropUnused[T interface{ DeepCopy() T }](v T, old *T, drops ...func(T)) {
	for _, drop := range drops {
		if old != nil {
			without := (*old).DeepCopy()
			drop(without)
			if !equalTo(without, *old) {
				continue
			}
		}
		drop(v)
	}
}

func deviceTaintRule() Strategy {
	return Strategy{Validate: checked(validateDeviceTaintRule), ValidateUpdate: checked2(validateDeviceTaintRuleUpdate), Generation: true, Default: typed(func(r *resourcev1.DeviceTaintRule) {
		defaultDeviceTaint(&r.Spec.Taint)
	})}
}

func defaultDeviceTaint(t *resourcev1.DeviceTaint) {
	set(&t.TimeAdded, metav1.Time{Time: time.Now().Truncate(time.Second)})
}

func deviceClass() Strategy {
	return Strategy{
		Validate: checked(validateDeviceClass), ValidateUpdate: checked2(validateDeviceClassUpdate), Unconditional: true, ReturnDeleted: true, Generation: true,
		// What a name is generated from is not looked at.
		ValidName: func(name string, prefix bool) []string {
			if prefix {
				return nil
			}
			return content.IsDNS1123Subdomain(name)
		},
	}
}

func resourceSlice() Strategy {
	return Strategy{
		Validate: checked(validateResourceSlice), ValidateUpdate: checked2(validateResourceSliceUpdate), Warn: warned(warnResourceSlice), Unconditional: true, ReturnDeleted: true, Generation: true,
		Default: typed(func(s *resourcev1.ResourceSlice) {
			for i := range s.Spec.Devices {
				for j := range s.Spec.Devices[i].Taints {
					defaultDeviceTaint(&s.Spec.Devices[i].Taints[j])
				}
			}
		}),
		PrepareCreate: typed(func(s *resourcev1.ResourceSlice) { dropSliceFields(s, nil) }),
		PrepareUpdate: typed2(func(s, old *resourcev1.ResourceSlice) {
			// What is dropped counts as a change.
			if !equalTo(s.Spec, old.Spec) {
				s.Generation = old.Generation + 1
			}
			dropSliceFields(s, &old)
		}),
		FieldNames: []string{resourcev1.ResourceSliceSelectorNodeName, resourcev1.ResourceSliceSelectorDriver, resourcev1.ResourceSliceSelectorPoolName},
		Fields: fielded(func(s *resourcev1.ResourceSlice) map[string]string {
			out := map[string]string{resourcev1.ResourceSliceSelectorNodeName: "", resourcev1.ResourceSliceSelectorDriver: s.Spec.Driver, resourcev1.ResourceSliceSelectorPoolName: s.Spec.Pool.Name}
			if s.Spec.NodeName != nil {
				out[resourcev1.ResourceSliceSelectorNodeName] = *s.Spec.NodeName
			}
			return out
		}),
	}
}

// dropSliceFields drops what is alpha: DRADeviceCompatibilityGroups,
// DRANodeAllocatableResources, DRAListTypeAttributes,
// DRAPartitionableDevicesType and DRAOptionalNodeOperations.
func dropSliceFields(s *resourcev1.ResourceSlice, old **resourcev1.ResourceSlice) {
	each := func(drop func(*resourcev1.Device)) func(*resourcev1.ResourceSlice) {
		return func(s *resourcev1.ResourceSlice) {
			for i := range s.Spec.Devices {
				drop(&s.Spec.Devices[i])
			}
		}
	}
	dropUnused(s, old,
		each(func(d *resourcev1.Device) {
			for i := range d.ConsumesCounters {
				d.ConsumesCounters[i].CompatibilityGroups = nil
			}
		}),
		each(func(d *resourcev1.Device) { d.NodeAllocatableResources = nil }),
		each(func(d *resourcev1.Device) {
			for name, a := range d.Attributes {
				a.IntValues, a.BoolValues, a.StringValues, a.VersionValues = nil, nil, nil, nil
				d.Attributes[name] = a
			}
		}),
		func(s *resourcev1.ResourceSlice) { s.Spec.PartitionTypeAttribute = nil },
		func(s *resourcev1.ResourceSlice) { s.Spec.SkipNodeOperations = nil },
	)
}

func resourceClaim() Strategy {
	return Strategy{
		Validate: checked(validateResourceClaim), ValidateUpdate: checked2(validateResourceClaimUpdate), ValidateStatus: checked2(validateResourceClaimStatus), Unconditional: true, ReturnDeleted: true, StatusAlone: true,
		Default: typed(func(c *resourcev1.ResourceClaim) {
			defaultDeviceClaim(&c.Spec.Devices)
			if a := c.Status.Allocation; a != nil {
				for i := range a.Devices.Results {
					defaultDeviceTolerations(a.Devices.Results[i].Tolerations)
				}
			}
		}),
		PrepareCreate: typed(func(c *resourcev1.ResourceClaim) {
			c.Status = resourcev1.ResourceClaimStatus{}
			dropUnused(&c.Spec, nil, dropDerived)
		}),
		PrepareUpdate: typed2(func(c, old *resourcev1.ResourceClaim) {
			was := &old.Spec
			dropUnused(&c.Spec, &was, dropDerived)
		}),
		PrepareStatus: typed2(func(c, old *resourcev1.ResourceClaim) {
			c.Labels, c.Annotations, c.Finalizers = old.Labels, old.Annotations, old.Finalizers
			was := &old.Status
			dropUnused(&c.Status, &was, func(s *resourcev1.ResourceClaimStatus) {
				if s.Allocation != nil {
					for i := range s.Allocation.Devices.Results {
						s.Allocation.Devices.Results[i].SkipNodeOperations = nil
					}
				}
			})
			dropDeallocated(&c.Status, &old.Status)
		}),
	}
}

func resourceClaimTemplate() Strategy {
	return Strategy{
		Validate: checked(validateResourceClaimTemplate), ValidateUpdate: checked2(validateResourceClaimTemplateUpdate), Unconditional: true, ReturnDeleted: true,
		Default:       typed(func(t *resourcev1.ResourceClaimTemplate) { defaultDeviceClaim(&t.Spec.Spec.Devices) }),
		PrepareCreate: typed(func(t *resourcev1.ResourceClaimTemplate) { dropUnused(&t.Spec.Spec, nil, dropDerived) }),
		PrepareUpdate: typed2(func(t, old *resourcev1.ResourceClaimTemplate) {
			was := &old.Spec.Spec
			dropUnused(&t.Spec.Spec, &was, dropDerived)
		}),
	}
}

// dropDerived drops derived attributes, which are alpha.
func dropDerived(s *resourcev1.ResourceClaimSpec) {
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		if r.Exactly != nil {
			r.Exactly.DerivedAttributes = nil
		}
		for j := range r.FirstAvailable {
			r.FirstAvailable[j].DerivedAttributes = nil
		}
	}
}

// defaultDeviceClaim makes a request that says nothing of how many devices one
// for exactly one.
func defaultDeviceClaim(d *resourcev1.DeviceClaim) {
	exactly := func(mode *resourcev1.DeviceAllocationMode, count *int64) {
		fill(mode, resourcev1.DeviceAllocationModeExactCount)
		if *mode == resourcev1.DeviceAllocationModeExactCount {
			fill(count, 1)
		}
	}
	for i := range d.Requests {
		r := &d.Requests[i]
		if r.Exactly != nil {
			exactly(&r.Exactly.AllocationMode, &r.Exactly.Count)
			defaultDeviceTolerations(r.Exactly.Tolerations)
		}
		for j := range r.FirstAvailable {
			exactly(&r.FirstAvailable[j].AllocationMode, &r.FirstAvailable[j].Count)
			defaultDeviceTolerations(r.FirstAvailable[j].Tolerations)
		}
	}
}

func defaultDeviceTolerations(list []resourcev1.DeviceToleration) {
	for i := range list {
		fill(&list[i].Operator, resourcev1.DeviceTolerationOpEqual)
	}
}
