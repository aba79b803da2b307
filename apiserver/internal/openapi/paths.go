package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	apiversion "k8s.io/apimachinery/pkg/version"

	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
)

// root is where a version is served, without a slash at its begin.
func root(gv apischema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return strings.TrimSuffix("apis/"+gv.Group+"/"+gv.Version, "/")
}

func kindOf(gvk apischema.GroupVersionKind) schema {
	return schema{"group": gvk.Group, "kind": gvk.Kind, "version": gvk.Version}
}

// served is a resource whose paths are told.
type served struct {
	gvk        apischema.GroupVersionKind
	resource   string
	namespaced bool
	// custom is whether it has no Go type.
	custom bool
	// returned is whether a deletion is answered with the object.
	returned bool
	one      schema
}

// paths are those of a version, with the models that they refer to.
func (o *OpenAPI) paths(g *generator, gv apischema.GroupVersion) (schema, error) {
	out := schema{}
	if o.builtIn(gv) {
		out["/"+root(gv)+"/"] = g.items([]operation{discovery(g, gv, "get"+wordOf(gv)+"APIResources", "get available resources", reflect.TypeFor[metav1.APIResourceList]())})
	}
	for _, k := range o.kinds {
		if k.GroupVersion() != gv {
			continue
		}
		if err := o.kindPaths(g, out, k, false); err != nil {
			return nil, err
		}
	}
	for _, k := range o.extension.Kinds() {
		if k.GroupVersion() != gv {
			continue
		}
		if err := o.kindPaths(g, out, k, true); err != nil {
			return nil, err
		}
	}
	for _, v := range rest.Virtuals() {
		if v.GroupVersion() != gv {
			continue
		}
		if err := o.virtualPaths(g, out, v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// object is a reference to a kind's model.
func (o *OpenAPI) object(g *generator, gvk apischema.GroupVersionKind) (schema, error) {
	obj, err := o.scheme.New(gvk)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", gvk, err)
	}
	return g.ref(reflect.TypeOf(obj).Elem()), nil
}

// described adds the models of a kind without a Go type.
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

// kindPaths adds the paths of a resource and its subresources.
func (o *OpenAPI) kindPaths(g *generator, paths schema, k *resource.Kind, custom bool) error {
	r := served{gvk: k.GroupVersionKind, resource: k.Resource, namespaced: k.Namespaced, custom: custom}
	// The deletion of a namespace is told to give a status, whatever it gives.
	r.returned = k.Strategy.ReturnDeleted && k.Kind != "Namespace"
	var many schema
	var err error
	if custom {
		r.one, many, err = o.described(g, k)
	} else if r.one, err = o.object(g, k.GroupVersionKind); err == nil {
		many, err = o.object(g, k.GroupVersion().WithKind(k.ListName()))
	}
	if err != nil {
		return err
	}
	verbs := k.ServedVerbs()
	add := func(path string, ops []operation) {
		if len(ops) > 0 {
			paths[path] = g.items(ops)
		}
	}
	watched := slices.Contains(verbs, "watch")
	if r.namespaced {
		add(r.path("", false), []operation{r.list(g, many, watched, true)})
	}
	var collection, item []operation
	for _, verb := range verbs {
		switch verb {
		case "list":
			collection = append(collection, r.list(g, many, watched, false))
		case "create", "deletecollection":
			collection = append(collection, r.operation(g, verb, "", r.gvk, r.one))
		case "get", "update", "patch", "delete":
			item = append(item, r.operation(g, verb, "", r.gvk, r.one))
		}
	}
	add(r.path("", true), collection)
	add(r.path("", true)+"/{name}", item)
	if watched && !custom {
		if r.namespaced {
			add(r.path("watch/", false), []operation{r.watch(g, "List", true)})
		}
		add(r.path("watch/", true), []operation{r.watch(g, "List", false)})
		add(r.path("watch/", true)+"/{name}", []operation{r.watch(g, "", false)})
	}
	for name, sub := range k.Subresources {
		if err := o.subresource(g, add, &r, name, sub); err != nil {
			return err
		}
	}
	return nil
}

func (o *OpenAPI) subresource(g *generator, add func(string, []operation), r *served, name string, sub resource.Subresource) error {
	path := r.path("", true) + "/{name}/" + name
	if strings.HasSuffix(sub.Kind, "Options") {
		obj, err := o.scheme.New(sub.GroupVersionKind)
		if err != nil {
			return fmt.Errorf("describe %s: %w", sub.GroupVersionKind, err)
		}
		params := options(reflect.TypeOf(obj).Elem())
		add(path, r.connect(name, sub.GroupVersionKind, params, false))
		if name == "proxy" {
			add(path+"/{path}", r.connect(name, sub.GroupVersionKind, params, true))
		}
		return nil
	}
	gvk, one := r.gvk, r.one
	if sub.Kind != "" {
		gvk = sub.GroupVersionKind
		var err error
		if one, err = o.object(g, gvk); err != nil {
			return err
		}
		if r.custom { // the operations of a custom resource are its kind's
			gvk = r.gvk
		}
	}
	var ops []operation
	for _, verb := range sub.Verbs {
		op := r.operation(g, verb, name, gvk, one)
		if name == "log" {
			op.params = append(op.params, options(reflect.TypeFor[corev1.PodLogOptions]())...)
			op.produces = append([]string{"text/plain"}, op.produces...)
			op.answer = schema{"type": "string"}
		}
		ops = append(ops, op)
	}
	add(path, ops)
	return nil
}

// path is that of a collection, below a prefix.
func (r *served) path(prefix string, namespaced bool) string {
	out := "/" + root(r.gvk.GroupVersion()) + "/" + prefix
	if r.namespaced && namespaced {
		out += "namespaces/{namespace}/"
	}
	return out + r.resource
}

// base is what all operations have; scoped are within a namespace, where the resource is.
func (r *served) base(method, action, verb, suffix string, scoped bool) operation {
	op := operation{
		method: method, action: action, kind: r.gvk, tag: tagOf(r.gvk.GroupVersion()), params: []parameter{pretty},
		consumes: []string{anyMedia}, produces: []string{mediaJSON, mediaYAML, mediaProtobuf},
	}
	if r.custom {
		op.consumes, op.produces = []string{mediaJSON, mediaYAML}, []string{mediaJSON, mediaYAML}
	}
	name := r.gvk.Kind + suffix
	if r.namespaced && scoped {
		name = "Namespaced" + name
		op.params = append(op.params, namespace)
	}
	if before, after, ok := strings.Cut(verb, " "); ok { // such as delete Collection
		verb, name = before, after+name
	}
	op.id = verb + wordOf(r.gvk.GroupVersion()) + name
	return op
}

func (r *served) list(g *generator, many schema, watched, all bool) operation {
	suffix, text := "", "list objects of kind "
	if watched && !r.custom {
		text = "list or watch objects of kind "
	}
	if all {
		suffix = "ForAllNamespaces"
	}
	op := r.base("get", "list", "list", suffix, !all)
	op.text, op.answer = text+r.gvk.Kind, many
	op.params = append(op.params, options(reflect.TypeFor[metav1.ListOptions]())...)
	if watched && !r.custom {
		op.produces = append(op.produces, mediaJSON+";stream=watch", mediaProtobuf+";stream=watch")
	}
	return op
}

func (r *served) watch(g *generator, suffix string, all bool) operation {
	action, text := "watch", "watch changes to an object of kind "+r.gvk.Kind+". deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
	if suffix != "" {
		action, text = "watchlist", "watch individual changes to a list of "+r.gvk.Kind+". deprecated: use the 'watch' parameter with a list operation instead."
	}
	if all {
		suffix += "ForAllNamespaces"
	}
	op := r.base("get", action, "watch", suffix, !all)
	op.text, op.answer = text, g.ref(reflect.TypeFor[metav1.WatchEvent]())
	op.params = append(op.params, options(reflect.TypeFor[metav1.ListOptions]())...)
	if action == "watch" {
		op.params = append(op.params, nameOf(r.gvk))
	}
	op.produces = append(op.produces, mediaJSON+";stream=watch", mediaProtobuf+";stream=watch")
	return op
}

func nameOf(gvk apischema.GroupVersionKind) parameter { return inPath("name", "name of the "+gvk.Kind) }

// operation is a verb on the collection, an object or a subresource, which takes and gives what one refers to.
func (r *served) operation(g *generator, verb, sub string, gvk apischema.GroupVersionKind, one schema) operation {
	method, action, word := map[string]string{"create": "post", "update": "put", "deletecollection": "delete"}[verb], verb, map[string]string{"get": "read", "update": "replace", "deletecollection": "delete Collection"}[verb]
	if method == "" {
		method = verb
	}
	if word == "" {
		word = verb
	}
	if verb == "create" || verb == "update" {
		action = method
	}
	op := r.base(method, action, word, strings.ToUpper(sub[:min(1, len(sub))])+sub[min(1, len(sub)):], true)
	op.kind, op.answer = gvk, one
	of := ""
	if sub != "" {
		of = " " + sub + " of"
	}
	if verb != "deletecollection" && (verb != "create" || sub != "") {
		op.params = append(op.params, nameOf(gvk))
	}
	switch verb {
	case "get":
		op.text = "read" + of + " the specified " + r.gvk.Kind
		if r.custom {
			op.params = append(op.params, options(reflect.TypeFor[metav1.GetOptions]())...)
		}
	case "create":
		op.text, op.body, op.required, op.codes = "create"+of+article(r.gvk.Kind), one, true, []string{"201", "202"}
		op.params = append(op.params, options(reflect.TypeFor[metav1.CreateOptions]())...)
	case "update":
		op.text, op.body, op.required, op.codes = "replace"+of+" the specified "+r.gvk.Kind, one, true, []string{"201"}
		op.params = append(op.params, options(reflect.TypeFor[metav1.UpdateOptions]())...)
	case "patch":
		op.text, op.body, op.required = "partially update"+of+" the specified "+r.gvk.Kind, g.ref(reflect.TypeFor[metav1.Patch]()), true
		op.consumes = []string{"application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"}
		if !r.custom {
			op.codes, op.consumes = []string{"201"}, slices.Insert(op.consumes, 2, "application/strategic-merge-patch+json")
		}
		op.params = append(op.params, options(reflect.TypeFor[metav1.PatchOptions]())...)
	case "delete":
		op.text, op.body, op.codes = "delete"+of+article(r.gvk.Kind), g.ref(reflect.TypeFor[metav1.DeleteOptions]()), []string{"202"}
		op.params = append(op.params, options(reflect.TypeFor[metav1.DeleteOptions]())...)
		if !r.returned {
			op.answer = g.ref(reflect.TypeFor[metav1.Status]())
		}
	case "deletecollection":
		op.text, op.answer = "delete collection of "+r.gvk.Kind, g.ref(reflect.TypeFor[metav1.Status]())
		op.params = append(op.params, options(reflect.TypeFor[metav1.ListOptions]())...)
		if !r.custom {
			op.body = g.ref(reflect.TypeFor[metav1.DeleteOptions]())
			op.params = slices.DeleteFunc(op.params, func(p parameter) bool { return p.name == "watch" || p.name == "allowWatchBookmarks" })
			op.params = append(op.params, options(reflect.TypeFor[metav1.DeleteOptions]())...)
		}
	}
	return op
}

// connect are the methods of a stream or a proxy.
func (r *served) connect(sub string, gvk apischema.GroupVersionKind, params []parameter, path bool) []operation {
	methods := []string{"get", "post"}
	if sub == "proxy" {
		methods = []string{"get", "put", "post", "delete", "options", "head", "patch"}
	}
	suffix := strings.ToUpper(sub[:1]) + sub[1:]
	if path {
		suffix += "WithPath"
	}
	var out []operation
	for _, m := range methods {
		op := r.base(m, "connect", "connect "+strings.ToUpper(m[:1])+m[1:], suffix, true)
		op.kind, op.answer, op.produces = gvk, schema{"type": "string"}, []string{anyMedia}
		op.text = "connect " + strings.ToUpper(m) + " requests to " + sub + " of " + r.gvk.Kind
		op.params = append(slices.Clone(params), append(op.params[1:], nameOf(gvk))...)
		if path {
			op.params = append(op.params, subpath)
		}
		out = append(out, op)
	}
	return out
}

// virtualPaths adds the paths of what is answered and not stored.
func (o *OpenAPI) virtualPaths(g *generator, paths schema, v rest.Virtual) error {
	one, err := o.object(g, v.GroupVersionKind)
	if err != nil {
		return err
	}
	r := served{gvk: v.GroupVersionKind, resource: v.Resource, namespaced: v.Namespaced}
	if slices.Contains(v.Verbs, "create") {
		paths[r.path("", true)] = g.items([]operation{r.operation(g, "create", "", r.gvk, one)})
		return nil
	}
	many, err := o.object(g, v.GroupVersion().WithKind(v.Kind+"List"))
	if err != nil {
		return err
	}
	list := r.list(g, many, false, false)
	list.produces = append(list.produces, mediaJSON+";stream=watch", mediaProtobuf+";stream=watch")
	paths[r.path("", true)] = g.items([]operation{list})
	paths[r.path("", true)+"/{name}"] = g.items([]operation{r.operation(g, "get", "", r.gvk, one)})
	return nil
}

// discovery is an operation that tells what is served.
func discovery(g *generator, gv apischema.GroupVersion, id, text string, t reflect.Type) operation {
	media := []string{mediaJSON, mediaYAML, mediaProtobuf}
	return operation{method: "get", id: id, tag: tagOf(gv), text: text, consumes: media, produces: media, answer: g.ref(t)}
}

// page is a document of v3 for what is no version, by its name.
func (o *OpenAPI) pages() map[string]func(g *generator) schema {
	one := func(path string, op func(g *generator) operation) func(g *generator) schema {
		return func(g *generator) schema { return schema{path: g.items([]operation{op(g)})} }
	}
	out := map[string]func(g *generator) schema{
		"api": one("/api/", func(g *generator) operation {
			return discovery(g, apischema.GroupVersion{}, "getCoreAPIVersions", "get available API versions", reflect.TypeFor[metav1.APIVersions]())
		}),
		"apis": one("/apis/", func(g *generator) operation {
			op := discovery(g, apischema.GroupVersion{}, "getAPIVersions", "get available API versions", reflect.TypeFor[metav1.APIGroupList]())
			op.tag = "apis"
			return op
		}),
		"version": one("/version/", func(g *generator) operation {
			media := []string{mediaJSON}
			return operation{method: "get", id: "getCodeVersion", tag: "version", text: "get the version information for this server", consumes: media, produces: media, answer: g.ref(reflect.TypeFor[apiversion.Info]())}
		}),
		".well-known/openid-configuration": one("/.well-known/openid-configuration/", func(*generator) operation {
			return operation{
				method: "get", id: "getServiceAccountIssuerOpenIDConfiguration", tag: "WellKnown",
				text: "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'", produces: []string{mediaJSON}, answer: schema{"type": "string"},
			}
		}),
		"openid/v1/jwks": one("/openid/v1/jwks/", func(*generator) operation {
			return operation{
				method: "get", id: "getServiceAccountIssuerOpenIDKeyset", tag: "openid",
				text: "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)", produces: []string{"application/jwk-set+json"}, answer: schema{"type": "string"},
			}
		}),
	}
	for _, gv := range o.versions() {
		if gv.Group == "" || !o.builtIn(gv) {
			continue
		}
		group := apischema.GroupVersion{Group: gv.Group}
		out[root(group)] = one("/"+root(group)+"/", func(g *generator) operation {
			return discovery(g, group, "get"+wordOf(group)+"APIGroup", "get information of a group", reflect.TypeFor[metav1.APIGroup]())
		})
	}
	return out
}
