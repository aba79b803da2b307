package resource

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of a policy's audit annotations: how many, and the bytes of an expression.
const (
	maxAuditAnnotations = 20
	maxAuditExpression  = 5 << 10
)

func validateValidatingPolicy(v *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	p, s := root("spec"), &v.Spec
	c := &checks{list: validatingExpressions(v)}
	c.policy(p, s.FailurePolicy, s.ParamKind, s.MatchConstraints, s.Variables)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		for _, name := range []string{"validations", "auditAnnotations"} {
			c.required(p.Child(name), "validations or auditAnnotations must contain at least one item")
		}
	}
	for i, x := range s.Validations {
		at := p.Child("validations").Index(i)
		message := strings.TrimSpace(x.Message)
		switch {
		case x.Message != "" && message == "":
			c.invalid(at.Child("message"), x.Message, "must be non-empty if specified")
		case strings.ContainsAny(message, "\n\r"):
			c.invalid(at.Child("message"), x.Message, "must not contain line breaks")
		}
		if x.MessageExpression != "" && strings.TrimSpace(x.MessageExpression) == "" {
			c.invalid(at.Child("messageExpression"), x.MessageExpression, "must be non-empty if specified")
		}
		if x.Reason != nil {
			oneOf(c, at.Child("reason"), *x.Reason, metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge)
		}
	}
	c.auditAnnotations(p.Child("auditAnnotations"), v.Name, s.AuditAnnotations)
	return c.list
}

func (c *checks) auditAnnotations(p *field.Path, policy string, list []admissionregistrationv1.AuditAnnotation) {
	if len(list) > maxAuditAnnotations {
		c.invalid(p, list, fmt.Sprintf("must not have more than %d auditAnnotations", maxAuditAnnotations))
	}
	seen := sets.Set[string]{}
	for i, x := range list {
		at := p.Index(i)
		if policy == "" {
			c.invalid(at.Child("key"), x.Key, "requires metadata.name be non-empty")
		} else {
			name := policy + "/" + x.Key
			c.invalid(at.Child("key"), name, validation.IsQualifiedName(name)...)
		}
		if len(strings.TrimSpace(x.ValueExpression)) > maxAuditExpression {
			c.required(at.Child("valueExpression"), fmt.Sprintf("must not exceed %d bytes in length", maxAuditExpression))
		}
		if seen.Has(x.Key) {
			c.duplicate(at.Child("key"), x.Key)
		}
		seen.Insert(x.Key)
	}
}

