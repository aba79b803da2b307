package main

import (
	"context"
	"fmt"
	"strings"

	"flagship/hack/compare/lab"
)

const table = "application/json;as=Table;v=v1;g=meta.k8s.io"

// lists asks for every kind's list, table and metadata, and for config maps in every form that a list and a watch have.
func (r *run) lists(ctx context.Context) error {
	for _, id := range r.ids() {
		k := r.kinds[id]
		for _, accept := range []string{"", table, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/yaml", "application/vnd.kubernetes.protobuf"} {
			if err := r.both(ctx, id, "list", accept, request{method: "GET", path: k.collection() + "?labelSelector=only%3Dhere", accept: accept}); err != nil {
				return err
			}
		}
		if err := r.both(ctx, id, "list", "table of all", request{method: "GET", path: k.collection(), accept: table}); err != nil {
			return err
		}
		if err := r.both(ctx, id, "get", "of none", request{method: "GET", path: k.collection() + "/there-is-none"}); err != nil {
			return err
		}
		if err := r.both(ctx, id, "delete", "of none", request{method: "DELETE", path: k.collection() + "/there-is-none"}); err != nil {
			return err
		}
	}
	const maps = "/api/v1/namespaces/diff/configmaps"
	for i := range 7 {
		body := fmt.Sprintf(`{"metadata":{"name":"list-%d","labels":{"even":"%t","n":"%d"}},"data":{"k":"v"}}`, i, i%2 == 0, i)
		if err := r.both(ctx, "v1/ConfigMap", "create", body, request{method: "POST", path: maps, contentType: mediaJSON, body: []byte(body)}); err != nil {
			return err
		}
	}
	for _, q := range []string{
		"limit=2", "limit=-1", "limit=x", "limit=0", "continue=garbage", "continue=garbage&limit=2", "limit=100",
		"labelSelector=even%3Dtrue", "labelSelector=even!%3Dtrue", "labelSelector=n+in+(1,2)", "labelSelector=n+notin+(1,2)", "labelSelector=!n", "labelSelector=n%3E3", "labelSelector=n%3Ex", "labelSelector=(", "labelSelector=a%3D%3D%3Db", "labelSelector=-x",
		"fieldSelector=metadata.name%3Dlist-1", "fieldSelector=metadata.name!%3Dlist-1", "fieldSelector=metadata.namespace%3Ddiff", "fieldSelector=data.k%3Dv", "fieldSelector=x", "fieldSelector=metadata.name%3Dlist-1,metadata.namespace%3Dother",
		"resourceVersion=0", "resourceVersion=1", "resourceVersion=x", "resourceVersion=-1", "resourceVersion=999999999", "resourceVersion=0&resourceVersionMatch=Exact", "resourceVersion=1&resourceVersionMatch=Exact", "resourceVersion=0&resourceVersionMatch=NotOlderThan", "resourceVersionMatch=NotOlderThan", "resourceVersion=1&resourceVersionMatch=Bad", "resourceVersion=1&resourceVersionMatch=NotOlderThan&limit=2",
		"timeoutSeconds=x", "timeoutSeconds=5", "pretty=true", "sendInitialEvents=true", "sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "unknown=1", "watch=x&timeoutSeconds=1",
		"watch=1&timeoutSeconds=1", "watch=1&timeoutSeconds=1&resourceVersion=0", "watch=1&timeoutSeconds=1&resourceVersion=0&fieldSelector=metadata.name%3Dlist-3", "watch=1&timeoutSeconds=1&resourceVersion=1", "watch=1&timeoutSeconds=1&resourceVersion=x", "watch=1&timeoutSeconds=1&resourceVersion=999999999",
		"watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", "watch=1&timeoutSeconds=1&sendInitialEvents=true", "watch=1&timeoutSeconds=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", "watch=1&timeoutSeconds=1&resourceVersionMatch=NotOlderThan", "watch=1&timeoutSeconds=1&resourceVersionMatch=Exact", "watch=1&timeoutSeconds=1&limit=2", "watch=1&timeoutSeconds=1&labelSelector=n%3D2",
	} {
		for _, accept := range []string{"", table} {
			verb := "list"
			if strings.HasPrefix(q, "watch=1") {
				verb = "watch"
			}
			if err := r.both(ctx, "v1/ConfigMap", verb, q, request{method: "GET", path: maps + "?" + q, accept: accept}); err != nil {
				return err
			}
		}
	}
	return nil
}

