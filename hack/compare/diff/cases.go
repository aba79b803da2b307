package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// kind is one resource that upstream's server has.
type kind struct {
	Group, Version, Kind, Resource string
	Namespaced                     bool
	Verbs                          []string
}

func (k kind) id() string {
	if k.Group == "" {
		return k.Version + "/" + k.Kind
	}
	return k.Group + "/" + k.Version + "/" + k.Kind
}

func (k kind) collection() string {
	path := "/api/" + k.Version
	if k.Group != "" {
		path = "/apis/" + k.Group + "/" + k.Version
	}
	if k.Namespaced {
		path += "/namespaces/diff"
	}
	return path + "/" + k.Resource
}

// discover lists the resources of a server.
func discover(ctx context.Context, s *side) (map[string]kind, error) {
	out := map[string]kind{}
	for _, root := range []string{"/api", "/apis"} {
		a, err := s.do(ctx, request{method: "GET", path: root, accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"})
		if err != nil {
			return nil, err
		}
		data, _ := json.Marshal(a.body)
		var list struct {
			Items []struct {
				Metadata struct{ Name string }
				Versions []struct {
					Version   string
					Resources []struct {
						Resource     string
						Scope        string
						Verbs        []string
						ResponseKind struct{ Kind string }
					}
				}
			}
		}
		if err := json.Unmarshal(data, &list); err != nil || len(list.Items) == 0 {
			return nil, fmt.Errorf("discovery of %s: %d, %w", s.Name, a.code, err)
		}
		for _, g := range list.Items {
			for _, v := range g.Versions {
				for _, r := range v.Resources {
					k := kind{Group: g.Metadata.Name, Version: v.Version, Kind: r.ResponseKind.Kind, Resource: r.Resource, Namespaced: r.Scope == "Namespaced", Verbs: r.Verbs}
					out[k.id()] = k
				}
			}
		}
	}
	return out, nil
}

// suite is one document below testdata: a valid object and the changes to it.
type suite struct {
	// Base is sent as it is, and is what the changes start from.
	Base map[string]any `json:"base"`
	// Create, Update and Status hold cases. Each case maps JSON pointers
	// (without the first slash) to what is put there; null takes it away.
	Create []map[string]any `json:"create"`
	Update []map[string]any `json:"update"`
	Status []map[string]any `json:"status"`
	// Before is put into the base before it is created for the updates.
	Before map[string]any `json:"before"`
	name   string
}

func loadSuites(dir string) ([]suite, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var out []suite
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for i, doc := range strings.Split(string(data), "\n---\n") {
			s := suite{name: fmt.Sprintf("%s#%d", filepath.Base(file), i)}
			if err := yaml.UnmarshalStrict([]byte(doc), &s); err != nil {
				return nil, fmt.Errorf("%s: document %d: %w", file, i, err)
			}
			out = append(out, s)
		}
	}
	return out, nil
}

// golden sends the golden objects of k8s.io/api, in which every field is set.
func (r *run) golden(ctx context.Context, dir string) error {
	for _, id := range r.ids() {
		k := r.kinds[id]
		group := k.Group
		if group == "" {
			group = "core"
		}
		data, err := os.ReadFile(filepath.Join(dir, group+"."+k.Version+"."+k.Kind+".json"))
		if err != nil || !slices.Contains(k.Verbs, "create") {
			continue
		}
		var obj map[string]any
		if err := json.Unmarshal(data, &obj); err != nil {
			return err
		}
		obj["metadata"] = map[string]any{"name": "golden"}
		if err := r.both(ctx, id, "create", "golden", request{method: "POST", path: k.collection() + "?dryRun=All", contentType: mediaJSON, body: marshal(obj)}); err != nil {
			return err
		}
	}
	return nil
}

const mediaJSON = "application/json"

func marshal(v any) []byte {
	if v == nil {
		return nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	return data
}

func (r *run) suite(ctx context.Context, s suite) error {
	id := fmt.Sprintf("%v/%v", s.Base["apiVersion"], s.Base["kind"])
	k, ok := r.kinds[id]
	if !ok {
		return fmt.Errorf("%s: upstream has no kind %s", s.name, id)
	}
	post := func(name string, obj map[string]any) error {
		return r.both(ctx, id, "create", name, request{method: "POST", path: k.collection() + "?dryRun=All", contentType: mediaJSON, body: marshal(obj)})
	}
	if err := post(s.name, s.Base); err != nil {
		return err
	}
	for _, c := range s.Create {
		if err := post(s.name+" "+brief(c), put(s.Base, c)); err != nil {
			return err
		}
	}
	base := put(s.Base, s.Before)
	if err := r.both(ctx, id, "create", s.name+" for good", request{method: "POST", path: k.collection(), contentType: mediaJSON, body: marshal(base)}); err != nil {
		return err
	}
	meta, _ := base["metadata"].(map[string]any)
	item := fmt.Sprintf("%s/%v", k.collection(), meta["name"])
	for _, part := range []struct {
		sub   string
		cases []map[string]any
	}{{"", s.Update}, {"/status", s.Status}} {
		for _, c := range part.cases {
			change := func(live map[string]any) request {
				return request{method: "PUT", path: item + part.sub + "?dryRun=All", contentType: mediaJSON, body: marshal(put(live, c))}
			}
			if err := r.live(ctx, id, "update"+part.sub, s.name+" "+brief(c), item, change); err != nil {
				return err
			}
		}
	}
	return nil
}

// parts changes objects that the suites left behind by their subresources, for good, and deletes some.
func (r *run) parts(ctx context.Context) error {
	pods, apps, claim := "/api/v1/namespaces/diff/pods/", "/apis/apps/v1/namespaces/diff/", "/apis/resource.k8s.io/v1/namespaces/diff/resourceclaims/rc2"
	const merge, strategic = "application/merge-patch+json", "application/strategic-merge-patch+json"
	for _, x := range []struct{ id, verb, method, path, contentType, body string }{
		{"v1/Pod", "create/binding", "POST", pods + "p1/binding", mediaJSON, `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p1"},"target":{"kind":"Node","name":"n1"}}`},
		{"v1/Pod", "get", "GET", pods + "p1", "", ""},
		{"v1/Pod", "create/binding", "POST", pods + "p1/binding", mediaJSON, `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p1"},"target":{"kind":"Node","name":"n2"}}`},
		{"v1/Pod", "create/eviction", "POST", pods + "p1/eviction?dryRun=All", mediaJSON, `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p1"}}`},
		{"v1/Pod", "patch/ephemeralcontainers", "PATCH", pods + "p1/ephemeralcontainers", strategic, `{"spec":{"ephemeralContainers":[{"name":"e","image":"busybox"}]}}`},
		{"v1/Pod", "patch/ephemeralcontainers", "PATCH", pods + "p1/ephemeralcontainers", strategic, `{"spec":{"ephemeralContainers":[{"name":"c","image":"busybox"}]}}`},
		{"v1/Pod", "patch/resize", "PATCH", pods + "p1/resize", strategic, `{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"150m","memory":"64Mi"},"limits":{"cpu":"200m","memory":"64Mi"}}}]}}`},
		{"v1/Pod", "patch", "PATCH", pods + "p1", strategic, `{"metadata":{"labels":{"x":"y"}}}`},
		{"v1/Pod", "patch", "PATCH", pods + "p1", merge, `{"spec":{"nodeName":"n2"}}`},
		{"v1/Pod", "patch/status", "PATCH", pods + "p1/status", strategic, `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`},
		{"v1/Pod", "get/log", "GET", pods + "p1/log?container=none", "", ""},
		{"v1/Pod", "delete", "DELETE", pods + "p1?gracePeriodSeconds=0", "", ""},
		{"apps/v1/Deployment", "get/scale", "GET", apps + "deployments/d1/scale", "", ""},
		{"apps/v1/Deployment", "patch/scale", "PATCH", apps + "deployments/d1/scale", merge, `{"spec":{"replicas":3}}`},
		{"apps/v1/Deployment", "patch/scale", "PATCH", apps + "deployments/d1/scale", merge, `{"spec":{"replicas":-3}}`},
		{"apps/v1/StatefulSet", "patch/scale", "PATCH", apps + "statefulsets/s1/scale", merge, `{"spec":{"replicas":3}}`},
		{"v1/ServiceAccount", "create/token", "POST", "/api/v1/namespaces/diff/serviceaccounts/default/token", mediaJSON, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":5}}`},
		{"v1/ServiceAccount", "create/token", "POST", "/api/v1/namespaces/diff/serviceaccounts/default/token", mediaJSON, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"nope"}}}`},
		{"resource.k8s.io/v1/ResourceClaim", "patch/status", "PATCH", claim + "/status", merge, `{"status":{"allocation":{"devices":{"results":[{"request":"r1","driver":"gpu.example.com","pool":"p","device":"d1"},{"request":"r2/s1","driver":"gpu.example.com","pool":"p","device":"d2"}]}},"reservedFor":[{"resource":"pods","name":"p1","uid":"1"}],"devices":[{"driver":"gpu.example.com","pool":"p","device":"d1"},{"driver":"gpu.example.com","pool":"p","device":"d2"}]}}`},
		{"resource.k8s.io/v1/ResourceClaim", "patch/status", "PATCH", claim + "/status", merge, `{"status":{"allocation":{"devices":{"results":[{"request":"r1","driver":"gpu.example.com","pool":"p","device":"d3"}]}}}}`},
		{"resource.k8s.io/v1/ResourceClaim", "patch/status", "PATCH", claim + "/status", merge, `{"status":{"devices":[{"driver":"other.example.com","pool":"p","device":"d1"}]}}`},
		{"resource.k8s.io/v1/ResourceClaim", "patch", "PATCH", claim, merge, `{"metadata":{"finalizers":["a.b/c"]}}`},
		{"resource.k8s.io/v1/ResourceClaim", "delete", "DELETE", claim, "", ""},
		{"resource.k8s.io/v1/ResourceClaim", "patch/status", "PATCH", claim + "/status", merge, `{"status":{"reservedFor":[{"resource":"pods","name":"p1","uid":"1"},{"resource":"pods","name":"p2","uid":"2"}]}}`},
		{"resource.k8s.io/v1/ResourceClaim", "patch/status", "PATCH", claim + "/status", merge, `{"status":{"allocation":null}}`},
		{"resource.k8s.io/v1/ResourceClaim", "patch/status", "PATCH", claim + "/status", merge, `{"status":{"allocation":null,"reservedFor":null}}`},
		{"resource.k8s.io/v1/ResourceClaim", "patch", "PATCH", claim, merge, `{"metadata":{"finalizers":null}}`},
		{"v1/Namespace", "delete", "DELETE", "/api/v1/namespaces/ns1", "", ""},
		{"v1/Namespace", "update/finalize", "PUT", "/api/v1/namespaces/ns1/finalize", mediaJSON, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"ns1"},"spec":{"finalizers":["bad one"]}}`},
		{"v1/Namespace", "update/finalize", "PUT", "/api/v1/namespaces/ns1/finalize", mediaJSON, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"ns1"},"spec":{}}`},
	} {
		if err := r.both(ctx, x.id, x.verb, brief(x.body), request{method: x.method, path: x.path, contentType: x.contentType, body: []byte(x.body)}); err != nil {
			return err
		}
	}
	return nil
}

func brief(v any) string {
	text, ok := v.(string)
	if !ok {
		text = string(marshal(v))
	}
	return text[:min(len(text), 200)]
}

// put returns a copy of an object with values put at JSON pointers.
func put(obj, changes map[string]any) map[string]any {
	var root any = clone(obj)
	for pointer, v := range changes {
		parts := strings.Split(pointer, "/")
		for i := range parts {
			parts[i] = strings.ReplaceAll(strings.ReplaceAll(parts[i], "~1", "/"), "~0", "~")
		}
		root = assign(root, parts, v)
	}
	out, _ := root.(map[string]any)
	return out
}

func clone(obj map[string]any) map[string]any {
	var out map[string]any
	if err := json.Unmarshal(marshal(obj), &out); err != nil {
		panic(err) // it was just encoded
	}
	return out
}

func assign(node any, parts []string, v any) any {
	if len(parts) == 0 {
		return v
	}
	if list, ok := node.([]any); ok {
		i, err := strconv.Atoi(parts[0])
		if err != nil || i >= len(list) {
			return append(list, assign(nil, parts[1:], v))
		}
		list[i] = assign(list[i], parts[1:], v)
		return list
	}
	m, ok := node.(map[string]any)
	if !ok {
		if _, err := strconv.Atoi(parts[0]); err == nil {
			return []any{assign(nil, parts[1:], v)}
		}
		m = map[string]any{}
	}
	if len(parts) == 1 && v == nil {
		delete(m, parts[0])
		return m
	}
	m[parts[0]] = assign(m[parts[0]], parts[1:], v)
	return m
}
