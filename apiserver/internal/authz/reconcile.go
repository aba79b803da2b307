package authz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// Store is where default objects are kept. Errors are API Statuses.
type Store interface {
	// Get fills into, which has a namespace and a name.
	Get(ctx context.Context, into runtime.Object) error
	Create(ctx context.Context, obj runtime.Object) error
	Update(ctx context.Context, obj runtime.Object) error
	Delete(ctx context.Context, obj runtime.Object) error
}

// Defaults returns the default objects in the order in which they are to be created: cluster roles, cluster role
// bindings, roles, role bindings.
func Defaults() []runtime.Object {
	var out []runtime.Object
	for _, o := range append(defaultClusterRoles(), controllerRoles()...) {
		out = append(out, o)
	}
	for _, o := range append(defaultClusterRoleBindings(), controllerRoleBindings()...) {
		out = append(out, o)
	}
	for _, o := range defaultRoles() {
		out = append(out, o)
	}
	for _, o := range defaultRoleBindings() {
		out = append(out, o)
	}
	return out
}

// reconciling bounds the default objects that are looked at at one time: the store commits what comes together at once.
const reconciling = 16

// Reconcile creates the default objects that are missing and adds to the others what they lack; nothing is removed
// from them. An object annotated with autoupdate "false" is left as it is. All are tried; the errors are joined. The
// store is used by several goroutines.
func Reconcile(ctx context.Context, s Store) error {
	wants := Defaults()
	errs := make([]error, len(wants))
	var g errgroup.Group
	g.SetLimit(reconciling)
	for i, want := range wants {
		g.Go(func() error {
			if err := reconcile(ctx, s, want); err != nil {
				errs[i] = fmt.Errorf("reconcile %T %s: %w", want, want.(metav1.Object).GetName(), err)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	return errors.Join(errs...)
}

func reconcile(ctx context.Context, s Store, want runtime.Object) error {
	have := want.DeepCopyObject()
	err := s.Get(ctx, have)
	if apierrors.IsNotFound(err) {
		return s.Create(ctx, want)
	}
	if err != nil {
		return err
	}
	next, recreate, changed := plan(want, have)
	switch {
	case recreate:
		if err := s.Delete(ctx, have); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		return s.Create(ctx, want)
	case changed:
		return s.Update(ctx, next)
	}
	return nil
}

// plan works out what an existing object should become. A binding to another role cannot be updated: it has to be
// made anew.
func plan(want, have runtime.Object) (next runtime.Object, recreate, changed bool) {
	if have.(metav1.Object).GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] == "false" {
		return have, false, false
	}
	next = have.DeepCopyObject()
	m, w := next.(metav1.Object), want.(metav1.Object)
	m.SetLabels(union(m.GetLabels(), w.GetLabels()))
	m.SetAnnotations(union(m.GetAnnotations(), w.GetAnnotations()))
	switch n := next.(type) {
	case *rbacv1.ClusterRole:
		w := want.(*rbacv1.ClusterRole)
		n.Rules = addRules(n.Rules, w.Rules)
		n.AggregationRule = addSelectors(n.AggregationRule, w.AggregationRule)
	case *rbacv1.Role:
		n.Rules = addRules(n.Rules, want.(*rbacv1.Role).Rules)
	case *rbacv1.ClusterRoleBinding:
		w := want.(*rbacv1.ClusterRoleBinding)
		recreate = n.RoleRef != w.RoleRef
		n.Subjects = addSubjects(n.Subjects, w.Subjects)
	case *rbacv1.RoleBinding:
		w := want.(*rbacv1.RoleBinding)
		recreate = n.RoleRef != w.RoleRef
		n.Subjects = addSubjects(n.Subjects, w.Subjects)
	}
	return next, recreate, !equality.Semantic.DeepEqual(have, next)
}

func union(have, want map[string]string) map[string]string {
	out := maps.Clone(have)
	for k, v := range want {
		if _, ok := out[k]; !ok {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = v
		}
	}
	return out
}

func addRules(have, want []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	_, missing := validation.Covers(have, want)
	return append(slices.Clip(have), missing...)
}

func addSelectors(have, want *rbacv1.AggregationRule) *rbacv1.AggregationRule {
	if want == nil {
		return have
	}
	if have == nil {
		return want
	}
	out := have.DeepCopy()
	for _, s := range want.ClusterRoleSelectors {
		if !slices.ContainsFunc(out.ClusterRoleSelectors, func(o metav1.LabelSelector) bool { return equality.Semantic.DeepEqual(o, s) }) {
			out.ClusterRoleSelectors = append(out.ClusterRoleSelectors, s)
		}
	}
	return out
}

func addSubjects(have, want []rbacv1.Subject) []rbacv1.Subject {
	out := slices.Clip(have)
	for _, s := range want {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