// malformed sends what no client should.
func (r *run) malformed(ctx context.Context) error {
	const maps = "/api/v1/namespaces/diff/configmaps"
	const good = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"bad"}}`
	deep := strings.Repeat(`{"a":`, 12000) + "1" + strings.Repeat("}", 12000)
	for _, x := range []request{
		{method: "POST", path: maps, contentType: mediaJSON},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte("{")},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte("[]")},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte("null")},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte(`"text"`)},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte(`{"kind":"ConfigMap"}`)},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte(`{"apiVersion":"v1"}`)},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`)},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte(`{"apiVersion":"v9","kind":"ConfigMap","metadata":{"name":"x"}}`)},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"Nonsense","metadata":{"name":"x"}}`)},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"other"}}`)},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}`)},
		{method: "POST", path: maps, contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","generateName":"y"},"data":{"a":"b","a":"c"}}`)},
		{method: "POST", path: maps + "?fieldValidation=Strict", contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"b","a":"c"},"zz":1}`)},
		{method: "POST", path: maps + "?fieldValidation=Bad", contentType: mediaJSON, body: []byte(good)},
		{method: "POST", path: maps + "?dryRun=Some", contentType: mediaJSON, body: []byte(good)},
		{method: "POST", path: maps + "?dryRun=All&fieldManager=" + strings.Repeat("x", 129), contentType: mediaJSON, body: []byte(good)},
		{method: "POST", path: maps + "?dryRun=All", contentType: "text/plain", body: []byte(good)},
		{method: "POST", path: maps + "?dryRun=All", body: []byte(good)},
		{method: "POST", path: maps + "?dryRun=All", contentType: "application/yaml", body: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n")},
		{method: "POST", path: maps + "?dryRun=All", contentType: "application/yaml", body: []byte("a: &a [x]\nb: *a\n")},
		{method: "POST", path: maps + "?dryRun=All", contentType: "application/vnd.kubernetes.protobuf", body: []byte("k8s\x00garbage")},
		{method: "POST", path: maps + "?dryRun=All", contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":` + deep + `}`)},
		{method: "POST", path: maps + "?dryRun=All", contentType: mediaJSON, body: []byte("{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"x\"},\"data\":{\"a\":\"\xff\"}}")},
		{method: "POST", path: maps + "?dryRun=All", contentType: mediaJSON, accept: "image/png", body: []byte(good)},
		{method: "POST", path: maps + "/list-1", contentType: mediaJSON, body: []byte(good)},
		{method: "PUT", path: maps, contentType: mediaJSON, body: []byte(good)},
		{method: "PUT", path: maps + "/list-1", contentType: mediaJSON, body: []byte(good)},
		{method: "PUT", path: maps + "/list-1", contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"list-1","resourceVersion":"1"}}`)},
		{method: "PUT", path: maps + "/list-1", contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"list-1","uid":"other"}}`)},
		{method: "PUT", path: maps + "/none", contentType: mediaJSON, body: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"none"}}`)},
		{method: "PATCH", path: maps + "/list-1", contentType: mediaJSON, body: []byte(`{}`)},
		{method: "PATCH", path: maps + "/list-1", contentType: "application/json-patch+json", body: []byte(`{}`)},
		{method: "PATCH", path: maps + "/list-1", contentType: "application/json-patch+json", body: []byte(`[{"op":"test","path":"/data/k","value":"w"}]`)},
		{method: "PATCH", path: maps + "/list-1", contentType: "application/merge-patch+json", body: []byte(`[]`)},
		{method: "PATCH", path: maps + "/list-1", contentType: "application/apply-patch+yaml", body: []byte(good)},
		{method: "PATCH", path: maps + "/list-1?fieldManager=m", contentType: "application/apply-patch+yaml", body: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {managedFields: [{}]}\n")},
		{method: "PATCH", path: maps + "/list-1?fieldManager=m", contentType: "application/apply-patch+yaml", body: []byte("apiVersion: v1\nkind: ConfigMap\ndata: {k: other}\n")},
		{method: "DELETE", path: maps + "/list-1?propagationPolicy=Bad"},
		{method: "DELETE", path: maps + "/list-1", contentType: mediaJSON, body: []byte(`{"preconditions":{"uid":"other"}}`)},
		{method: "DELETE", path: maps + "/list-1", contentType: mediaJSON, body: []byte(`{"orphanDependents":true,"propagationPolicy":"Orphan"}`)},
		{method: "DELETE", path: maps + "/list-1?gracePeriodSeconds=x"},
		{method: "DELETE", path: maps + "/list-1?dryRun=All"},
		{method: "DELETE", path: maps + "?dryRun=All&labelSelector=("},
		{method: "DELETE", path: maps + "?dryRun=All&labelSelector=even%3Dtrue"},
		{method: "GET", path: maps + "/list-1?resourceVersion=0"},
		{method: "GET", path: maps + "/list-1?resourceVersion=x"},
		{method: "GET", path: maps + "/list-1?resourceVersion=999999999"},
		{method: "GET", path: maps + "/list-1", accept: table},
		{method: "GET", path: maps + "/list-1", accept: "application/json;as=Table;v=v2;g=meta.k8s.io"},
		{method: "GET", path: maps + "/list-1", accept: table + ";includeObject=Object"},
		{method: "GET", path: "/api/v1/namespaces/diff/nonsense"},
		{method: "GET", path: "/api/v1/nonsense"},
		{method: "GET", path: "/apis/none/v1/x"},
		{method: "GET", path: "/apis/apps/v9"},
		{method: "GET", path: "/nonsense"},
		{method: "GET", path: "/api/v1/namespaces/diff/pods/x/nonsense"},
		{method: "GET", path: "/api/v1/configmaps/list-1"},
		{method: "GET", path: "/api/v1/namespaces/diff/nodes"},
		{method: "TRACE", path: maps},
		{method: "OPTIONS", path: maps},
		{method: "HEAD", path: maps + "/list-1"},
		{method: "GET", path: "/api/v1/namespaces/diff/configmaps/..%2f..%2fsecrets"},
		{method: "GET", path: "/api/v1/namespaces//configmaps"},
		{method: "GET", path: "/api//v1/namespaces"},
		{method: "GET", path: maps, user: "-"},
		{method: "GET", path: maps, user: "wrong"},
		{method: "GET", path: maps, user: lab.JaneToken},
		{method: "GET", path: "/api", user: "-"},
		{method: "GET", path: "/version", user: "-"},
		{method: "GET", path: "/metrics", user: lab.JaneToken},
		{method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", contentType: mediaJSON, body: []byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{}}`)},
		{method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", user: lab.JaneToken, contentType: mediaJSON, body: []byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"get","resource":"pods","namespace":"diff"}}}`)},
		{method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", user: lab.JaneToken, contentType: mediaJSON, body: []byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"diff"}}`)},
		{method: "POST", path: "/apis/authentication.k8s.io/v1/tokenreviews", contentType: mediaJSON, body: []byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"wrong"}}`)},
		{method: "POST", path: "/apis/authentication.k8s.io/v1/selfsubjectreviews", contentType: mediaJSON, body: []byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`)},
	} {
		verb := map[string]string{"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}[x.method]
		if verb == "" {
			verb = "other methods"
		}
		if err := r.both(ctx, "malformed", verb, strings.TrimSpace(x.path+" "+x.contentType+" "+brief(string(x.body))), x); err != nil {
			return err
		}
	}
	return nil
}

// documents compares what describes the API.
func (r *run) documents(ctx context.Context) error {
	paths := []string{"/api", "/apis", "/api/v1", "/openapi/v3", "/.well-known/openid-configuration"}
	seen := map[string]bool{}
	for _, id := range r.ids() {
		k := r.kinds[id]
		if gv := "/apis/" + k.Group + "/" + k.Version; k.Group != "" && !seen[gv] {
			seen[gv] = true
			paths = append(paths, gv)
		}
	}
	for _, p := range paths {
		if err := r.both(ctx, "documents", "get", p, request{method: "GET", path: p}); err != nil {
			return err
		}
	}
	for _, p := range []string{"/api", "/apis"} {
		if err := r.both(ctx, "documents", "get", p+" aggregated", request{method: "GET", path: p, accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}); err != nil {
			return err
		}
	}
	return nil
}
