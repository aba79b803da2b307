package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/watchcache"
)

// scaleChange makes, of a Scale, the one that an update or patch asks for.
func (a *API) scaleChange(q *request) (func(was *autoscalingv1.Scale) (*autoscalingv1.Scale, error), error) {
	want := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	if q.info.Verb == "update" {
		body, err := a.readBody(q.http)
		return func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
			obj, err := a.decodeBody(q, want, body)
			if err != nil {
				return nil, err
			}
			return obj.(*autoscalingv1.Scale), nil
		}, err
	}
	sort, body, err := a.patchBody(q)
	if err != nil {
		return nil, err
	}
	check := fieldValidation(q.http)
	return func(was *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
		if sort == types.StrategicMergePatchType {
			scale := &autoscalingv1.Scale{}
			return scale, q.strategicPatch(was, body, scale, check)
		}
		before, err := json.Marshal(was)
		if err != nil {
			return nil, err
		}
		patch, merge := body, mergePatch
		switch sort {
		case types.JSONPatchType:
			merge = jsonPatch
		case types.ApplyYAMLPatchType:
			if patch, err = yamlToJSON(body, metav1.FieldValidationWarn); err != nil {
				return nil, err
			}
		}
		after, _, err := merge(before, patch, check)
		if err != nil {
			return nil, err
		}
		obj, err := a.decodeJSON(q, want, after, check)
		if err != nil {
			return nil, err
		}
		return obj.(*autoscalingv1.Scale), nil
	}, nil
}

// success answers with a Status that says no more than that.
func success(w http.ResponseWriter, q *request, code int) {
	f := q.form
	if f.as != "" {
		f = form{media: mediaJSON}
	}
	s := &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: int32(code)} //nolint:gosec // an HTTP status
	audit.From(q.ctx()).Answer(s)
	writeStatus(w, f, code, s)
}

