package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	widgets     = "/apis/example.com/v1/namespaces/default/widgets"
	applyType   = "application/apply-patch+yaml"
	mergeType   = "application/merge-patch+json"
)

// widgetDefinition has one of everything that a definition may ask for.
const widgetDefinition = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"widgets.example.com"},"spec":{
"group":"example.com","scope":"Namespaced","names":{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList","shortNames":["wd"],"categories":["all"]},
"versions":[{"name":"v1","served":true,"storage":true,
 "subresources":{"status":{},"scale":{"specReplicasPath":".spec.replicas","statusReplicasPath":".status.replicas","labelSelectorPath":".status.selector"}},
 "additionalPrinterColumns":[{"name":"Replicas","type":"integer","jsonPath":".spec.replicas"},{"name":"Color","type":"string","jsonPath":".spec.color"}],
 "selectableFields":[{"jsonPath":".spec.color"}],
 "schema":{"openAPIV3Schema":{"type":"object","properties":{
  "spec":{"type":"object","required":["color"],"x-kubernetes-validations":[{"rule":"self.min <= self.max","message":"min must not exceed max"},{"rule":"self.color == oldSelf.color || self.max > 5","message":"color is fixed"}],
   "properties":{"color":{"type":"string","enum":["red","green"],"description":"What it looks like."},"replicas":{"type":"integer","minimum":0,"default":1},"min":{"type":"integer","default":0},"max":{"type":"integer","default":5},
    "tags":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},
    "ports":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],"items":{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"port":{"type":"integer"}}}},
    "open":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
    "template":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}}},
  "status":{"type":"object","properties":{"replicas":{"type":"integer"},"selector":{"type":"string"}}}}}}},
 {"name":"v1beta1","served":true,"storage":false,"deprecated":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`

func TestCustomResources(t *testing.T) {
	c := startCluster(t)
	define(c, widgetDefinition, "widgets.example.com")
	for _, scenario := range []struct {
		name string
		run  func(*cluster)
	}{
		{"discovery tells of it", customDiscovery},
		{"an object lives from creation to deletion", customLife},
		{"bad objects are refused with the reason", customRefusals},
		{"apply tells conflicts and owners", customApply},
		{"status and scale are paths of their own", customSubresources},
		{"tables and selectable fields", customTables},
		{"a watch tells changes", customWatch},
		{"versions convert", customVersions},
		{"a changed schema takes effect", customChange},
		{"names are held once", customNames},
		{"specifications are published", customSpecifications},
		{"a definition takes its objects with it", customEnd},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			scenario.run(&cluster{t: t, base: c.base, client: c.client})
		})
	}
}

// define creates a definition and waits until it is established.
func define(c *cluster, body, name string) {
	c.t.Helper()
	c.json("POST", definitions, jsonType, body, 201)
	c.until("the definition is established", func() bool {
		return condition(c.json("GET", definitions+"/"+name, "", "", 200), "Established") == "True"
	})
}

// until waits for something to become true.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			c.t.Fatalf("after 20 s: not yet: %s", what)
		}
	}
}

func condition(obj map[string]any, typ string) any {
	list, _ := at(obj, "status", "conditions").([]any)
	for _, c := range list {
		if at(c, "type") == typ {
			return at(c, "status")
		}
	}
	return nil
}

// refused sends a request that must fail with a code and a part of the message.
func (c *cluster) refused(method, path, contentType, body string, code int, message string) {
	c.t.Helper()
	got := c.json(method, path, contentType, body, code)
	if m := fmt.Sprint(at(got, "message")); !strings.Contains(m, message) {
		c.t.Errorf("%s %s: message %q, want %q", method, path, m, message)
	}
}

func widget(name, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":%q},"spec":{%s}}`, name, spec)
}

func customDiscovery(c *cluster) {
	g := c.json("GET", "/apis/example.com", "", "", 200)
	c.want(g, "example.com/v1", "preferredVersion", "groupVersion")
	names := ""
	for _, r := range at(c.json("GET", "/apis/example.com/v1", "", "", 200), "resources").([]any) {
		names += fmt.Sprint(at(r, "name")) + " "
	}
	if names != "widgets widgets/scale widgets/status " {
		c.t.Errorf("resources %q", names)
	}
	code, data := c.call("GET", "/apis", "admin", "", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "")
	if code != 200 || !strings.Contains(string(data), `"resource":"widgets"`) || !strings.Contains(string(data), `"shortNames":["wd"]`) {
		c.t.Errorf("aggregated discovery: %d, without widgets", code)
	}
}

