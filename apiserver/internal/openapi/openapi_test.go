package openapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"flagship/apiserver/internal/resource"
)

// nothing is an extension without kinds and servers.
type nothing struct{}

func (nothing) Kinds() []*resource.Kind                                  { return nil }
func (nothing) Models(*resource.Kind, bool) (one, many Model, err error) { return }
func (nothing) Remotes() []apischema.GroupVersion                        { return nil }
func (nothing) Specifications(context.Context) []*spec.Swagger           { return nil }
func (nothing) Hash(apischema.GroupVersion) string                       { return "" }

func api(t *testing.T) *OpenAPI {
	t.Helper()
	scheme, err := resource.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	return New(scheme, resource.Kinds(), nothing{})
}

func get(t *testing.T, o *OpenAPI, path, tag string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	r.Header.Set("If-None-Match", tag)
	w := httptest.NewRecorder()
	o.ServeHTTP(w, r)
	return w
}

// references calls visit with what every $ref of a document refers to.
func references(v any, visit func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if ref, ok := inner.(string); ok && k == "$ref" {
				visit(ref)
			}
			references(inner, visit)
		}
	case []any:
		for _, inner := range v {
			references(inner, visit)
		}
	}
}

// TestDocuments reads each document as clients do: what it refers to is in it, no identifier is given twice, and it is not sent to who has it.
func TestDocuments(t *testing.T) {
	o := api(t)
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(get(t, o, "/openapi/v3", "").Body.Bytes(), &index); err != nil || len(index.Paths) < 40 {
		t.Fatalf("%d documents, %v", len(index.Paths), err)
	}
	urls := []string{"/openapi/v2"}
	for _, p := range index.Paths {
		urls = append(urls, p.ServerRelativeURL)
	}
	for _, url := range urls {
		w := get(t, o, url, "")
		doc := map[string]any{}
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		if again := get(t, o, url, w.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("%s: sent again to a client that has it: %d", url, again.Code)
		}
		if strings.Contains(url, "hash=") && w.Header().Get("Cache-Control") == "" {
			t.Errorf("%s: may not be cached", url)
		}
		references(doc, func(ref string) {
			var at any = doc
			for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
				at = at.(map[string]any)[part]
			}
			if at == nil {
				t.Errorf("%s: refers to %s, which it has not", url, ref)
			}
		})
		ids := map[string]string{}
		for path, item := range doc["paths"].(map[string]any) {
			for method, op := range item.(map[string]any) {
				op, ok := op.(map[string]any)
				if !ok {
					continue
				}
				id := op["operationId"].(string)
				if other := ids[id]; other != "" {
					t.Errorf("%s: %s is %s and %s %s", url, id, other, method, path)
				}
				ids[id] = method + " " + path
			}
		}
		if url == "/openapi/v2" {
			if _, err := openapiv2.ParseDocument(w.Body.Bytes()); err != nil {
				t.Error(err)
			}
		} else if err := json.Unmarshal(w.Body.Bytes(), &spec3.OpenAPI{}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestFacts finds facts of models and fields that are no more.
func TestFacts(t *testing.T) {
	o := api(t)
	g, err := newGenerator(o.scheme, true)
	if err != nil {
		t.Fatal(err)
	}
	known := g.facts
	g.facts = nil
	for _, gv := range o.versions() {
		if _, err := o.paths(g, gv); err != nil {
			t.Fatal(err)
		}
	}
	for _, page := range o.pages() {
		page(g)
	}
	for name, data := range known {
		var fact struct {
			Properties map[string]json.RawMessage
		}
		if err := json.Unmarshal(data, &fact); err != nil {
			t.Fatal(err)
		}
		m, ok := g.out[name]
		if !ok {
			t.Errorf("facts.json tells of %s, which is no model", name)
			continue
		}
		properties, _ := m["properties"].(schema)
		for p := range fact.Properties {
			if _, ok := properties[p]; !ok {
				t.Errorf("facts.json tells of %s of %s, which is no field", p, name)
			}
		}
	}
}

// TestUnderstood reads what the document of Deployments says as a person who asks for an explanation does.
func TestUnderstood(t *testing.T) {
	doc := &spec3.OpenAPI{}
	if err := json.Unmarshal(get(t, api(t), "/openapi/v3/apis/apps/v1", "").Body.Bytes(), doc); err != nil {
		t.Fatal(err)
	}
	strategy := doc.Components.Schemas["io.k8s.api.apps.v1.DeploymentStrategy"].Properties["type"]
	if len(strategy.Enum) != 2 || !strings.HasSuffix(strategy.Description, "i.e gradually scale down the old ReplicaSets and scale up the new one.") {
		t.Errorf("strategies %v: %s", strategy.Enum, strategy.Description)
	}
	ports := doc.Components.Schemas["io.k8s.api.core.v1.Container"].Properties["ports"]
	if keys, _ := ports.Extensions.GetStringSlice("x-kubernetes-list-map-keys"); len(keys) != 2 {
		t.Errorf("a container's ports are told apart by %v", keys)
	}
	if op := doc.Paths.Paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"].Patch; op == nil || op.OperationId != "patchAppsV1NamespacedDeploymentScale" {
		t.Errorf("operation %+v", op)
	}
}

func BenchmarkSwagger(b *testing.B) {
	scheme, err := resource.NewScheme()
	if err != nil {
		b.Fatal(err)
	}
	o := New(scheme, resource.Kinds(), nothing{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.ownSwagger(); err != nil {
			b.Fatal(err)
		}
	}
}
