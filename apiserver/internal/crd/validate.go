package crd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// internal is a definition in the form that upstream checks, in which a schema
// that all versions share stands at the top, so that errors name its fields
// there.
type internal = apiextensions.CustomResourceDefinition

func toInternal(d *apiextensionsv1.CustomResourceDefinition) (*internal, field.ErrorList) {
	out := &internal{}
	// The conversion may alias what it is given.
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(d.DeepCopy(), out, nil); err != nil {
		return nil, field.ErrorList{field.InternalError(field.NewPath("spec"), err)}
	}
	return out, nil
}

// leniency is what an update may keep of mistakes that the stored definition
// made already.
type leniency struct {
	unknownReview  bool // no known ConversionReview version
	noSchema       bool
	anyType        bool // types that are none
	notStructural  bool
	unprunedDefs   bool
	anySet         bool // sets of what is not atomic
	anyMapKeys     bool
	badCA          bool
	manySelectable map[string]bool // by version, "" for all
	// rules and messages are the CEL expressions that were there.
	rules, messages map[string]bool
	// unchanged are the versions whose schema stays.
	unchanged map[string]bool
	names     bool // names may change: it was never established
}

// Validate checks a new definition, but for its metadata.
func Validate(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	in, errs := toInternal(d)
	if errs != nil {
		return errs
	}
	if want := d.Spec.Names.Plural + "." + d.Spec.Group; d.Name != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), d.Name, `must be spec.names.plural+"."+spec.group`))
	}
	errs = append(errs, spec(&in.Spec, &leniency{badCA: true})...)
	errs = append(errs, rest(in)...)
	errs = append(errs, approval(in, nil)...)
	return append(errs, preserve(in, nil)...)
}

