package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// codeOf is the status code of an error, 0 for none.
func codeOf(err error) int32 {
	if err == nil {
		return 0
	}
	return statusOf(err).Code
}

func TestAliases(t *testing.T) {
	a := &API{cfg: Config{MaxBody: 3 << 20}}
	echo := func(size, n int) string {
		return "a: &a " + strings.Repeat("x", size) + "\nb: [" + strings.Repeat("*a,", n) + "*a]\n"
	}
	for name, c := range map[string]struct {
		yaml string
		code int32
	}{
		"none":                        {"a: 1\n", 0},
		"few":                         {"a: &a {x: y}\nb: *a\n", 0},
		"a text many times":           {echo(100, 10_000), 0},
		"a long text too often":       {echo(1000, 10_000), http.StatusRequestEntityTooLarge},
		"a long key too often":        {"a: &a " + strings.Repeat("x", 1000) + "\nb: [" + strings.Repeat("{*a : 1},", 10_000) + "1]\n", http.StatusRequestEntityTooLarge},
		"what is no YAML is not ours": {"a: &a *a\n", 0},
	} {
		if got := codeOf(a.boundAliases([]byte(c.yaml))); got != c.code {
			t.Errorf("%s: %d, want %d", name, got, c.code)
		}
	}
	if _, err := a.yamlToJSON([]byte(echo(1000, 10_000)), metav1.FieldValidationStrict); codeOf(err) != http.StatusRequestEntityTooLarge {
		t.Error("a body is read whose aliases are too much:", err)
	}
}

func TestErrorsBounded(t *testing.T) {
	var errs field.ErrorList
	for i := range 20_000 {
		errs = append(errs, field.Required(field.NewPath("f").Index(i), ""))
	}
	s := statusOf(invalid(schema.GroupKind{Kind: "Pod"}, "p", errs))
	if len(s.Details.Causes) != maxErrors || !strings.HasSuffix(s.Message, fmt.Sprintf(" and %d more errors", 20_000-maxErrors)) {
		t.Errorf("%d causes, message ends %q", len(s.Details.Causes), s.Message[max(0, len(s.Message)-60):])
	}
	if s := statusOf(invalid(schema.GroupKind{Kind: "Pod"}, "p", errs[:2])); len(s.Details.Causes) != 2 || strings.Contains(s.Message, "more errors") {
		t.Error("few errors:", s)
	}
}

func TestCopiesBounded(t *testing.T) {
	if _, err := New(Config{MaxBody: 3 << 20}, Deps{}); err != nil {
		t.Fatal(err)
	}
	var ops []string
	for i := range 30 {
		ops = append(ops, fmt.Sprintf(`{"op":"copy","from":"/data","path":"/data/k%d"}`, i))
	}
	_, _, err := jsonPatch([]byte(`{"data":{"a":"b"}}`), []byte("["+strings.Join(ops, ",")+"]"), metav1.FieldValidationIgnore)
	if codeOf(err) != http.StatusUnprocessableEntity {
		t.Error("copies that double:", err)
	}
}

func TestListsBounded(t *testing.T) {
	many := make([]any, maxPatchOperations+1)
	if err := boundLists(map[string]any{"spec": map[string]any{"containers": many[1:]}}); err != nil {
		t.Error(err)
	}
	if err := boundLists(map[string]any{"a": []any{map[string]any{"b": many}}}); codeOf(err) != http.StatusRequestEntityTooLarge {
		t.Error("a long list:", err)
	}
}

func TestItemsBounded(t *testing.T) {
	labels := map[string]string{}
	for i := range maxItems + 1 {
		labels[fmt.Sprint(i)] = ""
	}
	wide := map[string]any{}
	for k := range labels {
		wide[k] = nil
	}
	for name, c := range map[string]struct {
		obj  runtime.Object
		code int32
	}{
		"small":                       {&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Args: []string{"a"}}}}}, 0},
		"labels":                      {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels}}, http.StatusRequestEntityTooLarge},
		"a list in a list":            {&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Args: make([]string, maxItems+1)}}}}, http.StatusRequestEntityTooLarge},
		"bytes":                       {&corev1.Secret{Data: map[string][]byte{"a": make([]byte, maxItems+1)}}, 0},
		"a map of a custom resource":  {&unstructured.Unstructured{Object: map[string]any{"l": []any{wide}}}, http.StatusRequestEntityTooLarge},
		"a list of a custom resource": {&unstructured.Unstructured{Object: map[string]any{"l": make([]any, maxItems+1)}}, 0},
		"a long one":                  {&unstructured.Unstructured{Object: map[string]any{"l": make([]any, maxCustomItems+1)}}, http.StatusRequestEntityTooLarge},
	} {
		if got := codeOf(boundItems(c.obj)); got != c.code {
			t.Errorf("%s: %d, want %d", name, got, c.code)
		}
	}
}

func TestQuantities(t *testing.T) {
	pod := `{"metadata":{"annotations":{"n":"1e1000000000"}},"spec":{"containers":[{"resources":{"limits":{"cpu":%s}}}]}}`
	for cpu, costly := range map[string]bool{
		`"1e1000000000"`: true, `1e1000000000`: true, `"1E-99999"`: true, `"1\u0065100000"`: true, `"` + strings.Repeat("9", 1000) + `"`: true, `"0.` + strings.Repeat("0", 200) + `1"`: true,
		`"1e10"`: false, `1`: false, `"100m"`: false, `"18446744073709551615"`: false, `"1.5Gi"`: false,
	} {
		if err := checkQuantities(fmt.Appendf(nil, pod, cpu), reflect.TypeFor[*corev1.Pod]()); (err != nil) != costly {
			t.Errorf("%.40s: %v", cpu, err)
		}
	}
}

func TestMerged(t *testing.T) {
	for _, c := range [][2]string{
		{`{"a":1,"b":{"c":2}}`, `{"a":null,"b":{"c":null,"d":{"e":null,"f":[null,{"g":null}]}}}`},
		{`{"a":12345678901234567890,"b":1.10}`, `{"c":1e2}`},
		{`{"a":{"b":1}}`, `{"a":[1,{"x":null}]}`},
		{`{"a":[1]}`, `{"a":{"b":null,"c":"<&>"}}`},
		{`{"a":null}`, `{"a":{"b":null}}`},
		{`{"a":1}`, `[null,{"a":null,"b":2}]`},
		{`{"a":1}`, `null`},
		{`{"a":1}`, `1`},
		{`{"a":1}`, `"x"`},
		{`{"a":1}`, `{`},
		{`{"a":1}`, ``},
		{`{"a":1}`, `{} {}`},
		{`null`, `{}`},
	} {
		compareMerge(t, []byte(c[0]), []byte(c[1]))
	}
}

// compareMerge wants what upstream's library answers.
func compareMerge(t *testing.T, doc, patch []byte) {
	t.Helper()
	want, wantErr := jsonpatch.MergePatch(doc, patch)
	got, err := merged(doc, patch)
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("%s by %s: error %v, want %v", doc, patch, err, wantErr)
	}
	if err != nil {
		return
	}
	var a, b any
	if err := json.Unmarshal(want, &a); err != nil {
		return
	}
	if err := json.Unmarshal(got, &b); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("%s by %s: %s", doc, patch, d)
	}
}
