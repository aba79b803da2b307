package admission

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestLimitedResources(t *testing.T) {
	const file = `
apiVersion: apiserver.config.k8s.io/v1
kind: ResourceQuotaConfiguration
limitedResources:
- resource: pods
  matchContains: [requests.cpu]
  matchScopes: [{scopeName: PriorityClass, operator: In, values: [high]}]
- {resource: persistentvolumeclaims, matchContains: [gold.storageclass]}
`
	const cpu = "{containers: [{name: c, resources: {requests: {cpu: 1}}}]"
	const ofAll = "{metadata: {name: q, namespace: ns}, status: {hard: {requests.cpu: 9}, used: {requests.cpu: 0}}}"
	const ofHigh = "{metadata: {name: h, namespace: ns}, spec: {scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}}, status: {hard: {pods: 9}, used: {pods: 0}}}"
	for name, x := range map[string]struct {
		spec   string
		quotas []string
		want   string
	}{
		"what is not limited":          {"{containers: [{name: c}]}", nil, ""},
		"without a quota":              {cpu + "}", nil, `pods "p" is forbidden: insufficient quota to consume: requests.cpu`},
		"with a quota":                 {cpu + "}", []string{ofAll}, ""},
		"with another quota":           {cpu + "}", []string{ofHigh}, `pods "p" is forbidden: insufficient quota to consume: requests.cpu`},
		"a class without a quota":      {"{priorityClassName: high, containers: [{name: c}]}", nil, "insufficient quota to match these scopes: [{PriorityClass In [high]}]"},
		"a class with a quota":         {"{priorityClassName: high, containers: [{name: c}]}", []string{ofHigh}, ""},
		"a class with one of no scope": {cpu + ", priorityClassName: high}", []string{ofAll}, "insufficient quota to match these scopes: [{PriorityClass In [high]}]"},
		"both":                         {cpu + ", priorityClassName: high}", []string{ofAll, ofHigh}, ""},
		"another class":                {"{priorityClassName: low, containers: [{name: c}]}", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cluster{}
			for _, q := range x.quotas {
				c.quotas = append(c.quotas, parse[corev1.ResourceQuota](t, q))
			}
			off, err := New(Config{}, Deps{})
			if err != nil {
				t.Fatal(err)
			}
			chain, err := New(Config{Enable: []string{"ResourceQuota"}, Disable: without(off.Names(), "ResourceQuota"), Files: Files{"ResourceQuota": []byte(file)}}, Deps{Readers: c.readers(), Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, name, run(t, chain, createPod(t, x.spec)), x.want)
		})
	}
	for text, want := range map[string]string{
		"{apiVersion: apiserver.config.k8s.io/v1, kind: ResourceQuotaConfiguration, limitedResources: [{}]}": "limitedResources[0].resource: Required value",
		"{apiVersion: apiserver.config.k8s.io/v1, kind: Configuration}":                                      "ResourceQuotaConfiguration",
		"{apiVersion: resourcequota.admission.k8s.io/v1beta1, kind: Configuration, colour: red}":             "unknown field",
	} {
		if _, err := New(Config{Files: Files{"ResourceQuota": []byte(text)}}, Deps{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func without(list []string, name string) []string {
	var out []string
	for _, s := range list {
		if s != name {
			out = append(out, s)
		}
	}
	return out
}
