package rest

import (
	"context"
	"net/http"
	"strings"
)

// Info is what a request asks for, from its method, path and query.
type Info struct {
	// IsResource is false for paths such as /healthz, of which only Path and
	// Verb are set.
	IsResource bool
	Path       string
	// Verb is get, list, watch, create, update, patch, delete,
	// deletecollection or proxy; for other paths the method in lower case.
	Verb        string
	Group       string
	Version     string
	Namespace   string
	Resource    string
	Name        string
	Subresource string
	// Parts are the path's segments after the name, for proxies.
	Parts []string
}

// ParseInfo reads what a request asks for.
func ParseInfo(r *http.Request) Info {
	info := Info{Path: r.URL.Path, Verb: strings.ToLower(r.Method)}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		info.Version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		info.Group, info.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return info
	}
	info.IsResource = true
	info.Verb = resourceVerb(r.Method)
	watch := false
	if parts[0] == "watch" && len(parts) > 1 {
		watch, parts = true, parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) >= 2 {
		info.Namespace = parts[1]
		// "status" and "finalize" are subresources of the namespace itself.
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	info.Resource = parts[0]
	if len(parts) >= 2 {
		info.Name = parts[1]
	}
	if len(parts) >= 3 {
		info.Subresource = parts[2]
		info.Parts = parts[3:]
	}
	if watch {
		info.Verb = "watch"
	}
	info.narrow(r)
	return info
}

func resourceVerb(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

// narrow tells get from list and watch, and delete from deletecollection.
func (i *Info) narrow(r *http.Request) {
	switch {
	case i.Name == "" && i.Verb == "get":
		i.Verb = "list"
		if truthy(r.URL.Query().Get("watch")) {
			i.Verb = "watch"
		}
		// A list of one name is authorized as that name.
		if name := nameSelected(r.URL.Query().Get("fieldSelector")); name != "" {
			i.Name = name
		}
	case i.Name == "" && i.Verb == "delete":
		i.Verb = "deletecollection"
	case i.Verb == "get" && i.Subresource == "" && truthy(r.URL.Query().Get("watch")):
		i.Verb = "watch"
	}
}

// truthy reads a boolean of the query as upstream does: any word but these is true.
func truthy(s string) bool { return s != "" && s != "0" && !strings.EqualFold(s, "false") }

func nameSelected(selector string) string {
	for _, term := range strings.Split(selector, ",") {
		if v, ok := strings.CutPrefix(term, "metadata.name="); ok {
			return strings.TrimPrefix(v, "=")
		}
	}
	return ""
}

type infoKey struct{}

// WithInfo adds what the request asks for to its context.
func WithInfo(ctx context.Context, info *Info) context.Context {
	return context.WithValue(ctx, infoKey{}, info)
}

// InfoFrom returns what WithInfo added, nil where nothing was.
func InfoFrom(ctx context.Context) *Info {
	info, _ := ctx.Value(infoKey{}).(*Info)
	return info
}

type begunKey struct{}

// WithBegun adds what a watch calls, once or more, when it has sent what is there and begins to wait for changes.
func WithBegun(ctx context.Context, begun func()) context.Context {
	return context.WithValue(ctx, begunKey{}, begun)
}

// Begun calls what WithBegun added, if it did. Who passes a watch on to another server calls it as well.
func Begun(ctx context.Context) {
	if f, ok := ctx.Value(begunKey{}).(func()); ok {
		f()
	}
}
