package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/expression"
	"flagship/apiserver/internal/match"
)

// Validating evaluates ValidatingAdmissionPolicies.
type Validating struct {
	deps   *Deps
	source *source[*validating]
}

// validating is one policy, compiled when it is first about a request.
type validating struct {
	policy
	validations []admissionregistrationv1.Validation
	annotations []admissionregistrationv1.AuditAnnotation

	once       sync.Once // guards what follows
	scope      *expression.Scope
	conditions []*expression.Program
	programs   []*expression.Program
	messages   []*expression.Program // nil where there is none
	audits     []*expression.Program
	failure    error
}

// NewValidating returns the plugin ValidatingAdmissionPolicy.
func NewValidating(d *Deps) *Validating {
	gv := admissionregistrationv1.SchemeGroupVersion
	v := &Validating{deps: d}
	v.source = &source[*validating]{policies: gv.WithResource("validatingadmissionpolicies"), bindings: gv.WithResource("validatingadmissionpolicybindings"), load: v.load}
	return v
}

// Name implements admission.Plugin.
func (*Validating) Name() string { return "ValidatingAdmissionPolicy" }

// Handles implements admission.Plugin.
func (*Validating) Handles(admission.Operation) bool { return true }

func (v *Validating) load() ([]*validating, error) {
	bindings := map[string][]*binding{}
	if err := v.deps.API.Each(v.source.bindings, "", func(obj runtime.Object) bool {
		if b, ok := obj.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding); ok {
			n := newBinding(b.Name, b.Spec.MatchResources, b.Spec.ParamRef)
			n.actions = b.Spec.ValidationActions
			bindings[key(b, b.Spec.PolicyName)] = append(bindings[key(b, b.Spec.PolicyName)], n)
		}
		return true
	}); err != nil {
		return nil, err
	}
	var out []*validating
	err := v.deps.API.Each(v.source.policies, "", func(obj runtime.Object) bool {
		if p, ok := obj.(*admissionregistrationv1.ValidatingAdmissionPolicy); ok && len(bindings[key(p, p.Name)]) > 0 {
			n := &validating{policy: newPolicy(p.Name, p.Spec.MatchConstraints, p.Spec.FailurePolicy), validations: p.Spec.Validations, annotations: p.Spec.AuditAnnotations}
			n.paramKind, n.policy.conditions, n.variables, n.bindings = p.Spec.ParamKind, p.Spec.MatchConditions, p.Spec.Variables, bindings[key(p, p.Name)]
			n.static = static(p)
			out = append(out, n)
		}
		return true
	})
	byName(out, func(p *validating) string { return p.key() })
	return out, err
}

func (p *validating) compile(c *expression.Compiler) {
	p.once.Do(func() {
		var o expression.Options
		if p.scope, o, p.failure = p.policy.scope(c); p.failure != nil {
			return
		}
		p.conditions = compileConditions(p.scope, o, p.policy.conditions)
		for _, v := range p.validations {
			p.programs = append(p.programs, p.scope.Compile(v.Expression, o, cel.BoolType))
			var message *expression.Program
			if v.MessageExpression != "" {
				message = p.scope.Compile(v.MessageExpression, expression.Options{Params: o.Params}, cel.StringType)
			}
			p.messages = append(p.messages, message)
		}
		for _, a := range p.annotations {
			p.audits = append(p.audits, p.scope.Compile(a.ValueExpression, o, cel.StringType, cel.NullType))
		}
	})
}

// decision is a validation that failed.
type decision struct {
	index   int
	message string
	reason  metav1.StatusReason
	// failed is whether it is the policy that failed, which no action softens; ignored, whether it failed and is passed over.
	failed, ignored bool
	took            time.Duration
}

// denial is a decision that refuses the request.
type denial struct {
	decision
	policy, binding string
}

// failure is an entry of the audit annotation about failed validations.
type failure struct {
	Message           string                                     `json:"message"`
	Policy            string                                     `json:"policy"`
	Binding           string                                     `json:"binding"`
	ExpressionIndex   int                                        `json:"expressionIndex"`
	ValidationActions []admissionregistrationv1.ValidationAction `json:"validationActions"`
}

