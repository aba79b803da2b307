package difftest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/resource"
)

// suite is one file below testdata: a valid object and the changes to it.
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
}

type tally struct{ compared, equal, warned int }

type run struct {
	t       *testing.T
	up, our *side
	kinds   map[string]*resource.Kind
	tallies map[string]*tally
	only    string
	report  *os.File
}

// TestAgainstUpstream is the differential check.
func TestAgainstUpstream(t *testing.T) {
	upstream := os.Getenv("FLAGSHIP_UPSTREAM_BIN")
	if upstream == "" {
		t.Skip("FLAGSHIP_UPSTREAM_BIN is not set")
	}
	r := &run{t: t, kinds: map[string]*resource.Kind{}, tallies: map[string]*tally{}, only: os.Getenv("FLAGSHIP_KIND")}
	for _, k := range resource.Kinds() {
		r.kinds[k.GroupVersion().String()+"/"+k.Kind] = k
	}
	var err error
	if r.report, err = os.Create(filepath.Join(os.TempDir(), "flagship-diff.txt")); err != nil {
		t.Fatal(err)
	}
	defer r.report.Close()
	r.up, r.our = startBoth(t, upstream, os.Getenv("FLAGSHIP_BIN"))
	r.golden()
	r.suites()
	r.parts()
	r.summary()
}

func (r *run) golden() {
	for _, dir := range goldenDirs(r.t) {
		for id, k := range r.kinds {
			group := k.Group
			if group == "" {
				group = "core"
			}
			data, err := os.ReadFile(filepath.Join(dir, group+"."+k.Version+"."+k.Kind+".json"))
			if err != nil {
				continue
			}
			var obj map[string]any
			if err := json.Unmarshal(data, &obj); err != nil {
				r.t.Fatal(err)
			}
			obj["metadata"] = map[string]any{"name": "golden"}
			r.both(id, k, "golden", "POST", r.collection(k), obj)
		}
	}
}

func goldenDirs(t *testing.T) []string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	return []string{filepath.Join(strings.TrimSpace(string(out)), "testdata", "HEAD")}
}

func (r *run) suites() {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			r.t.Fatal(err)
		}
		for i, doc := range strings.Split(string(data), "\n---\n") {
			var s suite
			if err := yaml.UnmarshalStrict([]byte(doc), &s); err != nil {
				r.t.Fatalf("%s: document %d: %v", file, i, err)
			}
			r.suite(fmt.Sprintf("%s#%d", filepath.Base(file), i), s)
		}
	}
}

func (r *run) suite(name string, s suite) {
	id := fmt.Sprintf("%v/%v", s.Base["apiVersion"], s.Base["kind"])
	k := r.kinds[id]
	if k == nil {
		r.t.Fatalf("%s: no kind %s", name, id)
	}
	if r.only != "" && r.only != k.Kind {
		return
	}
	r.both(id, k, name+" base", "POST", r.collection(k), s.Base)
	for i, c := range s.Create {
		r.both(id, k, fmt.Sprintf("%s create %d %s", name, i, brief(c)), "POST", r.collection(k), r.put(s.Base, c))
	}
	if len(s.Update)+len(s.Status) == 0 {
		return
	}
	base := r.put(s.Base, s.Before)
	path := strings.TrimSuffix(r.collection(k), "?dryRun=All")
	for _, srv := range []*side{r.up, r.our} {
		if a, err := srv.do("POST", path, "application/json", base); err != nil || a.code > 299 {
			r.t.Errorf("%s: %s: create: %v %v", name, srv.name, a.body["message"], err)
			return
		}
	}
	meta := base["metadata"].(map[string]any)
	item := path + "/" + meta["name"].(string)
	for sub, cases := range map[string][]map[string]any{"": s.Update, "/status": s.Status} {
		for i, c := range cases {
			var got [2]answer
			for j, srv := range []*side{r.up, r.our} {
				a, err := srv.do("GET", item, "", nil)
				if err != nil || a.code != 200 {
					r.t.Fatalf("%s: %s: get: %v %v", name, srv.name, a.body, err)
				}
				if got[j], err = srv.do("PUT", item+sub+"?dryRun=All", "application/json", r.put(a.body, c)); err != nil {
					r.t.Fatal(err)
				}
			}
			r.compare(id, k, fmt.Sprintf("%s update%s %d %s", name, sub, i, brief(c)), got[0], got[1])
		}
	}
}

