package openapi

import (
	"reflect"
	"strings"
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

// generator collects the schemas of Go types, each once, by reflection over
// the types that the server encodes and decodes: what it tells is what it does.
type generator struct {
	// prefix heads references, "#/definitions/" or "#/components/schemas/".
	prefix string
	v3     bool
	// untyped is whether the kind at hand has no Go type.
	untyped bool
	out     map[string]schema
}

// model is the name of a type in the specification.
func model(t reflect.Type) string {
	if n, ok := reflect.New(t).Interface().(named); ok {
		return n.OpenAPIModelName()
	}
	parts := strings.Split(t.PkgPath(), "/")
	if len(parts) > 0 && strings.Contains(parts[0], ".") {
		host := strings.Split(parts[0], ".")
		for i, j := 0, len(host)-1; i < j; i, j = i+1, j-1 {
			host[i], host[j] = host[j], host[i]
		}
		parts[0] = strings.Join(host, ".")
	}
	return strings.Join(append(parts, t.Name()), ".")
}

// ref is a reference to a named type, which is added to the schemas.
func (g *generator) ref(t reflect.Type) schema {
	name := model(t)
	if _, ok := g.out[name]; !ok {
		g.out[name] = schema{} // ends recursion
		g.out[name] = g.define(t)
	}
	return schema{"$ref": g.prefix + name}
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
		if u, ok := v.(unioned); ok && g.v3 {
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
		for k, val := range g.plain(t) {
			s[k] = val
		}
		return s
	}
	s["type"] = "object"
	properties := schema{}
	var required []string
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
func (g *generator) fields(t reflect.Type, docs map[string]string, properties schema, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name == "" && f.Anonymous {
			inner := map[string]string{}
			if d, ok := reflect.New(f.Type).Interface().(documented); ok {
				inner = d.SwaggerDoc()
			}
			g.fields(f.Type, inner, properties, required)
			continue
		}
		if name == "" {
			continue
		}
		p := g.property(f)
		if text := docs[name]; text != "" {
			p = described(p, text, g.v3)
		}
		properties[name] = p
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero") || f.Type.Kind() == reflect.Pointer
		if !optional {
			*required = append(*required, name)
		}
	}
}

// described adds a description; a reference of v3 may have no siblings.
func described(p schema, text string, v3 bool) schema {
	if ref, ok := p["$ref"]; ok && v3 {
		p = schema{"allOf": []any{schema{"$ref": ref}}, "default": schema{}}
	}
	p["description"] = text
	return p
}

func (g *generator) property(f reflect.StructField) schema {
	p := g.typ(f.Type)
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		p["x-kubernetes-patch-strategy"] = strategy
	}
	if key := f.Tag.Get("patchMergeKey"); key != "" {
		p["x-kubernetes-patch-merge-key"] = key
		p["x-kubernetes-list-type"] = "map"
		p["x-kubernetes-list-map-keys"] = []string{key}
	}
	return p
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
