package authz

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"flagship/apiserver/internal/authn"
)

// RBAC authorizes by Roles, ClusterRoles and their bindings, which it is told by Set and Delete. It keeps what it is
// given; objects must not be changed afterwards. The zero value is ready to use and allows nothing.
type RBAC struct {
	mu       sync.RWMutex // guards what follows
	roles    map[objectKey][]rbacv1.PolicyRule
	bindings map[objectKey]*binding
	subjects map[subjectKey][]*binding
}

// objectKey names a role or a binding; the namespace of a cluster-wide one is empty.
type objectKey struct{ namespace, name string }

// subjectKey names a user or a group ("u" or "g" before the name) to whom bindings of a namespace apply.
type subjectKey struct{ namespace, subject string }

// binding is a RoleBinding or ClusterRoleBinding.
type binding struct {
	key      objectKey
	ref      rbacv1.RoleRef
	subjects []rbacv1.Subject
}

// Set takes in a Role, ClusterRole, RoleBinding or ClusterRoleBinding, or a newer version of one.
func (r *RBAC) Set(obj runtime.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.roles == nil {
		r.roles, r.bindings, r.subjects = map[objectKey][]rbacv1.PolicyRule{}, map[objectKey]*binding{}, map[subjectKey][]*binding{}
	}
	switch o := obj.(type) {
	case *rbacv1.ClusterRole:
		r.roles[objectKey{"", o.Name}] = o.Rules
	case *rbacv1.Role:
		r.roles[objectKey{o.Namespace, o.Name}] = o.Rules
	case *rbacv1.ClusterRoleBinding:
		r.bind(&binding{objectKey{"", o.Name}, o.RoleRef, o.Subjects})
	case *rbacv1.RoleBinding:
		r.bind(&binding{objectKey{o.Namespace, o.Name}, o.RoleRef, o.Subjects})
	default:
		panic(fmt.Sprintf("authz: RBAC.Set of a %T", obj))
	}
}

// Delete forgets an object; only its type, namespace and name matter.
func (r *RBAC) Delete(obj runtime.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch o := obj.(type) {
	case *rbacv1.ClusterRole:
		delete(r.roles, objectKey{"", o.Name})
	case *rbacv1.Role:
		delete(r.roles, objectKey{o.Namespace, o.Name})
	case *rbacv1.ClusterRoleBinding:
		r.unbind(objectKey{"", o.Name})
	case *rbacv1.RoleBinding:
		r.unbind(objectKey{o.Namespace, o.Name})
	default:
		panic(fmt.Sprintf("authz: RBAC.Delete of a %T", obj))
	}
}

func (r *RBAC) bind(b *binding) {
	r.unbind(b.key)
	r.bindings[b.key] = b
	for _, k := range b.index() {
		r.subjects[k] = append(r.subjects[k], b)
	}
}

func (r *RBAC) unbind(key objectKey) {
	b := r.bindings[key]
	if b == nil {
		return
	}
	delete(r.bindings, key)
	for _, k := range b.index() {
		rest := slices.DeleteFunc(slices.Clone(r.subjects[k]), func(o *binding) bool { return o == b })
		if len(rest) == 0 {
			delete(r.subjects, k)
		} else {
			r.subjects[k] = rest
		}
	}
}

