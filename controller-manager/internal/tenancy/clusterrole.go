package tenancy

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"flagship/controller-manager/internal/loop"
	"flagship/internal/kube"
)

// aggregate unites the rules of the roles that the rule selects, in the order of their names, each rule once.
func aggregate(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b *rbacv1.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		sel, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("aggregation rule of cluster role %s: %w", role.Name, err)
		}
		for _, r := range sorted {
			if r.Name == role.Name || !sel.Matches(labels.Set(r.Labels)) {
				continue
			}
			for _, rule := range r.Rules {
				if !slices.ContainsFunc(rules, func(x rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(x, rule) }) {
					rules = append(rules, rule)
				}
			}
		}
	}
	return rules, nil
}

// NewClusterRoleAggregation returns the clusterrole-aggregation-controller.
func NewClusterRoleAggregation(d loop.Deps) *loop.Controller {
	roles := d.Sources.ClusterRoles()
	ctl := d.Controller(5, func(ctx context.Context, name string) error {
		role := roles.Get("", name)
		if role == nil || role.AggregationRule == nil {
			return nil
		}
		rules, err := aggregate(role, roles.All())
		if err != nil || equality.Semantic.DeepEqual(rules, role.Rules) {
			return err
		}
		next := role.DeepCopy()
		next.Rules = rules
		_, err = kube.For[rbacv1.ClusterRole, rbacv1.ClusterRoleList](d.Client, rbacv1.SchemeGroupVersion.WithResource("clusterroles"), "").
			Update(ctx, next, metav1.UpdateOptions{})
		return err
	})
	loop.Watch(ctl, roles, func(e loop.Event[rbacv1.ClusterRole]) []string {
		var keys []string
		for _, r := range roles.All() {
			if r.AggregationRule != nil {
				keys = append(keys, r.Name)
			}
		}
		if e.New != nil && e.New.AggregationRule != nil {
			keys = append(keys, e.New.Name)
		}
		return keys
	})
	return ctl
}
