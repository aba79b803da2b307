package aggregate

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/transport"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/rest"
)

// version is the one that a path is about, in the API or in its OpenAPI
// specification.
func version(path string) (schema.GroupVersion, bool) {
	path = strings.TrimPrefix(path, "/openapi/v3")
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 4)
	if len(parts) < 3 || parts[0] != "apis" {
		return schema.GroupVersion{}, false
	}
	return schema.GroupVersion{Group: parts[1], Version: parts[2]}, true
}

// Serves says whether another server answers a path.
func (a *Aggregator) Serves(path string) bool {
	gv, ok := version(path)
	return ok && a.lookup(gv) != nil
}

// setUser tells another server on whose behalf a request is.
func setUser(r *http.Request, name, uid string, groups []string, extra map[string][]string) {
	transport.SetAuthProxyHeaders(r, name, uid, groups, extra)
}

// ServeHTTP passes a request on to the server that serves its version.
func (a *Aggregator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	gv, _ := version(r.URL.Path)
	to := a.lookup(gv)
	if to == nil {
		http.NotFound(w, r)
		return
	}
	a.mu.RLock()
	up := to.available
	a.mu.RUnlock()
	if !up {
		http.Error(w, errUnavailable.Error(), http.StatusServiceUnavailable)
		return
	}
	user := rest.UserFrom(r.Context())
	rest.Begun(r.Context()) // what a watch costs is the other server's to count
	audit.From(r.Context()).Elsewhere()
	proxy := &httputil.ReverseProxy{
		Transport: to.transport, FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "https", Host: to.spec.Service.Name + "." + to.spec.Service.Namespace + ".svc"})
			p.SetXForwarded()
			identify(p.Out, user)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "error trying to reach service: "+err.Error(), http.StatusServiceUnavailable)
		},
	}
	proxy.ServeHTTP(w, r)
}

// identify replaces the client's credentials by who the client is.
func identify(r *http.Request, user *authn.Identity) {
	for name := range r.Header {
		if lower := strings.ToLower(name); lower == "authorization" || strings.HasPrefix(lower, "x-remote-") {
			r.Header.Del(name)
		}
	}
	setUser(r, user.Name, user.UID, user.Groups, user.Extra)
}
