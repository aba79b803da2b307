package expression

import (
	"context"
	"fmt"
	"math"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/lazy"
	"k8s.io/apiserver/pkg/cel/library"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/authz"
)

// Input is what expressions see.
type Input struct {
	Attributes *admission.Attributes
	// Object and OldObject are in the version that the rule is about; nil for
	// none.
	Object, OldObject runtime.Object
	Request           *admissionv1.AdmissionRequest
	Namespace         *corev1.Namespace // nil for a cluster-scoped object
	Params            runtime.Object    // nil for none
	Authorizer        authz.Authorizer  // nil where no expression uses it
}

// Run evaluates expressions over one input within one budget. It belongs to one
// goroutine.
type Run struct {
	scope  *Scope
	values map[string]any
	budget int64
	spent  int64 // by variables, which are evaluated when they are first used
	ctx    context.Context
}

// outOfBudget is the error of an expression that costs more than is left.
func outOfBudget() error {
	return &apiservercel.Error{
		Type: apiservercel.ErrorTypeInvalid, Detail: "validation failed due to running out of cost budget, no further validation rules will be run",
		Cause: apiservercel.ErrOutOfBudget,
	}
}

// content is an object as CEL reads it.
func content(obj runtime.Object) (any, error) {
	switch o := obj.(type) {
	case nil:
		return nil, nil
	case *unstructured.Unstructured:
		if o == nil {
			return nil, nil
		}
		return o.Object, nil
	}
	return runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
}

// Begin prepares an input; budget bounds the cost of all evaluations.
func (s *Scope) Begin(ctx context.Context, in Input, budget int64) (*Run, error) {
	r := &Run{scope: s, values: map[string]any{}, budget: budget, ctx: ctx}
	for name, obj := range map[string]runtime.Object{"object": in.Object, "oldObject": in.OldObject, "params": in.Params} {
		v, err := content(obj)
		if err != nil {
			return nil, fmt.Errorf("failed to prepare %s variable for evaluation: %w", name, err)
		}
		r.values[name] = v
	}
	var err error
	if r.values["request"], err = runtime.DefaultUnstructuredConverter.ToUnstructured(in.Request); err != nil {
		return nil, fmt.Errorf("failed to prepare request variable for evaluation: %w", err)
	}
	r.values["namespaceObject"] = nil
	if in.Namespace != nil {
		ns := in.Namespace.DeepCopy()
		ns.ManagedFields, ns.OwnerReferences = nil, nil
		if r.values["namespaceObject"], err = runtime.DefaultUnstructuredConverter.ToUnstructured(ns); err != nil {
			return nil, fmt.Errorf("failed to prepare namespaceObject variable for evaluation: %w", err)
		}
	}
	if in.Authorizer != nil && in.Attributes.User != nil {
		a := unconditional{in.Authorizer, in.Attributes}
		r.values["authorizer"] = library.NewAuthorizerVal(in.Attributes.User, a)
		r.values["authorizer.requestResource"] = library.NewResourceAuthorizerVal(in.Attributes.User, a, resource{in.Attributes})
	}
	if s.typ != nil {
		variables := lazy.NewMapValue(s.typ)
		for name, p := range s.variables {
			variables.Append(name, func(*lazy.MapValue) ref.Val { return r.variable(name, p) })
		}
		r.values["variables"] = variables
	}
	return r, nil
}

// ResolveName implements interpreter.Activation.
func (r *Run) ResolveName(name string) (any, bool) {
	v, ok := r.values[name]
	return v, ok
}

// Parent implements interpreter.Activation.
func (r *Run) Parent() interpreter.Activation { return nil }

func (r *Run) variable(name string, p *Program) ref.Val {
	if p.err != nil {
		return types.NewErr("composited variable %q fails to compile: %v", name, p.err)
	}
	v, details, err := p.program.ContextEval(r.ctx, r)
	if details == nil || details.ActualCost() == nil {
		return types.NewErr("unable to calculate cost of variable %q", name)
	}
	r.spent += int64(min(*details.ActualCost(), math.MaxInt64/2))
	if err != nil {
		return types.NewErr("composited variable %q fails to evaluate: %v", name, err)
	}
	return v
}

