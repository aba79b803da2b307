package openapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// swagger is the document of v2, of all versions and of what other servers tell of theirs.
func (o *OpenAPI) swagger(ctx context.Context) ([]byte, error) {
	data, err := o.local.of(o.revision(), o.ownSwagger)
	others := o.extension.Specifications(ctx)
	if err != nil || len(others) == 0 {
		return data, err
	}
	whole := &spec.Swagger{}
	if err := json.Unmarshal(data, whole); err != nil {
		return nil, fmt.Errorf("merge OpenAPI v2: %w", err)
	}
	for _, other := range others {
		if err := aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(whole, other); err != nil {
			return nil, fmt.Errorf("merge OpenAPI v2: %w", err)
		}
	}
	if data, err = json.Marshal(whole); err != nil {
		return nil, fmt.Errorf("render OpenAPI v2: %w", err)
	}
	return data, nil
}

// revision changes when this server's own document may have: with the kinds of an extension.
func (o *OpenAPI) revision() string {
	var b strings.Builder
	for _, gv := range o.versions() {
		fmt.Fprintln(&b, gv, o.extension.Hash(gv))
	}
	return b.String()
}

func (o *OpenAPI) ownSwagger() ([]byte, error) {
	g, err := newGenerator(o.scheme, false)
	if err != nil {
		return nil, err
	}
	paths := schema{}
	for _, gv := range o.versions() {
		more, err := o.paths(g, gv)
		if err != nil {
			return nil, err
		}
		merge(paths, more)
	}
	for _, page := range o.pages() {
		merge(paths, page(g))
	}
	data, err := json.Marshal(schema{
		"swagger": "2.0", "info": info(), "paths": paths, "definitions": g.out, "parameters": share(paths),
		"securityDefinitions": securityScheme, "security": []any{schema{"BearerToken": []any{}}},
	})
	if err != nil {
		return nil, fmt.Errorf("render OpenAPI v2: %w", err)
	}
	return data, nil
}

// v2Parameter is a parameter with its fields in the order from which it has its name.
type v2Parameter struct {
	UniqueItems bool   `json:"uniqueItems,omitempty"`
	Type        string `json:"type,omitempty"`
	Description string `json:"description,omitempty"`
	Name        string `json:"name"`
	In          string `json:"in"`
	Required    bool   `json:"required,omitempty"`
	Schema      any    `json:"schema,omitempty"`
}

// share replaces parameters that do not depend on the kind by references, and returns what they refer to. Most of the document would be their descriptions.
func share(paths schema) schema {
	out := schema{}
	replace := func(list any) {
		params, _ := list.([]any)
		for i, p := range params {
			p := p.(schema)
			if !shared(p) {
				continue
			}
			name := sharedName(p)
			out[name], params[i] = p, schema{"$ref": "#/parameters/" + name}
		}
	}
	for _, item := range paths {
		for key, part := range item.(schema) {
			if key == "parameters" {
				replace(part)
			} else {
				replace(part.(schema)["parameters"])
			}
		}
	}
	return out
}

// shared is whether a parameter is the same for all kinds. kubectl before 1.27 looks for fieldValidation and dryRun in place.
func shared(p schema) bool {
	switch p["name"] {
	case "name":
		return false
	case "fieldValidation", "dryRun":
		return p["in"] != "query"
	case "body":
		body, _ := p["schema"].(schema)
		ref, _ := body["$ref"].(string)
		return strings.HasPrefix(ref, modelsV2+"io.k8s.apimachinery")
	}
	return true
}

func sharedName(p schema) string {
	q := v2Parameter{Schema: p["schema"]}
	q.UniqueItems, _ = p["uniqueItems"].(bool)
	q.Type, _ = p["type"].(string)
	q.Description, _ = p["description"].(string)
	q.Name, _ = p["name"].(string)
	q.In, _ = p["in"].(string)
	q.Required, _ = p["required"].(bool)
	data, _ := json.Marshal(q) // texts and a reference
	h := fnv.New64()
	_, _ = h.Write(data)
	return q.Name + "-" + base64.URLEncoding.EncodeToString(h.Sum(nil)[:6])
}