// index returns the keys under which a binding is found, each once.
func (b *binding) index() []subjectKey {
	var out []subjectKey
	for _, s := range b.subjects {
		if k := b.subjectKey(s); k.subject != "" && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

func (b *binding) subjectKey(s rbacv1.Subject) subjectKey {
	switch s.Kind {
	case rbacv1.UserKind:
		return subjectKey{b.key.namespace, "u" + s.Name}
	case rbacv1.GroupKind:
		return subjectKey{b.key.namespace, "g" + s.Name}
	case rbacv1.ServiceAccountKind:
		ns := s.Namespace
		if ns == "" {
			ns = b.key.namespace
		}
		if ns != "" {
			return subjectKey{b.key.namespace, "u" + authn.ServiceAccountUsername(ns, s.Name)}
		}
	}
	return subjectKey{}
}

// describe says by whose right a rule applies, as upstream's audit annotation does.
func (b *binding) describe(subject string) string {
	kind, name := "RoleBinding", b.key.name+"/"+b.key.namespace
	if b.key.namespace == "" {
		kind, name = "ClusterRoleBinding", b.key.name
	}
	for _, s := range b.subjects {
		if b.subjectKey(s).subject != subject {
			continue
		}
		who := s.Name
		if s.Kind == rbacv1.ServiceAccountKind {
			who += "/" + cmp.Or(s.Namespace, b.key.namespace)
		}
		return fmt.Sprintf("%s %q of %s %q to %s %q", kind, name, b.ref.Kind, b.ref.Name, s.Kind, who)
	}
	return fmt.Sprintf("%s %q", kind, name)
}

// visit calls f with each rule that applies to the user in the namespace (cluster-wide ones always), until it returns
// false. A binding whose role is missing is an error.
func (r *RBAC) visit(user *authn.Identity, namespace string, f func(b *binding, subject string, rule *rbacv1.PolicyRule) bool) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	scopes := []string{""}
	if namespace != "" {
		scopes = append(scopes, namespace)
	}
	var errs []error
	for _, scope := range scopes {
		for i := -1; i < len(user.Groups); i++ {
			subject := "u" + user.Name
			if i >= 0 {
				subject = "g" + user.Groups[i]
			}
			for _, b := range r.subjects[subjectKey{scope, subject}] {
				rules, err := r.rulesOf(b.ref, scope)
				if err != nil {
					errs = append(errs, err)
				}
				for k := range rules {
					if !f(b, subject, &rules[k]) {
						return nil
					}
				}
			}
		}
	}
	return utilerrors.NewAggregate(errs)
}

func (r *RBAC) rulesOf(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	key, resource := objectKey{"", ref.Name}, "clusterroles"
	switch ref.Kind {
	case "ClusterRole":
	case "Role":
		key.namespace, resource = namespace, "roles"
	default:
		return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
	}
	rules, ok := r.roles[key]
	if !ok {
		return nil, apierrors.NewNotFound(rbacv1.Resource(strings.TrimSuffix(resource, "s")), ref.Name)
	}
	return rules, nil
}

// Authorize implements Authorizer.
func (r *RBAC) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	reason := ""
	err := r.visit(a.User, a.Namespace, func(b *binding, subject string, rule *rbacv1.PolicyRule) bool {
		if !ruleAllows(rule, &a) {
			return true
		}
		reason = "RBAC: allowed by " + b.describe(subject)
		return false
	})
	if reason != "" {
		return Allow, reason, nil
	}
	if err != nil {
		return NoOpinion, "RBAC: " + err.Error(), nil //nolint:nilerr // what could not be resolved is a reason, no failure
	}
	return NoOpinion, "", nil
}

// rulesFor returns the rules that apply to the user in the namespace; the error says what could not be resolved.
func (r *RBAC) rulesFor(user *authn.Identity, namespace string) ([]rbacv1.PolicyRule, error) {
	var out []rbacv1.PolicyRule
	err := r.visit(user, namespace, func(_ *binding, _ string, rule *rbacv1.PolicyRule) bool {
		out = append(out, *rule)
		return true
	})
	return out, err
}

func ruleAllows(rule *rbacv1.PolicyRule, a *Attributes) bool {
	if !hasOrStar(rule.Verbs, a.Verb) {
		return false
	}
	if !a.ResourceRequest {
		return slices.ContainsFunc(rule.NonResourceURLs, func(u string) bool { return pathMatches(u, a.Path) })
	}
	return hasOrStar(rule.APIGroups, a.APIGroup) && resourceMatches(rule.Resources, a.Resource, a.Subresource) &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, a.Name))
}

func hasOrStar(set []string, s string) bool {
	return slices.Contains(set, s) || slices.Contains(set, "*")
}

func resourceMatches(rules []string, resource, subresource string) bool {
	for _, r := range rules {
		switch {
		case r == "*":
			return true
		case subresource == "":
			if r == resource {
				return true
			}
		case len(r) == len(resource)+1+len(subresource) && r[:len(resource)] == resource && r[len(resource)] == '/' && r[len(resource)+1:] == subresource:
			return true
		case len(r) == 2+len(subresource) && r[:2] == "*/" && r[2:] == subresource:
			return true
		}
	}
	return false
}
