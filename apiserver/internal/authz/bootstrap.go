package authz

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The builders below take lists separated by spaces; the API group "core" is the empty one.

func words(s string) []string { return strings.Fields(s) }

func on(verbs, groups, resources string) rbacv1.PolicyRule {
	g := words(groups)
	if i := slices.Index(g, "core"); i >= 0 {
		g[i] = ""
	}
	return rbacv1.PolicyRule{Verbs: words(verbs), APIGroups: g, Resources: words(resources)}
}

func named(verbs, groups, resources, names string) rbacv1.PolicyRule {
	r := on(verbs, groups, resources)
	r.ResourceNames = words(names)
	return r
}

func urls(verbs, paths string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: words(verbs), NonResourceURLs: words(paths)}
}

const aggregateLabel = "rbac.authorization.k8s.io/aggregate-to-"

func bootstrapMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:   namespace,
		Name:        name,
		Labels:      map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: bootstrapMeta("", name), Rules: rules}
}

// into labels a role for aggregation into another.
func into(target string, r *rbacv1.ClusterRole) *rbacv1.ClusterRole {
	r.Labels[aggregateLabel+target] = "true"
	return r
}

// aggregate is a role whose rules the aggregation controller gathers from those labelled for it.
func aggregate(name, from, target string) *rbacv1.ClusterRole {
	r := clusterRole(name)
	r.AggregationRule = &rbacv1.AggregationRule{
		ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{aggregateLabel + from: "true"}}},
	}
	if target != "" {
		into(target, r)
	}
	return r
}

func role(namespace, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: bootstrapMeta(namespace, name), Rules: rules}
}

// subjects reads user:NAME, group:NAME and sa:NAMESPACE/NAME.
func subjects(s string) []rbacv1.Subject {
	var out []rbacv1.Subject
	for _, w := range words(s) {
		kind, name, _ := strings.Cut(w, ":")
		switch kind {
		case "user":
			out = append(out, rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name})
		case "group":
			out = append(out, rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name})
		case "sa":
			ns, name, _ := strings.Cut(name, "/")
			out = append(out, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: name})
		}
	}
	return out
}

func bindCluster(name, to string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: bootstrapMeta("", name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   subjects(to),
	}
}

func bind(namespace, name, ref, to string) *rbacv1.RoleBinding {
	kind, target, _ := strings.Cut(ref, "/")
	return &rbacv1.RoleBinding{
		ObjectMeta: bootstrapMeta(namespace, name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: target},
		Subjects:   subjects(to),
	}
}

// NodeRules are the rules of system:node, by which the node authorizer judges what the graph has no say in.
func NodeRules() []rbacv1.PolicyRule {
	for _, r := range defaultClusterRoles() {
		if r.Name == "system:node" {
			return r.Rules
		}
	}
	panic("authz: no default role system:node")
}