// parts changes objects that the suites left behind by their subresources, for
// good, and deletes some.
func (r *run) parts() {
	pods, apps := "/api/v1/namespaces/diff/pods/", "/apis/apps/v1/namespaces/diff/"
	resources := map[string]any{"requests": map[string]any{"cpu": "150m", "memory": "64Mi"}, "limits": map[string]any{"cpu": "200m", "memory": "64Mi"}}
	for _, x := range []struct {
		id, method, path, kind string
		body                   any
	}{
		{"v1/Pod", "POST", pods + "p1/binding", "application/json", map[string]any{"apiVersion": "v1", "kind": "Binding", "metadata": map[string]any{"name": "p1"}, "target": map[string]any{"kind": "Node", "name": "n1"}}},
		{"v1/Pod", "GET", pods + "p1", "", nil},
		{"v1/Pod", "PATCH", pods + "p1/ephemeralcontainers", "application/strategic-merge-patch+json", map[string]any{"spec": map[string]any{"ephemeralContainers": []any{map[string]any{"name": "e", "image": "busybox"}}}}},
		{"v1/Pod", "PATCH", pods + "p1/ephemeralcontainers", "application/strategic-merge-patch+json", map[string]any{"spec": map[string]any{"ephemeralContainers": []any{map[string]any{"name": "c", "image": "busybox"}}}}},
		{"v1/Pod", "PATCH", pods + "p1/resize", "application/strategic-merge-patch+json", map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "resources": resources}}}}},
		{"v1/Pod", "PATCH", pods + "p1", "application/strategic-merge-patch+json", map[string]any{"metadata": map[string]any{"labels": map[string]any{"x": "y"}}}},
		{"v1/Pod", "PATCH", pods + "p1", "application/merge-patch+json", map[string]any{"spec": map[string]any{"nodeName": "n2"}}},
		{"v1/Pod", "DELETE", pods + "p1?gracePeriodSeconds=0", "", nil},
		{"apps/v1/Deployment", "PATCH", apps + "deployments/d1/scale", "application/merge-patch+json", map[string]any{"spec": map[string]any{"replicas": 3}}},
		{"apps/v1/Deployment", "PATCH", apps + "deployments/d1/scale", "application/merge-patch+json", map[string]any{"spec": map[string]any{"replicas": -3}}},
		{"apps/v1/StatefulSet", "PATCH", apps + "statefulsets/s1/scale", "application/merge-patch+json", map[string]any{"spec": map[string]any{"replicas": 3}}},
		{"v1/Namespace", "DELETE", "/api/v1/namespaces/ns1", "", nil},
		{"v1/Namespace", "PUT", "/api/v1/namespaces/ns1/finalize", "application/json", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "ns1"}, "spec": map[string]any{"finalizers": []any{"bad one"}}}},
		{"v1/Namespace", "PUT", "/api/v1/namespaces/ns1/finalize", "application/json", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "ns1"}, "spec": map[string]any{}}},
	} {
		var got [2]answer
		for i, s := range []*side{r.up, r.our} {
			var err error
			if got[i], err = s.do(x.method, x.path, x.kind, x.body); err != nil {
				r.t.Fatal(err)
			}
		}
		r.compare(x.id, nil, x.method+" "+x.path+" "+brief(x.body), got[0], got[1])
	}
}

func brief(v any) string {
	data, _ := json.Marshal(v)
	if len(data) > 160 {
		data = data[:160]
	}
	return string(data)
}

func (r *run) collection(k *resource.Kind) string {
	path := "/api/" + k.Version
	if k.Group != "" {
		path = "/apis/" + k.Group + "/" + k.Version
	}
	if k.Namespaced {
		path += "/namespaces/diff"
	}
	return path + "/" + k.Resource + "?dryRun=All"
}

func (r *run) both(id string, k *resource.Kind, name, method, path string, obj any) {
	if r.only != "" && r.only != k.Kind {
		return
	}
	up, err := r.up.do(method, path, "application/json", obj)
	if err != nil {
		r.t.Fatal(err)
	}
	our, err := r.our.do(method, path, "application/json", obj)
	if err != nil {
		r.t.Fatal(err)
	}
	r.compare(id, k, name, up, our)
}

func (r *run) compare(id string, _ *resource.Kind, name string, up, our answer) {
	t := r.tallies[id]
	if t == nil {
		t = &tally{}
		r.tallies[id] = t
	}
	t.compared++
	d := cmp.Diff(normal(up), normal(our))
	if up.code != our.code {
		d = fmt.Sprintf("code %d, ours %d\n%s", up.code, our.code, d)
	}
	if w := cmp.Diff(up.warnings, our.warnings); w != "" {
		t.warned++
		fmt.Fprintf(r.report, "~~~ %s: %s: warnings (-upstream +ours)\n%s\n", id, name, w)
	}
	if d == "" {
		t.equal++
		return
	}
	fmt.Fprintf(r.report, "=== %s: %s (-upstream +ours)\n%s\n", id, name, d)
}

func (r *run) summary() {
	ids := make([]string, 0, len(r.tallies))
	for id := range r.tallies {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	var all tally
	for _, id := range ids {
		t := r.tallies[id]
		r.t.Logf("%-70s compared %4d equal %4d different %4d warnings %4d", id, t.compared, t.equal, t.compared-t.equal, t.warned)
		all.compared += t.compared
		all.equal += t.equal
		all.warned += t.warned
	}
	r.t.Logf("%-70s compared %4d equal %4d different %4d warnings %4d", "all", all.compared, all.equal, all.compared-all.equal, all.warned)
	r.t.Logf("the differences are in %s", r.report.Name())
}

// put returns a copy of an object with values put at JSON pointers.
func (r *run) put(obj map[string]any, changes map[string]any) map[string]any {
	data, err := json.Marshal(obj)
	if err != nil {
		r.t.Fatal(err)
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		r.t.Fatal(err)
	}
	for pointer, v := range changes {
		parts := strings.Split(pointer, "/")
		for i := range parts {
			parts[i] = strings.ReplaceAll(strings.ReplaceAll(parts[i], "~1", "/"), "~0", "~")
		}
		root = assign(root, parts, v)
	}
	return root.(map[string]any)
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
