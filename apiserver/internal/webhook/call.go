package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/uuid"
	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apitypes "k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/expression"
	"flagship/apiserver/internal/match"
)

// call is one webhook about one request.
type call struct {
	// refused is whether the webhook said no.
	refused     bool
	webhook     *webhook
	target      match.Target
	object, old runtime.Object
}

// callError is a failure to get a webhook's word, which its failure policy may
// pass over.
type callError struct {
	name string
	err  error
}

func (e *callError) Error() string {
	return fmt.Sprintf("failed calling webhook %q: %v", e.name, e.err)
}

func (e *callError) Unwrap() error { return e.err }

// conditionsHold evaluates match conditions: one that is false keeps the
// webhook out, whatever the others say; an error is up to the failure policy.
func (d *Deps) conditionsHold(ctx context.Context, c *call, a *admission.Attributes) (bool, error) {
	in := expression.Input{
		Attributes: a, Object: c.object, OldObject: c.old, Request: expression.RequestOf(a, c.target.Kind, c.target.Resource), Authorizer: d.Authorizer,
	}
	run, err := d.Expressions.Simple().Begin(ctx, in, celconfig.RuntimeCELCostBudgetMatchConditions)
	if err != nil {
		return false, c.conditionError(a, err)
	}
	var errs []error
	for _, cond := range c.webhook.conditions {
		v, err, fatal := run.Eval(cond.program)
		if fatal != nil {
			return false, c.conditionError(a, fatal)
		}
		if err != nil {
			errs = append(errs, err)
		} else if v == types.False {
			return false, nil
		}
	}
	if len(errs) > 0 {
		return false, c.conditionError(a, utilerrors.NewAggregate(errs))
	}
	return true, nil
}

func (c *call) conditionError(a *admission.Attributes, err error) error {
	if c.webhook.ignore {
		return nil
	}
	return admission.Forbidden(a, err)
}

// ask sends the review and returns a response that is well formed. A failure is
// a *callError.
func (d *Deps) ask(ctx context.Context, c *call, a *admission.Attributes, mutating bool) (*admissionv1.AdmissionResponse, error) {
	w := c.webhook
	failed := func(format string, args ...any) error { return &callError{w.name, fmt.Errorf(format, args...)} }
	if a.DryRun && !w.quiet {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", w.name))
	}
	if w.version == "" {
		return nil, failed("could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)")
	}
	request := expression.RequestOf(a, c.target.Kind, c.target.Resource)
	request.UID = apitypes.UID(uuid.NewString())
	for _, part := range []struct {
		into *runtime.RawExtension
		obj  runtime.Object
	}{{&request.Object, c.object}, {&request.OldObject, c.old}} {
		if part.obj == nil {
			continue
		}
		raw, err := json.Marshal(part.obj)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		part.into.Raw = raw
	}
	review := &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/" + w.version, Kind: "AdmissionReview"}, Request: request,
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	answer := &admissionv1.AdmissionReview{}
	if err := d.Caller.Call(ctx, w.target, review, answer); err != nil {
		return nil, failed("failed to call webhook: %w", err)
	}
	if err := wellFormed(answer, review, mutating); err != nil {
		return nil, failed("received invalid webhook response: %w", err)
	}
	for k, v := range answer.Response.AuditAnnotations {
		a.Annotate(w.name+"/"+k, v)
	}
	return answer.Response, nil
}

func wellFormed(answer, review *admissionv1.AdmissionReview, mutating bool) error {
	r := answer.Response
	if r == nil {
		return errors.New("webhook response was absent")
	}
	if review.APIVersion != admissionv1.SchemeGroupVersion.String() {
		if len(r.Patch) > 0 {
			patch := admissionv1.PatchTypeJSONPatch
			r.PatchType = &patch
		}
		return nil
	}
	if r.UID != review.Request.UID {
		return fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	}
	if answer.GroupVersionKind() != review.GroupVersionKind() {
		return fmt.Errorf("expected webhook response of %v, got %v", review.GroupVersionKind(), answer.GroupVersionKind())
	}
	switch {
	case !mutating && len(r.Patch) > 0:
		return errors.New("validating webhook may not return response.patch")
	case !mutating && r.PatchType != nil:
		return errors.New("validating webhook may not return response.patchType")
	case len(r.Patch) > 0 && r.PatchType == nil:
		return errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return errors.New("webhook returned response.patchType but not response.patch")
	case r.PatchType != nil && *r.PatchType == "":
		return fmt.Errorf("webhook returned invalid response.patchType of %q", *r.PatchType)
	}
	return nil
}

// refusal is a webhook's no as a Status.
func refusal(name string, result *metav1.Status) error {
	by := fmt.Sprintf("admission webhook %q denied the request", name)
	if result == nil {
		result = &metav1.Status{}
	}
	s := result.DeepCopy()
	s.Code = max(s.Code, http.StatusBadRequest)
	if s.Status == "" || s.Status == metav1.StatusSuccess {
		s.Status = metav1.StatusFailure
	}
	switch {
	case s.Message != "":
		s.Message = by + ": " + s.Message
	case s.Reason != "":
		s.Message = by + ": " + string(s.Reason)
	default:
		s.Message = by + " without explanation"
	}
	return &apierrors.StatusError{ErrStatus: *s}
}

// observe tells the metrics of a call that is over.
func (d *Deps) observe(c *call, half string, op admission.Operation, start time.Time, err error) {
	var failed *callError
	var status apierrors.APIStatus
	switch {
	case err == nil:
		d.Metrics.Asked(c.webhook.name, half, op, start, "", http.StatusOK, nil)
	case errors.As(err, &failed):
		why := admission.CallingError
		if c.webhook.ignore {
			why = ""
		}
		d.Metrics.Asked(c.webhook.name, half, op, start, why, http.StatusInternalServerError, err)
	case c.refused && errors.As(err, &status):
		d.Metrics.Asked(c.webhook.name, half, op, start, admission.NoError, int(status.Status().Code), err)
	default:
		d.Metrics.Asked(c.webhook.name, half, op, start, admission.InternalError, 0, err)
	}
}

// passOver says whether a failed call is passed over, and else what it is
// answered with.
func passOver(ctx context.Context, w *webhook, err error) (bool, error) {
	var failed *callError
	if !errors.As(err, &failed) {
		return false, err
	}
	if !w.ignore {
		return false, apierrors.NewInternalError(err)
	}
	if ctx.Err() != nil {
		return false, apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
	}
	return true, nil
}