func customLife(c *cluster) {
	made := c.json("POST", widgets, jsonType, widget("life", `"color":"red","extra":1,"open":{"any":[1]}`), 201)
	c.want(made, 1, "spec", "replicas")
	c.want(made, nil, "spec", "extra")
	c.want(made, "[1]", "spec", "open", "any")
	c.want(made, 1, "metadata", "generation")
	rv := fmt.Sprint(at(made, "metadata", "resourceVersion"))
	c.want(c.json("GET", widgets+"/life", "", "", 200), rv, "metadata", "resourceVersion")
	c.refused("PUT", widgets+"/life", jsonType, widget("life", `"color":"red"`), 422, "metadata.resourceVersion: Invalid value: 0: must be specified for an update")
	p := c.json("PATCH", widgets+"/life", mergeType, `{"spec":{"replicas":3}}`, 200)
	c.want(p, 2, "metadata", "generation")
	p = c.json("PATCH", widgets+"/life", "application/json-patch+json", `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`, 200)
	c.want(p, 2, "metadata", "generation")
	c.refused("PATCH", widgets+"/life", "application/strategic-merge-patch+json", `{}`, 415, "accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml")
	l := c.json("GET", "/apis/example.com/v1/widgets?labelSelector=a%3Db", "", "", 200)
	c.want(l, "WidgetList", "kind")
	if n := len(at(l, "items").([]any)); n != 1 {
		c.t.Errorf("%d listed, want 1", n)
	}
	c.want(c.json("DELETE", widgets+"/life", "", "", 200), "Success", "status")
	c.json("GET", widgets+"/life", "", "", 404)
}

func customRefusals(c *cluster) {
	c.json("POST", widgets, jsonType, widget("fixed", `"color":"red"`), 201)
	for _, tc := range []struct {
		name, method, path, contentType, body string
		code                                  int
		message                               string
	}{
		{"enum", "POST", "", jsonType, widget("bad", `"color":"blue"`), 422, `spec.color: Unsupported value: "blue": supported values: "red", "green"`},
		{"type", "POST", "", jsonType, widget("bad", `"color":"red","replicas":"x"`), 422, `spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"`},
		{"required", "POST", "", jsonType, widget("bad", ``), 422, "spec.color: Required value"},
		{"rule", "POST", "", jsonType, widget("bad", `"color":"red","min":9`), 422, "min must not exceed max"},
		{"transition", "PATCH", "/fixed", mergeType, `{"spec":{"color":"green"}}`, 422, "color is fixed"},
		{"set", "POST", "", jsonType, widget("bad", `"color":"red","tags":["a","a"]`), 422, `spec.tags[1]: Duplicate value: "a"`},
		{"map", "POST", "", jsonType, widget("bad", `"color":"red","ports":[{"name":"a"},{"name":"a"}]`), 422, `spec.ports[1]: Duplicate value: {"name":"a"}`},
		{"embedded", "POST", "", jsonType, widget("bad", `"color":"red","template":{"x":1}`), 422, "spec.template.kind"},
		{"unknown", "POST", "?fieldValidation=Strict", jsonType, widget("bad", `"color":"red","extra":1`), 400, `strict decoding error: unknown field "spec.extra"`},
		{"no kind", "POST", "", jsonType, `{"metadata":{"name":"bad"}}`, 400, "Object 'Kind' is missing"},
		{"name", "POST", "", jsonType, widget("Bad", `"color":"red"`), 422, "metadata.name"},
		{"protobuf", "POST", "", "application/vnd.kubernetes.protobuf", "k8s\x00", 415, "media types"},
	} {
		code, data := c.call(tc.method, widgets+tc.path, "admin", tc.contentType, jsonType, tc.body)
		out := map[string]any{}
		_ = json.Unmarshal(data, &out)
		if m := fmt.Sprint(at(out, "message")); code != tc.code || !strings.Contains(m, tc.message) {
			c.t.Errorf("%s: %d %s; want %d with %q", tc.name, code, m, tc.code, tc.message)
		}
	}
	c.json("GET", widgets+"/bad", "", "", 404)
}

func customApply(c *cluster) {
	body := "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: applied}\nspec: {color: red, ports: [{name: %s, port: %d}]}\n"
	path := widgets + "/applied?fieldManager="
	c.json("PATCH", path+"one", applyType, fmt.Sprintf(body, "a", 1), 201)
	c.refused("PATCH", path+"two", applyType, fmt.Sprintf(body, "a", 2), 409, `conflict with "one": .spec.ports[name="a"].port`)
	merged := c.json("PATCH", path+"two", applyType, fmt.Sprintf(body, "b", 2), 200)
	if n := len(at(merged, "spec", "ports").([]any)); n != 2 {
		c.t.Errorf("%d ports, want 2", n)
	}
	c.refused("PATCH", path+"two&fieldValidation=Strict", applyType, strings.Replace(fmt.Sprintf(body, "b", 2), "spec:", "extra: 1\nspec:", 1), 500, ".extra: field not declared in schema")
}

