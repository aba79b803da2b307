package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionv1beta1 "k8s.io/api/admission/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/randfill"
)

func newScheme(t testing.TB) *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionv1.AddToScheme, admissionv1beta1.AddToScheme, scheme.AddToScheme, apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// testdata returns the folder of golden files that k8s.io/api ships.
func testdata(t testing.TB) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Fatalf("locate k8s.io/api: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "testdata")
}

// reference is what the transcoder has to equal: decode, then encoding/json.
func reference(typ reflect.Type, apiVersion, kind string, raw []byte, rv string) ([]byte, error) {
	obj := reflect.New(typ).Interface()
	if err := obj.(unmarshaler).Unmarshal(raw); err != nil {
		return nil, err
	}
	if o, ok := obj.(runtime.Object); ok {
		o.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(apiVersion, kind))
	}
	if o, ok := obj.(metav1.Object); ok && rv != "" {
		o.SetResourceVersion(rv)
	}
	return json.Marshal(obj)
}

func TestGolden(t *testing.T) {
	s := newScheme(t)
	files, err := filepath.Glob(filepath.Join(testdata(t), "*", "*.pb"))
	if err != nil || len(files) < 500 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		apiVersion, kind, raw, contentType, err := SplitEnvelope(data)
		if err != nil || contentType != "" {
			t.Fatalf("%s: envelope: %q %v", file, contentType, err)
		}
		if again := AppendEnvelope(nil, apiVersion, kind, raw); !bytes.Equal(again, data) {
			t.Errorf("%s: envelope does not round-trip", file)
		}
		gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
		typ := s.AllKnownTypes()[gvk]
		if typ == nil {
			t.Logf("%s: %s is no longer served", filepath.Base(file), gvk)
			continue
		}
		p, err := Compile(typ)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, rv := range []string{"", "4711"} {
			want, err := reference(typ, apiVersion, kind, raw, rv)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			got, err := p.AppendJSON(nil, apiVersion, kind, raw, rv)
			if err != nil {
				t.Errorf("%s: %v", file, err)
			} else if !bytes.Equal(got, want) {
				t.Errorf("%s (rv %q): %s", file, rv, cmp.Diff(indent(want), indent(got)))
			}
		}
		if strings.Contains(file, "HEAD") {
			goldenJSON(t, p, file, apiVersion, kind, raw)
		}
	}
}

// goldenJSON compares with the JSON file beside the protobuf one.
func goldenJSON(t *testing.T, p *Program, file, apiVersion, kind string, raw []byte) {
	want, err := os.ReadFile(strings.TrimSuffix(file, ".pb") + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, want); err != nil {
		t.Fatal(err)
	}
	got, _ := p.AppendJSON(nil, apiVersion, kind, raw, "")
	if !bytes.Equal(got, compact.Bytes()) {
		t.Errorf("%s: differs from the .json file: %s", file, cmp.Diff(indent(compact.Bytes()), indent(got)))
	}
}

func indent(b []byte) string {
	var out bytes.Buffer
	if json.Indent(&out, b, "", " ") != nil {
		return string(b)
	}
	return out.String()
}

// kinds returns the scheme's versioned kinds that have a protobuf form, sorted.
func kinds(s *runtime.Scheme) []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for gvk, typ := range s.AllKnownTypes() {
		_, ok := reflect.New(typ).Interface().(unmarshaler)
		if ok && gvk.Version != runtime.APIVersionInternal {
			out = append(out, gvk)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].String() < out[j].String() })
	return out
}

func TestRandomObjects(t *testing.T) {
	s := newScheme(t)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), serializer.NewCodecFactory(s)).NilChance(0.3).MaxDepth(40).Funcs(fillSchema)
	for _, gvk := range kinds(s) {
		typ := s.AllKnownTypes()[gvk]
		p, err := Compile(typ)
		if err != nil {
			t.Errorf("%s: %v", gvk, err)
			continue
		}
		for range 3 {
			obj := reflect.New(typ).Interface()
			fill.Fill(obj)
			raw, err := obj.(interface{ Marshal() ([]byte, error) }).Marshal()
			if err != nil {
				continue
			}
			compare(t, p, typ, gvk, raw)
		}
		compare(t, p, typ, gvk, nil)
	}
}