// verdict collects what the policies say.
type verdict struct {
	denials  []denial
	failures []failure
	// audit are values of annotations by key.
	audit map[string][]string
}

// Validate implements admission.Validator.
func (v *Validating) Validate(ctx context.Context, a *admission.Attributes) error {
	policies, err := v.source.list(v.deps.API)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	policies = match.InForce(policies, a, func(p *validating) bool { return p.static })
	if len(policies) == 0 {
		return nil
	}
	out := &verdict{audit: map[string][]string{}}
	for _, p := range policies {
		if err := v.one(ctx, p, a, out); err != nil {
			return err
		}
	}
	for key, values := range out.audit {
		a.Annotate(key, strings.Join(values, ", "))
	}
	if len(out.failures) > 0 {
		const most = 50
		if data, err := json.Marshal(out.failures[:min(len(out.failures), most)]); err == nil {
			a.Annotate("validation.policy.admission.k8s.io/validation_failure", string(data))
		}
	}
	if len(out.denials) == 0 {
		return nil
	}
	return refuse(a, out.denials[0])
}

// refuse is a denial as a Status.
func refuse(a *admission.Attributes, d denial) error {
	message := fmt.Sprintf("ValidatingAdmissionPolicy '%s' denied request: %s", d.policy, d.message)
	if d.binding != "" {
		message = fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", d.policy, d.binding, d.message)
	}
	err := admission.Forbidden(a, errors.New(message))
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return err
	}
	reason := d.reason
	if reason == "" {
		reason = metav1.StatusReasonInvalid
	}
	code := map[metav1.StatusReason]int32{
		metav1.StatusReasonForbidden: http.StatusForbidden, metav1.StatusReasonUnauthorized: http.StatusUnauthorized,
		metav1.StatusReasonRequestEntityTooLarge: http.StatusRequestEntityTooLarge,
	}[reason]
	if code == 0 {
		code = http.StatusUnprocessableEntity
	}
	status.ErrStatus.Reason, status.ErrStatus.Code = reason, code
	status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{Message: message})
	return status
}

func (v *Validating) one(ctx context.Context, p *validating, a *admission.Attributes, out *verdict) error {
	misconfigured := func(b *binding, err error) {
		if p.ignore {
			return
		}
		d := denial{policy: p.name, decision: decision{message: fmt.Sprintf("failed to configure policy: %v", err)}}
		if b != nil {
			d.binding, d.message = b.name, fmt.Sprintf("failed to configure binding: %v", err)
		}
		out.denials = append(out.denials, d)
	}
	if p.err != nil {
		misconfigured(nil, p.err)
		return nil //nolint:nilerr // it is among the denials
	}
	t, err := v.deps.Matcher.Match(ctx, &p.selection, a)
	if err != nil {
		misconfigured(nil, err)
	}
	if t == nil || err != nil {
		return nil //nolint:nilerr // it is among the denials
	}
	var seen *view
	for _, b := range p.bindings {
		ok, err := v.deps.bound(ctx, b, a)
		if err != nil {
			misconfigured(b, err)
		}
		if !ok || err != nil {
			continue
		}
		params, err := v.deps.params(ctx, p.paramKind, b.params, a.Namespace)
		if err == nil && seen == nil {
			if seen, err = v.deps.see(a, *t); err != nil {
				err = fmt.Errorf("failed to convert object version: %w", err)
			}
		}
		if err != nil {
			misconfigured(b, err)
			continue
		}
		for _, param := range params {
			decisions, err := v.evaluate(ctx, p, seen, param, out)
			if err != nil {
				return err
			}
			v.act(a, p, b, decisions, out)
		}
	}
	return nil
}

