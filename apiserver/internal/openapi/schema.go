package openapi

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
)

// schema is a JSON object of the specification.
type schema = map[string]any

// Optional interfaces of API types.
type (
	named     interface{ OpenAPIModelName() string }
	formatted interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	}
	documented interface{ SwaggerDoc() map[string]string }
	unioned    interface{ OpenAPIV3OneOfTypes() []string }
)

// facts is what the Go types do not tell, as a merge patch of each model by its name: enumerations, the kinds of lists, defaults. hack/compare/openapi writes it.
//
//go:embed facts.json
var facts []byte

// Where models are referred to.
const (
	modelsV2 = "#/definitions/"
	modelsV3 = "#/components/schemas/"
)

// generator collects the models of Go types, each once, by reflection over the types that the server encodes and decodes: what it tells is what it does.
type generator struct {
	scheme *runtime.Scheme
	// prefix heads references.
	prefix string
	v3     bool
	// version is that of the document at hand of v3.
	version apischema.GroupVersion
	facts   map[string]json.RawMessage
	out     map[string]schema
}

func newGenerator(scheme *runtime.Scheme, v3 bool) (*generator, error) {
	g := &generator{scheme: scheme, prefix: modelsV2, v3: v3, out: map[string]schema{}}
	if v3 {
		g.prefix = modelsV3
	}
	if err := json.Unmarshal(facts, &g.facts); err != nil {
		return nil, fmt.Errorf("read the facts of models: %w", err)
	}
	return g, nil
}

// model is the name of a type in the specification.
func model(t reflect.Type) string {
	if n, ok := reflect.New(t).Interface().(named); ok {
		return n.OpenAPIModelName()
	}
	parts := strings.Split(t.PkgPath(), "/")
	if len(parts) > 0 && strings.Contains(parts[0], ".") {
		host := strings.Split(parts[0], ".")
		slices.Reverse(host)
		parts[0] = strings.Join(host, ".")
	}
	return strings.Join(append(parts, t.Name()), ".")
}

// ref is a reference to a named type, which is added to the models.
func (g *generator) ref(t reflect.Type) schema {
	name := model(t)
	if _, ok := g.out[name]; !ok {
		g.out[name] = schema{} // ends recursion
		g.out[name] = g.finish(name, t, g.define(t))
	}
	return schema{"$ref": g.prefix + name}
}

// finish adds to a model what its Go type does not tell.
func (g *generator) finish(name string, t reflect.Type, s schema) schema {
	if patch, ok := g.facts[name]; ok {
		p := schema{}
		// The file is part of the program.
		if err := json.Unmarshal(patch, &p); err == nil {
			s = merge(s, p)
		}
	}
	if kinds := g.kinds(t); len(kinds) > 0 {
		s["x-kubernetes-group-version-kind"] = kinds
	}
	properties, _ := s["properties"].(schema)
	for _, p := range properties {
		if p := p.(schema); g.v3 {
			alone(p)
		} else {
			delete(p, "default")
		}
	}
	if one, ok := s["oneOf"]; ok && !g.v3 {
		delete(s, "oneOf")
		if one != nil {
			s["type"] = "string"
		}
	}
	return s
}

// alone keeps a reference apart from what is said beside it, as v3 wants it.
func alone(p schema) {
	if ref, ok := p["$ref"]; ok && len(p) > 1 {
		delete(p, "$ref")
		p["allOf"] = []any{schema{"$ref": ref}}
	}
}