// fillSchema keeps schemas shallow: they refer to themselves in a dozen fields.
func fillSchema(s *apiextensionsv1.JSONSchemaProps, c randfill.Continue) {
	maximum := c.Float64()
	s.Type, s.Description, s.Maximum = c.String(0), c.String(0), &maximum
	s.Default = &apiextensionsv1.JSON{Raw: []byte(`{ "a": "<b>" }`)}
	if c.Intn(3) == 0 {
		s.Items = &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{}}
		c.Fill(s.Items.Schema)
		s.Properties = map[string]apiextensionsv1.JSONSchemaProps{c.String(0): {Format: "f"}, "b": *s.Items.Schema}
	}
}

func compare(t *testing.T, p *Program, typ reflect.Type, gvk schema.GroupVersionKind, raw []byte) {
	t.Helper()
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	want, wantErr := reference(typ, apiVersion, kind, raw, "")
	got, err := p.AppendJSON(nil, apiVersion, kind, raw, "")
	if wantErr != nil {
		return
	}
	if err != nil {
		t.Errorf("%s: %v", gvk, err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s: %s", gvk, cmp.Diff(indent(want), indent(got)))
	}
}

func FuzzTranscode(f *testing.F) {
	s := newScheme(f)
	var programs []*Program
	all := kinds(s)
	for _, gvk := range all {
		p, err := Compile(s.AllKnownTypes()[gvk])
		if err != nil {
			f.Fatal(err)
		}
		programs = append(programs, p)
	}
	files, _ := filepath.Glob(filepath.Join(testdata(f), "HEAD", "*.pb"))
	for _, file := range files {
		data, _ := os.ReadFile(file)
		apiVersion, kind, raw, _, _ := SplitEnvelope(data)
		gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
		if i := sort.Search(len(all), func(i int) bool { return all[i].String() >= gvk.String() }); i < len(all) && all[i] == gvk {
			f.Add(uint16(i), raw)
		}
	}
	f.Fuzz(func(t *testing.T, n uint16, raw []byte) {
		i := int(n) % len(all)
		compare(t, programs[i], s.AllKnownTypes()[all[i]], all[i], raw)
		_, _ = ScanMeta(raw)
		_ = ScanString(raw, 2, 10)
		_, _, _, _, _ = SplitEnvelope(append([]byte(Magic), raw...))
	})
}

func FuzzCompact(f *testing.F) {
	f.Add([]byte(` {"a" : [1, -2.5e+3, "\u00e9<>&` + "\u2028" + `", null, true, {}]} `))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := json.Marshal(json.RawMessage(data))
		got, err := appendCompact(nil, data)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%q: got %q, %v; want %q, %v", data, got, err, want, wantErr)
		}
	})
}

func samplePod() *corev1.Pod {
	pod := &corev1.Pod{}
	data := `{"metadata":{"name":"web-7d4b9c-x2x1z","namespace":"default","uid":"0b9e2f64-1df1-4f6a-9e2c-0f8a3f1f2b11",
	"creationTimestamp":"2026-01-02T03:04:05Z","labels":{"app":"web","pod-template-hash":"7d4b9c"},
	"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-7d4b9c","uid":"u","controller":true}],
	"managedFields":[{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-01-02T03:04:05Z","fieldsType":"FieldsV1",
	"fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}},"f:phase":{},"f:podIP":{}}}}]},
	"spec":{"nodeName":"n1","containers":[{"name":"c","image":"nginx:1.27","resources":{"requests":{"cpu":"250m","memory":"1536Mi"},"limits":{"memory":"2Gi"}},
	"env":[{"name":"A","value":"b"}],"ports":[{"containerPort":80}],"livenessProbe":{"httpGet":{"path":"/","port":80}}}],
	"volumes":[{"name":"kube-api-access","projected":{"sources":[{"serviceAccountToken":{"path":"token"}}]}}]},
	"status":{"phase":"Running","podIP":"10.0.0.7","conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-01-02T03:04:05Z"}]}}`
	if err := json.Unmarshal([]byte(data), pod); err != nil {
		panic(err)
	}
	return pod
}

func BenchmarkPod(b *testing.B) {
	raw, err := samplePod().Marshal()
	if err != nil {
		b.Fatal(err)
	}
	p, err := Compile(reflect.TypeFor[corev1.Pod]())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("transcode", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			if buf, err = p.AppendJSON(buf[:0], "v1", "Pod", raw, "12345"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decodeEncode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := reference(reflect.TypeFor[corev1.Pod](), "v1", "Pod", raw, "12345"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scanMeta", func(b *testing.B) {
		for b.Loop() {
			if m, err := ScanMeta(raw); err != nil || m.Name == "" {
				b.Fatal(fmt.Errorf("scan: %w", err))
			}
		}
	})
}
