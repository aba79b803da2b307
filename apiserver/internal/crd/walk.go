package crd

import (
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiserver/pkg/cel/environment"
	openapispec "k8s.io/kube-openapi/pkg/validation/spec"
)

// schemas visits the schemas of a specification until visit returns true.
func schemas(s *apiextensions.CustomResourceDefinitionSpec, visit func(*props) bool) bool {
	if s.Validation != nil && s.Validation.OpenAPIV3Schema != nil && visit(s.Validation.OpenAPIV3Schema) {
		return true
	}
	for _, v := range s.Versions {
		if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil && visit(v.Schema.OpenAPIV3Schema) {
			return true
		}
	}
	return false
}

// hasSchema says whether any node of any schema is as asked.
func hasSchema(s *apiextensions.CustomResourceDefinitionSpec, is func(*props) bool) bool {
	return schemas(s, func(p *props) bool { return anyNode(p, is) })
}

// anyNode visits a schema and all below it until one is as asked.
func anyNode(s *props, is func(*props) bool) bool {
	if s == nil {
		return false
	}
	if is(s) {
		return true
	}
	some := func(list []props) bool {
		return slices.ContainsFunc(list, func(p props) bool { return anyNode(&p, is) })
	}
	named := func(list map[string]props) bool {
		for _, p := range list {
			if anyNode(&p, is) {
				return true
			}
		}
		return false
	}
	if s.Items != nil && (anyNode(s.Items.Schema, is) || some(s.Items.JSONSchemas)) {
		return true
	}
	if some(s.AllOf) || some(s.AnyOf) || some(s.OneOf) || anyNode(s.Not, is) || named(s.Properties) || named(s.PatternProperties) || named(s.Definitions) {
		return true
	}
	if s.AdditionalProperties != nil && anyNode(s.AdditionalProperties.Schema, is) || s.AdditionalItems != nil && anyNode(s.AdditionalItems.Schema, is) {
		return true
	}
	for _, d := range s.Dependencies {
		if anyNode(d.Schema, is) {
			return true
		}
	}
	return false
}

func hasDefault(s *props) bool { return s.Default != nil }

func hasExtension(s *props) bool {
	return s.XEmbeddedResource || s.XPreserveUnknownFields != nil || s.XIntOrString || len(s.XListMapKeys) > 0 || s.XListType != nil || len(s.XValidations) > 0
}

func hasBadType(s *props) bool {
	return s.Type != "" && !slices.Contains([]string{"array", "boolean", "integer", "number", "object", "string"}, s.Type)
}

func hasOpenSet(s *props) bool {
	return s.XListType != nil && *s.XListType == "set" && s.Items != nil && s.Items.Schema != nil && len(setItems(s.Items.Schema, nil)) > 0
}

func allHaveSchema(s *apiextensions.CustomResourceDefinitionSpec) bool {
	if s.Validation != nil && s.Validation.OpenAPIV3Schema != nil {
		return true
	}
	return !slices.ContainsFunc(s.Versions, func(v apiextensions.CustomResourceDefinitionVersion) bool {
		return v.Schema == nil || v.Schema.OpenAPIV3Schema == nil
	})
}

func anyNotStructural(s *apiextensions.CustomResourceDefinitionSpec) bool {
	return schemas(s, func(p *props) bool {
		ss, err := structuralschema.NewStructural(p)
		return err != nil || len(structuralschema.ValidateStructural(nil, ss)) > 0
	})
}

func anyUnpruned(s *apiextensions.CustomResourceDefinitionSpec) bool {
	return schemas(s, func(p *props) bool {
		if !anyNode(p, hasDefault) {
			return false
		}
		ss, err := structuralschema.NewStructural(p)
		if err != nil || len(structuralschema.ValidateStructural(nil, ss)) > 0 {
			return false
		}
		pruned := ss.DeepCopy()
		return defaulting.PruneDefaults(pruned) == nil && !reflect.DeepEqual(ss, pruned)
	})
}

// Warn tells of what a definition may have but should not; old is nil for a new
// one, and what it had is not told again.
func Warn(d, old *apiextensionsv1.CustomResourceDefinition) []string {
	now := warnings(d)
	if old == nil {
		return now
	}
	was := warnings(old)
	return slices.DeleteFunc(now, func(w string) bool { return slices.Contains(was, w) })
}

func warnings(d *apiextensionsv1.CustomResourceDefinition) []string {
	in, errs := toInternal(d)
	if errs != nil {
		return nil
	}
	var formats, sets []string
	hasSchema(&in.Spec, func(s *props) bool {
		if s.Format != "" {
			known := &openapispec.Schema{SchemaProps: openapispec.SchemaProps{Format: s.Format, Type: []string{s.Type}}}
			for _, f := range validation.GetUnrecognizedFormats(known, environment.DefaultCompatibilityVersion()) {
				formats = append(formats, fmt.Sprintf("unrecognized format %q", f))
			}
		}
		if s.XListType != nil && *s.XListType == "set" && s.Items != nil && s.Items.Schema != nil && (s.Items.Schema.Type == "object" || s.Items.Schema.Type == "array") {
			sets = append(sets, fmt.Sprintf("x-kubernetes-list-type: set for items of type %q is not supported by server-side apply or CEL validation rules", s.Items.Schema.Type))
		}
		return false
	})
	slices.Sort(sets)
	return append(formats, slices.Compact(sets)...)
}
