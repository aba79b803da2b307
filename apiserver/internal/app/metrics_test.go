package app_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestMetrics reads /metrics as Prometheus does: under upstream's names and labels, and without series that a client could make at will.
func TestMetrics(t *testing.T) {
	c := startCluster(t)
	c.json("POST", configMaps, jsonType, `{"metadata":{"name":"m"},"data":{"a":"b"}}`, 201)
	c.json("PATCH", configMaps+"/m?fieldManager=x&dryRun=All", "application/apply-patch+yaml", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"}}`, 200)
	c.json("GET", "/api/v1/configmaps", "", "", 200)
	c.json("GET", "/api/v1/namespaces/default/endpoints", "", "", 200)
	c.call("GET", "/api/v1/configmaps?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", "admin", "", jsonType, "")
	c.json("POST", "/api/v1/namespaces", jsonType, `{"metadata":{"name":"x","deletionTimestamp":null},"spec":{}}`, 201)
	c.json("POST", "/api/v1/namespaces/none/configmaps", jsonType, `{"metadata":{"name":"m"}}`, 404)
	for _, token := range []string{"admin", "jane", ""} {
		for _, path := range []string{"/api/v1/namespaces/default/made-up/a", "/apis/made-up.example.com/v1/things/a", "/api/v1/namespaces/default/configmaps/m/made-up", "/made-up"} {
			if code, _ := c.call("GET", path, token, "", jsonType, ""); code/100 != 4 {
				t.Errorf("%s: %d", path, code)
			}
		}
		c.call("DELETE", configMaps+"/refused-"+token, token, "", jsonType, "")
	}
	_, data := c.call("GET", "/metrics", "admin", "", "text/plain", "")
	text := string(data)
	for _, want := range []string{
		`apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1"} 1`,
		`apiserver_request_total{code="200",component="apiserver",dry_run="All",group="",resource="configmaps",scope="resource",subresource="",verb="APPLY",version="v1"} 1`,
		`apiserver_request_total{code="404",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="DELETE",version="v1"} 1`,
		`apiserver_response_sizes_count{component="apiserver",group="",resource="configmaps",scope="cluster",subresource="",verb="LIST",version="v1"} 1`,
		`apiserver_request_sli_duration_seconds_count{component="apiserver",group="",resource="configmaps",scope="cluster",subresource="",verb="LIST",version="v1"} 1`,
		`apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1`,
		`apiserver_watch_list_duration_seconds_count{group="",resource="configmaps",scope="cluster",version="v1"} 1`,
		`apiserver_admission_controller_admission_duration_seconds_count{name="NamespaceLifecycle",operation="CREATE",rejected="true",type="admit"} 1`,
		`apiserver_admission_step_admission_duration_seconds_count{operation="CREATE",rejected="true",type="admit"} 1`,
		`apiserver_resource_objects{group="",resource="configmaps"} `,
		`apiserver_storage_size_bytes{storage_cluster_id="etcd-0"} `,
		`aggregator_unavailable_apiservice{name="v1.apps"} 0`,
		`kubernetes_feature_enabled{name="WatchList",stage="BETA"} 1`,
		"# HELP apiserver_request_duration_seconds [STABLE] ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, never := range []string{"made-up", `code="403"`, `code="401"`} {
		if i := strings.Index(text, never); i >= 0 {
			t.Errorf("%s", fmt.Sprint(text[max(0, i-200):i+50]))
		}
	}
}
