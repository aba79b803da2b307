package crd

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

type props = apiextensions.JSONSchemaProps

// schemaChecks is how one schema is checked.
type schemaChecks struct {
	lenient    *leniency
	structural bool
	// cheap is whether the cost of each rule is known to be accepted.
	cheap bool
}

// place is where in a schema a node stands.
type place struct {
	root bool
	// meta is whether the node is about the metadata of an object.
	meta bool
	// noDefaults is why the node may have no default, where barred is set.
	barred     bool
	noDefaults string
	// uncorrelated is the first ancestor below which the old value of a node is
	// not known.
	uncorrelated *field.Path
	cost         *costs
}

func (p place) bar(why string) place {
	p.barred, p.noDefaults = true, why
	return p
}

func (p place) lose(at *field.Path) place {
	if p.uncorrelated == nil {
		p.uncorrelated = at
	}
	return p
}

func (p place) below(c *costs) place {
	p.root, p.cost = false, c
	return p
}

// findings are a schema's errors: those of its rules are shown after those of
// its structure.
type findings struct{ schema, rules field.ErrorList }

func (f *findings) add(errs ...*field.Error) { f.schema = append(f.schema, errs...) }

func (f *findings) merge(o findings) {
	f.schema = append(f.schema, o.schema...)
	f.rules = append(f.rules, o.rules...)
}

// validation checks a schema as a whole.
func (c schemaChecks) validation(v *apiextensions.CustomResourceValidation, status bool, at *field.Path) field.ErrorList {
	if v == nil {
		return nil
	}
	var errs field.ErrorList
	if s := v.OpenAPIV3Schema; s != nil {
		errs = c.whole(s, status, at)
	}
	if len(errs) == 0 {
		if _, _, err := validation.NewSchemaValidator(v.OpenAPIV3Schema); err != nil {
			errs = append(errs, field.Invalid(at, "", fmt.Sprintf("error building validator: %v", err)))
		}
	}
	return errs
}

func (c schemaChecks) whole(s *props, status bool, at *field.Path) field.ErrorList {
	var errs, initial field.ErrorList
	if status {
		errs = append(errs, rootFields(s, at)...)
	}
	if s.Nullable {
		errs = append(errs, field.Forbidden(at.Child("openAPIV3Schema.nullable"), "nullable cannot be true at the root"))
	}
	p := at.Child("openAPIV3Schema")
	var root *costs
	if c.structural {
		ss, err := structuralschema.NewStructural(s)
		if err != nil {
			// What follows tells the same better, as a rule.
			initial = append(initial, field.Invalid(p, "", err.Error()))
		} else if bad := structuralschema.ValidateStructural(p, ss); len(bad) > 0 {
			errs = append(errs, bad...)
		} else if bad, err := defaulting.ValidateDefaults(background(), p, ss, true, !c.lenient.unprunedDefs); err != nil {
			errs = append(errs, field.Invalid(p, "", err.Error()))
		} else if len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			root = newCosts(s)
		}
	}
	found := c.node(s, p, place{root: true, cost: root})
	errs = append(errs, found.schema...)
	errs = append(errs, found.rules...)
	if len(errs) == 0 {
		errs = append(errs, initial...)
	}
	if root != nil {
		errs = append(errs, root.total.errors(p)...)
	}
	return errs
}

// rootFields are those that a schema may have at its root where the status is
// checked apart.
func rootFields(s *props, at *field.Path) field.ErrorList {
	allowed := []string{"Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength", "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties", "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations"}
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			continue
		}
		name := v.Type().Field(i).Name
		if name == "Type" && s.Type != "object" {
			return field.ErrorList{field.Invalid(at.Child("openAPIV3Schema.type"), s.Type, `only "object" is allowed as the type at the root of the schema if the status subresource is enabled`)}
		}
		if !slices.Contains(allowed, name) {
			return field.ErrorList{field.Invalid(at.Child("openAPIV3Schema"), *s, fmt.Sprintf(`only %v fields are allowed at the root of the schema if the status subresource is enabled`, allowed))}
		}
	}
	return nil
}

