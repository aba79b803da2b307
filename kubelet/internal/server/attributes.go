package server

import (
	"net/http"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// Attributes maps a request to the access it needs, upstream's table of node subresources.
func Attributes(node string) func(r *http.Request) []authorizationv1.SubjectAccessReviewSpec {
	return func(r *http.Request) []authorizationv1.SubjectAccessReviewSpec {
		verb := map[string]string{"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[r.Method]
		in := func(p string) bool { return r.URL.Path == p || strings.HasPrefix(r.URL.Path, p+"/") }
		var subs []string
		switch {
		case in("/stats"):
			subs = []string{"stats"}
		case in("/metrics"):
			subs = []string{"metrics"}
		case in("/logs"):
			subs = []string{"log"}
		case in("/checkpoint"):
			subs = []string{"checkpoint"}
		case in("/statusz"):
			subs = []string{"statusz", "proxy"}
		case in("/flagz"):
			subs = []string{"flagz", "proxy"}
		case in("/healthz"):
			subs = []string{"healthz", "proxy"}
		case in("/configz"):
			subs = []string{"configz", "proxy"}
		case in("/pods"), in("/runningpods"):
			subs = []string{"pods", "proxy"}
		default:
			subs = []string{"proxy"}
		}
		// The finer subresource is enough by itself; the last one, proxy, is what older roles grant.
		return []authorizationv1.SubjectAccessReviewSpec{{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Version: "v1", Resource: "nodes", Subresource: subs[0], Name: node,
		}}}
	}
}
