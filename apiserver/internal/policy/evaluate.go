package policy

import (
	"context"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/expression"
	"flagship/apiserver/internal/match"
)

// view is a request as one policy sees it.
type view struct {
	attributes  *admission.Attributes
	target      match.Target
	object, old runtime.Object
}

// see makes a policy's view of a request.
func (d *Deps) see(a *admission.Attributes, t match.Target) (*view, error) {
	v := &view{attributes: a, target: t}
	var err error
	if v.object, err = d.API.ConvertTo(a.Object, a.Resource, t.Resource); err != nil {
		return nil, err
	}
	v.old, err = d.API.ConvertTo(a.OldObject, a.Resource, t.Resource)
	return v, err
}

// input is what expressions see of it.
func (d *Deps) input(ctx context.Context, v *view, params runtime.Object) (expression.Input, error) {
	ns, err := d.namespaceOf(ctx, v.attributes)
	return expression.Input{
		Attributes: v.attributes, Object: v.object, OldObject: v.old, Params: params, Namespace: ns, Authorizer: d.Authorizer,
		Request: expression.RequestOf(v.attributes, v.target.Kind, v.target.Resource),
	}, err
}

func compileConditions(s *expression.Scope, o expression.Options, list []admissionregistrationv1.MatchCondition) []*expression.Program {
	out := make([]*expression.Program, 0, len(list))
	for _, c := range list {
		out = append(out, s.Compile(c.Expression, o, cel.BoolType))
	}
	return out
}

// hold evaluates match conditions: one that is false keeps the policy out,
// whatever the others say.
func hold(ctx context.Context, s *expression.Scope, in expression.Input, conditions []*expression.Program) (bool, error) {
	if len(conditions) == 0 {
		return true, nil
	}
	run, err := s.Begin(ctx, in, celconfig.RuntimeCELCostBudgetMatchConditions)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, p := range conditions {
		v, err, fatal := run.Eval(p)
		if fatal != nil {
			return false, fatal
		}
		if err != nil {
			errs = append(errs, err)
		} else if v == types.False {
			return false, nil
		}
	}
	if len(errs) > 0 {
		return false, utilerrors.NewAggregate(errs)
	}
	return true, nil
}
