package resource

import (
	"encoding/json"
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	dracel "k8s.io/dynamic-resource-allocation/cel"
)

const notRequest = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"

// within is a list that is not too long. Of one that is, the declared rules say
// so, and no entry is looked at.
func within[T any](v []T, most int) []T {
	if len(v) > most {
		return nil
	}
	return v
}

func validateResourceClaim(r *resourcev1.ResourceClaim) field.ErrorList {
	c := &checks{}
	c.deviceClaim(&r.Spec.Devices, root("spec", "devices"))
	return withDeclared(c.list, declaredClaim(r, nil))
}

// validateResourceClaimUpdate holds the spec to what it was.
func validateResourceClaimUpdate(r, old *resourcev1.ResourceClaim) field.ErrorList {
	return declaredClaim(r, old)
}

func validateResourceClaimTemplate(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
	return withDeclared(claimTemplateErrors(t), declaredClaimTemplate(t, nil))
}

func validateResourceClaimTemplateUpdate(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
	c := &checks{list: claimTemplateErrors(t)}
	c.same(root("spec"), t.Spec, old.Spec)
	return withDeclared(c.list, declaredClaimTemplate(t, old))
}

func claimTemplateErrors(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
	c, p := &checks{}, root("spec", "metadata")
	c.add(apivalidation.ValidateAnnotations(t.Spec.Annotations, p.Child("annotations")))
	c.add(unversioned.ValidateLabels(t.Spec.Labels, p.Child("labels")))
	c.onlyFields(t.Spec.ObjectMeta, sets.New("Annotations", "Labels"), "cannot be set", p)
	c.deviceClaim(&t.Spec.Spec.Devices, root("spec", "spec", "devices"))
	return c.list
}

func validateDeviceClass(d *resourcev1.DeviceClass) field.ErrorList {
	c := &checks{}
	c.deviceClass(&d.Spec, nil)
	return withDeclared(c.list, declaredDeviceClass(d, nil))
}

func validateDeviceClassUpdate(d, old *resourcev1.DeviceClass) field.ErrorList {
	c := &checks{}
	c.deviceClass(&d.Spec, &old.Spec)
	return withDeclared(c.list, declaredDeviceClass(d, old))
}

// deviceClass checks a class. Selectors and configurations that an update
// leaves as they are were valid when they were stored.
func (c *checks) deviceClass(s, old *resourcev1.DeviceClassSpec) {
	p := root("spec")
	stored := old != nil && equalTo(s.Selectors, old.Selectors)
	for i, x := range within(s.Selectors, resourcev1.DeviceSelectorsMaxSize) {
		c.deviceSelector(p.Child("selectors").Index(i), x, stored)
	}
	stored = old != nil && equalTo(s.Config, old.Config)
	for i, x := range within(s.Config, resourcev1.DeviceConfigMaxSize) {
		c.deviceConfig(p.Child("config").Index(i), &x.DeviceConfiguration, stored)
	}
}

// requestNames are the requests of a claim, each with its alternatives.
type requestNames map[string]sets.Set[string]

func requestNamesOf(d *resourcev1.DeviceClaim) requestNames {
	out := requestNames{}
	for _, r := range d.Requests {
		out[r.Name] = sets.Set[string]{}
		for _, sub := range r.FirstAvailable {
			out[r.Name].Insert(sub.Name)
		}
	}
	return out
}

func (r requestNames) has(ref string) bool {
	name, sub, both := strings.Cut(ref, "/")
	subs, ok := r[name]
	return ok && (!both || subs.Has(sub))
}

// requestRef wants the name of a request, or of one and of an alternative.
func (c *checks) requestRef(p *field.Path, ref string, names requestNames) {
	parts := strings.Split(ref, "/")
	if len(parts) > 2 {
		c.invalid(p, ref, notRequest)
		return
	}
	for _, part := range parts {
		c.label(p, part)
	}
	if !names.has(ref) {
		c.invalid(p, ref, notRequest)
	}
}

func (c *checks) requestRefs(p *field.Path, refs []string, names requestNames) {
	for i, ref := range within(refs, resourcev1.DeviceRequestsMaxSize) {
		c.requestRef(p.Child("requests").Index(i), ref, names)
	}
}

