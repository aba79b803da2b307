package resource

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const unsetOrTrue = "must be either unset or set to true"

func equalTo(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }

// sortedKeys are a map's keys in order, so that errors come in order.
func sortedKeys[K ~string, V any](m map[K]V) []K {
	return sets.List(sets.KeySet(m))
}

func validateResourceSlice(s *resourcev1.ResourceSlice) field.ErrorList {
	c := &checks{}
	c.resourceSlice(&s.Spec, nil)
	return withDeclared(c.list, declaredSlice(s, nil))
}

func validateResourceSliceUpdate(s, old *resourcev1.ResourceSlice) field.ErrorList {
	c := &checks{}
	c.resourceSlice(&s.Spec, &old.Spec)
	return withDeclared(c.list, declaredSlice(s, old))
}

func warnResourceSlice(s, _ *resourcev1.ResourceSlice) []string {
	if driver := s.Spec.Driver; driver != strings.ToLower(driver) {
		return []string{fmt.Sprintf("spec.driver: driver names should be lowercase; %q contains uppercase characters", driver)}
	}
	return nil
}

func (c *checks) resourceSlice(s, old *resourcev1.ResourceSliceSpec) {
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	p := root("spec")
	c.csiDriverName(s.Driver, p.Child("driver"))
	c.poolName(p.Child("pool", "name"), s.Pool.Name)
	c.positive(p.Child("pool", "resourceSliceCount"), s.Pool.ResourceSliceCount)
	if g := s.Pool.Generation; g < 0 {
		c.invalid(p.Child("pool", "generation"), g, "must be greater than or equal to zero")
	}
	if old != nil {
		c.same(p.Child("pool", "name"), s.Pool.Name, old.Pool.Name)
		c.same(p.Child("driver"), s.Driver, old.Driver)
		c.same(p.Child("nodeName"), s.NodeName, old.NodeName)
	}
	places := c.place(p, s.NodeName, s.NodeSelector, s.AllNodes, "must be either unset or set to a non-empty string", func() {
		if terms := s.NodeSelector.NodeSelectorTerms; len(terms) != 1 {
			c.invalid(p.Child("nodeSelector", "nodeSelectorTerms"), shown(terms), "must have exactly one node selector term")
		}
	})
	places = append(places, c.onlyTrue(p, "perDeviceNodeSelection", s.PerDeviceNodeSelection)...)
	switch len(places) {
	case 0:
		c.required(p, one)
	case 1:
	default:
		c.invalid(p, "{"+strings.Join(places, ", ")+"}", one+", but multiple fields are set")
	}
	if s.SharedCounters != nil && s.Devices != nil {
		c.invalid(p, "", "only one of `sharedCounters` or `devices` is allowed")
	}
	c.devices(s, old)
	for i, set := range within(s.SharedCounters, resourcev1.ResourceSliceMaxCounterSets) {
		c.counters(p.Child("sharedCounters").Index(i).Child("counters"), set.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet)
	}
}

// place checks where devices are, and returns the fields that say so.
func (c *checks) place(p *field.Path, node *string, selector *corev1.NodeSelector, all *bool, empty string, more func()) []string {
	var out []string
	if node != nil {
		at := p.Child("nodeName")
		if *node == "" {
			c.invalid(at, "", empty)
		} else {
			out = append(out, "`nodeName`")
			c.subdomain(at, *node)
		}
	}
	if selector != nil {
		out = append(out, "`nodeSelector`")
		c.nodeSelector(selector, p.Child("nodeSelector"))
		more()
	}
	return append(out, c.onlyTrue(p, "allNodes", all)...)
}

func (c *checks) onlyTrue(p *field.Path, name string, v *bool) []string {
	switch {
	case v == nil:
		return nil
	case *v:
		return []string{"`" + name + "`"}
	}
	c.invalid(p.Child(name), false, unsetOrTrue)
	return nil
}

// counters bounds the counters of a set; the declared rules check the names.
func (c *checks) counters(p *field.Path, m map[string]resourcev1.Counter, most int) {
	if len(m) > most {
		c.list = append(c.list, field.TooMany(p, len(m), most))
	}
}

