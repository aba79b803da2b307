package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/expression"
	"flagship/apiserver/internal/match"
)

// API is where policies, bindings and parameters are.
type API interface {
	Changed(gvr schema.GroupVersionResource) int64
	Each(gvr schema.GroupVersionResource, namespace string, visit func(runtime.Object) bool) error
	ReadFresh(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (runtime.Object, error)
	ResourceOf(gvk schema.GroupVersionKind) (gvr schema.GroupVersionResource, namespaced, ok bool)
	ConvertTo(obj runtime.Object, from, to schema.GroupVersionResource) (runtime.Object, error)
}

// Deps is what the plugins stand on.
type Deps struct {
	API         API
	Matcher     *match.Matcher
	Namespace   func(ctx context.Context, name string) (*corev1.Namespace, error)
	Expressions *expression.Compiler
	Authorizer  authz.Authorizer
	// Types are a kind's fields as server-side apply knows them, nil for a kind
	// that is not known.
	Types   func(gvk schema.GroupVersionKind) managedfields.TypeConverter
	Metrics *Metrics
}

// binding puts a policy in force.
type binding struct {
	name      string
	selection *match.Selection // nil for all that the policy is about
	params    *admissionregistrationv1.ParamRef
	actions   []admissionregistrationv1.ValidationAction
	err       error
}

// policy is what the two kinds of policy have in common.
type policy struct {
	name string
	// static ones are of a file.
	static     bool
	selection  match.Selection
	ignore     bool // failurePolicy
	paramKind  *admissionregistrationv1.ParamKind
	conditions []admissionregistrationv1.MatchCondition
	variables  []admissionregistrationv1.Variable
	bindings   []*binding
	err        error
}

func newPolicy(name string, m *admissionregistrationv1.MatchResources, f *admissionregistrationv1.FailurePolicyType) policy {
	p := policy{name: name, ignore: f != nil && *f == admissionregistrationv1.Ignore}
	if m == nil {
		p.err = errors.New("policy contained no match constraints, a required field")
		return p
	}
	p.selection, p.err = selectionOf(m)
	return p
}

func selectionOf(m *admissionregistrationv1.MatchResources) (match.Selection, error) {
	s := match.Selection{Equivalent: m.MatchPolicy == nil || *m.MatchPolicy == admissionregistrationv1.Equivalent}
	for _, r := range m.ResourceRules {
		s.Rules = append(s.Rules, match.Rule{RuleWithOperations: r.RuleWithOperations, Names: r.ResourceNames})
	}
	for _, r := range m.ExcludeResourceRules {
		s.Excluded = append(s.Excluded, match.Rule{RuleWithOperations: r.RuleWithOperations, Names: r.ResourceNames})
	}
	var err1, err2 error
	s.Namespaces, err1 = match.SelectorOf(m.NamespaceSelector)
	s.Objects, err2 = match.SelectorOf(m.ObjectSelector)
	return s, errors.Join(err1, err2)
}

func newBinding(name string, m *admissionregistrationv1.MatchResources, params *admissionregistrationv1.ParamRef) *binding {
	b := &binding{name: name, params: params}
	if m != nil {
		s, err := selectionOf(m)
		s.Any = true
		b.selection, b.err = &s, err
	}
	return b
}

// source keeps what was made of two resources until one of them changes.
type source[T any] struct {
	policies, bindings schema.GroupVersionResource
	load               func() ([]T, error)

	mu         sync.Mutex // guards what follows
	at1, at2   int64
	loaded     []T
	everLoaded bool
}

func (s *source[T]) list(api API) ([]T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at1, at2 := api.Changed(s.policies), api.Changed(s.bindings)
	if s.everLoaded && at1 == s.at1 && at2 == s.at2 {
		return s.loaded, nil
	}
	out, err := s.load()
	if err != nil {
		return nil, err
	}
	s.loaded, s.at1, s.at2, s.everLoaded = out, at1, at2, true
	return out, nil
}

// static says whether an object is of a file, and not of the API: it has no UID then.
func static(o metav1.Object) bool { return o.GetUID() == "" }

// key tells the policies of files, which come first, from those of the API, since no binding of one is of the other.
func key(o metav1.Object, policy string) string {
	if static(o) {
		return "0/" + policy
	}
	return "1/" + policy
}

func (p *policy) key() string {
	if p.static {
		return "0/" + p.name
	}
	return "1/" + p.name
}

// byName orders policies and bindings alike.
func byName[T any](list []T, name func(T) string) {
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(name(a), name(b)) })
}

// scope compiles a policy's variables, and conditions its match conditions.
func (p *policy) scope(c *expression.Compiler) (*expression.Scope, expression.Options, error) {
	o := expression.Options{Params: p.paramKind != nil, Authorizer: true}
	variables := make([]expression.Variable, 0, len(p.variables))
	for _, v := range p.variables {
		variables = append(variables, expression.Variable{Name: v.Name, Expression: v.Expression})
	}
	s, err := c.Compose(variables, o)
	return s, o, err
}

// bound is whether a binding is about a request.
func (d *Deps) bound(ctx context.Context, b *binding, a *admission.Attributes) (bool, error) {
	if b.err != nil {
		return false, b.err
	}
	if b.selection == nil {
		return true, nil
	}
	t, err := d.Matcher.Match(ctx, b.selection, a)
	return t != nil, err
}

// namespaceOf is the namespace that a request's object is in, nil for none.
func (d *Deps) namespaceOf(ctx context.Context, a *admission.Attributes) (*corev1.Namespace, error) {
	if a.Namespace == "" || a.Kind == corev1.SchemeGroupVersion.WithKind("Namespace") {
		return nil, nil
	}
	return d.Namespace(ctx, a.Namespace)
}

// params are the objects that a binding's policy is evaluated with, one nil for
// a policy without.
func (d *Deps) params(ctx context.Context, kind *admissionregistrationv1.ParamKind, ref *admissionregistrationv1.ParamRef, namespace string) ([]runtime.Object, error) {
	if kind == nil || ref == nil {
		return []runtime.Object{nil}, nil
	}
	gv, err := schema.ParseGroupVersion(kind.APIVersion)
	if err != nil {
		return nil, err
	}
	gvr, namespaced, ok := d.API.ResourceOf(gv.WithKind(kind.Kind))
	if !ok {
		return nil, fmt.Errorf("paramKind kind `%v` not known", kind.String())
	}
	switch {
	case !namespaced && ref.Namespace != "":
		return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
	case !namespaced:
		namespace = ""
	case ref.Namespace != "":
		namespace = ref.Namespace
	case namespace == "":
		return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
	}
	var out []runtime.Object
	switch {
	case ref.Name != "" && ref.Selector != nil:
		return nil, errors.New("paramRef.name and paramRef.selector are mutually exclusive")
	case ref.Name != "":
		obj, err := d.API.ReadFresh(ctx, gvr, namespace, ref.Name)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			out = append(out, obj)
		}
	case ref.Selector != nil:
		s, err := metav1.LabelSelectorAsSelector(ref.Selector)
		if err != nil {
			return nil, err
		}
		if err := d.API.Each(gvr, namespace, func(obj runtime.Object) bool {
			if m, ok := obj.(metav1.Object); ok && s.Matches(labels.Set(m.GetLabels())) {
				out = append(out, obj)
			}
			return true
		}); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("one of name or selector must be provided")
	}
	if len(out) == 0 && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction {
		return nil, errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
	}
	return out, nil
}
