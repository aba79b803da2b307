package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const registration = "/apis/admissionregistration.k8s.io/v1/"

func TestAdmissionPolicies(t *testing.T) {
	c := startCluster(t)
	for _, scenario := range []struct {
		name string
		run  func(*cluster)
	}{
		{"a validating policy denies, warns and takes parameters", validatingPolicies},
		{"a mutating policy merges and patches", mutatingPolicies},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			scenario.run(&cluster{t: t, base: c.base, client: c.client})
		})
	}
}

// policy makes a policy about config maps in default, and a binding.
func (c *cluster) policy(kind, name, spec, binding string) {
	c.t.Helper()
	plural := strings.TrimSuffix(strings.ToLower(kind), "y")
	c.json("POST", registration+plural+"ies", jsonType, fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":%q,"metadata":{"name":%q},"spec":{"matchConstraints":{"resourceRules":[{"operations":["CREATE","UPDATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["configmaps"]}]},%s}}`, kind, name, spec), 201)
	c.json("POST", registration+plural+"ybindings", jsonType, fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"%sBinding","metadata":{"name":%q},"spec":{"policyName":%q,"matchResources":{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"default"}}}%s}}`, kind, name, name, binding), 201)
}

func validatingPolicies(c *cluster) {
	c.json("POST", configMaps, jsonType, `{"metadata":{"name":"limits"},"data":{"longest":"3"}}`, 201)
	c.policy("ValidatingAdmissionPolicy", "short", `"paramKind":{"apiVersion":"v1","kind":"ConfigMap"},
"matchConditions":[{"name":"not-limits","expression":"object.metadata.name != 'limits'"}],
"variables":[{"name":"longest","expression":"int(params.data.longest)"},{"name":"value","expression":"object.data['a']"}],
"validations":[{"expression":"!has(object.data) || size(variables.value) <= variables.longest","messageExpression":"'a is longer than ' + string(variables.longest)","reason":"Forbidden"},
{"expression":"authorizer.group('').resource('secrets').check('list').allowed()"},{"expression":"namespaceObject.metadata.name == 'default' && request.operation in ['CREATE','UPDATE']"}]`,
		`,"validationActions":["Deny"],"paramRef":{"name":"limits","namespace":"default","parameterNotFoundAction":"Deny"}`)
	bad := `{"metadata":{"name":"long"},"data":{"a":"12345"}}`
	c.until("it is denied", func() bool {
		code, data := c.call("POST", configMaps+"?dryRun=All", "admin", jsonType, jsonType, bad)
		return code == 403 && strings.Contains(string(data), "ValidatingAdmissionPolicy 'short' with binding 'short' denied request: a is longer than 3")
	})
	c.json("POST", configMaps, jsonType, `{"metadata":{"name":"ok"},"data":{"a":"123"}}`, 201)
	c.json("PATCH", configMaps+"/limits", mergeType, `{"data":{"longest":"9"}}`, 200)
	c.until("the parameter counts", func() bool {
		code, _ := c.call("POST", configMaps+"?dryRun=All", "admin", jsonType, jsonType, bad)
		return code == 201
	})
	c.json("DELETE", configMaps+"/limits", "", "", 200)
	c.until("the parameter is missed", func() bool {
		code, data := c.call("POST", configMaps+"?dryRun=All", "admin", jsonType, jsonType, bad)
		return code == 422 && strings.Contains(string(data), "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction")
	})
	c.json("DELETE", registration+"validatingadmissionpolicybindings/short", "", "", 200)
	c.policy("ValidatingAdmissionPolicy", "warns", `"validations":[{"expression":"object.metadata.name != 'odd'","message":"an odd name"}]`, `,"validationActions":["Warn"]`)
	c.until("it warns", func() bool {
		req, err := http.NewRequestWithContext(c.t.Context(), "POST", c.base+configMaps+"?dryRun=All", strings.NewReader(`{"metadata":{"name":"odd"}}`))
		if err != nil {
			c.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer admin")
		req.Header.Set("Content-Type", jsonType)
		resp, err := c.client.Do(req)
		if err != nil {
			c.t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode == 201 && strings.Contains(resp.Header.Get("Warning"), "Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns': an odd name")
	})
}

func mutatingPolicies(c *cluster) {
	c.policy("MutatingAdmissionPolicy", "marks", `"reinvocationPolicy":"Never","failurePolicy":"Fail","variables":[{"name":"team","expression":"'red'"}],
"matchConditions":[{"name":"marked","expression":"object.metadata.name.startsWith('mark')"}],
"mutations":[{"patchType":"ApplyConfiguration","applyConfiguration":{"expression":"Object{metadata: Object.metadata{labels: Object.metadata.labels{team: variables.team}}}"}},
{"patchType":"JSONPatch","jsonPatch":{"expression":"[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/who'), value: request.userInfo.username}]"}}]`, "")
	c.until("it is marked", func() bool {
		cm := c.json("POST", configMaps+"?dryRun=All", jsonType, `{"metadata":{"name":"mark-1"},"data":{"a":"1"}}`, 201)
		return at(cm, "metadata", "labels", "team") == "red" && at(cm, "metadata", "labels", "example.com/who") == "admin" && at(cm, "data", "a") == "1"
	})
	c.want(c.json("POST", configMaps+"?dryRun=All", jsonType, `{"metadata":{"name":"plain"}}`, 201), nil, "metadata", "labels")
}
