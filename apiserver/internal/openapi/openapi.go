// Package openapi describes the served API: /openapi/v2 and /openapi/v3.
//
// Data in: the table of kinds and their Go types. Data out: specifications,
// made when asked for and not kept, since few clients ask and each document is
// large. It owns no goroutine.
package openapi

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
	"flagship/internal/version"
)

// OpenAPI serves the specifications. It is safe for concurrent use.
type OpenAPI struct {
	scheme    *runtime.Scheme
	kinds     []*resource.Kind
	extension Extension

	mu     sync.Mutex // guards hashes
	hashes map[apischema.GroupVersion]string
}

// Extension describes the kinds that have no Go type.
type Extension interface {
	// Kinds are those that are served now.
	Kinds() []*resource.Kind
	// Models returns the specification of a kind's objects and of their lists,
	// in JSON, with their names.
	Models(k *resource.Kind, v2 bool) (one, many Model, err error)
	// Remotes are the versions that other servers describe themselves.
	Remotes() []apischema.GroupVersion
	// Hash changes when the specification of a version may have.
	Hash(gv apischema.GroupVersion) string
}

// Model is a named specification.
type Model struct {
	Name string
	JSON []byte
}

// New returns the specifications of the built-in kinds and of an extension's.
func New(scheme *runtime.Scheme, kinds []*resource.Kind, extension Extension) *OpenAPI {
	return &OpenAPI{scheme: scheme, kinds: kinds, extension: extension, hashes: map[apischema.GroupVersion]string{}}
}

// Serves says whether a path is a specification.
func Serves(path string) bool { return path == "/openapi/v2" || strings.HasPrefix(path, "/openapi/v3") }

// ServeHTTP answers /openapi/v2, /openapi/v3 and what is below it.
func (o *OpenAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	var err error
	switch {
	case path == "/openapi/v2":
		err = o.serveV2(w, r)
	case path == "/openapi/v3":
		err = o.serveIndex(w)
	default:
		err = o.serveV3(w, r, strings.TrimPrefix(path, "/openapi/v3/"))
	}
	if err != nil {
		rest.WriteError(w, r, err)
	}
}

func (o *OpenAPI) versions() []apischema.GroupVersion {
	var out []apischema.GroupVersion
	seen := map[apischema.GroupVersion]bool{}
	add := func(gv apischema.GroupVersion) {
		if !seen[gv] {
			seen[gv] = true
			out = append(out, gv)
		}
	}
	for _, k := range o.kinds {
		add(k.GroupVersion())
	}
	for _, v := range rest.Virtuals() {
		add(v.GroupVersion())
	}
	for _, k := range o.extension.Kinds() {
		add(k.GroupVersion())
	}
	return out
}

func root(gv apischema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.Group + "/" + gv.Version
}

