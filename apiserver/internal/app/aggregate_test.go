package app_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

const apiServices = "/apis/apiregistration.k8s.io/v1/apiservices"

// TestAggregation puts another API server behind this one.
func TestAggregation(t *testing.T) {
	c := startCluster(t)
	var holding, held atomic.Bool
	release := make(chan struct{})
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/apis/other.example.com/v1":
			if holding.Load() {
				held.Store(true)
				<-release
			}
			_, _ = fmt.Fprint(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"other.example.com/v1","resources":[{"name":"things","singularName":"thing","namespaced":true,"kind":"Thing","verbs":["get","list"]}]}`)
		case "/apis/other.example.com/v1/namespaces/default/things":
			_, _ = fmt.Fprintf(w, `{"kind":"ThingList","apiVersion":"other.example.com/v1","metadata":{},"items":[],"user":%q,"groups":%q,"token":%q}`,
				r.Header.Get("X-Remote-User"), strings.Join(r.Header.Values("X-Remote-Group"), ","), r.Header.Get("Authorization"))
		case "/openapi/v2":
			_, _ = fmt.Fprint(w, `{"swagger":"2.0","info":{"title":"other"},"paths":{"/apis/other.example.com/v1/things":{"get":{"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/io.k8s.api.core.v1.ConfigMap"}}}}},"/apis/apps/v1/deployments":{}},"definitions":{"io.k8s.api.core.v1.ConfigMap":{"type":"object"}}}`)
		case "/openapi/v3/apis/other.example.com/v1":
			_, _ = fmt.Fprint(w, `{"openapi":"3.0.0","info":{"title":"other"}}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(other.Close)
	u, err := url.Parse(other.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.json("POST", apiServices, jsonType, fmt.Sprintf(`{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.other.example.com"},"spec":{"group":"other.example.com","version":"v1","groupPriorityMinimum":2000,"versionPriority":200,"insecureSkipTLSVerify":true,"service":{"namespace":"default","name":"other","port":%s}}}`, u.Port()), 201)
	available := func() map[string]any {
		list, _ := at(c.json("GET", apiServices+"/v1.other.example.com", "", "", 200), "status", "conditions").([]any)
		if len(list) == 0 {
			return nil
		}
		return list[0].(map[string]any)
	}
	c.until("it is missed", func() bool { return available()["reason"] == "ServiceNotFound" })
	if code, _ := c.call("GET", "/apis/other.example.com/v1/namespaces/default/things", "admin", "", jsonType, ""); code != 503 {
		t.Errorf("before it is there: %d, want 503", code)
	}
	c.json("POST", "/api/v1/namespaces/default/services", jsonType, `{"metadata":{"name":"other"},"spec":{"type":"ExternalName","externalName":"localhost"}}`, 201)
	c.until("it is available", func() bool { return available()["status"] == "True" })
	l := c.json("GET", "/apis/other.example.com/v1/namespaces/default/things", "", "", 200)
	c.want(l, "admin", "user")
	c.want(l, "system:masters,system:authenticated", "groups")
	c.want(l, "", "token")
	c.want(c.json("GET", "/apis/other.example.com", "", "", 200), "other.example.com/v1", "preferredVersion", "groupVersion")
	if code, _ := c.call("GET", "/apis/other.example.com/v1/namespaces/default/things", "jane", "", jsonType, ""); code != 403 {
		t.Errorf("without rights: %d, want 403", code)
	}
	c.want(c.json("GET", "/openapi/v3", "", "", 200), "/openapi/v3/apis/other.example.com/v1", "paths", "apis/other.example.com/v1", "serverRelativeURL")
	c.want(c.json("GET", "/openapi/v3/apis/other.example.com/v1", "", "", 200), "other", "info", "title")
	// Its paths come in, with its models under names that are free, and no path of this server is replaced.
	v2 := c.json("GET", "/openapi/v2", "", "", 200)
	c.want(v2, "#/definitions/io.k8s.api.core.v1.ConfigMap_v2", "paths", "/apis/other.example.com/v1/things", "get", "responses", "200", "schema", "$ref")
	c.want(v2, "listAppsV1DeploymentForAllNamespaces", "paths", "/apis/apps/v1/deployments", "get", "operationId")
	c.want(v2, "Kubernetes", "info", "title")
	// A change of its priority makes no gap, though the server is asked anew.
	holding.Store(true)
	c.json("PATCH", apiServices+"/v1.other.example.com", "application/merge-patch+json", `{"spec":{"versionPriority":400}}`, 200)
	c.until("it is asked anew", held.Load)
	c.json("GET", "/apis/other.example.com/v1/namespaces/default/things", "", "", 200)
	close(release)
	c.until("the local versions are registered", func() bool {
		code, data := c.call("GET", apiServices+"/v1.apps", "admin", "", jsonType, "")
		return code == 200 && strings.Contains(string(data), `"reason":"Local"`)
	})
	c.json("DELETE", apiServices+"/v1.other.example.com", "", "", 200)
	c.until("it is forgotten", func() bool {
		code, _ := c.call("GET", "/apis/other.example.com", "admin", "", jsonType, "")
		return code == 404
	})
}
