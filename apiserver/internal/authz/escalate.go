package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/auth/rbac/validation"

	"flagship/apiserver/internal/authn"
)

// CheckEscalation refuses, as a 403 Status, a role or binding with which the user would grant rights that the user
// does not have. It applies to the creation and to the update of Roles, ClusterRoles, RoleBindings and
// ClusterRoleBindings; az answers whether the user may escalate or bind.
func (r *RBAC) CheckEscalation(ctx context.Context, az Authorizer, user *authn.Identity, obj runtime.Object) error {
	if user.InGroup(authn.PrivilegedGroup) {
		return nil
	}
	switch o := obj.(type) {
	case *rbacv1.ClusterRole:
		return r.checkRole(ctx, az, user, "clusterroles", "", o.Name, o.Rules, o.AggregationRule)
	case *rbacv1.Role:
		return r.checkRole(ctx, az, user, "roles", o.Namespace, o.Name, o.Rules, nil)
	case *rbacv1.ClusterRoleBinding:
		return r.checkBinding(ctx, az, user, "clusterrolebindings", "", o.Name, o.RoleRef)
	case *rbacv1.RoleBinding:
		return r.checkBinding(ctx, az, user, "rolebindings", o.Namespace, o.Name, o.RoleRef)
	}
	return nil
}

func allowed(ctx context.Context, az Authorizer, user *authn.Identity, verb, resource, namespace, name string) bool {
	d, _, _ := az.Authorize(ctx, Attributes{
		User: user, Verb: verb, ResourceRequest: true, APIGroup: rbacv1.GroupName, APIVersion: "*",
		Resource: resource, Namespace: namespace, Name: name,
	})
	return d == Allow
}

func forbid(resource, name string, err error) error {
	return apierrors.NewForbidden(schema.GroupResource{Group: rbacv1.GroupName, Resource: resource}, name, err)
}

func (r *RBAC) checkRole(ctx context.Context, az Authorizer, user *authn.Identity, resource, namespace, name string,
	rules []rbacv1.PolicyRule, aggregation *rbacv1.AggregationRule,
) error {
	if allowed(ctx, az, user, "escalate", resource, namespace, name) {
		return nil
	}
	if err := r.covers(user, namespace, rules); err != nil {
		return forbid(resource, name, err)
	}
	if aggregation != nil && len(aggregation.ClusterRoleSelectors) > 0 {
		if r.covers(user, namespace, []rbacv1.PolicyRule{on("*", "*", "*"), urls("*", "*")}) != nil {
			return forbid(resource, name, errors.New("must have cluster-admin privileges to use the aggregationRule"))
		}
	}
	return nil
}

func (r *RBAC) checkBinding(ctx context.Context, az Authorizer, user *authn.Identity, resource, namespace, name string, ref rbacv1.RoleRef) error {
	roles := map[string]string{"ClusterRole": "clusterroles", "Role": "roles"}[ref.Kind]
	if roles != "" && allowed(ctx, az, user, "bind", roles, namespace, ref.Name) {
		return nil
	}
	r.mu.RLock()
	rules, err := r.rulesOf(ref, namespace)
	r.mu.RUnlock()
	if err != nil {
		return err
	}
	if err := r.covers(user, namespace, rules); err != nil {
		return forbid(resource, name, err)
	}
	return nil
}

// covers says, as an error, which of the rules the user does not hold.
func (r *RBAC) covers(user *authn.Identity, namespace string, rules []rbacv1.PolicyRule) error {
	held, resolution := r.rulesFor(user, namespace)
	ok, missing := validation.Covers(held, rules)
	if ok {
		return nil
	}
	var lines []string
	for _, m := range compact(missing) {
		lines = append(lines, ruleString(m))
	}
	slices.Sort(lines)
	msg := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		user.Name, user.Groups, strings.Join(slices.Compact(lines), "\n"))
	if resolution != nil {
		msg += fmt.Sprintf("; resolution errors: [%v]", resolution)
	}
	return errors.New(msg)
}

// compact merges the verbs of rules about the same resource.
func compact(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	at := map[string]int{}
	for _, r := range rules {
		if len(r.NonResourceURLs) > 0 {
			out = append(out, r)
			continue
		}
		key := fmt.Sprintf("%q %q %q", r.APIGroups, r.Resources, r.ResourceNames)
		if i, ok := at[key]; ok {
			for _, v := range r.Verbs {
				if !slices.Contains(out[i].Verbs, v) {
					out[i].Verbs = append(slices.Clip(out[i].Verbs), v)
				}
			}
			continue
		}
		at[key] = len(out)
		out = append(out, r)
	}
	return out
}

func ruleString(r rbacv1.PolicyRule) string {
	var parts []string
	for _, p := range []struct {
		name string
		vals []string
	}{
		{"APIGroups", r.APIGroups},
		{"Resources", r.Resources},
		{"NonResourceURLs", r.NonResourceURLs},
		{"ResourceNames", r.ResourceNames},
		{"Verbs", r.Verbs},
	} {
		if len(p.vals) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", p.name, p.vals))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