func customSubresources(c *cluster) {
	c.json("POST", widgets, jsonType, widget("sub", `"color":"red"`), 201)
	s := c.json("PATCH", widgets+"/sub/status", mergeType, `{"metadata":{"labels":{"x":"y"}},"spec":{"replicas":9},"status":{"replicas":4,"selector":"a=b"}}`, 200)
	c.want(s, 1, "spec", "replicas")
	c.want(s, 4, "status", "replicas")
	c.want(s, 1, "metadata", "generation")
	c.want(s, nil, "metadata", "labels")
	p := c.json("PATCH", widgets+"/sub", mergeType, `{"status":{"replicas":8}}`, 200)
	c.want(p, 4, "status", "replicas")
	sc := c.json("GET", widgets+"/sub/scale", "", "", 200)
	c.want(sc, "Scale", "kind")
	c.want(sc, "a=b", "status", "selector")
	sc = c.json("PUT", widgets+"/sub/scale", jsonType, `{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"sub","namespace":"default"},"spec":{"replicas":7}}`, 200)
	c.want(sc, 7, "spec", "replicas")
	c.want(c.json("GET", widgets+"/sub", "", "", 200), 7, "spec", "replicas")

	// A number that is not there cannot be read, and a change that leaves it out sets none.
	define(c, `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"gauges.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"gauges","kind":"Gauge"},
"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"scale":{"specReplicasPath":".spec.shards","statusReplicasPath":".status.shards"}},"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`, "gauges.example.com")
	gauges := "/apis/example.com/v1/namespaces/default/gauges"
	c.json("POST", gauges, jsonType, `{"apiVersion":"example.com/v1","kind":"Gauge","metadata":{"name":"g"}}`, 201)
	c.want(c.json("GET", gauges+"/g/scale", "", "", 500), `Internal error occurred: the spec replicas field ".spec.shards" does not exist`, "message")
	c.want(c.json("PATCH", gauges+"/g/scale", mergeType, `{"metadata":{}}`, 400), `the spec replicas field ".spec.shards" cannot be empty`, "message")
	c.want(c.json("PATCH", gauges+"/g/scale", mergeType, `{"spec":{"replicas":3}}`, 200), 3, "spec", "replicas")
	c.want(c.json("GET", gauges+"/g/scale", "", "", 200), 3, "spec", "replicas")
	c.json("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gauges.example.com", "", "", 200)
}

func customTables(c *cluster) {
	c.json("POST", widgets, jsonType, widget("table", `"color":"green","replicas":2`), 201)
	code, data := c.call("GET", widgets+"?fieldSelector=spec.color%3Dgreen", "admin", "", "application/json;as=Table;g=meta.k8s.io;v=v1", "")
	table := map[string]any{}
	if err := json.Unmarshal(data, &table); code != 200 || err != nil {
		c.t.Fatalf("table: %d %v", code, err)
	}
	rows := at(table, "rows").([]any)
	if len(rows) != 1 || fmt.Sprint(at(rows[0], "cells")) != "[table 2 green]" {
		c.t.Errorf("rows %v", rows)
	}
	c.refused("GET", widgets+"?fieldSelector=spec.replicas%3D2", "", "", 400, "field label not supported: spec.replicas")
	code, data = c.call("GET", widgets, "admin", "", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "")
	if code != 200 || !strings.HasPrefix(string(data), "k8s\x00") {
		c.t.Errorf("metadata in protobuf: %d", code)
	}
	if code, _ = c.call("GET", widgets, "admin", "", "application/vnd.kubernetes.protobuf", ""); code != http.StatusNotAcceptable {
		c.t.Errorf("protobuf: %d, want 406", code)
	}
}

func customWatch(c *cluster) {
	rv := at(c.json("GET", widgets, "", "", 200), "metadata", "resourceVersion")
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s%s?watch=1&resourceVersion=%v&fieldSelector=spec.color%%3Dgreen", c.base, widgets, rv), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer admin")
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func(typ string) {
		c.t.Helper()
		if !lines.Scan() {
			c.t.Fatalf("watch ended: %v", lines.Err())
		}
		out := map[string]any{}
		if err := json.Unmarshal(lines.Bytes(), &out); err != nil {
			c.t.Fatal(err)
		}
		c.want(out, typ, "type")
		c.want(out, "watched", "object", "metadata", "name")
	}
	c.json("POST", widgets, jsonType, widget("watched", `"color":"green","max":9`), 201)
	next("ADDED")
	c.json("PATCH", widgets+"/watched", mergeType, `{"spec":{"replicas":5}}`, 200)
	next("MODIFIED")
	c.json("PATCH", widgets+"/watched", mergeType, `{"spec":{"color":"red"}}`, 200)
	next("DELETED")
}