// node checks one node of a schema and all below it.
func (c schemaChecks) node(s *props, at *field.Path, p place) findings {
	var f findings
	if s == nil {
		return f
	}
	f.add(c.unsupported(s, at, p)...)
	if s.UniqueItems {
		f.add(field.Forbidden(at.Child("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"))
	}
	c.members(&f, s, at, p)
	c.junctors(&f, s, at, p)
	c.items(&f, s, at, p)
	f.add(c.types(s, at)...)
	if !c.lenient.anyMapKeys {
		f.add(mapKeys(s, at)...)
	}
	f.add(ruleForms(s, at)...)
	if len(s.XValidations) > 0 && len(f.schema) == 0 && p.cost != nil {
		f.rules = append(f.rules, c.rules(s, at, p)...)
	}
	return f
}

// unsupported are the constructs that a schema may not have here.
func (c schemaChecks) unsupported(s *props, at *field.Path, p place) field.ErrorList {
	var errs field.ErrorList
	forbid := func(bad bool, name, why string) {
		if bad {
			errs = append(errs, field.Forbidden(at.Child(name), why))
		}
	}
	types := []string{"array", "boolean", "integer", "number", "object", "string"}
	if !c.lenient.anyType && s.Type != "" && !slices.Contains(types, s.Type) {
		errs = append(errs, field.NotSupported(at.Child("type"), s.Type, types))
	}
	why := "must not be set"
	if p.noDefaults != "" {
		why += " " + p.noDefaults
	}
	forbid(s.Default != nil && p.barred, "default", why)
	forbid(s.ID != "", "id", "id is not supported")
	forbid(s.AdditionalItems != nil, "additionalItems", "additionalItems is not supported")
	forbid(len(s.PatternProperties) > 0, "patternProperties", "patternProperties is not supported")
	forbid(len(s.Definitions) > 0, "definitions", "definitions is not supported")
	forbid(s.Dependencies != nil, "dependencies", "dependencies is not supported")
	forbid(s.Ref != nil, "$ref", "$ref is not supported")
	forbid(s.Type == "null", "type", "type cannot be set to null, use nullable as an alternative")
	forbid(s.Items != nil && len(s.Items.JSONSchemas) > 0, "items", "items must be a schema object and not an array")
	forbid(p.meta && s.XEmbeddedResource, "x-kubernetes-embedded-resource", "must not be used inside of resource meta")
	return errs
}

// members checks properties and additionalProperties.
func (c schemaChecks) members(f *findings, s *props, at *field.Path, p place) {
	if a := s.AdditionalProperties; a != nil {
		if len(s.Properties) > 0 && (!a.Allows || a.Schema != nil) {
			f.add(field.Forbidden(at.Child("additionalProperties"), "additionalProperties and properties are mutual exclusive"))
		}
		sub := p
		if p.meta {
			sub = p.bar("inside additionalProperties applying to object metadata")
		}
		f.merge(c.node(a.Schema, at.Child("additionalProperties"), sub.below(p.cost.values(a.Schema))))
	}
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		property := s.Properties[name]
		sub := p
		if !cel.MapIsCorrelatable(s.XMapType) {
			sub = sub.lose(at)
		}
		if (p.root || s.XEmbeddedResource) && (name == "metadata" || name == "kind" || name == "apiVersion") {
			sub.meta = true
			if p.root {
				sub = sub.bar("in top-level " + name)
			}
		}
		f.merge(c.node(&property, at.Child("properties").Key(name), sub.below(p.cost.property(&property, name))))
	}
}

// junctors checks the schemas that are combined, in which no rule may stand.
func (c schemaChecks) junctors(f *findings, s *props, at *field.Path, p place) {
	p = p.below(nil)
	f.merge(c.node(s.Not, at.Child("not"), p))
	for _, list := range []struct {
		name    string
		schemas []props
	}{{"allOf", s.AllOf}, {"oneOf", s.OneOf}, {"anyOf", s.AnyOf}} {
		for i := range list.schemas {
			f.merge(c.node(&list.schemas[i], at.Child(list.name).Index(i), p))
		}
	}
	for name := range s.Definitions {
		d := s.Definitions[name]
		f.merge(c.node(&d, at.Child("definitions").Key(name), p))
	}
	for name, d := range s.Dependencies {
		f.merge(c.node(d.Schema, at.Child("dependencies").Key(name), p))
	}
}

