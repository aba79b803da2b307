package app_test

import (
	"fmt"
	"testing"
)

func TestEviction(t *testing.T) {
	c := startCluster(t)
	const namespace, budgets, merge = "/api/v1/namespaces/default", "/apis/policy/v1/namespaces/default/poddisruptionbudgets", "application/merge-patch+json"
	c.json("POST", namespace+"/serviceaccounts", jsonType, `{"metadata":{"name":"a"}}`, 201)
	pod := func(name, budget, ready string) string {
		c.json("POST", namespace+"/pods", jsonType, fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"of":%q}},"spec":{"nodeName":"n","serviceAccountName":"a","automountServiceAccountToken":false,"containers":[{"name":"c","image":"i"}]}}`, name, budget), 201)
		p := c.json("GET", namespace+"/pods/"+name, "", "", 200)
		if ready != "" {
			p = c.json("PATCH", namespace+"/pods/"+name+"/status", merge, `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"`+ready+`"}]}}`, 200)
		}
		return fmt.Sprint(at(p, "metadata", "resourceVersion"))
	}
	for name, status := range map[string]string{
		"spent": `"disruptionsAllowed":0,"currentHealthy":1,"desiredHealthy":1`, "one": `"disruptionsAllowed":1,"currentHealthy":3,"desiredHealthy":1`,
		"short": `"disruptionsAllowed":0,"currentHealthy":0,"desiredHealthy":1`,
	} {
		c.json("POST", budgets, jsonType, fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"minAvailable":1,"selector":{"matchLabels":{"of":%q}}}}`, name, name), 201)
		c.json("PATCH", budgets+"/"+name+"/status", merge, `{"status":{"observedGeneration":1,"expectedPods":3,`+status+`}}`, 200)
	}
	evict := func(name, options string, code int) map[string]any {
		return c.json("POST", namespace+"/pods/"+name+"/eviction", jsonType, `{"metadata":{"name":"`+name+`"}`+options+`}`, code)
	}
	pod("healthy", "spent", "True")
	c.want(at(evict("healthy", "", 429), "details", "causes").([]any)[0], "The disruption budget spent needs 1 healthy pods and has 1 currently", "message")
	pod("unhealthy", "spent", "False")
	evict("unhealthy", "", 201)
	p := c.json("GET", namespace+"/pods/unhealthy", "", "", 200)
	conditions := at(p, "status", "conditions").([]any)
	c.want(conditions[len(conditions)-1], "EvictionByEvictionAPI", "reason")
	pod("sick", "short", "False")
	evict("sick", "", 429)
	version := pod("pending", "spent", "")
	evict("pending", `,"deleteOptions":{"preconditions":{"resourceVersion":"1"}}`, 409)
	evict("pending", `,"deleteOptions":{"preconditions":{"resourceVersion":"`+version+`"},"gracePeriodSeconds":0}`, 201)
	pod("last", "one", "True")
	evict("last", "", 201)
	b := c.json("GET", budgets+"/one", "", "", 200)
	c.want(b, 0, "status", "disruptionsAllowed")
	c.want(at(b, "status", "conditions").([]any)[0], "InsufficientPods", "reason")
	if at(b, "status", "disruptedPods", "last") == nil {
		t.Error("the budget does not know of the eviction")
	}
}
