package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/expression"
	"flagship/apiserver/internal/match"
)

// Mutating evaluates MutatingAdmissionPolicies.
type Mutating struct {
	deps   *Deps
	source *source[*mutating]
}

// mutating is one policy, compiled when it is first about a request.
type mutating struct {
	policy
	mutations []admissionregistrationv1.Mutation
	reinvoke  bool

	once       sync.Once // guards what follows
	scope      *expression.Scope
	conditions []*expression.Program
	programs   []*expression.Program
	failure    error
}

// NewMutating returns the plugin MutatingAdmissionPolicy.
func NewMutating(d *Deps) *Mutating {
	gv := admissionregistrationv1.SchemeGroupVersion
	m := &Mutating{deps: d}
	m.source = &source[*mutating]{policies: gv.WithResource("mutatingadmissionpolicies"), bindings: gv.WithResource("mutatingadmissionpolicybindings"), load: m.load}
	return m
}

// Name implements admission.Plugin.
func (*Mutating) Name() string { return "MutatingAdmissionPolicy" }

// Handles implements admission.Plugin.
func (*Mutating) Handles(admission.Operation) bool { return true }

func (m *Mutating) load() ([]*mutating, error) {
	bindings := map[string][]*binding{}
	if err := m.deps.API.Each(m.source.bindings, "", func(obj runtime.Object) bool {
		if b, ok := obj.(*admissionregistrationv1.MutatingAdmissionPolicyBinding); ok {
			bindings[key(b, b.Spec.PolicyName)] = append(bindings[key(b, b.Spec.PolicyName)], newBinding(b.Name, b.Spec.MatchResources, b.Spec.ParamRef))
		}
		return true
	}); err != nil {
		return nil, err
	}
	var out []*mutating
	err := m.deps.API.Each(m.source.policies, "", func(obj runtime.Object) bool {
		if p, ok := obj.(*admissionregistrationv1.MutatingAdmissionPolicy); ok && len(bindings[key(p, p.Name)]) > 0 {
			n := &mutating{
				policy: newPolicy(p.Name, p.Spec.MatchConstraints, p.Spec.FailurePolicy), mutations: p.Spec.Mutations,
				reinvoke: p.Spec.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy,
			}
			n.paramKind, n.policy.conditions, n.variables, n.bindings = p.Spec.ParamKind, p.Spec.MatchConditions, p.Spec.Variables, bindings[key(p, p.Name)]
			n.static = static(p)
			out = append(out, n)
		}
		return true
	})
	byName(out, func(p *mutating) string { return p.key() })
	return out, err
}

func (p *mutating) compile(c *expression.Compiler) {
	p.once.Do(func() {
		var o expression.Options
		if p.scope, o, p.failure = p.policy.scope(c); p.failure != nil {
			return
		}
		p.conditions = compileConditions(p.scope, o, p.policy.conditions)
		o.Patch = true
		for _, mutation := range p.mutations {
			switch {
			case mutation.JSONPatch != nil:
				p.programs = append(p.programs, p.scope.Compile(mutation.JSONPatch.Expression, o, cel.ListType(types.NewObjectType("JSONPatch"))))
			case mutation.ApplyConfiguration != nil:
				p.programs = append(p.programs, p.scope.Compile(mutation.ApplyConfiguration.Expression, o, types.NewObjectType("Object")))
			default:
				p.programs = append(p.programs, nil)
			}
		}
	})
}

// round is what the policies keep for the second round.
type round struct {
	last           runtime.Object
	invoked, again map[string]bool
}

func (r *round) changed() {
	for key := range r.invoked {
		r.again[key] = true
	}
	clear(r.invoked)
}

// policyError is a failure of a policy, which its failure policy may pass over.
type policyError struct {
	policy, binding string
	err             error
	reason          metav1.StatusReason
}

func (e *policyError) Error() string {
	if e.binding != "" {
		return fmt.Sprintf("policy '%s' with binding '%s' denied request: %v", e.policy, e.binding, e.err)
	}
	return fmt.Sprintf("policy %q denied request: %v", e.policy, e.err)
}

// Mutate implements admission.Mutator.
func (m *Mutating) Mutate(ctx context.Context, a *admission.Attributes) error {
	policies, err := m.source.list(m.deps.API)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	policies = match.InForce(policies, a, func(p *mutating) bool { return p.static })
	if len(policies) == 0 {
		return nil
	}
	if a.Reinvocation.State == nil {
		a.Reinvocation.State = map[string]any{}
	}
	r, ok := a.Reinvocation.State[m.Name()].(*round)
	if !ok {
		r = &round{invoked: map[string]bool{}, again: map[string]bool{}}
		a.Reinvocation.State[m.Name()] = r
	}
	if a.Reinvocation.Again && !apiequality.Semantic.DeepEqual(r.last, a.Object) {
		r.changed()
	}
	var failures []*policyError
	for _, p := range policies {
		more, err := m.one(ctx, p, a, r)
		if err != nil {
			return err
		}
		if !p.ignore {
			failures = append(failures, more...)
		}
	}
	if a.Object != nil {
		r.last = a.Object.DeepCopyObject()
	}
	return denied(a, failures)
}

