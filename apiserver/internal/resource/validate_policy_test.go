package resource

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestPolicies(t *testing.T) {
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]*Kind{}
	for _, k := range Kinds() {
		kinds[k.Kind] = k
	}
	const rule = `{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}`
	for _, tc := range []struct{ kind, spec, want string }{
		{"ValidatingAdmissionPolicy", `{matchConstraints: {resourceRules: [` + rule + `]}, validations: [{expression: "true", message: no, reason: Forbidden}]}`, ""},
		{"ValidatingAdmissionPolicy", `{}`, "spec.matchConstraints: Required value;spec.validations: Required value: validations or auditAnnotations must contain at least one item;spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item"},
		{
			"ValidatingAdmissionPolicy", `{failurePolicy: Later, paramKind: {apiVersion: A/v1, kind: X}, matchConstraints: {}, validations: [{expression: "true", message: "a\nb", reason: Maybe}]}`,
			`spec.failurePolicy: Unsupported value: "Later": supported values: "Fail", "Ignore";spec.paramKind.apiVersion: Invalid value: "A": a lowercase;spec.matchConstraints.resourceRules: Required value;spec.validations[0].message: Invalid value: "a\nb": must not contain line breaks;spec.validations[0].reason: Unsupported value: "Maybe"`,
		},
		{
			"ValidatingAdmissionPolicy", `{matchConstraints: {resourceRules: [` + rule + `]}, variables: [{name: in, expression: "1"}], auditAnnotations: [{key: k, valueExpression: "'a'"}, {key: k, valueExpression: "'a'"}]}`,
			`spec.variables[0].name: Invalid value: "in": must be a valid CEL identifier;spec.auditAnnotations[1].key: Duplicate value: "k"`,
		},
		{
			"MutatingAdmissionPolicy", `{matchConstraints: {resourceRules: [` + strings.Replace(rule, "CREATE", "DELETE", 1) + `]}, reinvocationPolicy: Never, mutations: [{patchType: JSONPatch}, {}]}`,
			`spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE";spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch;spec.mutations[1].patchType: Required value`,
		},
		{"ValidatingAdmissionPolicyBinding", `{policyName: p, validationActions: [Deny]}`, ""},
		{
			"ValidatingAdmissionPolicyBinding", `{policyName: P_, paramRef: {name: a, selector: {}}, validationActions: [Deny, Warn, Deny]}`,
			`spec.policyName: Invalid value: "P_";spec.paramRef.name: Forbidden: name and selector;spec.paramRef.selector: Forbidden: name and selector;spec.paramRef.parameterNotFoundAction: Required value;spec.validationActions[2]: Duplicate value: "Deny";spec.validationActions: Invalid value: ["Deny","Warn","Deny"]: must not contain both`,
		},
		{"MutatingAdmissionPolicyBinding", `{paramRef: {parameterNotFoundAction: Allow}}`, "spec.policyName: Required value;spec.paramRef: Required value: one of name or selector must be specified"},
	} {
		k := kinds[tc.kind]
		obj, err := scheme.New(k.GroupVersionKind)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(fmt.Appendf(nil, "{metadata: {name: p}, spec: %s}", tc.spec), obj); err != nil {
			t.Fatal(err)
		}
		k.Strategy.Default(obj)
		got := k.Strategy.Validate(obj)
		var want []string
		if tc.want != "" {
			want = strings.Split(tc.want, ";")
		}
		if len(got) != len(want) {
			t.Errorf("%s %s:\n%v\nwant %d errors: %q", tc.kind, tc.spec, got.ToAggregate(), len(want), want)
			continue
		}
		for i, w := range want {
			if !strings.HasPrefix(got[i].Error(), w) {
				t.Errorf("%s %s:\ngot  %s\nwant %s", tc.kind, tc.spec, got[i], w)
			}
		}
	}
}