func (o *OpenAPI) serveIndex(w http.ResponseWriter) error {
	paths := map[string]any{}
	for _, gv := range o.versions() {
		hash, err := o.hash(gv)
		if err != nil {
			return err
		}
		paths[root(gv)] = map[string]string{"serverRelativeURL": "/openapi/v3/" + root(gv) + "?hash=" + hash}
	}
	for _, gv := range o.extension.Remotes() {
		paths[root(gv)] = map[string]string{"serverRelativeURL": "/openapi/v3/" + root(gv)}
	}
	data, err := json.Marshal(map[string]any{"paths": paths})
	if err != nil {
		return fmt.Errorf("render OpenAPI index: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
	return nil
}

func (o *OpenAPI) hash(gv apischema.GroupVersion) (string, error) {
	extra := o.extension.Hash(gv)
	o.mu.Lock()
	defer o.mu.Unlock()
	if extra != "" && !o.builtIn(gv) {
		return extra, nil
	}
	if extra != "" {
		delete(o.hashes, gv)
	}
	if h, ok := o.hashes[gv]; ok {
		return h, nil
	}
	data, err := o.v3(gv)
	if err != nil {
		return "", err
	}
	sum := sha512.Sum512(data)
	h := strings.ToUpper(hex.EncodeToString(sum[:]))
	o.hashes[gv] = h
	return h, nil
}

func (o *OpenAPI) serveV3(w http.ResponseWriter, r *http.Request, path string) error {
	for _, gv := range o.versions() {
		if root(gv) != path {
			continue
		}
		hash, err := o.hash(gv)
		if err != nil {
			return err
		}
		w.Header().Set("ETag", `"`+hash+`"`)
		w.Header().Set("Vary", "Accept")
		if q := r.URL.Query().Get("hash"); q == hash {
			w.Header().Set("Cache-Control", "public, immutable")
		}
		if strings.Trim(r.Header.Get("If-None-Match"), `"`) == hash {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		data, err := o.v3(gv)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data)
		return nil
	}
	http.NotFound(w, r)
	return nil
}

func info() schema {
	return schema{"title": "Kubernetes", "version": version.Get().GitVersion}
}

func (o *OpenAPI) v3(gv apischema.GroupVersion) ([]byte, error) {
	g := &generator{prefix: "#/components/schemas/", v3: true, out: map[string]schema{}}
	paths, err := o.paths(g, gv)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(schema{
		"openapi": "3.0.0", "info": info(), "paths": paths,
		"components": schema{"schemas": g.out, "securitySchemes": schema{
			"BearerToken": schema{"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("render OpenAPI of %s: %w", gv, err)
	}
	return data, nil
}

// protobufV2 is the media type of the v2 document in protobuf, with the name
// that clients of old ask for.
const (
	protobufV2    = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	protobufV2Old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
)

// etagV2 changes when the v2 document may have: with the kinds of an extension.
func (o *OpenAPI) etagV2() string {
	sum := sha512.New()
	_, _ = fmt.Fprintln(sum, version.Get().GitVersion, version.Get().GitCommit)
	for _, gv := range o.versions() {
		_, _ = fmt.Fprintln(sum, gv, o.extension.Hash(gv))
	}
	return strings.ToUpper(hex.EncodeToString(sum.Sum(nil)))
}

func (o *OpenAPI) serveV2(w http.ResponseWriter, r *http.Request) error {
	etag := o.etagV2()
	w.Header().Set("ETag", `"`+etag+`"`)
	if strings.Trim(r.Header.Get("If-None-Match"), `"`) == etag {
		w.Header().Set("Vary", "Accept")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	g := &generator{prefix: "#/definitions/", out: map[string]schema{}}
	paths := schema{}
	for _, gv := range o.versions() {
		more, err := o.paths(g, gv)
		if err != nil {
			return err
		}
		for p, item := range more {
			paths[p] = item
		}
	}
	data, err := json.Marshal(schema{
		"swagger": "2.0", "info": info(), "paths": paths, "definitions": g.out,
		"securityDefinitions": schema{"BearerToken": schema{"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}},
		"security":            []any{schema{"BearerToken": []any{}}},
	})
	if err != nil {
		return fmt.Errorf("render OpenAPI v2: %w", err)
	}
	w.Header().Set("Vary", "Accept")
	accept := r.Header.Get("Accept")
	if !strings.Contains(accept, protobufV2) && !strings.Contains(accept, protobufV2Old) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data)
		return nil
	}
	doc, err := openapiv2.ParseDocument(data)
	if err != nil {
		return fmt.Errorf("parse OpenAPI v2: %w", err)
	}
	if data, err = proto.Marshal(doc); err != nil {
		return fmt.Errorf("render OpenAPI v2: %w", err)
	}
	w.Header().Set("Content-Type", protobufV2)
	_, _ = w.Write(data)
	return nil
}

// object adds a kind's schema with the extension that names it.
func (o *OpenAPI) object(g *generator, gvk apischema.GroupVersionKind) (schema, error) {
	obj, err := o.scheme.New(gvk)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", gvk, err)
	}
	t := reflect.TypeOf(obj).Elem()
	ref := g.ref(t)
	s := g.out[model(t)]
	s["x-kubernetes-group-version-kind"] = []any{kindOf(gvk)}
	return ref, nil
}

func kindOf(gvk apischema.GroupVersionKind) schema {
	return schema{"group": gvk.Group, "kind": gvk.Kind, "version": gvk.Version}
}

// builtIn is whether a version has kinds with Go types.
func (o *OpenAPI) builtIn(gv apischema.GroupVersion) bool {
	for _, k := range o.kinds {
		if k.GroupVersion() == gv {
			return true
		}
	}
	return false
}

// described adds the schemas of a kind without a Go type.
func (o *OpenAPI) described(g *generator, k *resource.Kind) (one, many schema, err error) {
	a, b, err := o.extension.Models(k, !g.v3)
	if err != nil {
		return nil, nil, fmt.Errorf("describe %s: %w", k.GroupVersionKind, err)
	}
	for _, m := range []Model{a, b} {
		s := schema{}
		if err := json.Unmarshal(m.JSON, &s); err != nil {
			return nil, nil, fmt.Errorf("describe %s: %w", k.GroupVersionKind, err)
		}
		g.out[m.Name] = s
	}
	for _, t := range []any{metav1.ObjectMeta{}, metav1.ListMeta{}} {
		g.ref(reflect.TypeOf(t))
	}
	return schema{"$ref": g.prefix + a.Name}, schema{"$ref": g.prefix + b.Name}, nil
}

func (o *OpenAPI) paths(g *generator, gv apischema.GroupVersion) (schema, error) {
	paths := schema{}
	for _, k := range o.kinds {
		if k.GroupVersion() != gv {
			continue
		}
		one, err := o.object(g, k.GroupVersionKind)
		if err != nil {
			return nil, err
		}
		many, err := o.object(g, gv.WithKind(k.GroupVersionKind.Kind+"List"))
		if err != nil {
			return nil, err
		}
		if err := o.kindPaths(g, paths, k, one, many); err != nil {
			return nil, err
		}
	}
	for _, k := range o.extension.Kinds() {
		if k.GroupVersion() != gv {
			continue
		}
		one, many, err := o.described(g, k)
		if err != nil {
			return nil, err
		}
		g.untyped = true
		err = o.kindPaths(g, paths, k, one, many)
		g.untyped = false
		if err != nil {
			return nil, err
		}
	}
	if err := o.virtualPaths(g, paths, gv); err != nil {
		return nil, err
	}
	for _, extra := range []any{metav1.DeleteOptions{}, metav1.Status{}, metav1.WatchEvent{}} {
		g.ref(reflect.TypeOf(extra))
	}
	return paths, nil
}

// kindPaths adds the paths of a resource and its subresources.
func (o *OpenAPI) kindPaths(g *generator, paths schema, k *resource.Kind, one, many schema) error {
	var err error
	base := "/" + root(k.GroupVersion())
	if k.Namespaced {
		paths[base+"/"+k.Resource] = pathItem(g, k.GroupVersionKind, nil, operationOf{verb: "get", action: "list", answer: many})
		base += "/namespaces/{namespace}"
	}
	collection, item := operations(k, one, many)
	params := parameters(g, k.Namespaced, false)
	paths[base+"/"+k.Resource] = pathItem(g, k.GroupVersionKind, params, collection...)
	paths[base+"/"+k.Resource+"/{name}"] = pathItem(g, k.GroupVersionKind, parameters(g, k.Namespaced, true), item...)
	for name, sub := range k.Subresources {
		gvk, answer := k.GroupVersionKind, one
		if sub.Kind != "" {
			gvk = sub.GroupVersionKind
			if answer, err = o.object(g, gvk); err != nil {
				return err
			}
		}
		var ops []operationOf
		for _, verb := range sub.Verbs {
			ops = append(ops, operationOf{verb: method(verb), action: action(verb), body: bodyOf(verb, answer), answer: answer})
		}
		paths[base+"/"+k.Resource+"/{name}/"+name] = pathItem(g, gvk, parameters(g, k.Namespaced, true), ops...)
	}
	return nil
}

// virtualPaths adds the paths of what is answered and not stored.
func (o *OpenAPI) virtualPaths(g *generator, paths schema, gv apischema.GroupVersion) error {
	for _, v := range rest.Virtuals() {
		if v.GroupVersion() != gv {
			continue
		}
		one, err := o.object(g, v.GroupVersionKind)
		if err != nil {
			return err
		}
		base := "/" + root(gv)
		if v.Namespaced {
			base += "/namespaces/{namespace}"
		}
		paths[base+"/"+v.Resource] = pathItem(g, v.GroupVersionKind, parameters(g, v.Namespaced, false), operationOf{verb: "post", action: "post", body: one, answer: one})
	}
	return nil
}
