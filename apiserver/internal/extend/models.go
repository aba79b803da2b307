package extend

import (
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Where references point to in the two versions of OpenAPI.
const (
	refsV2     = "#/definitions/"
	refsV3     = "#/components/schemas/"
	metaPrefix = "io.k8s.apimachinery.pkg.apis.meta.v1."
)

// Texts of the fields that every object has.
const (
	textAPIVersion = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
	textKind       = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"

	textSubAPIVersion = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
	textSubKind       = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
	textMetadata      = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
	textListMetadata  = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)

// modelName is a kind's name in a specification: the group's labels reversed.
func modelName(gvk schema.GroupVersionKind) string {
	labels := strings.Split(gvk.Group, ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "." + gvk.Version + "." + gvk.Kind
}

func text(description string) spec.Schema {
	return *spec.StringProperty().WithDescription(description)
}

// objectModel is the specification of a version's objects.
func objectModel(s *structuralschema.Structural, gvk schema.GroupVersionKind, preserve, v2 bool) *spec.Schema {
	refs := refsV3
	if v2 {
		refs = refsV2
	}
	out := new(spec.Schema).Typed("object", "")
	switch {
	case s == nil:
		// A schema with properties would forbid all others.
	case v2 && (s.XPreserveUnknownFields || preserve):
	default:
		s = s.Unfold()
		if v2 {
			simplify(s)
		}
		out = s.ToKubeOpenAPI()
		out.SetProperty("metadata", reference(refs, "ObjectMeta", textMetadata, v2))
		out.SetProperty("apiVersion", text(textAPIVersion))
		out.SetProperty("kind", text(textKind))
		embed(out, refs, v2)
	}
	out.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}})
	return out
}

// reference is a field whose type is another model. OpenAPI v3 allows nothing beside a reference.
func reference(refs, model, description string, v2 bool) spec.Schema {
	ref := spec.RefSchema(refs + metaPrefix + model)
	if v2 {
		return *ref.WithDescription(description)
	}
	return *new(spec.Schema).WithDescription(description).WithAllOf(*ref)
}

// embed adds the fields that every object has to objects within the object.
func embed(s *spec.Schema, refs string, v2 bool) {
	if s == nil {
		return
	}
	for name := range s.Properties {
		p := s.Properties[name]
		embed(&p, refs, v2)
		s.Properties[name] = p
	}
	if s.Items != nil {
		embed(s.Items.Schema, refs, v2)
	}
	if s.AdditionalProperties != nil {
		embed(s.AdditionalProperties.Schema, refs, v2)
	}
	if open, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields"); open && v2 {
		// kubectl would refuse the unknown fields.
		return
	}
	if object, _ := s.Extensions.GetBool("x-kubernetes-embedded-resource"); !object {
		return
	}
	s.SetProperty("apiVersion", text(textSubAPIVersion))
	s.SetProperty("kind", text(textSubKind))
	s.SetProperty("metadata", reference(refs, "ObjectMeta", textMetadata, v2))
	for _, name := range []string{"kind", "apiVersion"} {
		if !slices.Contains(s.Required, name) {
			s.Required = append(s.Required, name)
		}
	}
}

// simplify leaves out what OpenAPI v2 or kubectl's reading of it lacks.
func simplify(s *structuralschema.Structural) {
	visitor := structuralschema.Visitor{Structural: func(s *structuralschema.Structural) bool {
		if v := s.ValueValidation; v != nil {
			v.AllOf, v.AnyOf, v.OneOf, v.Not = nil, nil, nil, nil
		}
		// A value without a type may have neither items nor properties.
		if s.Nullable {
			s.Type, s.Nullable, s.Items, s.Properties = "", false, nil, nil
		}
		if s.XPreserveUnknownFields {
			s.Items, s.Properties = nil, nil
		}
		if s.Items == nil && s.Type == "array" || s.XPreserveUnknownFields && s.Type == "object" {
			s.Type = ""
		}
		s.Default.Object = nil
		if v := s.ValueValidation; v != nil {
			for name := range s.Properties {
				if s.Properties[name].Nullable {
					v.Required = slices.DeleteFunc(slices.Clone(v.Required), func(r string) bool { return r == name })
				}
			}
			if a := s.AdditionalProperties; a != nil && a.Structural != nil && a.Structural.Nullable {
				v.Required = nil
			}
			if len(v.Required) == 0 {
				v.Required = nil
			}
		}
		return true
	}}
	visitor.Visit(s)
}