// act does what a binding says about failed validations.
func (v *Validating) act(a *admission.Attributes, p *validating, b *binding, decisions []decision, out *verdict) {
	for _, d := range decisions {
		count := func(action string) { v.deps.Metrics.validated(p.name, b.name, action, &d) }
		switch {
		case d.ignored:
			count("allow")
			continue
		case d.failed:
			count("deny")
			out.denials = append(out.denials, denial{d, p.name, b.name})
			continue
		}
		for _, action := range b.actions {
			count(strings.ToLower(string(action)))
			switch action {
			case admissionregistrationv1.Deny:
				out.denials = append(out.denials, denial{d, p.name, b.name})
			case admissionregistrationv1.Audit:
				out.failures = append(out.failures, failure{d.message, p.name, b.name, d.index, b.actions})
			case admissionregistrationv1.Warn:
				a.Warn("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", p.name, b.name, d.message)
			}
		}
	}
}

// evaluate evaluates one policy with one parameter.
func (v *Validating) evaluate(ctx context.Context, p *validating, seen *view, param runtime.Object, out *verdict) ([]decision, error) {
	p.compile(v.deps.Expressions)
	broken := func(err error) []decision { return []decision{{message: err.Error(), ignored: p.ignore}} }
	if p.failure != nil {
		return broken(p.failure), nil //nolint:nilerr // it is the decision
	}
	in, err := v.deps.input(ctx, seen, param)
	if err != nil {
		return nil, err
	}
	ok, err := hold(ctx, p.scope, in, p.conditions)
	if err != nil {
		return broken(err), nil
	}
	if !ok {
		return nil, nil
	}
	run, err := p.scope.Begin(ctx, in, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return broken(err), nil
	}
	var decisions []decision
	for i, program := range p.programs {
		start := time.Now()
		value, err, fatal := run.Eval(program)
		switch {
		case fatal != nil:
			return broken(fatal), nil
		case err == nil && value == types.True:
		case err != nil:
			decisions = append(decisions, decision{index: i, message: err.Error(), ignored: p.ignore, took: time.Since(start)})
		default:
			d := decision{index: i, took: time.Since(start), reason: metav1.StatusReasonInvalid, message: p.message(run, i)}
			if r := p.validations[i].Reason; r != nil {
				d.reason = *r
			}
			decisions = append(decisions, d)
		}
	}
	return append(decisions, p.audit(ctx, in, out)...), nil
}

// message is what a failed validation is told with: the outcome of its message
// expression, its message, or its expression.
func (p *validating) message(run *expression.Run, i int) string {
	if m := p.messages[i]; m != nil {
		if v, err, fatal := run.Eval(m); err == nil && fatal == nil {
			if text, ok := v.Value().(string); ok {
				text = strings.TrimSpace(text)
				if text != "" && len(text) <= celconfig.MaxEvaluatedMessageExpressionSizeBytes && !strings.Contains(text, "\n") {
					return text
				}
			}
		}
	}
	if text := strings.TrimSpace(p.validations[i].Message); text != "" {
		return text
	}
	return "failed expression: " + strings.TrimSpace(p.validations[i].Expression)
}

// audit evaluates the audit annotations; one that fails refuses the request
// unless the policy ignores failures.
func (p *validating) audit(ctx context.Context, in expression.Input, out *verdict) []decision {
	if len(p.audits) == 0 {
		return nil
	}
	start := time.Now()
	fail := func(err error) []decision {
		if p.ignore {
			return nil
		}
		return []decision{{message: err.Error(), failed: true, took: time.Since(start)}}
	}
	run, err := p.scope.Begin(ctx, in, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return fail(err)
	}
	var decisions []decision
	for i, program := range p.audits {
		start = time.Now()
		v, err, fatal := run.Eval(program)
		if fatal != nil {
			return append(decisions, fail(fatal)...)
		}
		if err != nil {
			decisions = append(decisions, fail(err)...)
			continue
		}
		const longest = 10 * 1024
		text, ok := v.Value().(string)
		if text = strings.TrimSpace(text); !ok || text == "" {
			continue
		}
		key := p.name + "/" + p.annotations[i].Key
		if text = text[:min(len(text), longest)]; !slices.Contains(out.audit[key], text) {
			out.audit[key] = append(out.audit[key], text)
		}
	}
	return decisions
}