func (c schemaChecks) items(f *findings, s *props, at *field.Path, p place) {
	if s.Items == nil {
		return
	}
	// Only the items of a map have a counterpart in the old object.
	if s.XListType == nil || *s.XListType != "map" {
		p = p.lose(at)
	}
	cost := p.cost
	f.merge(c.node(s.Items.Schema, at.Child("items"), p.below(cost.items(s.Items.Schema))))
	for i := range s.Items.JSONSchemas {
		f.merge(c.node(&s.Items.JSONSchemas[i], at.Child("items").Index(i), p.below(cost.items(&s.Items.JSONSchemas[i]))))
	}
}

// types checks the extensions by which lists and maps are merged.
func (c schemaChecks) types(s *props, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.XPreserveUnknownFields != nil && !*s.XPreserveUnknownFields {
		errs = append(errs, field.Invalid(at.Child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined"))
	}
	want := func(typ, extension string) {
		text := fmt.Sprintf("must be %s if %s is specified", typ, extension)
		if s.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), text))
		} else {
			errs = append(errs, field.Invalid(at.Child("type"), s.Type, text))
		}
	}
	if t := s.XMapType; t != nil {
		if s.Type != "object" {
			want("object", "x-kubernetes-map-type")
		}
		if *t != "atomic" && *t != "granular" {
			errs = append(errs, field.NotSupported(at.Child("x-kubernetes-map-type"), *t, []string{"atomic", "granular"}))
		}
	}
	if t := s.XListType; t != nil {
		if s.Type != "array" {
			want("array", "x-kubernetes-list-type")
		} else if *t == "set" && !c.lenient.anySet && s.Items != nil && s.Items.Schema != nil {
			errs = append(errs, setItems(s.Items.Schema, at.Child("items"))...)
		}
		if *t != "atomic" && *t != "set" && *t != "map" {
			errs = append(errs, field.NotSupported(at.Child("x-kubernetes-list-type"), *t, []string{"atomic", "set", "map"}))
		}
	}
	if len(s.XListMapKeys) > 0 {
		const text = "must be map if x-kubernetes-list-map-keys is non-empty"
		if s.XListType == nil {
			errs = append(errs, field.Required(at.Child("x-kubernetes-list-type"), text))
		} else if *s.XListType != "map" {
			errs = append(errs, field.Invalid(at.Child("x-kubernetes-list-type"), *s.XListType, text))
		}
	}
	if s.XListType != nil && *s.XListType == "map" {
		errs = append(errs, mapItems(s, at)...)
	}
	return errs
}

// setItems wants the items of a set to be atomic.
func setItems(s *props, at *field.Path) field.ErrorList {
	const text = "must be atomic as item of a list with x-kubernetes-list-type=set"
	switch {
	case s.Type == "array" && s.XListType != nil && *s.XListType != "atomic":
		return field.ErrorList{field.Invalid(at.Child("x-kubernetes-list-type"), s.XListType, text)}
	case s.Type == "object" && (s.XMapType == nil || *s.XMapType != "atomic"):
		return field.ErrorList{field.Invalid(at.Child("x-kubernetes-map-type"), s.XListType, text)}
	}
	return nil
}

