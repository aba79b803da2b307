package extend

import (
	"errors"
	"fmt"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// version is one version of a definition, compiled.
type version struct {
	gvk        schema.GroupVersionKind
	structural *structuralschema.Structural // nil without a schema
	// preserve is the deprecated spec.preserveUnknownFields: nothing is pruned.
	preserve bool

	once       sync.Once // guards what follows, which only writes need
	props      *apiextensions.JSONSchemaProps
	validators validators
	err        error
}

type validators struct {
	whole  validation.SchemaValidator
	status validation.SchemaValidator
	rules  *cel.Validator // nil without CEL rules
}

// compileVersion builds what reading an object needs.
func compileVersion(gvk schema.GroupVersionKind, v *apiextensionsv1.CustomResourceDefinitionVersion, preserve bool) (*version, error) {
	out := &version{gvk: gvk, preserve: preserve}
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return out, nil
	}
	out.props = &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, out.props, nil); err != nil {
		return nil, fmt.Errorf("compile the schema of %s: %w", gvk, err)
	}
	s, err := structuralschema.NewStructural(out.props)
	if err != nil {
		if preserve {
			return out, nil
		}
		return nil, fmt.Errorf("compile the schema of %s: %w", gvk, err)
	}
	out.structural = s
	if preserve {
		return out, nil
	}
	// The defaults are shared with the definition.
	out.structural = s.DeepCopy()
	if err := defaulting.PruneDefaults(out.structural); err != nil {
		return nil, fmt.Errorf("prune the defaults of %s: %w", gvk, err)
	}
	return out, nil
}

// checkers builds what a write needs, at the first one.
func (v *version) checkers() (*validators, error) {
	v.once.Do(func() {
		if v.validators.whole, _, v.err = validation.NewSchemaValidator(v.props); v.err != nil {
			return
		}
		if v.props != nil {
			if status, ok := v.props.Properties["status"]; ok {
				if v.validators.status, _, v.err = validation.NewSchemaValidator(&status); v.err != nil {
					return
				}
			}
		}
		v.props = nil
		v.validators.rules = cel.NewValidator(v.structural, true, celconfig.PerCallLimit)
	})
	if v.err != nil {
		return nil, fmt.Errorf("compile the schema of %s: %w", v.gvk, v.err)
	}
	return &v.validators, nil
}

// coercion is how strictly an object is brought into the schema's form.
type coercion struct {
	// stored objects are repaired: malformed metadata is dropped, and a missing
	// generation is 1.
	stored bool
	// track collects the paths of unknown fields.
	track bool
}

var errNotAString = errors.New("must be a string")

// coerce does to an unstructured object what decoding does to one with a Go
// type: it drops what the schema does not know, and checks the metadata.
func (v *version) coerce(u *unstructured.Unstructured, how coercion) ([]string, error) {
	kind, ok1 := u.Object["kind"].(string)
	apiVersion, ok2 := u.Object["apiVersion"].(string)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("kind and apiVersion: %w", errNotAString)
	}
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(u.Object, objectmeta.ObjectMetaOptions{
		DropMalformedFields: how.stored, ReturnUnknownFieldPaths: how.track,
	})
	if err != nil {
		return nil, err
	}
	if !v.preserve {
		unknown = append(unknown, pruning.PruneWithOptions(u.Object, v.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: how.track})...)
		defaulting.PruneNonNullableNullsWithoutDefaults(u.Object, v.structural)
	}
	fieldErr, paths := objectmeta.CoerceWithOptions(nil, u.Object, v.structural, false, objectmeta.CoerceOptions{
		DropInvalidFields: how.stored, ReturnUnknownFieldPaths: how.track,
	})
	if fieldErr != nil {
		return nil, fieldErr
	}
	unknown = append(unknown, paths...)
	if how.stored && found && meta.Generation == 0 {
		meta.Generation = 1
	}
	u.SetKind(kind)
	u.SetAPIVersion(apiVersion)
	if found {
		if err := objectmeta.SetObjectMeta(u.Object, meta); err != nil {
			return nil, err
		}
	}
	return unknown, nil
}

// fill sets the schema's defaults.
func (v *version) fill(u *unstructured.Unstructured) {
	if v.structural != nil {
		defaulting.Default(u.Object, v.structural)
	}
}