// ValidateUpdate checks a changed definition against the stored one.
func ValidateUpdate(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	in, errs := toInternal(d)
	if errs != nil {
		return errs
	}
	was, errs := toInternal(old)
	if errs != nil {
		return errs
	}
	lenient := lenienceOf(in, was)
	errs = spec(&in.Spec, lenient)
	at := field.NewPath("spec")
	if !lenient.names {
		errs = append(errs, apivalidation.ValidateImmutableField(in.Spec.Scope, was.Spec.Scope, at.Child("scope"))...)
		errs = append(errs, apivalidation.ValidateImmutableField(in.Spec.Names.Kind, was.Spec.Names.Kind, at.Child("names", "kind"))...)
	}
	errs = append(errs, apivalidation.ValidateImmutableField(in.Spec.Group, was.Spec.Group, at.Child("group"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(in.Spec.Names.Plural, was.Spec.Names.Plural, at.Child("names", "plural"))...)
	errs = append(errs, rest(in)...)
	errs = append(errs, approval(in, was)...)
	return append(errs, preserve(in, was)...)
}

// ValidateStatus checks a changed status.
func ValidateStatus(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	in, errs := toInternal(d)
	if errs != nil {
		return errs
	}
	return nameForms(&in.Status.AcceptedNames, field.NewPath("status", "acceptedNames"))
}

// rest checks the status.
func rest(in *internal) field.ErrorList {
	errs := nameForms(&in.Status.AcceptedNames, field.NewPath("status", "acceptedNames"))
	at := field.NewPath("status", "storedVersions")
	stored := in.Status.StoredVersions
	if len(stored) == 0 {
		return append(errs, field.Invalid(at, stored, "must have at least one stored version"))
	}
	for _, v := range in.Spec.Versions {
		if v.Storage && !slices.Contains(stored, v.Name) {
			errs = append(errs, field.Invalid(at, stored, "must have the storage version "+v.Name))
		}
	}
	for i, name := range stored {
		if !slices.ContainsFunc(in.Spec.Versions, func(v apiextensions.CustomResourceDefinitionVersion) bool { return v.Name == name }) {
			errs = append(errs, field.Invalid(at.Index(i), name, fmt.Sprintf("missing from spec.versions; %[1]s was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in %[1]s and removes %[1]s from status.storedVersions", name)))
		}
	}
	return errs
}

func approval(in, old *internal) field.ErrorList {
	if !apihelpers.IsProtectedCommunityGroup(in.Spec.Group) {
		return nil
	}
	state, reason := apihelpers.GetAPIApprovalState(in.Annotations)
	if old != nil {
		if was, _ := apihelpers.GetAPIApprovalState(old.Annotations); was == state {
			return nil
		}
	}
	at := field.NewPath("metadata", "annotations").Key(apiextensionsv1.KubeAPIApprovedAnnotation)
	switch state {
	case apihelpers.APIApproved, apihelpers.APIApprovalBypassed:
		return nil
	case apihelpers.APIApprovalMissing:
		return field.ErrorList{field.Required(at, reason)}
	}
	return field.ErrorList{field.Invalid(at, in.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation], reason)}
}

func preserves(s *apiextensions.CustomResourceDefinitionSpec) bool {
	return s.PreserveUnknownFields != nil && *s.PreserveUnknownFields
}

func preserve(in, old *internal) field.ErrorList {
	if old != nil && preserves(&old.Spec) || !preserves(&in.Spec) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead")}
}

// spec checks a definition's specification.
func spec(s *apiextensions.CustomResourceDefinitionSpec, lenient *leniency) field.ErrorList {
	at := field.NewPath("spec")
	var errs field.ErrorList
	switch {
	case s.Group == "":
		errs = append(errs, field.Required(at.Child("group"), ""))
	case len(validation.IsDNS1123Subdomain(s.Group)) > 0:
		errs = append(errs, field.Invalid(at.Child("group"), s.Group, strings.Join(validation.IsDNS1123Subdomain(s.Group), ",")))
	case !strings.Contains(s.Group, "."):
		errs = append(errs, field.Invalid(at.Child("group"), s.Group, "should be a domain with at least one dot"))
	}
	errs = append(errs, oneOf(at.Child("scope"), string(s.Scope), string(apiextensions.ClusterScoped), string(apiextensions.NamespaceScoped))...)
	structural := !lenient.notStructural || s.PreserveUnknownFields == nil || !*s.PreserveUnknownFields
	errs = append(errs, schemasThere(s, lenient, at)...)
	if hasSchema(s, hasDefault) {
		structural = true
		if s.PreserveUnknownFields == nil || *s.PreserveUnknownFields {
			errs = append(errs, field.Invalid(at.Child("preserveUnknownFields"), true, "must be false in order to use defaults in the schema"))
		}
	}
	structural = structural || hasSchema(s, hasExtension)
	errs = append(errs, versions(s, lenient, structural, at)...)
	errs = append(errs, namesThere(&s.Names, at.Child("names"))...)
	errs = append(errs, nameForms(&s.Names, at.Child("names"))...)
	status := hasStatus(s.Subresources) || slices.ContainsFunc(s.Versions, func(v apiextensions.CustomResourceDefinitionVersion) bool { return hasStatus(v.Subresources) })
	errs = append(errs, schemaChecks{lenient: lenient, structural: structural, cheap: lenient.unchanged[s.Version]}.validation(s.Validation, status, at.Child("validation"))...)
	errs = append(errs, subresources(s.Subresources, at.Child("subresources"))...)
	for i := range s.AdditionalPrinterColumns {
		errs = append(errs, printerColumn(&s.AdditionalPrinterColumns[i], at.Child("additionalPrinterColumns").Index(i))...)
	}
	if len(s.SelectableFields) > 0 {
		errs = append(errs, selectable(s.SelectableFields, s.Validation, at, lenient.manySelectable[""], "may only be set when validations.schema is included")...)
	}
	if s.Conversion != nil && s.Conversion.Strategy != apiextensions.NoneConverter && (s.PreserveUnknownFields == nil || *s.PreserveUnknownFields) {
		errs = append(errs, field.Invalid(at.Child("conversion", "strategy"), s.Conversion.Strategy, "must be None if spec.preserveUnknownFields is true"))
	}
	return append(errs, conversion(s.Conversion, lenient, at.Child("conversion"))...)
}

// schemasThere wants a schema for every version.
func schemasThere(s *apiextensions.CustomResourceDefinitionSpec, lenient *leniency, at *field.Path) field.ErrorList {
	if s.Validation != nil && s.Validation.OpenAPIV3Schema != nil {
		return nil
	}
	var errs field.ErrorList
	for i, v := range s.Versions {
		if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
			continue
		}
		p := at.Child("versions").Index(i).Child("schema", "openAPIV3Schema")
		if !lenient.noSchema {
			errs = append(errs, field.Required(p, ""))
		} else if v.Served && (s.PreserveUnknownFields == nil || !*s.PreserveUnknownFields) {
			errs = append(errs, field.Required(p, "because otherwise all fields are pruned"))
		}
	}
	return errs
}

