package rest

import (
	"cmp"
	"errors"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	operator "k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
)

// invalidReview is a 422 for an access review, which has no name.
func invalidReview(errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return invalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", errs)
}

// checkSubject is what reviews of somebody's access have in common.
func checkSubject(s authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := checkAsked(s.ResourceAttributes, s.NonResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "user"), s.User, "at least one of user or group must be specified"))
	}
	return errs
}

func checkAsked(res *authorizationv1.ResourceAttributes, non *authorizationv1.NonResourceAttributes) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if (res == nil) == (non == nil) {
		errs = append(errs, field.Invalid(spec, shownPath(non), "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if res == nil {
		return errs
	}
	p := spec.Child("resourceAttributes")
	if s := res.FieldSelector; s != nil {
		p := p.Child("fieldSelector")
		errs = append(errs, checkSelector(p, s.RawSelector, len(s.Requirements))...)
		for i, r := range s.Requirements {
			errs = append(errs, metavalidation.ValidateFieldSelectorRequirement(r, metavalidation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, p.Child("requirements").Index(i))...)
		}
	}
	if s := res.LabelSelector; s != nil {
		p := p.Child("labelSelector")
		errs = append(errs, checkSelector(p, s.RawSelector, len(s.Requirements))...)
		for i, r := range s.Requirements {
			errs = append(errs, metavalidation.ValidateLabelSelectorRequirement(r, metavalidation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, p.Child("requirements").Index(i))...)
		}
	}
	return errs
}

func checkSelector(p *field.Path, raw string, requirements int) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(p.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(p.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", p))}
	}
	return nil
}

// checkNoMetadata is whether a review has metadata beyond what the server adds.
func checkNoMetadata(m metav1.ObjectMeta, namespaced bool) field.ErrorList {
	bare, text := m, "must be empty"
	bare.ManagedFields = nil
	if namespaced {
		bare.Namespace, text = "", "must be empty except for namespace"
	}
	if apiequality.Semantic.DeepEqual(bare, metav1.ObjectMeta{}) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), m, text)}
}

func checkLocalReview(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
	errs := append(checkSubject(r.Spec), checkNoMetadata(r.ObjectMeta, true)...)
	spec := field.NewPath("spec")
	if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
		errs = append(errs, field.Invalid(spec.Child("resourceAttributes", "namespace"), a.Namespace, "must match metadata.namespace"))
	}
	if non := r.Spec.NonResourceAttributes; non != nil {
		errs = append(errs, field.Invalid(spec.Child("nonResourceAttributes"), shownPath(non), "disallowed on this kind of request"))
	}
	return errs
}

// shownPath is how messages show attributes of a path, by the names of upstream's Go fields.
func shownPath(non *authorizationv1.NonResourceAttributes) any {
	if non == nil {
		return nil
	}
	return struct{ Path, Verb string }{non.Path, non.Verb}
}

func (a *API) reviewAccess(q *request, u *authn.Identity, res *authorizationv1.ResourceAttributes, non *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	at := authz.Attributes{User: u}
	if res != nil {
		at.ResourceRequest, at.Verb, at.Namespace = true, res.Verb, res.Namespace
		at.APIGroup, at.APIVersion = res.Group, cmp.Or(res.Version, "*")
		at.Resource, at.Subresource, at.Name = res.Resource, res.Subresource, res.Name
		if res.FieldSelector != nil {
			at.Fields, at.FieldSelectorErr = askedFields(res.FieldSelector)
		}
		if res.LabelSelector != nil {
			at.Labels, at.LabelSelectorErr = askedLabels(res.LabelSelector)
		}
	} else {
		at.Verb, at.Path = non.Verb, non.Path
	}
	d, reason, err := a.deps.Reviewer.Authorize(q.ctx(), at)
	s := authorizationv1.SubjectAccessReviewStatus{Allowed: d == authz.Allow, Denied: d == authz.Deny, Reason: reason}
	if err = errors.Join(err, wrapSelector("spec.resourceAttributes.fieldSelector", at.FieldSelectorErr), wrapSelector("spec.resourceAttributes.labelSelector", at.LabelSelectorErr)); err != nil {
		s.EvaluationError = err.Error()
	}
	return s
}

func wrapSelector(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s ignored due to parse error: %w", path, err)
}

// askedFields and askedLabels read a review's selector. Requirements that cannot be read are left out, which asks for
// more and so allows no more, and are an error beside the others.
func askedFields(s *authorizationv1.FieldSelectorAttributes) (fields.Requirements, error) {
	if s.RawSelector != "" {
		sel, err := fields.ParseSelector(s.RawSelector)
		if err != nil {
			return nil, err
		}
		return sel.Requirements(), nil
	}
	operators := map[metav1.FieldSelectorOperator]operator.Operator{metav1.FieldSelectorOpIn: operator.Equals, metav1.FieldSelectorOpNotIn: operator.NotEquals}
	var out fields.Requirements
	var errs []error
	for _, r := range s.Requirements {
		op, known := operators[r.Operator]
		switch {
		case len(r.Values) > 1:
			errs = append(errs, errors.New("fieldSelectors do not yet support multiple values"))
		case known && len(r.Values) == 1:
			out = append(out, fields.Requirement{Field: r.Key, Operator: op, Value: r.Values[0]})
		case known:
			errs = append(errs, fmt.Errorf("fieldSelectors %s must have one value", r.Operator))
		case r.Operator == metav1.FieldSelectorOpExists || r.Operator == metav1.FieldSelectorOpDoesNotExist:
			errs = append(errs, fmt.Errorf("fieldSelectors do not yet support %v", r.Operator))
		default:
			errs = append(errs, fmt.Errorf("%q is not a valid field selector operator", r.Operator))
		}
	}
	return out, errors.Join(errs...)
}

func askedLabels(s *authorizationv1.LabelSelectorAttributes) (labels.Requirements, error) {
	if s.RawSelector != "" {
		sel, err := labels.Parse(s.RawSelector)
		if err != nil {
			return nil, err
		}
		out, _ := sel.Requirements()
		return out, nil
	}
	operators := map[metav1.LabelSelectorOperator]operator.Operator{
		metav1.LabelSelectorOpIn: operator.In, metav1.LabelSelectorOpNotIn: operator.NotIn,
		metav1.LabelSelectorOpExists: operator.Exists, metav1.LabelSelectorOpDoesNotExist: operator.DoesNotExist,
	}
	var out labels.Requirements
	var errs []error
	for _, r := range s.Requirements {
		op, known := operators[r.Operator]
		if !known {
			errs = append(errs, fmt.Errorf("%q is not a valid label selector operator", r.Operator))
			continue
		}
		req, err := labels.NewRequirement(r.Key, op, r.Values)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, *req)
	}
	return out, errors.Join(errs...)
}