func customVersions(c *cluster) {
	beta := strings.Replace(widgets, "/v1/", "/v1beta1/", 1)
	c.json("POST", beta, jsonType, `{"apiVersion":"example.com/v1beta1","kind":"Widget","metadata":{"name":"beta"},"spec":{"color":"red","extra":1}}`, 201)
	v1 := c.json("GET", widgets+"/beta", "", "", 200)
	c.want(v1, "example.com/v1", "apiVersion")
	c.want(v1, nil, "spec", "extra")
	req, err := http.NewRequestWithContext(c.t.Context(), "GET", c.base+beta+"/beta", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer admin")
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if w := resp.Header.Get("Warning"); !strings.Contains(w, "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget") {
		c.t.Errorf("warning %q", w)
	}
}

func customChange(c *cluster) {
	d := c.json("GET", definitions+"/widgets.example.com", "", "", 200)
	versions := at(d, "spec", "versions").([]any)
	at(versions[0], "schema", "openAPIV3Schema", "properties", "spec", "properties").(map[string]any)["size"] = map[string]any{"type": "string", "default": "M"}
	versions[1].(map[string]any)["served"] = false
	data, err := json.Marshal(d)
	if err != nil {
		c.t.Fatal(err)
	}
	c.json("PUT", definitions+"/widgets.example.com", jsonType, string(data), 200)
	c.until("stored objects have the new default", func() bool {
		return at(c.json("GET", widgets+"/table", "", "", 200), "spec", "size") == "M"
	})
	c.until("the version is not served", func() bool {
		code, _ := c.call("GET", "/apis/example.com/v1beta1/widgets", "admin", "", jsonType, "")
		return code == 404
	})
	l := c.json("GET", widgets+"?fieldSelector=metadata.name%3Dtable", "", "", 200)
	c.want(at(l, "items").([]any)[0], "M", "spec", "size")
}

func customNames(c *cluster) {
	other := func(plural, kind string) string {
		return fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%s.example.com"},"spec":{"group":"example.com","scope":"Cluster","names":{"plural":%q,"singular":"%s","kind":%q,"listKind":"%sList"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}`, plural, plural, strings.ToLower(kind)+"x", kind, kind)
	}
	c.json("POST", definitions, jsonType, other("gadgets", "Widget"), 201)
	path := definitions + "/gadgets.example.com"
	c.until("the names conflict", func() bool { return condition(c.json("GET", path, "", "", 200), "NamesAccepted") == "False" })
	c.want(condition(c.json("GET", path, "", "", 200), "Established"), "False")
	c.json("DELETE", path, "", "", 200)
	c.until("the definition is gone", func() bool {
		code, _ := c.call("GET", path, "admin", "", jsonType, "")
		return code == 404
	})
}

func customSpecifications(c *cluster) {
	v3 := c.json("GET", "/openapi/v3", "", "", 200)
	url := fmt.Sprint(at(v3, "paths", "apis/example.com/v1", "serverRelativeURL"))
	doc := c.json("GET", url, "", "", 200)
	c.want(doc, "What it looks like.", "components", "schemas", "com.example.v1.Widget", "properties", "spec", "properties", "color", "description")
	if at(doc, "paths", "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}") == nil {
		c.t.Error("no path in OpenAPI v3")
	}
	v2 := c.json("GET", "/openapi/v2", "", "", 200)
	c.want(v2, "object", "definitions", "com.example.v1.Widget", "type")
	if at(v2, "definitions", "com.example.v1.WidgetList") == nil {
		c.t.Error("no list in OpenAPI v2")
	}
}

func customEnd(c *cluster) {
	c.json("PATCH", widgets+"/sub", mergeType, `{"metadata":{"finalizers":["example.com/wait"]}}`, 200)
	c.json("DELETE", definitions+"/widgets.example.com", "", "", 200)
	path := definitions + "/widgets.example.com"
	c.want(condition(c.json("GET", path, "", "", 200), "Terminating"), "True")
	c.until("all but one object are gone", func() bool {
		return len(at(c.json("GET", widgets, "", "", 200), "items").([]any)) == 1
	})
	c.refused("POST", widgets, jsonType, widget("late", `"color":"red"`), 403, "create not allowed while custom resource definition is terminating")
	c.json("PATCH", widgets+"/sub", mergeType, `{"metadata":{"finalizers":null}}`, 200)
	c.until("the definition is gone", func() bool {
		code, _ := c.call("GET", path, "admin", "", jsonType, "")
		return code == 404
	})
	c.until("discovery forgets it", func() bool {
		code, _ := c.call("GET", "/apis/example.com", "admin", "", jsonType, "")
		return code == 404
	})
}