// listModel is the specification of a list of a version's objects.
func listModel(gvk schema.GroupVersionKind, plural, listKind string, v2 bool) *spec.Schema {
	refs := refsV3
	if v2 {
		refs = refsV2
	}
	items := spec.ArrayProperty(spec.RefSchema(refs + modelName(gvk))).WithDescription("List of " + plural + ". More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md")
	s := new(spec.Schema).Typed("object", "").WithDescription(listKind+" is a list of "+gvk.Kind).WithRequired("items").
		SetProperty("items", *items).
		SetProperty("metadata", reference(refs, "ListMeta", textListMetadata, v2)).
		SetProperty("apiVersion", text(textAPIVersion)).
		SetProperty("kind", text(textKind))
	s.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": listKind}})
	return s
}

// structuralOf is a version's schema where that is structural, else nil.
func structuralOf(crd *apiextensionsv1.CustomResourceDefinition, v *apiextensionsv1.CustomResourceDefinitionVersion) (*structuralschema.Structural, error) {
	compiled, err := compileVersion(schema.GroupVersionKind{Group: crd.Spec.Group, Version: v.Name, Kind: crd.Spec.Names.Kind}, v, crd.Spec.PreserveUnknownFields)
	if err != nil || compiled.structural == nil {
		return nil, err
	}
	if len(structuralschema.ValidateStructural(nil, compiled.structural)) > 0 {
		return nil, nil
	}
	return compiled.structural, nil
}

// applyModels are the models of all versions, and of what they refer to, in
// the form from which server-side apply takes its types.
func applyModels(crd *apiextensionsv1.CustomResourceDefinition) (map[string]*spec.Schema, error) {
	out := MetaModels()
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		s, err := structuralOf(crd, v)
		if err != nil {
			return nil, err
		}
		gvk := schema.GroupVersionKind{Group: crd.Spec.Group, Version: v.Name, Kind: crd.Spec.Names.Kind}
		out[modelName(gvk)] = objectModel(s, gvk, crd.Spec.PreserveUnknownFields, false)
	}
	return out, nil
}

// MetaModels are ObjectMeta and what it refers to, in the form from which server-side apply takes its types.
func MetaModels() map[string]*spec.Schema {
	object := func(properties map[string]spec.Schema) *spec.Schema {
		s := new(spec.Schema).Typed("object", "")
		s.Properties = properties
		return s
	}
	str, boolean, integer := *spec.StringProperty(), *spec.BoolProperty(), *spec.Int64Property()
	strs := *spec.MapProperty(spec.StringProperty())
	ref := func(name string) *spec.Schema { return spec.RefSchema(refsV3 + metaPrefix + name) }
	set := spec.ArrayProperty(spec.StringProperty())
	set.AddExtension("x-kubernetes-list-type", "set")
	owners := spec.ArrayProperty(ref("OwnerReference"))
	owners.AddExtension("x-kubernetes-list-type", "map")
	owners.AddExtension("x-kubernetes-list-map-keys", []any{"uid"})
	managed := spec.ArrayProperty(ref("ManagedFieldsEntry"))
	managed.AddExtension("x-kubernetes-list-type", "atomic")
	owner := object(map[string]spec.Schema{"apiVersion": str, "blockOwnerDeletion": boolean, "controller": boolean, "kind": str, "name": str, "uid": str})
	owner.AddExtension("x-kubernetes-map-type", "atomic")
	fields := object(nil)
	fields.AddExtension("x-kubernetes-map-type", "atomic")
	return map[string]*spec.Schema{
		metaPrefix + "ObjectMeta": object(map[string]spec.Schema{
			"annotations": strs, "labels": strs, "creationTimestamp": *ref("Time"), "deletionTimestamp": *ref("Time"),
			"deletionGracePeriodSeconds": integer, "generation": integer, "generateName": str, "name": str, "namespace": str,
			"resourceVersion": str, "selfLink": str, "uid": str, "finalizers": *set, "ownerReferences": *owners, "managedFields": *managed,
		}),
		metaPrefix + "OwnerReference": owner,
		metaPrefix + "ManagedFieldsEntry": object(map[string]spec.Schema{
			"apiVersion": str, "fieldsType": str, "fieldsV1": *ref("FieldsV1"), "manager": str, "operation": str, "subresource": str, "time": *ref("Time"),
		}),
		metaPrefix + "FieldsV1": fields,
		metaPrefix + "Time":     spec.DateTimeProperty(),
	}
}