// mapItems wants the items of a map to be objects with its keys.
func mapItems(s *props, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	items := at.Child("items")
	if len(s.XListMapKeys) == 0 {
		errs = append(errs, field.Required(at.Child("x-kubernetes-list-map-keys"), "must not be empty if x-kubernetes-list-type is map"))
	}
	switch {
	case s.Items == nil:
		return append(errs, field.Required(items, "must have a schema if x-kubernetes-list-type is map"))
	case s.Items.Schema == nil:
		return append(errs, field.Invalid(items, s.Items, "must only have a single schema if x-kubernetes-list-type is map"))
	case s.Items.Schema.Type != "object":
		return append(errs, field.Invalid(items.Child("type"), s.Items.Schema.Type, "must be object if parent array's x-kubernetes-list-type is map"))
	}
	seen := map[string]bool{}
	for _, k := range s.XListMapKeys {
		p, ok := s.Items.Schema.Properties[k]
		switch {
		case !ok:
			errs = append(errs, field.Invalid(at.Child("x-kubernetes-list-map-keys"), s.XListMapKeys, "entries must all be names of item properties"))
		case p.Type == "array" || p.Type == "object":
			errs = append(errs, field.Invalid(items.Child("properties").Key(k).Child("type"), s.Items.Schema.Type, "must be a scalar type if parent array's x-kubernetes-list-type is map"))
		}
		if seen[k] {
			errs = append(errs, field.Invalid(at.Child("x-kubernetes-list-map-keys"), s.XListMapKeys, "must not contain duplicate entries"))
		}
		seen[k] = true
	}
	return errs
}

// mapKeys wants the keys of a map to be there in every item, and no item of a
// map or set to be null.
func mapKeys(s *props, at *field.Path) field.ErrorList {
	if s.Items == nil || s.Items.Schema == nil || s.XListType == nil || *s.XListType != "set" && *s.XListType != "map" {
		return nil
	}
	var errs field.ErrorList
	item := s.Items.Schema
	if item.Nullable {
		errs = append(errs, field.Forbidden(at.Child("items", "nullable"), "cannot be nullable when x-kubernetes-list-type is "+*s.XListType))
	}
	if *s.XListType != "map" {
		return errs
	}
	for _, k := range s.XListMapKeys {
		p, ok := item.Properties[k]
		if !ok {
			continue
		}
		key := at.Child("items", "properties").Key(k)
		if !slices.Contains(item.Required, k) && p.Default == nil {
			errs = append(errs, field.Required(key.Child("default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"))
		}
		if p.Nullable {
			errs = append(errs, field.Forbidden(key.Child("nullable"), "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"))
		}
	}
	return errs
}

// ruleForms checks the rules' texts.
func ruleForms(s *props, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, r := range s.XValidations {
		p := at.Child("x-kubernetes-validations").Index(i)
		rule, message := strings.TrimSpace(r.Rule), strings.TrimSpace(r.Message)
		switch {
		case rule == "":
			errs = append(errs, field.Required(p.Child("rule"), "rule is not specified"))
		case r.Message != "" && message == "":
			errs = append(errs, field.Invalid(p.Child("message"), r.Message, "must be non-empty if specified"))
		case strings.ContainsAny(message, "\n\r"):
			errs = append(errs, field.Invalid(p.Child("message"), r.Message, "must not contain line breaks"))
		case strings.ContainsAny(rule, "\n\r") && message == "":
			errs = append(errs, field.Required(p.Child("message"), "message must be specified if rule contains line breaks"))
		}
		if r.MessageExpression != "" && strings.TrimSpace(r.MessageExpression) == "" {
			errs = append(errs, field.Required(p.Child("messageExpression"), "messageExpression must be non-empty if specified"))
		}
		reasons := []string{string(apiextensions.FieldValueDuplicate), string(apiextensions.FieldValueForbidden), string(apiextensions.FieldValueInvalid), string(apiextensions.FieldValueRequired)}
		if r.Reason != nil && !slices.Contains(reasons, string(*r.Reason)) {
			errs = append(errs, field.NotSupported(p.Child("reason"), *r.Reason, reasons))
		}
		if r.FieldPath == "" {
			continue
		}
		if strings.TrimSpace(r.FieldPath) == "" {
			errs = append(errs, field.Invalid(p.Child("fieldPath"), r.FieldPath, "must be non-empty if specified"))
		}
		if strings.ContainsAny(r.FieldPath, "\n\r") {
			errs = append(errs, field.Invalid(p.Child("fieldPath"), r.FieldPath, "must not contain line breaks"))
		}
		if ss, err := structuralschema.NewStructural(s); err == nil {
			if _, _, err := cel.ValidFieldPath(r.FieldPath, ss); err != nil {
				errs = append(errs, field.Invalid(p.Child("fieldPath"), r.FieldPath, "must be a valid path"))
			}
		}
	}
	return errs
}
