package match

import (
	"context"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/admission"
)

// API tells which resources serve the same objects.
type API interface {
	Equivalents(gvr schema.GroupVersionResource, sub string) []schema.GroupVersionResource
	KindOf(gvr schema.GroupVersionResource, sub string) (schema.GroupVersionKind, bool)
}

// Matcher matches requests. It is safe for concurrent use.
type Matcher struct {
	API       API
	Namespace func(ctx context.Context, name string) (*corev1.Namespace, error)
}

// Rule is one rule, with the names of the objects it is about (none for all).
type Rule struct {
	admissionregistrationv1.RuleWithOperations
	Names []string
}

// Selection is what a webhook or policy is about.
type Selection struct {
	Rules, Excluded []Rule
	// Any is whether having no rules is to be about everything.
	Any bool
	// Equivalent is whether a rule for one version is about the others too.
	Equivalent bool
	// Namespaces and Objects are nil for all.
	Namespaces, Objects labels.Selector
}

// Target is how a rule sees a request.
type Target struct {
	Resource schema.GroupVersionResource
	Kind     schema.GroupVersionKind
}

// SelectorOf parses a selector; nil and empty ones select all.
func SelectorOf(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return nil, nil
	}
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || out.Empty() {
		return nil, err
	}
	return out, nil
}

// Exempt is whether a request changes the configuration of admission itself,
// which nothing that the API has may keep anybody from putting right.
func Exempt(a *admission.Attributes) bool {
	if a.Kind.Group != "admissionregistration.k8s.io" {
		return false
	}
	return slices.Contains([]string{
		"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
		"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding",
	}, a.Kind.Kind)
}

// InForce are those of a list that hold for a request. What changes the configuration of admission itself is seen by those alone that are static: of files,
// which the request cannot change.
func InForce[T any](list []T, a *admission.Attributes, static func(T) bool) []T {
	if !Exempt(a) {
		return list
	}
	var out []T
	for _, t := range list {
		if static(t) {
			out = append(out, t)
		}
	}
	return out
}

// Match says whether a selection is about a request, and how it sees it.
func (m *Matcher) Match(ctx context.Context, s *Selection, a *admission.Attributes) (*Target, error) {
	// An error of the namespace is not one of a rule that is about something
	// else.
	selected, failure := m.namespaceSelected(ctx, s.Namespaces, a)
	if !selected && failure == nil || s.Objects != nil && !objectSelected(s.Objects, a.Object) && !objectSelected(s.Objects, a.OldObject) {
		return nil, nil
	}
	if t := m.target(s.Excluded, s.Equivalent, a); t != nil {
		return nil, nil
	}
	t := m.target(s.Rules, s.Equivalent, a)
	if s.Any && len(s.Rules) == 0 {
		t = &Target{a.Resource, a.Kind}
	}
	if t == nil {
		return nil, nil
	}
	return t, failure
}

func (m *Matcher) target(rules []Rule, equivalent bool, a *admission.Attributes) *Target {
	for i := range rules {
		if rules[i].matches(a, a.Resource) {
			return &Target{a.Resource, a.Kind}
		}
	}
	if !equivalent || len(rules) == 0 {
		return nil
	}
	others := m.API.Equivalents(a.Resource, a.Subresource)
	for i := range rules {
		for _, gvr := range others {
			if !rules[i].matches(a, gvr) {
				continue
			}
			if kind, ok := m.API.KindOf(gvr, a.Subresource); ok {
				return &Target{gvr, kind}
			}
		}
	}
	return nil
}

func (r *Rule) matches(a *admission.Attributes, gvr schema.GroupVersionResource) bool {
	if len(r.Names) > 0 && !slices.Contains(r.Names, a.Name) {
		return false
	}
	among := func(list []string, v string) bool { return slices.Contains(list, "*") || slices.Contains(list, v) }
	op := slices.Contains(r.Operations, admissionregistrationv1.OperationAll) || slices.Contains(r.Operations, admissionregistrationv1.OperationType(a.Operation))
	return op && r.inScope(a) && among(r.APIGroups, gvr.Group) && among(r.APIVersions, gvr.Version) && slices.ContainsFunc(r.Resources, func(want string) bool {
		res, sub, _ := strings.Cut(want, "/")
		return (res == "*" || res == gvr.Resource) && (sub == "*" || sub == a.Subresource)
	})
}

// inScope: a namespace is an object of the cluster, though it is in itself.
func (r *Rule) inScope(a *admission.Attributes) bool {
	namespaced := a.Namespace != "" && !(a.Resource.Group == "" && a.Resource.Resource == "namespaces")
	if r.Scope == nil {
		return true
	}
	switch *r.Scope {
	case admissionregistrationv1.AllScopes:
		return true
	case admissionregistrationv1.NamespacedScope:
		return namespaced
	case admissionregistrationv1.ClusterScope:
		return !namespaced
	}
	return false
}

func (m *Matcher) namespaceSelected(ctx context.Context, s labels.Selector, a *admission.Attributes) (bool, error) {
	if s == nil || a.Namespace == "" && a.Resource.Resource != "namespaces" {
		return true, nil
	}
	if a.Resource.Resource == "namespaces" && a.Subresource == "" && a.Operation != admission.Delete {
		// The stored namespace is not what it is going to be.
		return objectSelected(s, a.Object), nil
	}
	ns, err := m.Namespace(ctx, a.Namespace)
	if err != nil {
		if !apierrors.IsNotFound(err) {
			err = apierrors.NewInternalError(err)
		}
		return false, err
	}
	return s.Matches(labels.Set(ns.Labels)), nil
}

func objectSelected(s labels.Selector, obj runtime.Object) bool {
	m, ok := obj.(metav1.Object)
	return ok && s.Matches(labels.Set(m.GetLabels()))
}
