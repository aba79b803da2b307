package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/wire"
)

// goldenKinds are those of the golden files that are decoded: large ones, of every sort of field.
var goldenKinds = []schema.GroupVersionKind{
	corev1.SchemeGroupVersion.WithKind("Pod"), corev1.SchemeGroupVersion.WithKind("ConfigMap"), corev1.SchemeGroupVersion.WithKind("Service"), corev1.SchemeGroupVersion.WithKind("Secret"),
	corev1.SchemeGroupVersion.WithKind("Node"), corev1.SchemeGroupVersion.WithKind("PersistentVolume"), appsv1.SchemeGroupVersion.WithKind("Deployment"), appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
}

// golden are the files of a kind in k8s.io/api, as JSON, protobuf and YAML.
func golden(f *testing.F, kind schema.GroupVersionKind) [3][]byte {
	out, err := exec.CommandContext(f.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		f.Fatal(err)
	}
	group := kind.Group
	if group == "" {
		group = "core"
	}
	var files [3][]byte
	for i, ext := range []string{"json", "pb", "yaml"} {
		if files[i], err = os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "testdata", "HEAD", group+"."+kind.Version+"."+kind.Kind+"."+ext)); err != nil {
			f.Fatal(err)
		}
	}
	return files
}

func fuzzAPI(f *testing.F) *API {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme} {
		if err := add(s); err != nil {
			f.Fatal(err)
		}
	}
	a, err := New(Config{MaxBody: 3 << 20}, Deps{Scheme: s})
	if err != nil {
		f.Fatal(err)
	}
	return a
}

// fuzzResource is a resource of a kind, enough of it to read bodies.
func fuzzResource(f *testing.F, a *API, kind schema.GroupVersionKind) *Resource {
	obj, err := a.deps.Scheme.New(kind)
	if err != nil {
		f.Fatal(err)
	}
	p, err := wire.Compile(reflect.TypeOf(obj).Elem())
	if err != nil {
		f.Fatal(err)
	}
	return &Resource{Kind: &resource.Kind{GroupVersionKind: kind}, program: p}
}

func FuzzReadObject(f *testing.F) {
	a := fuzzAPI(f)
	var all []*Resource
	for i, kind := range goldenKinds {
		all = append(all, fuzzResource(f, a, kind))
		for form, data := range golden(f, kind) {
			f.Add(uint8(i), uint8(form), data)
		}
	}
	reference := protobuf.NewSerializer(a.deps.Scheme, a.deps.Scheme)
	f.Fuzz(func(t *testing.T, n, form uint8, data []byte) {
		res := all[int(n)%len(all)]
		media := []string{mediaJSON, mediaProtobuf, mediaYAML}[form%3]
		r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
		r.Header.Set("Content-Type", media)
		want := res.GroupVersionKind
		obj, err := a.readObject(&request{http: r, info: &Info{}, res: res}, want, data)
		if err != nil {
			if code := statusOf(err).Code; code < 400 || code >= 500 {
				t.Fatalf("%s as %s: %d %v", want, media, code, err)
			}
		}
		if media == mediaProtobuf {
			into, _ := a.deps.Scheme.New(want)
			theirs, gvk, theirErr := reference.Decode(data, &want, into)
			if err == nil && theirErr != nil || err != nil && theirErr == nil && *gvk == want && !bounded(err) {
				t.Fatalf("%s: error %v, upstream's %v", want, err, theirErr)
			}
			if err == nil {
				theirs.GetObjectKind().SetGroupVersionKind(want)
				if !apiequality.Semantic.DeepEqual(obj, theirs) {
					t.Fatalf("%s: read %+v, upstream %+v", want, obj, theirs)
				}
			}
		}
		if err != nil {
			return
		}
		// What was read can be stored and shown.
		raw, err := obj.(protoObject).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := res.program.Check(raw); err != nil && media != mediaProtobuf && !errors.Is(err, wire.ErrCostly) {
			t.Fatalf("%s: what was read is refused once it is encoded: %v", want, err)
		}
	})
}

// bounded is whether an error is of a bound that upstream has not.
func bounded(err error) bool {
	return strings.Contains(err.Error(), wire.ErrCostly.Error()) || strings.Contains(err.Error(), "nested too deeply")
}

func FuzzMergePatch(f *testing.F) {
	for _, kind := range goldenKinds[:3] {
		f.Add(golden(f, kind)[0], []byte(`{"metadata":{"labels":null,"annotations":{"a":"b"}},"spec":{"containers":[{"name":null}]}}`))
	}
	f.Add([]byte(`{"a":{"b":[1]}}`), []byte(`[null,{"a":null}]`))
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		if firstByte(doc) == '{' { // as all objects are
			compareMerge(t, doc, patch)
		}
	})
}