func validateMutatingPolicy(m *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
	p, s := root("spec"), &m.Spec
	c := &checks{list: mutatingExpressions(m)}
	c.policy(p, s.FailurePolicy, s.ParamKind, s.MatchConstraints, s.Variables)
	c.mutatingOperations(p.Child("matchConstraints"), s.MatchConstraints)
	if len(s.Mutations) == 0 {
		c.required(p.Child("mutations"), "mutations must contain at least one item")
	}
	for i, x := range s.Mutations {
		c.mutation(p.Child("mutations").Index(i), &x)
	}
	oneOfRequired(c, p.Child("reinvocationPolicy"), s.ReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
	return c.list
}

func (c *checks) mutation(p *field.Path, x *admissionregistrationv1.Mutation) {
	const apply, patch = "applyConfiguration", "jsonPatch"
	has := map[string]bool{apply: x.ApplyConfiguration != nil, patch: x.JSONPatch != nil}
	only := func(want, other string) {
		if !has[want] {
			c.required(p.Child(want), fmt.Sprintf("must be specified when patchType is %s", x.PatchType))
		}
		if has[other] {
			c.invalid(p.Child(other), "{"+other+"}", fmt.Sprintf("must not be specified when patchType is %s", x.PatchType))
		}
	}
	switch x.PatchType {
	case admissionregistrationv1.PatchTypeJSONPatch:
		only(patch, apply)
	case admissionregistrationv1.PatchTypeApplyConfiguration:
		only(apply, patch)
	default:
		oneOfRequired(c, p.Child("patchType"), x.PatchType, admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)
	}
}

// policy checks what both kinds of policy have.
func (c *checks) policy(p *field.Path, failure *admissionregistrationv1.FailurePolicyType, kind *admissionregistrationv1.ParamKind, match *admissionregistrationv1.MatchResources, variables []admissionregistrationv1.Variable) {
	if failure == nil {
		c.required(p.Child("failurePolicy"), "")
	} else {
		oneOf(c, p.Child("failurePolicy"), *failure, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)
	}
	if kind != nil {
		c.paramKind(p.Child("paramKind"), kind)
	}
	if match == nil {
		c.required(p.Child("matchConstraints"), "")
	} else {
		c.matchResources(p.Child("matchConstraints"), match)
		if len(match.ResourceRules) == 0 {
			c.required(p.Child("matchConstraints", "resourceRules"), "")
		}
	}
	for i, v := range variables {
		at := p.Child("variables").Index(i).Child("name")
		switch {
		case strings.TrimSpace(v.Name) == "":
			c.required(at, "name is not specified")
		case !celIdentifier(v.Name):
			c.invalid(at, v.Name, "must be a valid CEL identifier")
		}
	}
}

// celReserved are the words that the language keeps for itself.
var celReserved = sets.New("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
	"package", "namespace", "return", "var", "void", "while")

func celIdentifier(name string) bool {
	for i, r := range name {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != "" && !celReserved.Has(name)
}

func (c *checks) paramKind(p *field.Path, k *admissionregistrationv1.ParamKind) {
	at := p.Child("apiVersion")
	gv, err := schema.ParseGroupVersion(k.APIVersion)
	switch {
	case k.APIVersion == "":
		c.required(at, "")
	case err != nil:
		c.invalid(at, k.APIVersion, err.Error())
	default:
		if gv.Group != "" {
			c.joined(at, gv.Group, "", validation.IsDNS1123Subdomain(gv.Group))
		}
		if gv.Version == "" {
			c.invalid(at, k.APIVersion, "version must be specified")
		} else {
			c.joined(at, gv.Version, "", validation.IsDNS1035Label(gv.Version))
		}
	}
	if k.Kind == "" {
		c.required(p.Child("kind"), "")
		return
	}
	c.joined(p.Child("kind"), k.Kind, "may have mixed case, but should otherwise match: ", validation.IsDNS1035Label(strings.ToLower(k.Kind)))
}

// joined is one error for all that is wrong with a value.
func (c *checks) joined(p *field.Path, v any, before string, wrong []string) {
	if len(wrong) > 0 {
		c.invalid(p, v, before+strings.Join(wrong, ","))
	}
}

func (c *checks) matchResources(p *field.Path, m *admissionregistrationv1.MatchResources) {
	if m.MatchPolicy == nil {
		c.required(p.Child("matchPolicy"), "")
	} else {
		oneOf(c, p.Child("matchPolicy"), *m.MatchPolicy, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)
	}
	for name, s := range map[string]*metav1.LabelSelector{"namespaceSelector": m.NamespaceSelector, "objectSelector": m.ObjectSelector} {
		if s == nil {
			c.required(p.Child(name), "")
		} else {
			c.add(metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, p.Child(name)))
		}
	}
	for name, rules := range map[string][]admissionregistrationv1.NamedRuleWithOperations{"resourceRules": m.ResourceRules, "excludeResourceRules": m.ExcludeResourceRules} {
		for i := range rules {
			at := p.Child(name).Index(i)
			seen := sets.Set[string]{}
			for j, r := range rules[i].ResourceNames {
				c.invalid(at.Child("resourceNames").Index(j), r, path.IsValidPathSegmentName(r)...)
				if seen.Has(r) {
					c.duplicate(at.Child("resourceNames").Index(j), r)
				}
				seen.Insert(r)
			}
			c.hookRule(&rules[i].RuleWithOperations, at)
		}
	}
}

// mutatingOperations wants rules of what can be mutated.
func (c *checks) mutatingOperations(p *field.Path, m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	for _, r := range m.ResourceRules {
		for _, o := range r.Operations {
			oneOf(c, p.Child("resourceRules", "operations"), o, admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create, admissionregistrationv1.Update)
		}
	}
}

func validateValidatingBinding(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	c := &checks{}
	p := root("spec")
	c.policyBinding(p, b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources)
	at, actions := p.Child("validationActions"), sets.Set[admissionregistrationv1.ValidationAction]{}
	for i, a := range b.Spec.ValidationActions {
		oneOf(c, at.Index(i), a, admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn)
		if actions.Has(a) {
			c.duplicate(at.Index(i), a)
		}
		actions.Insert(a)
	}
	if actions.HasAll(admissionregistrationv1.Deny, admissionregistrationv1.Warn) {
		c.invalid(at, b.Spec.ValidationActions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)")
	}
	if len(actions) == 0 {
		c.required(at, "")
	}
	return c.list
}

func validateMutatingBinding(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
	c := &checks{}
	p := root("spec")
	c.policyBinding(p, b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources)
	c.mutatingOperations(p.Child("matchResources"), b.Spec.MatchResources)
	return c.list
}

// policyBinding checks what both kinds of binding have.
func (c *checks) policyBinding(p *field.Path, policy string, ref *admissionregistrationv1.ParamRef, match *admissionregistrationv1.MatchResources) {
	c.requiredOr(p.Child("policyName"), policy, c.subdomain)
	if match != nil {
		c.matchResources(p.Child("matchResources"), match)
	}
	if ref == nil {
		return
	}
	at := p.Child("paramRef")
	if ref.Name != "" {
		c.invalid(at.Child("name"), ref.Name, path.IsValidPathSegmentName(ref.Name)...)
	}
	if ref.Selector != nil {
		c.add(metavalidation.ValidateLabelSelector(ref.Selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("selector")))
	}
	switch {
	case ref.Name != "" && ref.Selector != nil:
		c.forbidden(at.Child("name"), "name and selector are mutually exclusive")
		c.forbidden(at.Child("selector"), "name and selector are mutually exclusive")
	case ref.Name == "" && ref.Selector == nil:
		c.required(at, "one of name or selector must be specified")
	}
	if a := ref.ParameterNotFoundAction; a == nil || *a == "" {
		c.required(at.Child("parameterNotFoundAction"), "")
	} else {
		oneOfRequired(c, at.Child("parameterNotFoundAction"), *a, admissionregistrationv1.DenyAction, admissionregistrationv1.AllowAction)
	}
}