// Eval evaluates one expression. A fatal error ends the run: nothing more can be
// evaluated.
func (r *Run) Eval(p *Program) (v ref.Val, err, fatal error) {
	if p.err != nil {
		return nil, &apiservercel.Error{Type: apiservercel.ErrorTypeInvalid, Detail: fmt.Sprintf("compilation error: %v", p.err), Cause: p.err}, nil
	}
	v, details, err := p.program.ContextEval(r.ctx, r)
	spent := r.spent
	r.spent = 0
	if details == nil || details.ActualCost() == nil {
		return nil, nil, &apiservercel.Error{
			Type:   apiservercel.ErrorTypeInternal,
			Detail: fmt.Sprintf("runtime cost could not be calculated for expression: %v, no further expression will be run", p.Source),
		}
	}
	spent += int64(min(*details.ActualCost(), math.MaxInt64/2))
	if spent > r.budget {
		return nil, nil, outOfBudget()
	}
	r.budget -= spent
	if err != nil {
		return nil, &apiservercel.Error{Type: apiservercel.ErrorTypeInvalid, Detail: fmt.Sprintf("expression '%v' resulted in error: %v", p.Source, err)}, nil
	}
	return v, nil, nil
}

// RequestOf is the variable request of an admission, as the rule for kind and
// resource sees it.
func RequestOf(a *admission.Attributes, kind schema.GroupVersionKind, gvr schema.GroupVersionResource) *admissionv1.AdmissionRequest {
	dry := a.DryRun
	own, ownKind := metav1.GroupVersionResource(a.Resource), metav1.GroupVersionKind(a.Kind)
	r := &admissionv1.AdmissionRequest{
		Kind: metav1.GroupVersionKind(kind), Resource: metav1.GroupVersionResource(gvr), SubResource: a.Subresource,
		RequestKind: &ownKind, RequestResource: &own, RequestSubResource: a.Subresource,
		Name: a.Name, Namespace: a.Namespace, Operation: admissionv1.Operation(a.Operation), DryRun: &dry,
		UserInfo: a.User.Info(),
	}
	if a.Options != nil {
		r.Options.Object = a.Options
	}
	return r
}

// unconditional is our authorizer as CEL's library calls it.
type unconditional struct {
	authorizer authz.Authorizer
	request    *admission.Attributes
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (u unconditional) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	at := authz.Attributes{
		User: u.request.User, Verb: a.GetVerb(), ResourceRequest: a.IsResourceRequest(), Namespace: a.GetNamespace(),
		APIGroup: a.GetAPIGroup(), APIVersion: a.GetAPIVersion(), Resource: a.GetResource(), Subresource: a.GetSubresource(), Name: a.GetName(), Path: a.GetPath(),
	}
	if other := a.GetUser(); other != nil && other.GetName() != u.request.User.Name {
		// authorizer.serviceAccount(...) asks for somebody else.
		id := *u.request.User
		id.Name, id.UID, id.Groups, id.Extra = other.GetName(), other.GetUID(), other.GetGroups(), other.GetExtra()
		at.User = &id
	}
	at.Fields, at.FieldSelectorErr = a.GetFieldSelector()
	at.Labels, at.LabelSelectorErr = a.GetLabelSelector()
	d, reason, err := u.authorizer.Authorize(ctx, at)
	switch d {
	case authz.Allow:
		return authorizer.DecisionAllow, reason, err
	case authz.Deny:
		return authorizer.DecisionDeny, reason, err
	}
	return authorizer.DecisionNoOpinion, reason, err
}

// resource names the request's own resource to CEL's library.
type resource struct{ a *admission.Attributes }

func (r resource) GetName() string                          { return r.a.Name }
func (r resource) GetNamespace() string                     { return r.a.Namespace }
func (r resource) GetResource() schema.GroupVersionResource { return r.a.Resource }
func (r resource) GetSubresource() string                   { return r.a.Subresource }