func FuzzJSONPatch(f *testing.F) {
	if _, err := New(Config{MaxBody: 1 << 16}, Deps{}); err != nil {
		f.Fatal(err)
	}
	for _, kind := range goldenKinds[:3] {
		f.Add(golden(f, kind)[0], []byte(`[{"op":"test","path":"/kind","value":"Pod"},{"op":"copy","from":"/metadata","path":"/spec/x"},{"op":"move","from":"/spec/x/labels","path":"/y"},{"op":"remove","path":"/y"},{"op":"add","path":"/metadata/finalizers/-","value":"a"},{"op":"replace","path":"/metadata/name","value":{}}]`))
	}
	f.Add([]byte(`{"a":[]}`), []byte(`[{"op":"add","path":"/a/-1","value":1}]`))
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		var object map[string]json.RawMessage
		if json.Unmarshal(doc, &object) != nil || object == nil {
			return // it is stored, and so an object
		}
		out, _, err := jsonPatch(doc, patch, metav1.FieldValidationWarn)
		if err != nil {
			if code := statusOf(err).Code; code < 400 || code >= 500 {
				t.Fatalf("%d %v", code, err)
			}
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q by %q is no JSON: %q", doc, patch, out)
		}
		// Each byte may be written as six.
		if most := 6*(len(doc)+len(patch)) + 2<<16; len(out) > most {
			t.Fatalf("%d bytes by %d are %d", len(doc), len(patch), len(out))
		}
	})
}

func FuzzStrategicPatch(f *testing.F) {
	a := fuzzAPI(f)
	res := fuzzResource(f, a, goldenKinds[0])
	q := &request{http: httptest.NewRequest(http.MethodPatch, "/", http.NoBody), info: &Info{}, res: res}
	files := golden(f, goldenKinds[0])
	old := &corev1.Pod{}
	if err := json.Unmarshal(files[0], old); err != nil {
		f.Fatal(err)
	}
	f.Add(files[0])
	f.Add([]byte(`{"spec":{"$retainKeys":["a"],"$setElementOrder/containers":[{"name":"c"}],"containers":[{"name":"c","$patch":"delete"},{"name":"d","ports":[{"containerPort":1}]}],"$deleteFromPrimitiveList/x":[1]},"$patch":"replace"}`))
	f.Fuzz(func(t *testing.T, patch []byte) {
		into := &corev1.Pod{}
		before := old.DeepCopy()
		if err := q.strategicPatch(before, patch, into, metav1.FieldValidationWarn); err != nil {
			return
		}
		if !apiequality.Semantic.DeepEqual(before, old) {
			t.Fatal("the patch changed the old object")
		}
		if _, err := into.Marshal(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzApplyBody(f *testing.F) {
	a := fuzzAPI(f)
	for _, kind := range goldenKinds[:3] {
		f.Add(golden(f, kind)[2])
	}
	f.Add([]byte("a: &a [x]\nb: {<<: {c: *a}, *a : *a}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := a.yamlToJSON(data, metav1.FieldValidationWarn)
		if err != nil {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q is no JSON: %q", data, out)
		}
		// A byte that JSON escapes takes six, a number of some digits up to twenty.
		if len(out) > 20*(len(data)+3<<20) {
			t.Fatalf("%d bytes become %d", len(data), len(out))
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, q := range []string{
		"labelSelector=a+in+(b,c),!d,e!%3Df&fieldSelector=metadata.name%3Dx&limit=2", "fieldSelector=metadata.namespace%3Dn,spec.nodeName!%3Da%5C%2Cb&resourceVersion=1&resourceVersionMatch=Exact",
		"continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhL2IifQ", "watch=1&sendInitialEvents=true&timeoutSeconds=3&allowWatchBookmarks=1", "limit=-1&resourceVersion=x", "a=%zz",
	} {
		f.Add(q)
	}
	res := &Resource{Kind: &resource.Kind{GroupVersionKind: goldenKinds[0], Resource: "pods", Namespaced: true, Strategy: resource.Strategy{FieldNames: []string{"spec.nodeName"}}}}
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		o, err := parseList(res, "n", query)
		if err != nil {
			if code := statusOf(err).Code; code < 400 || code >= 500 {
				t.Fatalf("%q: %d %v", raw, code, err)
			}
			return
		}
		if o.limit < 0 || o.rev < 0 {
			t.Fatalf("%q: limit %d, revision %d", raw, o.limit, o.rev)
		}
		if prefix, _ := o.sel.prefix(res); !strings.HasPrefix(prefix, "n/") {
			t.Fatalf("%q selects %q outside of its namespace", raw, prefix)
		}
		if o.sel.labels == nil {
			return
		}
		again, err := labels.Parse(o.sel.labels.String())
		if err != nil || again.String() != o.sel.labels.String() {
			t.Fatalf("%q is %q, which is %v, %v", raw, o.sel.labels, again, err)
		}
	})
}

func FuzzContinue(f *testing.F) {
	f.Add(encodeContinue(7, "a/b\x00"))
	f.Add(encodeContinue(-1, "../secrets/x"))
	f.Add("eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ")
	f.Fuzz(func(t *testing.T, token string) {
		var o listOptions
		if err := o.parseContinue(token); err != nil {
			if statusOf(err).Code != http.StatusBadRequest {
				t.Fatal(err)
			}
			return
		}
		if o.contRev == 0 {
			t.Fatalf("%q goes on at no revision", token)
		}
		if p := "/" + o.start; path.Clean(p) != p {
			t.Fatalf("%q goes on at %q", token, o.start)
		}
		var again listOptions
		if o.start == "" {
			return
		}
		if err := again.parseContinue(encodeContinue(o.contRev, o.start)); err != nil || again.start != o.start || again.contRev != o.contRev {
			t.Fatalf("%q is %+v, and again %+v, %v", token, o, again, err)
		}
	})
}
