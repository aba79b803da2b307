package authz

import (
	"errors"

	rbacv1 "k8s.io/api/rbac/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"flagship/apiserver/internal/authn"
)

// Rules are what an authorizer allows somebody in a namespace.
type Rules struct {
	List []rbacv1.PolicyRule
	// Incomplete is whether more may be allowed than the list has.
	Incomplete bool
}

// RuleResolver lists what a user may do in a namespace. Beside an error the rules hold as far as they are known.
type RuleResolver interface {
	RulesFor(user *authn.Identity, namespace string) (Rules, error)
}

// RulesFor asks all of the authorizers that can list rules.
func (u Union) RulesFor(user *authn.Identity, namespace string) (Rules, error) {
	var out Rules
	var errs []error
	for _, a := range u {
		r, ok := a.Authorizer.(RuleResolver)
		if !ok {
			continue
		}
		rules, err := r.RulesFor(user, namespace)
		if err != nil {
			errs = append(errs, err)
		}
		out.List = append(out.List, rules.List...)
		out.Incomplete = out.Incomplete || rules.Incomplete
	}
	return out, utilerrors.NewAggregate(errs)
}

// RulesFor implements RuleResolver.
func (d Always) RulesFor(*authn.Identity, string) (Rules, error) {
	if Decision(d) != Allow {
		return Rules{}, nil
	}
	all := []string{"*"}
	return Rules{List: []rbacv1.PolicyRule{{Verbs: all, APIGroups: all, Resources: all}, {Verbs: all, NonResourceURLs: all}}}, nil
}

// RulesFor implements RuleResolver: a node's rights are in the graph.
func (n *Node) RulesFor(user *authn.Identity, _ string) (Rules, error) {
	if _, ok := NodeName(user); ok {
		return Rules{Incomplete: true}, errors.New("node authorizer does not support user rule resolution")
	}
	return Rules{}, nil
}

// RulesFor implements RuleResolver.
func (r *RBAC) RulesFor(user *authn.Identity, namespace string) (Rules, error) {
	list, err := r.rulesFor(user, namespace)
	return Rules{List: list}, err
}