// bind assigns a pod to a node: what the scheduler does.
func (a *API) bind(w http.ResponseWriter, q *request) error {
	dry := dryRun(q.http)
	body, err := a.readBody(q.http)
	if err != nil {
		return err
	}
	obj, err := a.decodeBody(q, corev1.SchemeGroupVersion.WithKind("Binding"), body)
	if err != nil {
		return err
	}
	b := obj.(*corev1.Binding)
	if q.info.Name == "" {
		q.info.Name = b.Name
	}
	if b.Name != "" && b.Name != q.info.Name {
		return apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	if errs := checkBinding(b); len(errs) > 0 {
		// Upstream's answer to a bad binding is 500.
		return errs.ToAggregate()
	}
	_, _, err = a.guaranteed(q, "binding", dry, func(old runtime.Object) (runtime.Object, error) {
		if old == nil {
			return nil, errNoObject
		}
		return q.assign(old.(*corev1.Pod), b)
	})
	if err != nil {
		return err
	}
	success(w, q, http.StatusCreated)
	return nil
}

func checkBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	target := field.NewPath("target")
	node := b.Target.Kind == "" || b.Target.Kind == "Node"
	if !node {
		errs = append(errs, field.NotSupported(target.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		return append(errs, field.Required(target.Child("name"), ""))
	}
	if node {
		for _, wrong := range apivalidation.NameIsDNSSubdomain(b.Target.Name, false) {
			errs = append(errs, field.Invalid(target.Child("name"), b.Target.Name, wrong))
		}
	}
	return errs
}

func (q *request) assign(p *corev1.Pod, b *corev1.Binding) (runtime.Object, error) {
	refuse := func(format string, args ...any) (runtime.Object, error) {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, p.Name, fmt.Errorf(format, args...))
	}
	switch {
	case b.UID != "" && b.UID != p.UID:
		return refuse("Precondition failed: UID in precondition: %v, UID in object meta: %v", b.UID, p.UID)
	case p.DeletionTimestamp != nil:
		return refuse("pod %s is being deleted, cannot be assigned to a host", p.Name)
	case p.Spec.NodeName != "":
		return refuse("pod %v is already assigned to node %q", p.Name, p.Spec.NodeName)
	case len(p.Spec.SchedulingGates) != 0:
		return refuse("pod %v has non-empty .spec.schedulingGates", p.Name)
	}
	p.Spec.NodeName = b.Target.Name
	if p.Annotations == nil && len(b.Annotations) > 0 {
		p.Annotations = map[string]string{}
	}
	for k, v := range b.Annotations {
		p.Annotations[k] = v
	}
	setPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	return p, nil
}

func setPodCondition(s *corev1.PodStatus, c corev1.PodCondition) {
	c.LastTransitionTime = now()
	for i := range s.Conditions {
		if s.Conditions[i].Type == c.Type {
			if s.Conditions[i].Status == c.Status {
				c.LastTransitionTime = s.Conditions[i].LastTransitionTime
			}
			s.Conditions[i] = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

// evictionRetry is what a refused eviction is told to wait, in seconds.
const evictionRetry = 10

// evict deletes a pod if the disruption budgets allow it, KEP-85.
func (a *API) evict(w http.ResponseWriter, q *request) error {
	body, err := a.readBody(q.http)
	if err != nil {
		return err
	}
	obj, err := a.decodeBody(q, policyv1.SchemeGroupVersion.WithKind("Eviction"), body)
	if err != nil {
		return err
	}
	ev := obj.(*policyv1.Eviction)
	if ev.Name != "" && ev.Name != q.info.Name {
		return apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	o := ev.DeleteOptions
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	dry := dryRun(q.http)
	if dry {
		o.DryRun = []string{metav1.DryRunAll}
	}
	e, err := a.fetch(q.ctx(), q.res, q.key(q.info.Name), "")
	if err != nil {
		return q.notFound()
	}
	podObj, err := a.decodeStored(q.res, e)
	if err != nil {
		return err
	}
	pod := podObj.(*corev1.Pod)
	if !ignoresBudgets(pod) {
		if err := a.takeDisruption(q, pod, len(o.DryRun) > 0); err != nil {
			return err
		}
		if len(o.DryRun) == 0 {
			a.markDisrupted(q, pod)
		}
	}
	if _, _, err := a.deleteObject(q, o); err != nil {
		return err
	}
	success(w, q, http.StatusCreated)
	return nil
}

func ignoresBudgets(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodPending || p.DeletionTimestamp != nil
}

// markDisrupted tells in the pod's conditions why it ends, KEP-3329.
func (a *API) markDisrupted(q *request, pod *corev1.Pod) {
	one := &request{http: q.http, info: q.info, res: q.res, form: q.form, user: q.user}
	_, _, err := a.guaranteed(one, "status", false, func(old runtime.Object) (runtime.Object, error) {
		if old == nil {
			return nil, errNoObject
		}
		p := old.(*corev1.Pod)
		setPodCondition(&p.Status, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI",
			Message: "Eviction API: evicting", ObservedGeneration: p.Generation,
		})
		return p, nil
	})
	if err != nil {
		a.deps.Log.Sugar().Debugf("mark pod %s/%s as disrupted: %v", pod.Namespace, pod.Name, err)
	}
}

// takeDisruption takes one disruption from the budget that covers a pod.
func (a *API) takeDisruption(q *request, pod *corev1.Pod, dry bool) error {
	budgets := a.Lookup(policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets"))
	var covering []*policyv1.PodDisruptionBudget
	var failure error
	budgets.Cache.Snapshot().Scan(pod.Namespace+"/", "", func(e *watchcache.Entry) bool {
		obj, err := a.decodeStored(budgets, e)
		if err != nil {
			failure = err
			return false
		}
		b := obj.(*policyv1.PodDisruptionBudget)
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && sel.Matches(labels.Set(pod.Labels)) {
			covering = append(covering, b)
		}
		return true
	})
	switch {
	case failure != nil:
		return failure
	case len(covering) == 0:
		return nil
	case len(covering) > 1:
		return apierrors.NewInternalError(fmt.Errorf("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
	}
	b := covering[0]
	if unhealthyMayGo(b, pod) {
		return nil
	}
	one := &request{http: q.http, info: &Info{Namespace: b.Namespace, Name: b.Name, Resource: "poddisruptionbudgets"}, res: budgets, user: q.user}
	_, _, err := a.guaranteed(one, "status", dry, func(old runtime.Object) (runtime.Object, error) {
		if old == nil {
			return nil, errNoObject
		}
		b := old.(*policyv1.PodDisruptionBudget)
		return b, spend(b, pod.Name)
	})
	return err
}

func unhealthyMayGo(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

func spend(b *policyv1.PodDisruptionBudget, pod string) error {
	tooMany := func(seconds int, message string) error {
		err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", seconds)
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: message})
		return err
	}
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return tooMany(evictionRetry, fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name))
	case b.Status.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name, fmt.Errorf("pdb disruptions allowed is negative"))
	case b.Status.DisruptionsAllowed == 0:
		return tooMany(0, fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy))
	}
	b.Status.DisruptionsAllowed--
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = map[string]metav1.Time{}
	}
	b.Status.DisruptedPods[pod] = metav1.NewTime(time.Now())
	return nil
}

// token issues a token for a service account.
func (a *API) token(w http.ResponseWriter, q *request) error {
	body, err := a.readBody(q.http)
	if err != nil {
		return err
	}
	want := authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
	obj, err := a.decodeBody(q, want, body)
	if err != nil {
		return err
	}
	req := obj.(*authenticationv1.TokenRequest)
	e, err := a.fetch(q.ctx(), q.res, q.key(q.info.Name), "")
	if err != nil {
		return q.notFound()
	}
	saObj, err := a.decodeStored(q.res, e)
	if err != nil {
		return err
	}
	at := a.attributes(q, admission.Create, "token", req, nil, false)
	if err := a.admitMutate(q, at); err != nil {
		return err
	}
	if err := a.admitValidate(q, at); err != nil {
		return err
	}
	req.Name, req.Namespace = q.info.Name, q.info.Namespace
	req.CreationTimestamp, req.UID = now(), types.UID(uuid.NewString())
	if err := a.deps.Tokens.Issue(q.ctx(), saObj.(*corev1.ServiceAccount), req, q.user); err != nil {
		return err
	}
	return WriteObject(w, q.http, http.StatusCreated, req)
}
