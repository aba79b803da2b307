// Package openapi describes the served API: /openapi/v2 and /openapi/v3.
//
// Data in: the table of kinds and their Go types. Data out: specifications,
// made when asked for and not kept, since few clients ask and each document is
// large. It owns no goroutine.
package openapi

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"weak"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
	"flagship/internal/version"
)

// OpenAPI serves the specifications. It is safe for concurrent use.
type OpenAPI struct {
	scheme    *runtime.Scheme
	kinds     []*resource.Kind
	extension Extension

	mu     sync.Mutex        // guards hashes
	hashes map[string]string // of documents of v3, by their names
	// local is the document of v2 without other servers' parts, and protobuf the whole.
	local, protobuf kept
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
	// Specifications are the documents of v2 of these servers.
	Specifications(ctx context.Context) []*spec.Swagger
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
	return &OpenAPI{scheme: scheme, kinds: kinds, extension: extension, hashes: map[string]string{}}
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

func (o *OpenAPI) serveIndex(w http.ResponseWriter) error {
	paths := map[string]any{}
	add := func(name string, gv apischema.GroupVersion) error {
		hash, err := o.hash(name, gv)
		paths[name] = map[string]string{"serverRelativeURL": "/openapi/v3/" + name + "?hash=" + hash}
		return err
	}
	for _, gv := range o.versions() {
		if err := add(root(gv), gv); err != nil {
			return err
		}
	}
	for name := range o.pages() {
		if err := add(name, apischema.GroupVersion{}); err != nil {
			return err
		}
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

// hash is of a document, of a version or of that name; a version's with kinds of the extension changes with these.
func (o *OpenAPI) hash(name string, gv apischema.GroupVersion) (string, error) {
	extra := ""
	if gv != (apischema.GroupVersion{}) {
		extra = o.extension.Hash(gv)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if extra != "" && !o.builtIn(gv) {
		return extra, nil
	}
	if h, ok := o.hashes[name+extra]; ok {
		return h, nil
	}
	data, err := o.document(name, gv)
	if err != nil {
		return "", err
	}
	h := digest(data)
	if extra == "" {
		o.hashes[name] = h
	}
	return h, nil
}

func digest(data []byte) string {
	sum := sha512.Sum512(data)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

func (o *OpenAPI) serveV3(w http.ResponseWriter, r *http.Request, name string) error {
	gv, ok := apischema.GroupVersion{}, false
	if i := slices.IndexFunc(o.versions(), func(gv apischema.GroupVersion) bool { return root(gv) == name }); i >= 0 {
		gv, ok = o.versions()[i], true
	} else {
		_, ok = o.pages()[name]
	}
	if !ok {
		http.NotFound(w, r)
		return nil
	}
	hash, err := o.hash(name, gv)
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
	data, err := o.document(name, gv)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
	return nil
}

func info() schema {
	v := version.Get()
	return schema{"title": "Kubernetes", "version": v.Major + "." + v.Minor}
}

var securityScheme = schema{"BearerToken": schema{"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}}

// document is that of v3 of a version, or of what is none by its name.
func (o *OpenAPI) document(name string, gv apischema.GroupVersion) ([]byte, error) {
	g, err := newGenerator(o.scheme, true)
	if err != nil {
		return nil, err
	}
	g.version = gv
	var paths schema
	if gv == (apischema.GroupVersion{}) {
		paths = o.pages()[name](g)
	} else if paths, err = o.paths(g, gv); err != nil {
		return nil, err
	}
	about, components := info(), schema{"securitySchemes": securityScheme}
	if gv != (apischema.GroupVersion{}) && !o.builtIn(gv) {
		about, components = schema{"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}, schema{}
	}
	if len(g.out) > 0 {
		components["schemas"] = g.out
	}
	data, err := json.Marshal(schema{"openapi": "3.0.0", "info": about, "paths": paths, "components": components})
	if err != nil {
		return nil, fmt.Errorf("render OpenAPI of %s: %w", name, err)
	}
	return data, nil
}

// protobufV2 is the media type of the v2 document in protobuf, with the name
// that clients of old ask for.
const (
	protobufV2    = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	protobufV2Old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
)

// serveV2 answers with the document of all versions. Other servers' part changes without notice, so that the document is what has the tag.
func (o *OpenAPI) serveV2(w http.ResponseWriter, r *http.Request) error {
	data, err := o.swagger(r.Context())
	if err != nil {
		return err
	}
	etag := digest(data)
	w.Header().Set("ETag", `"`+etag+`"`)
	w.Header().Set("Vary", "Accept")
	if strings.Trim(r.Header.Get("If-None-Match"), `"`) == etag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	accept := r.Header.Get("Accept")
	if !strings.Contains(accept, protobufV2) && !strings.Contains(accept, protobufV2Old) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data)
		return nil
	}
	if data, err = o.protobuf.of(etag, func() ([]byte, error) { return protobufOf(data) }); err != nil {
		return err
	}
	w.Header().Set("Content-Type", protobufV2)
	_, _ = w.Write(data)
	return nil
}

func protobufOf(data []byte) ([]byte, error) {
	doc, err := openapiv2.ParseDocument(data)
	if err != nil {
		return nil, fmt.Errorf("parse OpenAPI v2: %w", err)
	}
	if data, err = proto.Marshal(doc); err != nil {
		return nil, fmt.Errorf("render OpenAPI v2: %w", err)
	}
	return data, nil
}

// kept is a document that the garbage collector may take: one that was just made serves the clients that come together, and none is held for those that do not come.
type kept struct {
	mu   sync.Mutex
	name string
	data weak.Pointer[[]byte]
}

// of is the document of a name, made where it is not kept.
func (k *kept) of(name string, render func() ([]byte, error)) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if data := k.data.Value(); data != nil && k.name == name {
		return *data, nil
	}
	data, err := render()
	if err == nil {
		k.name, k.data = name, weak.Make(&data)
	}
	return data, err
}

// builtIn is whether a version has kinds with Go types.
func (o *OpenAPI) builtIn(gv apischema.GroupVersion) bool {
	for _, v := range rest.Virtuals() {
		if v.GroupVersion() == gv {
			return true
		}
	}
	for _, k := range o.kinds {
		if k.GroupVersion() == gv {
			return true
		}
	}
	return false
}