func (c *checks) devices(s, old *resourcev1.ResourceSliceSpec) {
	p, most := root("spec", "devices"), resourcev1.ResourceSliceMaxDevices
	if slices.ContainsFunc(s.Devices, func(d resourcev1.Device) bool { return len(d.Taints)+len(d.ConsumesCounters) > 0 }) {
		most = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	if n := len(s.Devices); n > most {
		c.list = append(c.list, field.TooMany(p, n, most))
		return
	}
	was := map[string]*resourcev1.Device{}
	if old != nil {
		for i := range old.Devices {
			was[old.Devices[i].Name] = &old.Devices[i]
		}
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		c.device(d, was[d.Name], p.Index(i), s.PerDeviceNodeSelection != nil && *s.PerDeviceNodeSelection)
	}
	seen := sets.Set[string]{}
	for i, d := range s.Devices {
		if seen.Has(d.Name) {
			c.duplicate(p.Index(i), d.Name)
		}
		seen.Insert(d.Name)
	}
}

// device checks a device; placed is whether it says itself where it is.
func (c *checks) device(d, old *resourcev1.Device, p *field.Path, placed bool) {
	c.label(p.Child("name"), d.Name)
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		c.invalid(p, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice))
	}
	if n := len(d.Attributes); n > resourcev1.ResourceSliceMaxAttributeValuesPerDevice {
		c.invalid(p, n, fmt.Sprintf("the total number of attribute values must not exceed %d", resourcev1.ResourceSliceMaxAttributeValuesPerDevice))
	}
	for _, name := range sortedKeys(d.Attributes) {
		at := p.Child("attributes")
		c.deviceProperty(at, name)
		c.deviceAttribute(d.Attributes[name], at.Key(shortKey(name)), shortKey(name) != string(name))
	}
	if old == nil || !equalTo(d.Capacity, old.Capacity) {
		c.deviceCapacity(d, p.Child("capacity"))
	}
	if old == nil || !equalTo(d.Taints, old.Taints) {
		c.deviceTaints(d.Taints, p.Child("taints"))
	}
	for i, x := range within(d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice) {
		c.counters(p.Child("consumesCounters").Index(i).Child("counters"), x.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption)
	}
	c.devicePlace(d, p, placed)
	c.bindingConditions(d.BindingConditions, d.BindingFailureConditions, p)
}

func (c *checks) devicePlace(d *resourcev1.Device, p *field.Path, placed bool) {
	const one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
	if !placed {
		if d.NodeName != nil || d.NodeSelector != nil || d.AllNodes != nil {
			c.invalid(p, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec")
		}
		return
	}
	places := c.place(p, d.NodeName, d.NodeSelector, d.AllNodes, "must not be empty", func() {})
	switch len(places) {
	case 0:
		c.required(p, one)
	case 1:
	default:
		c.invalid(p, "{"+strings.Join(places, ", ")+"}", one)
	}
}

func (c *checks) deviceTaints(list []resourcev1.DeviceTaint, p *field.Path) {
	if n := len(list); n > resourcev1.DeviceTaintsMaxLength {
		c.list = append(c.list, field.TooMany(p, n, resourcev1.DeviceTaintsMaxLength))
		return
	}
	for i, t := range list {
		c.labelName(p.Index(i).Child("key"), t.Key)
		if t.Value != "" {
			c.invalid(p.Index(i).Child("value"), t.Value, validation.IsValidLabelValue(t.Value)...)
		}
	}
}

// shortKey is a name as paths show it: the middle of a long one is left out.
func shortKey(name resourcev1.QualifiedName) string {
	const most, dots = resourcev1.DeviceMaxDomainLength + 1 + resourcev1.DeviceMaxIDLength, "..."
	s := string(name)
	if len(s) <= most {
		return s
	}
	left := most - len(dots)
	return s[:(left+1)/2] + dots + s[len(s)-left/2:]
}

// deviceProperty wants the name of an attribute or of a capacity: a C
// identifier, behind the domain of a driver and a slash or not.
func (c *checks) deviceProperty(p *field.Path, name resourcev1.QualifiedName) {
	identifier := func(s string) {
		if len(s) > resourcev1.DeviceMaxIDLength {
			c.list = append(c.list, field.TooLong(p, "", resourcev1.DeviceMaxIDLength))
		}
		c.invalid(p, s, content.IsCIdentifier(s)...)
	}
	parts := strings.Split(string(name), "/")
	switch len(parts) {
	case 1:
		identifier(parts[0])
	case 2:
		if parts[0] == "" {
			c.invalid(p, "", "the domain must not be empty")
		} else {
			c.csiDriverName(parts[0], p)
		}
		if parts[1] == "" {
			c.invalid(p, "", "the name must not be empty")
		} else {
			identifier(parts[1])
		}
	}
}

// semanticVersion is a version of semver.org, 2.0.0.
var semanticVersion = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
	`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

// deviceAttribute checks an attribute. That it has one value is declared too,
// but of a path that is not shortened, so that upstream says it twice.
func (c *checks) deviceAttribute(a resourcev1.DeviceAttribute, p *field.Path, shortened bool) {
	short := func(p *field.Path, v string) {
		if len(v) > resourcev1.DeviceAttributeMaxValueLength {
			c.list = append(c.list, field.TooLong(p, "", resourcev1.DeviceAttributeMaxValueLength))
		}
	}
	if a.StringValue != nil {
		short(p.Child("string"), *a.StringValue)
	}
	if v := a.VersionValue; v != nil {
		if !semanticVersion.MatchString(*v) {
			c.invalid(p.Child("version"), *v, "must be a string compatible with semver.org spec 2.0.0")
		}
		short(p.Child("version"), *v)
	}
	const one = "exactly one value must be specified"
	switch n := len(valuesOf(&a)); {
	case !shortened || n == 1:
	case n == 0:
		c.invalid(p, "", one)
	default:
		c.invalid(p, shown(a), one)
	}
}

// valuesOf are the fields of an attribute that hold a value.
func valuesOf(a *resourcev1.DeviceAttribute) []string {
	var have []string
	for _, m := range []struct {
		name string
		set  bool
	}{
		{"int", a.IntValue != nil},
		{"bool", a.BoolValue != nil},
		{"string", a.StringValue != nil},
		{"version", a.VersionValue != nil},
	} {
		if m.set {
			have = append(have, m.name)
		}
	}
	return have
}
