package match

import (
	"context"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/admission"
)

// versions serves pods in two versions.
type versions struct{}

func (versions) Equivalents(gvr schema.GroupVersionResource, _ string) []schema.GroupVersionResource {
	return []schema.GroupVersionResource{{Group: "example.com", Version: "v2", Resource: gvr.Resource}}
}

func (versions) KindOf(gvr schema.GroupVersionResource, _ string) (schema.GroupVersionKind, bool) {
	return gvr.GroupVersion().WithKind("Pod"), true
}

func rule(group, version, resource string, names ...string) Rule {
	return Rule{Names: names, RuleWithOperations: admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{"CREATE"},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}},
	}}
}

func TestMatch(t *testing.T) {
	m := &Matcher{API: versions{}, Namespace: func(_ context.Context, name string) (*corev1.Namespace, error) {
		if name == "gone" {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, name)
		}
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"n": name}}}, nil
	}}
	selector := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	cluster := admissionregistrationv1.ClusterScope
	inCluster := rule("", "v1", "pods")
	inCluster.Scope = &cluster
	for name, tc := range map[string]struct {
		rules, excluded     []Rule
		equivalent, any     bool
		namespaces, objects *metav1.LabelSelector
		sub, namespace      string
		want                string // the version that matched, "" for none
		fails               bool
	}{
		"its rule":            {rules: []Rule{rule("", "v1", "pods")}, want: "v1"},
		"any group":           {rules: []Rule{rule("*", "*", "*")}, want: "v1"},
		"another resource":    {rules: []Rule{rule("", "v1", "nodes")}},
		"its subresource":     {rules: []Rule{rule("", "v1", "pods/status")}, sub: "status", want: "v1"},
		"not a subresource":   {rules: []Rule{rule("", "v1", "pods")}, sub: "status"},
		"any subresource":     {rules: []Rule{rule("", "v1", "*/*")}, sub: "status", want: "v1"},
		"name":                {rules: []Rule{rule("", "v1", "pods", "p")}, want: "v1"},
		"another name":        {rules: []Rule{rule("", "v1", "pods", "q")}},
		"excluded":            {rules: []Rule{rule("", "v1", "pods")}, excluded: []Rule{rule("", "v1", "pods", "p")}},
		"scope":               {rules: []Rule{inCluster}},
		"exact":               {rules: []Rule{rule("example.com", "v2", "pods")}},
		"equivalent":          {rules: []Rule{rule("example.com", "v2", "pods")}, equivalent: true, want: "v2"},
		"no rules":            {},
		"no rules are all":    {any: true, want: "v1"},
		"namespace":           {rules: []Rule{rule("", "v1", "pods")}, namespaces: selector("n", "ns"), want: "v1"},
		"another namespace":   {rules: []Rule{rule("", "v1", "pods")}, namespaces: selector("n", "other")},
		"no namespace":        {rules: []Rule{rule("", "v1", "pods")}, namespaces: selector("n", "ns"), namespace: "gone", fails: true},
		"no namespace, other": {rules: []Rule{rule("", "v1", "nodes")}, namespaces: selector("n", "ns"), namespace: "gone"},
		"object":              {rules: []Rule{rule("", "v1", "pods")}, objects: selector("o", "1"), want: "v1"},
		"another object":      {rules: []Rule{rule("", "v1", "pods")}, objects: selector("o", "2")},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Selection{Rules: tc.rules, Excluded: tc.excluded, Equivalent: tc.equivalent, Any: tc.any}
			var err1, err2 error
			s.Namespaces, err1 = SelectorOf(tc.namespaces)
			s.Objects, err2 = SelectorOf(tc.objects)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			ns := tc.namespace
			if ns == "" {
				ns = "ns"
			}
			got, err := m.Match(context.Background(), s, &admission.Attributes{
				Operation: admission.Create, Resource: corev1.SchemeGroupVersion.WithResource("pods"), Kind: corev1.SchemeGroupVersion.WithKind("Pod"),
				Subresource: tc.sub, Namespace: ns, Name: "p", Object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"o": "1"}}},
			})
			if (err != nil) != tc.fails {
				t.Fatalf("error %v, want one: %t", err, tc.fails)
			}
			version := ""
			if got != nil && err == nil {
				version = got.Resource.Version
			}
			if version != tc.want {
				t.Errorf("matched %q, want %q", version, tc.want)
			}
		})
	}
}
