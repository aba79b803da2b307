package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/apps/poddisruptionbudget"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/watchcache"
)

// scaleChange makes, of a Scale, the one that an update or patch asks for.
func (a *API) scaleChange(q *request) (func(was *autoscalingv1.Scale, of metav1.Object) (*autoscalingv1.Scale, error), error) {
	want := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	if q.info.Verb == "update" {
		body, err := a.readBody(q.http)
		return func(*autoscalingv1.Scale, metav1.Object) (*autoscalingv1.Scale, error) {
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
	if sort == types.ApplyYAMLPatchType && q.res.codec == nil {
		return a.applyScale(q, body)
	}
	return func(was *autoscalingv1.Scale, _ metav1.Object) (*autoscalingv1.Scale, error) {
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
			if patch, err = a.yamlToJSON(body, metav1.FieldValidationWarn); err != nil {
				return nil, err
			}
		}
		after, strange, err := merge(before, patch, check)
		if err != nil {
			return nil, err
		}
		obj, unknown, err := a.parseJSON(q, want, after, check != metav1.FieldValidationIgnore)
		if err != nil {
			return nil, unprocessable(string(after), err)
		}
		if err := q.refuse(check, string(after), append(strange, unknown...)); err != nil {
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
	writeWarnings(w, q.warnings)
	s := &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: int32(code)} //nolint:gosec // an HTTP status
	audit.From(q.ctx()).Answer(s)
	writeStatus(w, f, code, s)
}

// inside is a request of the server's own for the same: admission has seen what it is for, and nobody owns the fields that it changes.
func (q *request) inside() *request {
	out := *q
	out.trusted, out.applied = true, true
	return &out
}

// byServer is a request that the server makes for another, for itself and under its own name.
func (q *request) byServer(info *Info, res *Resource) *request {
	r := q.http.Clone(audit.Outside(q.ctx()))
	r.URL.RawQuery = ""
	r.Header.Set("User-Agent", "kube-apiserver")
	return &request{http: r, info: info, res: res, user: &authn.Identity{Name: authn.APIServerUser, Groups: []string{authn.PrivilegedGroup, authn.AllAuthenticated}}}
}

// admitCreate admits what is created through a subresource; between its halves it is checked.
func (a *API) admitCreate(q *request, at *admission.Attributes, check func() error) error {
	if err := a.admitMutate(q, at); err != nil {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	return a.admitValidate(q, at)
}

// bind assigns a pod to a node: what the scheduler does. legacy is for the resource bindings.
func (a *API) bind(w http.ResponseWriter, q *request, legacy bool) error {
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
	if err := q.inNamespaceOf(b); err != nil {
		return err
	}
	if legacy {
		q.info.Name = b.Name
	}
	at := a.attributes(q, admission.Create, "binding", b, nil, dry)
	if legacy {
		at.Resource, at.Subresource = corev1.SchemeGroupVersion.WithResource("bindings"), ""
	}
	err = a.admitCreate(q, at, func() error {
		if b.Name != q.info.Name {
			return apierrors.NewBadRequest("name in URL does not match name in Binding object")
		}
		// Upstream's answer to a bad binding is 500.
		return checkBinding(b).ToAggregate()
	})
	if err != nil {
		return err
	}
	if b.Name == "" {
		return apierrors.NewBadRequest("Name parameter required.")
	}
	_, _, err = a.guaranteed(q.inside(), "binding", dry, func(old runtime.Object) (runtime.Object, error) {
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
		return nil, apierrors.NewConflict(q.res.GroupResource(), p.Name, q.otherUID(b.UID, p.UID))
	case b.ResourceVersion != "" && b.ResourceVersion != p.ResourceVersion:
		return nil, apierrors.NewConflict(q.res.GroupResource(), p.Name, q.precondition("ResourceVersion", b.ResourceVersion, p.ResourceVersion))
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
	if p.Labels == nil && len(b.Labels) > 0 {
		p.Labels = map[string]string{}
	}
	for k, v := range b.Labels {
		p.Labels[k] = v
	}
	p.Status.NominatedNodeName = ""
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
	if err := q.inNamespaceOf(ev); err != nil {
		return err
	}
	err = a.admitCreate(q, a.attributes(q, admission.Create, "eviction", ev, nil, dryRun(q.http)), func() error {
		if ev.Name != q.info.Name {
			return apierrors.NewBadRequest("name in URL does not match name in Eviction object")
		}
		if o := ev.DeleteOptions; o != nil && o.IgnoreStoreReadErrorWithClusterBreakingPotential != nil && *o.IgnoreStoreReadErrorWithClusterBreakingPotential {
			return apierrors.NewInvalid(policyv1.SchemeGroupVersion.WithKind("Eviction").GroupKind(), ev.Name, field.ErrorList{
				field.Invalid(field.NewPath("deleteOptions", "ignoreStoreReadErrorWithClusterBreakingPotential"), true, "can not be set for pod eviction, try after removing the option"),
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	o := ev.DeleteOptions
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	dry := dryRun(q.http)
	if dry {
		o.DryRun = []string{metav1.DryRunAll}
	}
	for try := 1; ; try++ {
		again, err := a.evictOnce(q, o.DeepCopy())
		if again && try < maxUpdateTries {
			continue
		}
		if err != nil {
			return err
		}
		success(w, q, http.StatusCreated)
		return nil
	}
}

// evictOnce evicts the pod as it is now. again says that it is another by then, and to be judged anew.
func (a *API) evictOnce(q *request, o *metav1.DeleteOptions) (again bool, err error) {
	e, err := a.fetch(q.ctx(), q.res, q.key(q.info.Name), "")
	if err != nil {
		return false, q.notFound()
	}
	obj, err := a.decodeStored(q.res, e)
	if err != nil {
		return false, err
	}
	pod := obj.(*corev1.Pod)
	// judged is whether the pod goes for what it is: it must not have become another, such as a healthy one.
	ignored := ignoresBudgets(pod)
	judged, budget := ignored && pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil, ""
	if !ignored {
		if budget, judged, err = a.takeDisruption(q, pod, len(o.DryRun) > 0); err != nil {
			return false, err
		}
	}
	if err := invalidOptions("DeleteOptions", metavalidation.ValidateDeleteOptions(o)); err != nil {
		return false, err
	}
	if judged = judged && (o.Preconditions == nil || o.Preconditions.ResourceVersion == nil); judged {
		if o.Preconditions == nil {
			o.Preconditions = &metav1.Preconditions{}
		}
		o.Preconditions.ResourceVersion = new(pod.ResourceVersion)
	}
	if len(o.DryRun) == 0 {
		err = a.markDisrupted(q, o)
	}
	if err == nil {
		_, _, err = a.deleteObject(q.inside(), o)
	}
	if judged && apierrors.IsConflict(err) {
		if ignored {
			return true, err
		}
		return false, unprocessed(budget)
	}
	return false, err
}

func ignoresBudgets(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodPending || p.DeletionTimestamp != nil
}

// markDisrupted tells in the pod's conditions why it ends, KEP-3329, if it is the one that the options are for. They are for the marked pod then.
func (a *API) markDisrupted(q *request, o *metav1.DeleteOptions) error {
	e, _, err := a.guaranteed(q.inside(), "status", false, func(old runtime.Object) (runtime.Object, error) {
		if old == nil {
			return nil, errNoObject
		}
		p := old.(*corev1.Pod)
		if err := q.deletePreconditions(o, p); err != nil {
			return nil, err
		}
		setPodCondition(&p.Status, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
		})
		return p, nil
	})
	if err == nil && o.Preconditions != nil && o.Preconditions.ResourceVersion != nil {
		o.Preconditions.ResourceVersion = new(strconv.FormatInt(e.Rev, 10))
	}
	return err
}

// takeDisruption takes one disruption from the budget that covers a pod, and says which that is. An unhealthy pod may go without.
func (a *API) takeDisruption(q *request, pod *corev1.Pod, dry bool) (name string, unhealthy bool, err error) {
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
		return "", false, failure
	case len(covering) == 0:
		return "", false, nil
	case len(covering) > 1:
		return "", false, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
		}}
	}
	b := covering[0]
	if unhealthyMayGo(b, pod) {
		return b.Name, true, nil
	}
	one := q.byServer(&Info{Namespace: b.Namespace, Name: b.Name, Resource: "poddisruptionbudgets"}, budgets)
	_, _, err = a.guaranteed(one, "status", dry, func(old runtime.Object) (runtime.Object, error) {
		if old == nil {
			return nil, errNoObject
		}
		b := old.(*policyv1.PodDisruptionBudget)
		return b, spend(b, pod.Name)
	})
	return b.Name, false, err
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

// refusedByBudget is the refusal that a budget is the cause of. seconds is when to come again, 0 for unknown.
func refusedByBudget(seconds int, message string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", seconds)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: message})
	return err
}

// maxDisruptedPods bounds the evictions that the controller of budgets has not seen yet, as upstream does.
const maxDisruptedPods = 2000

func brokenBudget(name, why, cause string) error {
	err := apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), name, errors.New(why))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: policyv1.DisruptionBudgetCause, Message: fmt.Sprintf("The disruption budget %s does not allow evicting pods currently: %s", name, cause),
	})
	return err
}

func unprocessed(budget string) error {
	return refusedByBudget(evictionRetry, fmt.Sprintf("The disruption budget %s is still being processed by the server.", budget))
}

func spend(b *policyv1.PodDisruptionBudget, pod string) error {
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return unprocessed(b.Name)
	case b.Status.DisruptionsAllowed < 0:
		return brokenBudget(b.Name, "pdb disruptions allowed is negative", "pdb disruptions allowed is negative")
	case len(b.Status.DisruptedPods) > maxDisruptedPods:
		return brokenBudget(b.Name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller", "too many pending evictions not confirmed by PDB controller")
	case b.Status.DisruptionsAllowed == 0:
		return refusedByBudget(0, spent(b))
	}
	if b.Status.DisruptionsAllowed--; b.Status.DisruptionsAllowed == 0 {
		poddisruptionbudget.UpdateDisruptionAllowedCondition(b)
	}
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = map[string]metav1.Time{}
	}
	b.Status.DisruptedPods[pod] = metav1.NewTime(time.Now())
	return nil
}

// spent says why a budget allows no disruption.
func spent(b *policyv1.PodDisruptionBudget) string {
	c := meta.FindStatusCondition(b.Status.Conditions, policyv1.DisruptionAllowedCondition)
	told := c != nil && c.Status == metav1.ConditionFalse && c.Message != ""
	switch {
	case told && c.Reason == policyv1.SyncFailedReason:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %s", b.Name, c.Message)
	case b.Status.CurrentHealthy <= b.Status.DesiredHealthy:
		return fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
	case told:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently (%s): %s", b.Name, c.Reason, c.Message)
	}
	return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently", b.Name)
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
	if err := q.inNamespaceOf(req); err != nil {
		return err
	}
	at := a.attributes(q, admission.Create, "token", req, nil, dryRun(q.http))
	if err := a.admitMutate(q, at); err != nil {
		return err
	}
	if req.Name != "" && req.Name != q.info.Name {
		return apierrors.NewInvalid(want.GroupKind(), q.info.Name, field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), req.Name, "must match the service account name if specified")})
	}
	e, err := a.fetch(q.ctx(), q.res, q.key(q.info.Name), "")
	if err != nil {
		return q.notFound()
	}
	obj, err = a.decodeStored(q.res, e)
	if err != nil {
		return err
	}
	sa := obj.(*corev1.ServiceAccount)
	if req.UID != "" && req.UID != sa.UID {
		return apierrors.NewConflict(schema.GroupResource{Group: want.Group, Resource: want.Kind}, q.info.Name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", req.UID, sa.UID))
	}
	req.Name, req.UID, req.CreationTimestamp, req.Status = sa.Name, sa.UID, now(), authenticationv1.TokenRequestStatus{}
	if err := a.deps.Tokens.Issue(q.ctx(), sa, req, func() error { return a.admitValidate(q, at) }); err != nil {
		return err
	}
	writeWarnings(w, q.warnings)
	return WriteObject(w, q.http, http.StatusCreated, req)
}
