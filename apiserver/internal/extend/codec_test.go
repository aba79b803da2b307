package extend

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const fooDefinition = `{"metadata":{"name":"foos.example.com","uid":"u","resourceVersion":"10","generation":1},"spec":{"group":"example.com","scope":"Namespaced",
"names":{"plural":"foos","singular":"foo","kind":"Foo","listKind":"FooList"},"conversion":{"strategy":"None"},
"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string","default":"x"},"n":{"type":"integer"}}}}}}},
{"name":"v2","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"n":{"type":"integer"}}}}}}}]},
"status":{"acceptedNames":{"plural":"foos","singular":"foo","kind":"Foo","listKind":"FooList"}}}`

// fooCodec is the codec of one version; reads counts how often the definition
// was read.
func fooCodec(t *testing.T, version string, reads *int) *codec {
	t.Helper()
	def := &apiextensionsv1.CustomResourceDefinition{}
	if err := json.Unmarshal([]byte(fooDefinition), def); err != nil {
		t.Fatal(err)
	}
	d, err := New(Deps{}).describe(def)
	if err != nil {
		t.Fatal(err)
	}
	d.read = func(string) (*apiextensionsv1.CustomResourceDefinition, error) {
		*reads++
		return def.DeepCopy(), nil
	}
	d.kinds = d.build(def, nil)
	return &codec{d: d, gvk: d.gv(version).WithKind("Foo")}
}

func TestCodecParse(t *testing.T) {
	for name, tc := range map[string]struct {
		in, want string
		strict   bool
		unknown  []string
	}{
		"default":   {in: `{"apiVersion":"example.com/v1","kind":"Foo","spec":{"n":1}}`, want: `{"apiVersion":"example.com/v1","kind":"Foo","spec":{"a":"x","n":1}}`},
		"pruned":    {in: `{"apiVersion":"example.com/v1","kind":"Foo","spec":{"b":1},"c":2}`, want: `{"apiVersion":"example.com/v1","kind":"Foo","spec":{"a":"x"}}`},
		"unknown":   {in: `{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"f","x":1},"spec":{"b":1}}`, strict: true, want: `{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"f"},"spec":{"a":"x"}}`, unknown: []string{`unknown field "metadata.x"`, `unknown field "spec.b"`}},
		"duplicate": {in: `{"apiVersion":"example.com/v1","kind":"Foo","spec":{"n":1,"n":2}}`, strict: true, want: `{"apiVersion":"example.com/v1","kind":"Foo","spec":{"a":"x","n":2}}`, unknown: []string{`duplicate field "spec.n"`}},
		"null":      {in: `{"apiVersion":"example.com/v1","kind":"Foo","spec":{"a":null}}`, want: `{"apiVersion":"example.com/v1","kind":"Foo","spec":{"a":"x"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			u, unknown, err := fooCodec(t, "v1", &reads).Parse([]byte(tc.in), tc.strict)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(u.Object)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Error(diff)
			}
			var texts []string
			for _, e := range unknown {
				texts = append(texts, e.Error())
			}
			if diff := cmp.Diff(tc.unknown, texts); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCodecRender(t *testing.T) {
	const stored = `{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"f","generation":1,"creationTimestamp":"2026-11-25T00:00:00Z"},"spec":{"n":1,"old":2}}`
	for name, tc := range map[string]struct {
		version string
		rev     int64
		want    string
		decoded bool
	}{
		"written under this schema": {"v1", 11, stored, false},
		"written before":            {"v1", 10, `{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"creationTimestamp":"2026-11-25T00:00:00Z","generation":1,"name":"f"},"spec":{"a":"x","n":1}}`, true},
		"in another version":        {"v2", 11, `{"apiVersion":"example.com/v2","kind":"Foo","metadata":{"creationTimestamp":"2026-11-25T00:00:00Z","generation":1,"name":"f"},"spec":{"n":1}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			got, err := fooCodec(t, tc.version, &reads).Render([]byte(stored), tc.rev)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Error(diff)
			}
			if (reads > 0) != tc.decoded {
				t.Errorf("the definition was read %d times, want any: %t", reads, tc.decoded)
			}
		})
	}
}

func TestCodecEncode(t *testing.T) {
	reads := 0
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v2", "kind": "Foo", "metadata": map[string]any{"name": "f", "resourceVersion": "7"}, "spec": map[string]any{"n": int64(1)},
	}}
	got, err := fooCodec(t, "v2", &reads).Encode(u)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"f"},"spec":{"n":1}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	if u.GetResourceVersion() != "7" {
		t.Error("the object lost its resourceVersion")
	}
}

func FuzzCodecParse(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"f"},"spec":{"n":1}}`))
	f.Add([]byte(`{"kind":"Foo"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		reads := 0
		c := fooCodec(t, "v1", &reads)
		u, _, err := c.Parse(data, true)
		if err != nil || u.GetAPIVersion() != "example.com/v1" || u.GetKind() != "Foo" {
			return
		}
		stored, err := c.Encode(u)
		if err != nil {
			return
		}
		if _, err := c.Decode(stored); err != nil {
			t.Fatalf("what was stored cannot be read: %v: %s", err, stored)
		}
	})
}