// kinds are those that a Go type stands for, in the order of their versions.
func (g *generator) kinds(t reflect.Type) []any {
	obj, ok := reflect.New(t).Interface().(runtime.Object)
	if !ok {
		return nil
	}
	kinds, _, err := g.scheme.ObjectKinds(obj)
	if err != nil {
		return nil
	}
	slices.SortFunc(kinds, func(a, b apischema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	var out []any
	for _, k := range kinds {
		// Every version has these, and a document of one tells no other.
		if everywhere := k.Kind == "DeleteOptions" || k.Kind == "WatchEvent"; everywhere && g.v3 && k.GroupVersion() != g.version && k.GroupVersion() != metav1.Unversioned {
			continue
		}
		out = append(out, kindOf(k))
	}
	return out
}

// merge is a merge patch of RFC 7386, but that a description which begins with a line break goes on from the one that is there.
func merge(into, patch schema) schema {
	for k, v := range patch {
		switch v := v.(type) {
		case string:
			if before, ok := into[k].(string); ok && k == "description" && strings.HasPrefix(v, "\n") {
				v = before + v
			}
			into[k] = v
		case nil:
			delete(into, k)
		case schema:
			inner, _ := into[k].(schema)
			if inner == nil {
				inner = schema{}
			}
			into[k] = merge(inner, v)
		default:
			into[k] = v
		}
	}
	return into
}

func (g *generator) define(t reflect.Type) schema {
	v := reflect.New(t).Interface()
	docs := map[string]string{}
	if d, ok := v.(documented); ok {
		docs = d.SwaggerDoc()
	}
	s := schema{}
	if text := docs[""]; text != "" {
		s["description"] = text
	}
	if f, ok := v.(formatted); ok {
		if u, ok := v.(unioned); ok {
			var one []any
			for _, typ := range u.OpenAPIV3OneOfTypes() {
				one = append(one, schema{"type": typ})
			}
			s["oneOf"] = one
		} else if types := f.OpenAPISchemaType(); len(types) > 0 {
			s["type"] = types[0]
		}
		if format := f.OpenAPISchemaFormat(); format != "" {
			s["format"] = format
		}
		return s
	}
	if t.Kind() != reflect.Struct {
		return merge(s, g.plain(t))
	}
	s["type"] = "object"
	properties := schema{}
	var required []any
	g.fields(t, docs, properties, &required)
	if len(properties) > 0 {
		s["properties"] = properties
	}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// fields adds a struct's JSON fields, those of inlined structs among them.
func (g *generator) fields(t reflect.Type, docs map[string]string, properties schema, required *[]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-" || name == "" && !f.Anonymous:
			continue
		case name == "":
			inner := map[string]string{}
			if d, ok := reflect.New(f.Type).Interface().(documented); ok {
				inner = d.SwaggerDoc()
			}
			g.fields(f.Type, inner, properties, required)
			continue
		}
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero") || f.Type.Kind() == reflect.Pointer
		p := g.property(f, optional)
		if text := docs[name]; text != "" {
			p["description"] = text
		}
		properties[name] = p
		if !optional {
			*required = append(*required, name)
		}
	}
}

func (g *generator) property(f reflect.StructField, optional bool) schema {
	p := g.typ(f.Type)
	g.zero(p, f.Type, optional)
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		p["x-kubernetes-patch-strategy"] = strategy
	}
	if key := f.Tag.Get("patchMergeKey"); key != "" {
		p["x-kubernetes-patch-merge-key"] = key
		p["x-kubernetes-list-type"] = "map"
		p["x-kubernetes-list-map-keys"] = []any{key}
	}
	return p
}

// zero adds the value that a field has which is left out, for what is no pointer.
func (g *generator) zero(p schema, t reflect.Type, optional bool) {
	_, isFormatted := reflect.New(t).Interface().(formatted)
	switch t.Kind() {
	case reflect.Struct:
		if !isFormatted {
			p["default"] = schema{}
		}
		return
	case reflect.String:
		p["default"] = ""
	case reflect.Bool:
		p["default"] = false
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		p["default"] = 0
	}
	if optional || isFormatted {
		delete(p, "default")
	}
}

func (g *generator) typ(t reflect.Type) schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.PkgPath() != "" {
		_, isFormatted := reflect.New(t).Interface().(formatted)
		if t.Kind() == reflect.Struct || isFormatted {
			return g.ref(t)
		}
	}
	return g.plain(t)
}

func (g *generator) plain(t reflect.Type) schema {
	switch t.Kind() {
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int32, reflect.Int16, reflect.Int8, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return schema{"type": "integer", "format": "int32"}
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return schema{"type": "integer", "format": "int64"}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number", "format": "double"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return schema{"type": "string", "format": "byte"}
		}
		return schema{"type": "array", "items": g.typ(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": g.typ(t.Elem())}
	}
	return schema{"type": "object"}
}
