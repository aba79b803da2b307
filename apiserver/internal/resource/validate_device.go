package resource

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxPoolName bounds the name of a pool of devices in bytes.
const maxPoolName = resourcev1.PoolNameMaxLength

func validateDeviceTaintRule(r *resourcev1.DeviceTaintRule) field.ErrorList {
	c := &checks{}
	c.deviceTaintRule(&r.Spec, "")
	return c.list
}

func validateDeviceTaintRuleUpdate(r, old *resourcev1.DeviceTaintRule) field.ErrorList {
	c := &checks{}
	c.deviceTaintRule(&r.Spec, old.Spec.Taint.Effect)
	return c.list
}

// deviceTaintRule checks a rule; an effect that it had stays valid.
func (c *checks) deviceTaintRule(s *resourcev1.DeviceTaintRuleSpec, had resourcev1.DeviceTaintEffect) {
	if f := s.DeviceSelector; f != nil {
		p := root("spec", "deviceSelector")
		if f.Driver != nil {
			c.csiDriverName(*f.Driver, p.Child("driver"))
		}
		if f.Pool != nil {
			c.poolName(p.Child("pool"), *f.Pool)
		}
		if f.Device != nil {
			c.label(p.Child("device"), *f.Device)
		}
	}
	p, t := root("spec", "taint"), &s.Taint
	c.add(unversioned.ValidateLabelName(t.Key, p.Child("key")))
	if t.Value != "" {
		c.invalid(p.Child("value"), t.Value, validation.IsValidLabelValue(t.Value)...)
	}
	if had == "" || t.Effect != had {
		oneOfRequired(c, p.Child("effect"), t.Effect, resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone)
	}
}

// poolName wants DNS subdomains separated by slashes.
func (c *checks) poolName(p *field.Path, name string) {
	if name == "" {
		c.required(p, "")
		return
	}
	if len(name) > maxPoolName {
		c.list = append(c.list, field.TooLong(p, "", maxPoolName))
	}
	for _, part := range strings.Split(name, "/") {
		c.subdomain(p, part)
	}
}
