package authz

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flagship/apiserver/internal/authn"
)

func loadABAC(t *testing.T, lines ...string) (ABAC, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadABAC(path)
}

func versioned(spec string) string {
	return `{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": ` + spec + `}`
}

func TestABAC(t *testing.T) {
	l, err := loadABAC(t, "# who may what", "",
		versioned(`{"user":"alice","namespace":"a","resource":"*","apiGroup":"*"}`),
		versioned(`{"user":"bob","namespace":"*","resource":"pods","readonly":true}`),
		versioned(`{"group":"*","nonResourcePath":"/open/*","readonly":true}`),
		versioned(`{"namespace":"*","resource":"*","apiGroup":"*"}`),
		`{"user":"old","namespace":"o"}`,
		`{"group":"rulers"}`,
	)
	if err != nil {
		t.Fatal(err)
	}
	at := func(user, verb, group, resource, namespace string) Attributes {
		return Attributes{User: &authn.Identity{Name: user}, ResourceRequest: true, Verb: verb, APIGroup: group, Resource: resource, Namespace: namespace}
	}
	path := func(verb, path string, groups ...string) Attributes {
		return Attributes{User: &authn.Identity{Name: "x", Groups: groups}, Verb: verb, Path: path}
	}
	for i, x := range []struct {
		a    Attributes
		want Decision
	}{
		{at("alice", "delete", "apps", "deployments", "a"), Allow},
		{at("alice", "delete", "apps", "deployments", "b"), NoOpinion},
		{at("bob", "watch", "", "pods", ""), Allow},
		{at("bob", "create", "", "pods", "b"), NoOpinion},
		{at("bob", "get", "metrics.k8s.io", "pods", "b"), NoOpinion},
		{at("old", "create", "batch", "jobs", "o"), Allow},
		{at("nobody", "get", "", "pods", "a"), NoOpinion},
		{path("get", "/open/x", authn.AllAuthenticated), Allow},
		{path("post", "/open/x", authn.AllAuthenticated), NoOpinion},
		{path("get", "/open/x", authn.AllUnauthenticated), NoOpinion},
		{path("post", "/anything", "rulers"), Allow},
	} {
		if d, _, err := l.Authorize(t.Context(), x.a); d != x.want || err != nil {
			t.Errorf("%d: %v %v, want %v", i, d, err, x.want)
		}
	}
	r, err := l.RulesFor(&authn.Identity{Name: "bob", Groups: []string{authn.AllAuthenticated}}, "b")
	if err != nil || r.Incomplete || len(r.List) != 1 || r.List[0].Verbs[0] != "get" {
		t.Errorf("%+v %v", r, err)
	}
}

func TestWrongABAC(t *testing.T) {
	for line, want := range map[string]string{
		"x": "line 2", `{"apiVersion":"v1","kind":"Policy"}`: "not a Policy of abac.authorization.kubernetes.io/v1beta1",
	} {
		if _, err := loadABAC(t, "# comment", line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
