package policy

import (
	"context"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/expression"
	"flagship/apiserver/internal/match"
)

// objects are policies and bindings by resource.
type objects map[string][]runtime.Object

func (o objects) Each(gvr schema.GroupVersionResource, _ string, visit func(runtime.Object) bool) error {
	for _, obj := range o[gvr.Resource] {
		if !visit(obj) {
			break
		}
	}
	return nil
}

func (objects) Changed(schema.GroupVersionResource) int64 { return 1 }

func (objects) ReadFresh(context.Context, schema.GroupVersionResource, string, string) (runtime.Object, error) {
	return nil, nil
}

func (objects) ResourceOf(schema.GroupVersionKind) (schema.GroupVersionResource, bool, bool) {
	return schema.GroupVersionResource{}, false, false
}

func (objects) ConvertTo(obj runtime.Object, _, _ schema.GroupVersionResource) (runtime.Object, error) {
	return obj, nil
}

func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

const constraints = "matchConstraints: {matchPolicy: Exact, resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}"

func deps(o objects) (*Deps, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	namespace := func(context.Context, string) (*corev1.Namespace, error) { return &corev1.Namespace{}, nil }
	return &Deps{
		API: o, Matcher: &match.Matcher{Namespace: namespace}, Namespace: namespace, Expressions: &expression.Compiler{}, Metrics: NewMetrics(reg),
		Types: func(schema.GroupVersionKind) managedfields.TypeConverter {
			return managedfields.NewDeducedTypeConverter()
		},
	}, reg
}

func request() *admission.Attributes {
	return &admission.Attributes{
		Operation: admission.Create, Namespace: "ns", User: &authn.Identity{Name: "jane"}, Object: &corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"},
		},
		Resource: corev1.SchemeGroupVersion.WithResource("configmaps"), Kind: corev1.SchemeGroupVersion.WithKind("ConfigMap"),
	}
}

func compare(t *testing.T, reg *prometheus.Registry, name, help string, want ...string) {
	t.Helper()
	text := "# HELP " + name + " " + help + "\n# TYPE " + name + " counter\n"
	for _, w := range want {
		text += name + w + "\n"
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(text), name); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, strings.TrimSuffix(name, "total")+"duration_seconds"); n != len(want) || err != nil {
		t.Errorf("%d of %d series of durations, %v", n, len(want), err)
	}
}

func TestValidatingMetrics(t *testing.T) {
	o := objects{}
	add := func(name, failurePolicy, actions, spec string) {
		o["validatingadmissionpolicies"] = append(o["validatingadmissionpolicies"], parse[admissionregistrationv1.ValidatingAdmissionPolicy](t,
			"metadata: {name: "+name+", uid: u}\nspec:\n  failurePolicy: "+failurePolicy+"\n  "+constraints+"\n  "+spec))
		o["validatingadmissionpolicybindings"] = append(o["validatingadmissionpolicybindings"], parse[admissionregistrationv1.ValidatingAdmissionPolicyBinding](t,
			"metadata: {name: b-"+name+", uid: u}\nspec: {policyName: "+name+", validationActions: "+actions+"}"))
	}
	add("holds", "Fail", "[Deny]", "validations: [{expression: 'true'}]")
	add("refuses", "Fail", "[Deny]", "validations: [{expression: 'false'}, {expression: 'false'}]")
	add("tells", "Fail", "[Warn, Audit]", "validations: [{expression: 'false'}]")
	add("ignored", "Ignore", "[Deny]", "validations: [{expression: 'object.x == 1'}]")
	add("wrong", "Fail", "[Deny]", "validations: [{expression: 'nonsense'}]")
	add("noted", "Fail", "[Deny]", "auditAnnotations: [{key: k, valueExpression: string(object.x)}]")
	d, reg := deps(o)
	if err := NewValidating(d).Validate(t.Context(), request()); err == nil {
		t.Error("not refused")
	}
	compare(t, reg, "apiserver_validating_admission_policy_check_total",
		"[BETA] Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
		`{enforcement_action="allow",error_type="invalid_error",policy="ignored",policy_binding="b-ignored"} 1`,
		`{enforcement_action="deny",error_type="invalid_error",policy="noted",policy_binding="b-noted"} 1`,
		`{enforcement_action="deny",error_type="invalid_error",policy="refuses",policy_binding="b-refuses"} 2`,
		`{enforcement_action="audit",error_type="invalid_error",policy="tells",policy_binding="b-tells"} 1`,
		`{enforcement_action="warn",error_type="invalid_error",policy="tells",policy_binding="b-tells"} 1`,
		`{enforcement_action="deny",error_type="compile_error",policy="wrong",policy_binding="b-wrong"} 1`,
	)
}

func TestMutatingMetrics(t *testing.T) {
	o := objects{}
	add := func(name, spec string) {
		o["mutatingadmissionpolicies"] = append(o["mutatingadmissionpolicies"], parse[admissionregistrationv1.MutatingAdmissionPolicy](t,
			"metadata: {name: "+name+", uid: u}\nspec:\n  reinvocationPolicy: Never\n  "+constraints+"\n  mutations: "+spec))
		o["mutatingadmissionpolicybindings"] = append(o["mutatingadmissionpolicybindings"], parse[admissionregistrationv1.MutatingAdmissionPolicyBinding](t,
			"metadata: {name: b-"+name+", uid: u}\nspec: {policyName: "+name+"}"))
	}
	const set = `{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: "add", path: "/data", value: {"a": "b"}}]'}}`
	add("sets", "["+set+", "+set+"]")
	add("fails", `[{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: "add", path: "/data/" + string(object.x), value: "b"}]'}}]`)
	add("wrong", "[{patchType: JSONPatch, jsonPatch: {expression: nonsense}}]")
	d, reg := deps(o)
	a := request()
	if err := NewMutating(d).Mutate(t.Context(), a); err == nil {
		t.Error("not refused")
	}
	if got := a.Object.(*corev1.ConfigMap).Data["a"]; got != "b" {
		t.Errorf("mutated to %q", got)
	}
	compare(t, reg, "apiserver_mutating_admission_policy_check_total", "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by binding.",
		`{error_type="invalid_error",policy="fails",policy_binding="b-fails"} 1`,
		`{error_type="no_error",policy="sets",policy_binding="b-sets"} 2`,
		`{error_type="compile_error",policy="wrong",policy_binding="b-wrong"} 1`,
	)
}

func TestErrorType(t *testing.T) {
	for message, want := range map[string]string{
		"compilation error: compilation failed: x": "compile_error", "failed expression: false": "invalid_error",
		"validation failed due to running out of cost budget, no further validation rules will be run": "out_of_budget",
	} {
		if got := errorType(message); got != want {
			t.Errorf("%s: %s", message, got)
		}
	}
}