func (c *checks) deviceClaim(d *resourcev1.DeviceClaim, p *field.Path) {
	names := requestNamesOf(d)
	for i := range within(d.Requests, resourcev1.DeviceRequestsMaxSize) {
		c.deviceRequest(&d.Requests[i], p.Child("requests").Index(i))
	}
	for i, x := range within(d.Constraints, resourcev1.DeviceConstraintsMaxSize) {
		at := p.Child("constraints").Index(i)
		c.requestRefs(at, x.Requests, names)
		if x.MatchAttribute == nil && x.DistinctAttribute == nil {
			c.required(at, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`)
		}
	}
	for i, x := range within(d.Config, resourcev1.DeviceConfigMaxSize) {
		at := p.Child("config").Index(i)
		c.requestRefs(at, x.Requests, names)
		c.deviceConfig(at, &x.DeviceConfiguration, false)
	}
}

func (c *checks) deviceRequest(r *resourcev1.DeviceRequest, p *field.Path) {
	const one = "exactly one of `exactly` or `firstAvailable` is required"
	c.label(p.Child("name"), r.Name)
	switch x := r.Exactly; {
	case x == nil && len(r.FirstAvailable) == 0:
		c.required(p, one)
	case x != nil && len(r.FirstAvailable) > 0:
		c.invalid(p, nil, one+", but multiple fields are set")
	case x != nil:
		at := p.Child("exactly")
		c.requiredOr(at.Child("deviceClassName"), x.DeviceClassName, c.subdomain)
		c.deviceSelectors(at, x.Selectors)
		c.deviceCount(at, x.AllocationMode, x.Count)
		c.deviceTolerations(at, x.Tolerations)
	default:
		for i, x := range within(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize) {
			at := p.Child("firstAvailable").Index(i)
			c.label(at.Child("name"), x.Name)
			c.deviceSelectors(at, x.Selectors)
			c.deviceCount(at, x.AllocationMode, x.Count)
			c.deviceTolerations(at, x.Tolerations)
		}
	}
}

func (c *checks) deviceCount(p *field.Path, mode resourcev1.DeviceAllocationMode, n int64) {
	switch {
	case mode == resourcev1.DeviceAllocationModeAll && n != 0:
		c.invalid(p.Child("count"), n, fmt.Sprintf("must not be specified when allocationMode is '%s'", mode))
	case mode == resourcev1.DeviceAllocationModeExactCount:
		c.positive(p.Child("count"), n)
	}
}

func (c *checks) deviceSelectors(p *field.Path, v []resourcev1.DeviceSelector) {
	for i, s := range within(v, resourcev1.DeviceSelectorsMaxSize) {
		c.deviceSelector(p.Child("selectors").Index(i), s, false)
	}
}

// deviceSelector checks an expression over a device, unless it is stored
// already.
func (c *checks) deviceSelector(p *field.Path, s resourcev1.DeviceSelector, stored bool) {
	if s.CEL == nil {
		c.required(p.Child("cel"), "")
		return
	}
	if stored {
		return
	}
	p = p.Child("cel", "expression")
	if len(s.CEL.Expression) > resourcev1.CELSelectorExpressionMaxLength {
		c.list = append(c.list, field.TooLong(p, "", resourcev1.CELSelectorExpressionMaxLength))
		return
	}
	kind := environment.NewExpressions
	out := dracel.GetCompiler(dracel.Features{EnableConsumableCapacity: true}).CompileCELExpression(s.CEL.Expression, dracel.Options{EnvType: &kind})
	switch err := out.Error; {
	case err == nil && out.MaxCost > resourcev1.CELSelectorExpressionMaxCost:
		c.forbidden(p, "too complex, exceeds cost limit")
	case err == nil:
	case err.Type == apiservercel.ErrorTypeRequired:
		c.required(p, err.Detail)
	case err.Type == apiservercel.ErrorTypeInvalid:
		c.invalid(p, s.CEL.Expression, err.Detail)
	default:
		c.list = append(c.list, field.InternalError(p, err))
	}
}

func (c *checks) deviceTolerations(p *field.Path, v []resourcev1.DeviceToleration) {
	for i, t := range v {
		at := p.Child("tolerations").Index(i).Child("value")
		switch {
		case t.Operator == resourcev1.DeviceTolerationOpExists && t.Value != "":
			c.invalid(at, t.Value, "must be empty for operator `Exists`")
		case t.Operator == resourcev1.DeviceTolerationOpEqual:
			c.invalid(at, t.Value, validation.IsValidLabelValue(t.Value)...)
		}
	}
}

func (c *checks) deviceConfig(p *field.Path, d *resourcev1.DeviceConfiguration, stored bool) {
	if d.Opaque == nil {
		c.required(p.Child("opaque"), "")
		return
	}
	most := resourcev1.OpaqueParametersMaxLength
	if stored {
		most = len(d.Opaque.Parameters.Raw)
	}
	c.jsonObject(p.Child("opaque", "parameters"), d.Opaque.Parameters, most)
}

// jsonObject wants a JSON object of at most so many bytes.
func (c *checks) jsonObject(p *field.Path, x runtime.RawExtension, most int) {
	const omitted = "<value omitted>"
	var v any
	switch n := len(x.Raw); {
	case n == 0:
		c.required(p, "")
		return
	case n > most:
		c.list = append(c.list, field.TooLong(p, "", most))
		return
	}
	if err := json.Unmarshal(x.Raw, &v); err != nil {
		c.invalid(p, omitted, fmt.Sprintf("error parsing data as JSON: %v", err))
		return
	}
	switch v.(type) {
	case nil:
		c.required(p, "")
	case map[string]any:
	default:
		c.invalid(p, omitted, "must be a valid JSON object")
	}
}
