package resource

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"

	"flagship/apiserver/internal/expression"
)

// maxConditions bounds the match conditions of a webhook or policy.
const maxConditions = 64

// expressions checks CEL expressions that see the same variables.
type expressions struct {
	checks
	scope *expression.Scope
}

// compiled wants an expression that is there to compile to one of the types.
func (e *expressions) compiled(p *field.Path, source string, o expression.Options, want ...*cel.Type) {
	trimmed := strings.TrimSpace(source)
	if trimmed == "" {
		why := fmt.Sprintf("%s is not specified", p.String()[strings.LastIndex(p.String(), ".")+1:])
		if strings.Contains(p.String(), ".mutations[") {
			why = ""
		}
		e.required(p, why)
		return
	}
	if err := e.scope.Compile(trimmed, o, want...).Err(); err != nil {
		detail := err.Error()
		var compiling *apiservercel.Error
		if errors.As(err, &compiling) {
			detail = compiling.Detail
		}
		e.invalid(p, source, detail)
	}
}

// conditions checks match conditions.
func (e *expressions) conditions(p *field.Path, list []admissionregistrationv1.MatchCondition, o expression.Options) {
	if len(list) > maxConditions {
		e.list = append(e.list, field.TooMany(p, len(list), maxConditions))
	}
	names := sets.Set[string]{}
	for i, c := range list {
		at := p.Index(i)
		e.compiled(at.Child("expression"), c.Expression, o, cel.BoolType)
		if c.Name == "" {
			e.required(at.Child("name"), "")
			continue
		}
		e.invalid(at.Child("name"), c.Name, validation.IsQualifiedName(c.Name)...)
		if names.Has(c.Name) {
			e.duplicate(at.Child("name"), c.Name)
		}
		names.Insert(c.Name)
	}
}

// hookConditions checks the match conditions of a webhook. The CEL environment
// is only built where there are any.
func hookConditions(p *field.Path, list []admissionregistrationv1.MatchCondition) field.ErrorList {
	if len(list) == 0 {
		return nil
	}
	e := &expressions{scope: (&expression.Compiler{}).Simple()}
	e.conditions(p.Child("matchConditions"), list, expression.Options{Authorizer: true})
	return e.list
}

// policyExpressions prepares the checks of a policy with variables.
func policyExpressions(p *field.Path, variables []admissionregistrationv1.Variable, params bool) (*expressions, expression.Options) {
	o := expression.Options{Params: params, Authorizer: true}
	list := make([]expression.Variable, 0, len(variables))
	for _, v := range variables {
		list = append(list, expression.Variable{Name: v.Name, Expression: v.Expression})
	}
	s, err := (&expression.Compiler{}).Compose(list, o)
	e := &expressions{scope: s}
	if err != nil {
		e.list = append(e.list, field.InternalError(p, err))
		return e, o
	}
	for i, v := range variables {
		e.compiled(p.Child("variables").Index(i).Child("expression"), v.Expression, o, cel.AnyType)
	}
	return e, o
}

// validatingExpressions checks the expressions of a validating policy.
func validatingExpressions(v *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	p, s := root("spec"), &v.Spec
	e, o := policyExpressions(p, s.Variables, s.ParamKind != nil)
	if e.scope == nil {
		return e.list
	}
	e.conditions(p.Child("matchConditions"), s.MatchConditions, o)
	for i, x := range s.Validations {
		at := p.Child("validations").Index(i)
		e.compiled(at.Child("expression"), x.Expression, o, cel.BoolType)
		if strings.TrimSpace(x.MessageExpression) != "" {
			e.compiled(at.Child("messageExpression"), x.MessageExpression, expression.Options{Params: o.Params}, cel.StringType)
		}
	}
	for i, x := range s.AuditAnnotations {
		e.compiled(p.Child("auditAnnotations").Index(i).Child("valueExpression"), x.ValueExpression, o, cel.StringType, cel.NullType)
	}
	return e.list
}

// mutatingExpressions checks the expressions of a mutating policy.
func mutatingExpressions(m *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
	p, s := root("spec"), &m.Spec
	e, o := policyExpressions(p, s.Variables, s.ParamKind != nil)
	if e.scope == nil {
		return e.list
	}
	e.conditions(p.Child("matchConditions"), s.MatchConditions, o)
	o.Patch = true
	for i, x := range s.Mutations {
		at := p.Child("mutations").Index(i)
		switch {
		case x.PatchType == admissionregistrationv1.PatchTypeJSONPatch && x.JSONPatch != nil:
			e.compiled(at.Child("jsonPatch", "expression"), x.JSONPatch.Expression, o, cel.ListType(types.NewObjectType("JSONPatch")))
		case x.PatchType == admissionregistrationv1.PatchTypeApplyConfiguration && x.ApplyConfiguration != nil:
			e.compiled(at.Child("applyConfiguration", "expression"), x.ApplyConfiguration.Expression, o, types.NewObjectType("Object"))
		}
	}
	return e.list
}