// versions checks the versions, each and together.
func versions(s *apiextensions.CustomResourceDefinitionSpec, lenient *leniency, structural bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	stored, unique, seen := 0, true, map[string]bool{}
	perVersion := slices.ContainsFunc(s.Versions, func(v apiextensions.CustomResourceDefinitionVersion) bool { return v.Subresources != nil })
	for i := range s.Versions {
		v := &s.Versions[i]
		p := at.Child("versions").Index(i)
		if v.Storage {
			stored++
		}
		unique = unique && !seen[v.Name]
		seen[v.Name] = true
		if msgs := validation.IsDNS1035Label(v.Name); len(msgs) > 0 {
			errs = append(errs, field.Invalid(p.Child("name"), v.Name, strings.Join(msgs, ",")))
		}
		sub := s.Subresources
		if perVersion {
			sub = v.Subresources
		}
		errs = append(errs, oneVersion(v, hasStatus(sub), schemaChecks{lenient: lenient, structural: structural, cheap: lenient.unchanged[v.Name]}, p)...)
	}
	if !unique {
		errs = append(errs, field.Invalid(at.Child("versions"), s.Versions, "must contain unique version names"))
	}
	if stored != 1 {
		errs = append(errs, field.Invalid(at.Child("versions"), s.Versions, "must have exactly one version marked as storage version"))
	}
	if s.Version != "" {
		if msgs := validation.IsDNS1035Label(s.Version); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("version"), s.Version, strings.Join(msgs, ",")))
		}
		if len(s.Versions) > 0 && s.Versions[0].Name != s.Version {
			errs = append(errs, field.Invalid(at.Child("version"), s.Version, "must match the first version in spec.versions"))
		}
	}
	return errs
}

func oneVersion(v *apiextensions.CustomResourceDefinitionVersion, status bool, c schemaChecks, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, text := range deprecationErrors(v.Deprecated, v.DeprecationWarning) {
		errs = append(errs, field.Invalid(at.Child("deprecationWarning"), v.DeprecationWarning, text))
	}
	errs = append(errs, c.validation(v.Schema, status, at.Child("schema"))...)
	errs = append(errs, subresources(v.Subresources, at.Child("subresources"))...)
	for i := range v.AdditionalPrinterColumns {
		errs = append(errs, printerColumn(&v.AdditionalPrinterColumns[i], at.Child("additionalPrinterColumns").Index(i))...)
	}
	if len(v.SelectableFields) > 0 {
		errs = append(errs, selectable(v.SelectableFields, v.Schema, at, c.lenient.manySelectable[v.Name], "may only be set when `version.schema.openAPIV3Schema` is not included")...)
	}
	return errs
}

// lenienceOf is what an update need not put right.
func lenienceOf(in, old *internal) *leniency {
	l := &leniency{
		noSchema: !allHaveSchema(&old.Spec), anyType: hasSchema(&old.Spec, hasBadType), notStructural: anyNotStructural(&old.Spec),
		unprunedDefs: anyUnpruned(&old.Spec), anySet: hasSchema(&old.Spec, hasOpenSet), anyMapKeys: hasSchema(&old.Spec, func(s *props) bool { return len(mapKeys(s, field.NewPath(""))) > 0 }),
		manySelectable: map[string]bool{}, rules: map[string]bool{}, messages: map[string]bool{}, unchanged: map[string]bool{},
		names: !apiextensions.IsCRDConditionTrue(old, apiextensions.Established),
	}
	if c := old.Spec.Conversion; c != nil && len(c.ConversionReviewVersions) > 0 {
		l.unknownReview = !slices.ContainsFunc(c.ConversionReviewVersions, knownReview)
	}
	l.badCA = l.names
	if c := old.Spec.Conversion; !l.names && c != nil && c.WebhookClientConfig != nil && len(c.WebhookClientConfig.CABundle) > 0 {
		l.badCA = len(caBundle(c.WebhookClientConfig.CABundle, field.NewPath("caBundle"))) > 0
	}
	hasSchema(&old.Spec, func(s *props) bool {
		for _, r := range s.XValidations {
			l.rules[r.Rule] = true
			l.messages[r.MessageExpression] = true
		}
		return false
	})
	l.manySelectable[""] = len(old.Spec.SelectableFields) > maxSelectable && apiequality.Semantic.DeepEqual(in.Spec.SelectableFields, old.Spec.SelectableFields)
	for _, v := range in.Spec.Versions {
		a, err1 := apiextensions.GetSchemaForVersion(in, v.Name)
		b, err2 := apiextensions.GetSchemaForVersion(old, v.Name)
		l.unchanged[v.Name] = err1 == nil && err2 == nil && apiequality.Semantic.DeepEqual(a, b)
		for _, o := range old.Spec.Versions {
			if o.Name == v.Name {
				l.manySelectable[v.Name] = len(o.SelectableFields) > maxSelectable && apiequality.Semantic.DeepEqual(v.SelectableFields, o.SelectableFields)
			}
		}
	}
	return l
}

// background is for the libraries that want a context and do no I/O.
func background() context.Context { return context.Background() }
