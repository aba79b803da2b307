package resource

import (
	"fmt"
	"math"
	"strconv"

	resourcev1 "k8s.io/api/resource/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxCapacityValues bounds the amounts that a claim may take, where they are
// listed.
const maxCapacityValues = 10

// deviceCapacity checks the capacities of a device. Only one that several
// claims may share says how much of it a claim takes.
func (c *checks) deviceCapacity(d *resourcev1.Device, p *field.Path) {
	shared := d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations
	for _, name := range sortedKeys(d.Capacity) {
		c.deviceProperty(p, name)
		x, at := d.Capacity[name], p.Key(shortKey(name)).Child("requestPolicy")
		switch r := x.RequestPolicy; {
		case r == nil:
		case !shared:
			c.forbidden(at, "allowMultipleAllocations must be true")
		case len(r.ValidValues) > 0 && r.ValidRange != nil:
			c.forbidden(at, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`)
		case len(r.ValidValues) > 0 && r.Default == nil:
			c.required(at.Child("default"), "required when validValues is defined")
		case len(r.ValidValues) > 0:
			c.capacityValues(*r.Default, x.Value, r.ValidValues, at.Child("validValues"))
		case r.ValidRange != nil && r.Default == nil:
			c.required(at.Child("default"), "required when validRange is defined")
		case r.ValidRange != nil:
			c.capacityRange(*r.Default, x.Value, r.ValidRange, at.Child("validRange"))
		}
	}
}

// capacityValues checks the amounts that a claim may take.
func (c *checks) capacityValues(standard, capacity apiresource.Quantity, list []apiresource.Quantity, p *field.Path) {
	for i := 1; i < len(list); i++ {
		if list[i-1].Cmp(list[i]) > 0 {
			c.invalid(p.Index(i), list[i].String(), "values must be sorted in ascending order")
		}
	}
	found := false
	if n := len(list); n > maxCapacityValues {
		c.list = append(c.list, field.TooMany(p, n, maxCapacityValues))
		list = nil
	}
	for i, q := range list {
		if q.Cmp(capacity) > 0 {
			c.invalid(p.Index(i), q.String(), "option is larger than capacity value: "+capacity.String())
		}
		found = found || q.Cmp(standard) == 0
	}
	seen := sets.Set[string]{}
	for i, q := range list {
		key := strconv.FormatInt(q.Value(), 10)
		if seen.Has(key) {
			c.duplicate(p.Index(i), key)
		}
		seen.Insert(key)
	}
	if !found {
		c.invalid(p, standard.String(), "default value is not valid according to the requestPolicy")
	}
}

// bound is one of the amounts of a range, by the field it stands in.
type bound struct {
	name string
	q    *apiresource.Quantity
}

// capacityRange checks from where to where, and in what steps, a claim may
// take of a capacity.
func (c *checks) capacityRange(standard, capacity apiresource.Quantity, r *resourcev1.CapacityRequestPolicyRange, p *field.Path) {
	if r.Min == nil {
		c.required(p.Child("min"), "required when validRange is defined")
		return
	}
	if r.Min.Cmp(capacity) > 0 {
		c.invalid(p.Child("min"), r.Min.String(), "min is larger than capacity value: "+capacity.String())
	}
	if standard.Cmp(*r.Min) < 0 {
		c.invalid(p.Child("default"), standard.String(), "default is less than min: "+r.Min.String())
	}
	if r.Max != nil {
		if r.Min.Cmp(*r.Max) > 0 {
			c.invalid(p.Child("max"), r.Min.String(), "min is larger than max: "+r.Max.String())
		}
		if r.Max.Cmp(capacity) > 0 {
			c.invalid(p.Child("max"), r.Max.String(), "max is larger than capacity value: "+capacity.String())
		}
		if standard.Cmp(*r.Max) > 0 {
			c.invalid(p.Child("default"), standard.String(), "default is more than max: "+r.Max.String())
		}
	}
	if r.Step == nil {
		return
	}
	if r.Step.Sign() <= 0 {
		c.invalid(p.Child("step"), r.Step.String(), notPositive)
		return
	}
	c.capacityStep(standard, capacity, r, p)
}

// capacityStep checks the steps of a range. Fractions are rounded up: the gate
// for them, DRAFractionalCapacityRange, is off where the version to be
// compatible with is not set.
func (c *checks) capacityStep(standard, capacity apiresource.Quantity, r *resourcev1.CapacityRequestPolicyRange, p *field.Path) {
	at := p.Child("step")
	next := r.Min.DeepCopy()
	next.Add(*r.Step)
	if next.Cmp(capacity) > 0 {
		c.invalid(at, r.Step.String(), fmt.Sprintf("one step %s is larger than capacity value: %s", next.String(), capacity.String()))
	}
	if !c.wholeBounds([]bound{{"default", &standard}, {"min", r.Min}, {"max", r.Max}, {"step", r.Step}}, p) {
		return
	}
	for _, q := range []*apiresource.Quantity{&standard, r.Max} {
		if q != nil && (q.Value()-r.Min.Value())%r.Step.Value() != 0 {
			c.invalid(at, q.String(), fmt.Sprintf("value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String()))
		}
	}
}

// wholeBounds wants numbers that fit 63 bits.
func (c *checks) wholeBounds(list []bound, p *field.Path) bool {
	ok := true
	for _, b := range list {
		switch {
		case b.q == nil:
		case b.q.Sign() < 0:
			c.invalid(p.Child(b.name), b.q.String(), apivalidation.IsNegativeErrorMsg)
			ok = false
		case b.q.CmpInt64(math.MaxInt64) > 0:
			c.invalid(p.Child(b.name), b.q.String(), "must not be larger than "+strconv.Itoa(math.MaxInt64))
			ok = false
		}
	}
	return ok
}
