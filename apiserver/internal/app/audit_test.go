package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	policy, log := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte("{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [{level: RequestResponse, users: [admin, jane]}]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startCluster(t, "--etcd-data-dir="+filepath.Join(dir, "etcd"), "--etcd-unsafe-no-fsync", fmt.Sprintf("--etcd-listen-client-url=http://127.0.0.1:%d", freePort(t)),
		fmt.Sprintf("--etcd-listen-peer-url=http://127.0.0.1:%d", freePort(t)), "--audit-policy-file="+policy, "--audit-log-path="+log)
	const accounts, pods, merge = "/api/v1/namespaces/default/serviceaccounts", "/api/v1/namespaces/default/pods", "application/merge-patch+json"
	c.json("POST", accounts, jsonType, `{"metadata":{"name":"a"}}`, 201)
	c.json("POST", pods, jsonType, `{"metadata":{"name":"p"},"spec":{"serviceAccountName":"a","automountServiceAccountToken":false,"containers":[{"name":"c","image":"i"}]}}`, 201)
	c.json("POST", "/apis/apps/v1/namespaces/default/deployments", jsonType,
		`{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`, 201)
	for i, x := range []struct {
		name, token, method, path, media, body string
		// want is what the event of the stage has at the path, fmt's.
		stage, field string
		want         any
	}{
		{"a token's default", "admin", "POST", accounts + "/a/token", jsonType, `{}`, "ResponseComplete", "requestObject.spec.expirationSeconds", 3600},
		{"a namespace's default", "admin", "POST", "/api/v1/namespaces", jsonType, `{"metadata":{"name":"n"}}`, "ResponseComplete", "requestObject.status.phase", "Active"},
		{"a patch", "admin", "PATCH", accounts + "/a", merge, ` {"secrets":[]} `, "ResponseComplete", "requestObject", "map[secrets:[]]"},
		{"what is applied", "admin", "PATCH", accounts + "/a?fieldManager=m", "application/apply-patch+yaml", "apiVersion: v1\nkind: ServiceAccount\n", "ResponseComplete", "requestObject.kind", "ServiceAccount"},
		{"what is no patch", "admin", "PATCH", accounts + "/a", merge, `{"secrets":`, "ResponseComplete", "responseStatus.message", "invalid JSON patch"},
		{"nor told", "admin", "PATCH", accounts + "/a", merge, `{"secrets":`, "ResponseComplete", "requestObject", nil},
		{"a patch of an unknown sort", "admin", "PATCH", accounts + "/a", "application/x", `{}`, "ResponseComplete", "requestObject", nil},
		{"a patch of a scale", "admin", "PATCH", "/apis/apps/v1/namespaces/default/deployments/d/scale", merge, `{"spec":{"replicas":2}}`, "ResponseComplete", "requestObject.spec.replicas", 2},
		{"one of an unknown sort", "admin", "PATCH", "/apis/apps/v1/namespaces/default/deployments/none/scale", "application/x", `{}`, "ResponseComplete", "responseStatus.code", 415},
		{"a binding", "admin", "POST", pods + "/p/binding", jsonType, `{"metadata":{"name":"p"},"target":{"name":"n"}}`, "ResponseComplete", "responseStatus.status", "Success"},
		{"an eviction", "admin", "POST", pods + "/p/eviction?dryRun=All", jsonType, `{"metadata":{"name":"p"}}`, "ResponseComplete", "responseStatus.status", "Success"},
		{"options of a deletion", "admin", "DELETE", accounts + "/a?dryRun=All", jsonType, `{"dryRun":["All"]}`, "ResponseComplete", "requestObject.apiVersion", "meta.k8s.io/__internal"},
		{"options that are none", "admin", "DELETE", accounts + "/a", jsonType, `{"kind":"Foo","apiVersion":"v1"}`, "ResponseComplete", "responseStatus.message", `no kind "Foo" is registered for version "v1" in scheme "pkg/runtime/scheme.go:111"`},
		{"a stream that does not begin", "admin", "GET", pods + "/none/exec?command=x&stdout=1", "", "", "ResponseStarted", "responseObject.reason", "NotFound"},
		{"a watch that is forbidden", "jane", "GET", pods + "?watch=1", "", "", "ResponseComplete", "responseObject.code", 403},
		{"a path that is forbidden", "jane", "GET", "/metrics", "", "", "ResponseComplete", "responseObject.code", 403},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := &cluster{t: t, base: c.base, client: c.client}
			mark := fmt.Sprintf("mark=%d", i)
			path := x.path + "?" + mark
			if strings.Contains(x.path, "?") {
				path = x.path + "&" + mark
			}
			c.call(x.method, path, x.token, x.media, jsonType, x.body)
			var event map[string]any
			c.until("the event is there", func() bool {
				data, err := os.ReadFile(log)
				if err != nil {
					t.Fatal(err)
				}
				for line := range bytes.Lines(data) {
					var e map[string]any
					if json.Unmarshal(line, &e) == nil && e["stage"] == x.stage && strings.HasSuffix(fmt.Sprint(e["requestURI"]), mark) {
						event = e
						return true
					}
				}
				return false
			})
			c.want(event, x.want, strings.Split(x.field, ".")...)
		})
	}
}
