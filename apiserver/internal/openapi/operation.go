package openapi

import (
	"reflect"
	"slices"
	"strings"
	"unicode"

	apischema "k8s.io/apimachinery/pkg/runtime/schema"
)

// Media types.
const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
	anyMedia      = "*/*"
)

// operation is one method of a path.
type operation struct {
	// method is in lower case; action and kind are empty for what is no resource.
	method, action string
	id, tag, text  string
	kind           apischema.GroupVersionKind
	params         []parameter
	// body is what it takes, nil for nothing.
	body               schema
	required           bool
	consumes, produces []string
	// answer is what it gives, with the codes beside 200.
	answer schema
	codes  []string
}

// parameter is a part of a path or of a query.
type parameter struct {
	name, in, text, typ string
	required            bool
}

func (p parameter) compare(q parameter) int {
	return strings.Compare(p.name+" "+p.in, q.name+" "+q.in)
}

func query(name, typ, text string) parameter {
	return parameter{name: name, in: "query", text: text, typ: typ}
}

func inPath(name, text string) parameter {
	return parameter{name: name, in: "path", text: text, typ: "string", required: true}
}

var (
	pretty    = query("pretty", "string", "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a browser or command-line HTTP tool (curl and wget).")
	namespace = inPath("namespace", "object name and auth scope, such as for teams and projects")
	subpath   = inPath("path", "path to the resource")
)

// options are the query parameters that a type of options is read from.
func options(t reflect.Type) []parameter {
	var out []parameter
	docs := reflect.New(t).Interface().(documented).SwaggerDoc()
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		typ := f.Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if name == "" || typ.Kind() == reflect.Struct {
			continue
		}
		if typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		kind := "string"
		switch typ.Kind() {
		case reflect.Bool:
			kind = "boolean"
		case reflect.Int32, reflect.Int64:
			kind = "integer"
		}
		out = append(out, query(name, kind, docs[name]))
	}
	return out
}

// word makes a part of an identifier: what is no letter or digit goes, and the next letter is a capital.
func word(s string, capital bool) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case !unicode.IsLetter(r) && r != '_' && (i == 0 || !unicode.IsDigit(r)):
			capital = true
		case capital:
			b.WriteRune(unicode.ToUpper(r))
			capital = false
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// tagOf is what operations of a version are gathered under, and wordOf what stands for it in their identifiers.
func tagOf(gv apischema.GroupVersion) string {
	out := word(groupWord(gv.Group), false)
	if gv.Version != "" {
		out += "_" + word(gv.Version, false)
	}
	return out
}

func wordOf(gv apischema.GroupVersion) string {
	return word(groupWord(gv.Group), true) + word(gv.Version, true)
}

func groupWord(group string) string {
	if group == "" {
		return "core"
	}
	return strings.TrimSuffix(group, ".k8s.io")
}

// article is a noun with " a " or " an " before it; plurals have none.
func article(noun string) string {
	switch {
	case strings.HasSuffix(noun, "s") && !strings.HasSuffix(noun, "ss"):
		return " " + noun
	case strings.ContainsRune("aeiouAEIOU", rune(noun[0])):
		return " an " + noun
	}
	return " a " + noun
}

// items are the operations of a path as the specification has them. Parameters that all have are the path's.
func (g *generator) items(ops []operation) schema {
	item := schema{}
	shared := slices.Clone(ops[0].params)
	for _, op := range ops[1:] {
		shared = slices.DeleteFunc(shared, func(p parameter) bool { return !slices.Contains(op.params, p) })
	}
	if len(shared) > 0 {
		item["parameters"] = g.parameters(shared, nil)
	}
	for _, op := range ops {
		op.params = slices.DeleteFunc(slices.Clone(op.params), func(p parameter) bool { return slices.Contains(shared, p) })
		item[op.method] = g.operation(&op)
	}
	return item
}

func (g *generator) parameters(params []parameter, body schema) []any {
	slices.SortFunc(params, parameter.compare)
	var out []any
	for _, p := range params {
		if body != nil && p.name > "body" {
			out, body = append(out, body), nil
		}
		s := schema{"name": p.name, "in": p.in}
		if p.text != "" {
			s["description"] = p.text
		}
		if p.required {
			s["required"] = true
		}
		typ := schema{"type": p.typ, "uniqueItems": true}
		if g.v3 {
			s["schema"] = typ
		} else {
			merge(s, typ)
		}
		out = append(out, s)
	}
	if body != nil {
		out = append(out, body)
	}
	return out
}

func (g *generator) operation(op *operation) schema {
	out := schema{"operationId": op.id, "tags": []string{op.tag}, "description": op.text, "responses": g.responses(op)}
	if op.action != "" {
		out["x-kubernetes-action"] = op.action
	}
	if op.kind.Kind != "" {
		out["x-kubernetes-group-version-kind"] = kindOf(op.kind)
	}
	var body schema
	if op.body != nil {
		if g.v3 {
			body = schema{"content": g.content(op.consumes, op.body)}
		} else {
			body = schema{"name": "body", "in": "body", "schema": op.body}
		}
		if op.required {
			body["required"] = true
		}
	}
	if g.v3 && body != nil {
		out["requestBody"], body = body, nil
	}
	if params := g.parameters(op.params, body); len(params) > 0 {
		out["parameters"] = params
	}
	if !g.v3 {
		out["schemes"] = []string{"https"}
		if len(op.consumes) > 0 {
			out["consumes"] = op.consumes
		}
		if len(op.produces) > 0 {
			out["produces"] = op.produces
		}
	}
	return out
}

func (g *generator) content(media []string, s schema) schema {
	out := schema{}
	for _, m := range media {
		out[m] = schema{"schema": s}
	}
	return out
}

func (g *generator) responses(op *operation) schema {
	out := schema{"401": schema{"description": "Unauthorized"}}
	for _, code := range append([]string{"200"}, op.codes...) {
		r := schema{"description": map[string]string{"200": "OK", "201": "Created", "202": "Accepted"}[code]}
		switch {
		case op.answer == nil:
		case g.v3:
			r["content"] = g.content(op.produces, op.answer)
		default:
			r["schema"] = op.answer
		}
		out[code] = r
	}
	return out
}