// denied is the policies' failures as one Status.
func denied(a *admission.Attributes, failures []*policyError) error {
	if len(failures) == 0 {
		return nil
	}
	err := admission.Forbidden(a, errors.New("admission request denied by policy"))
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return err
	}
	status.ErrStatus.Message = failures[0].Error()
	if failures[0].reason != "" {
		status.ErrStatus.Reason = failures[0].reason
	}
	for _, f := range failures {
		status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{Message: f.Error()})
	}
	return status
}

func (m *Mutating) one(ctx context.Context, p *mutating, a *admission.Attributes, r *round) ([]*policyError, error) {
	var failures []*policyError
	misconfigured := func(binding string, err error) {
		what := "policy"
		if binding != "" {
			what = "binding"
		}
		failures = append(failures, &policyError{policy: p.name, binding: binding, err: fmt.Errorf("failed to configure %s: %w", what, err)})
	}
	if p.err != nil {
		misconfigured("", p.err)
		return failures, nil //nolint:nilerr // it is among the failures
	}
	t, err := m.deps.Matcher.Match(ctx, &p.selection, a)
	if err != nil {
		misconfigured("", err)
	}
	if t == nil || err != nil {
		return failures, nil //nolint:nilerr // it is among the failures
	}
	for _, b := range p.bindings {
		ok, err := m.deps.bound(ctx, b, a)
		var params []runtime.Object
		if err == nil && ok {
			params, err = m.deps.params(ctx, p.paramKind, b.params, a.Namespace)
		}
		if err != nil {
			misconfigured(b.name, err)
			continue
		}
		for _, param := range params {
			err := m.apply(ctx, p, b, *t, param, a, r)
			var status *apierrors.StatusError
			if errors.As(err, &status) {
				return nil, status
			}
			if err != nil {
				failures = append(failures, &policyError{p.name, b.name, err, metav1.StatusReasonInvalid})
			}
		}
	}
	return failures, nil
}

// apply evaluates one policy with one parameter, and changes the object.
func (m *Mutating) apply(ctx context.Context, p *mutating, b *binding, t match.Target, param runtime.Object, a *admission.Attributes, r *round) error {
	p.compile(m.deps.Expressions)
	if p.failure != nil {
		return p.failure
	}
	seen, err := m.deps.see(a, t)
	if err != nil {
		return fmt.Errorf("failed to convert object version: %w", err)
	}
	in, err := m.deps.input(ctx, seen, param)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	ok, err := hold(ctx, p.scope, in, p.conditions)
	if err != nil || !ok {
		return err
	}
	key := p.name + "/" + b.name
	if o, ok := param.(metav1.Object); ok {
		key += "/" + o.GetNamespace() + "/" + o.GetName()
	}
	if a.Reinvocation.Again && !r.again[key] {
		return nil
	}
	before, err := m.mutations(ctx, p, b, seen, in)
	if before != nil && !apiequality.Semantic.DeepEqual(before, seen.object) {
		back, cerr := m.deps.API.ConvertTo(seen.object, t.Resource, a.Resource)
		if cerr != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to convert object: %w", cerr))
		}
		replace(a.Object, back)
		r.changed()
		a.Reinvocation.Wanted = true
	}
	if p.reinvoke {
		r.invoked[key] = true
	}
	return err
}

// mutations applies the mutations in order to the view's object, and returns
// what that was before, nil where there is no object.
func (m *Mutating) mutations(ctx context.Context, p *mutating, b *binding, seen *view, in expression.Input) (runtime.Object, error) {
	if seen.object == nil {
		return nil, nil
	}
	before := seen.object.DeepCopyObject()
	if seen.object == seen.attributes.Object {
		seen.object = seen.object.DeepCopyObject()
	}
	var first error
	for i, program := range p.programs {
		if program == nil {
			continue
		}
		start := time.Now()
		err, fatal := m.mutation(ctx, p, i, seen, in)
		m.deps.Metrics.mutated(p.name, b.name, time.Since(start), errors.Join(err, fatal))
		if fatal != nil {
			return before, fatal
		}
		if first == nil {
			first = err
		}
	}
	return before, first
}

// mutation applies one. A fatal error ends them.
func (m *Mutating) mutation(ctx context.Context, p *mutating, i int, seen *view, in expression.Input) (err, fatal error) {
	program := p.programs[i]
	if err := program.Err(); err != nil {
		return nil, err
	}
	types := m.deps.Types(seen.target.Kind)
	if types == nil {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("Resource kind %s not found. There can be a delay between when CustomResourceDefinitions are created and when they are available.", seen.target.Kind))
	}
	in.Object = seen.object
	run, err := p.scope.Begin(ctx, in, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return nil, err
	}
	v, err, fatal := run.Eval(program)
	if err = errors.Join(err, fatal); err != nil {
		return err, nil
	}
	var next runtime.Object
	if p.mutations[i].JSONPatch != nil {
		next, err = jsonPatched(seen.object, v)
	} else {
		next, err = merged(seen.object, v, types)
	}
	if err == nil {
		seen.object = next
	}
	return err, nil
}
