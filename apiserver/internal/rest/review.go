package rest

import (
	"context"
	"errors"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/store"
)

// Virtual is a resource that is not stored.
type Virtual struct {
	schema.GroupVersionKind
	Resource   string
	Namespaced bool
	Verbs      []string
}

// Virtuals lists the resources that are answered and not stored.
func Virtuals() []Virtual {
	create := []string{"create"}
	authen, author := authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion
	return []Virtual{
		{corev1.SchemeGroupVersion.WithKind("Binding"), "bindings", true, create},
		{corev1.SchemeGroupVersion.WithKind("ComponentStatus"), "componentstatuses", false, []string{"get", "list"}},
		{authen.WithKind("TokenReview"), "tokenreviews", false, create},
		{authen.WithKind("SelfSubjectReview"), "selfsubjectreviews", false, create},
		{author.WithKind("LocalSubjectAccessReview"), "localsubjectaccessreviews", true, create},
		{author.WithKind("SelfSubjectAccessReview"), "selfsubjectaccessreviews", false, create},
		{author.WithKind("SelfSubjectRulesReview"), "selfsubjectrulesreviews", false, create},
		{author.WithKind("SubjectAccessReview"), "subjectaccessreviews", false, create},
	}
}

// virtual returns what answers a resource that is not stored, nil for others.
func (a *API) virtual(gvr schema.GroupVersionResource) func(http.ResponseWriter, *request) error {
	for _, v := range Virtuals() {
		if v.GroupVersion() != gvr.GroupVersion() || v.Resource != gvr.Resource {
			continue
		}
		return func(w http.ResponseWriter, q *request) error {
			if q.info.Name != "" && !has(v.Verbs, "get") {
				return notServed(q.info.Verb)
			}
			if !has(v.Verbs, q.info.Verb) || q.info.Subresource != "" {
				return notAllowed(q.info.Verb)
			}
			switch v.Resource {
			case "bindings":
				return a.legacyBind(w, q)
			case "componentstatuses":
				return a.componentStatus(w, q)
			}
			return a.review(w, q, v.GroupVersionKind)
		}
	}
	return nil
}

// legacyBind is the bindings resource of old: the pod's own subresource.
func (a *API) legacyBind(w http.ResponseWriter, q *request) error {
	pods := a.Lookup(corev1.SchemeGroupVersion.WithResource("pods"))
	info := *q.info
	info.Resource, info.Subresource = "pods", "binding"
	f, err := negotiate(q.http)
	if err != nil {
		return err
	}
	return a.bind(w, &request{http: q.http, info: &info, res: pods, form: f, user: q.user}, true)
}

// componentStatus answers the deprecated list: what can be known from here is
// the store, which has just answered.
func (a *API) componentStatus(w http.ResponseWriter, q *request) error {
	q.warn("v1 ComponentStatus is deprecated in v1.19+")
	writeWarnings(w, q.warnings)
	healthy := corev1.ComponentStatus{
		TypeMeta:   metav1.TypeMeta{Kind: "ComponentStatus", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "etcd-0"},
		Conditions: []corev1.ComponentCondition{{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}},
	}
	if _, _, err := a.deps.Store.Get(q.ctx(), "/health"); err != nil && !errors.Is(err, store.ErrNotFound) {
		healthy.Conditions[0].Status, healthy.Conditions[0].Message = corev1.ConditionFalse, err.Error()
	}
	if q.info.Verb == "get" {
		if q.info.Name != healthy.Name {
			return apierrors.NewNotFound(schema.GroupResource{Resource: "componentstatuses"}, q.info.Name)
		}
		return writeShown(w, q.http, resource.ComponentStatus(), &healthy, &healthy)
	}
	return writeShown(w, q.http, resource.ComponentStatus(), &corev1.ComponentStatusList{
		TypeMeta: metav1.TypeMeta{Kind: "ComponentStatusList", APIVersion: "v1"}, Items: []corev1.ComponentStatus{healthy},
	}, &healthy)
}

func (a *API) review(w http.ResponseWriter, q *request, want schema.GroupVersionKind) error {
	if _, err := negotiateObject(q.http); err != nil {
		return err
	}
	body, err := a.readBody(q.http)
	if err != nil {
		return err
	}
	obj, err := a.decodeBody(q, want, body)
	if err != nil {
		return err
	}
	if err := a.answerReview(q, obj); err != nil {
		return err
	}
	writeWarnings(w, q.warnings)
	return WriteObject(w, q.http, http.StatusCreated, obj)
}

// answerReview checks a review and fills in its status.
func (a *API) answerReview(q *request, obj runtime.Object) error {
	switch r := obj.(type) {
	case *authenticationv1.TokenReview:
		if r.Spec.Token == "" {
			return apierrors.NewBadRequest("token is required for TokenReview in authentication")
		}
		a.reviewToken(q, r)
	case *authenticationv1.SelfSubjectReview:
		r.ObjectMeta = metav1.ObjectMeta{CreationTimestamp: now()}
		r.Status.UserInfo = userInfo(q.user)
	case *authorizationv1.SubjectAccessReview:
		if err := invalidReview(append(checkSubject(r.Spec), checkNoMetadata(r.ObjectMeta, false)...)); err != nil {
			return err
		}
		r.Status = a.reviewAccess(q, userOf(r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	case *authorizationv1.LocalSubjectAccessReview:
		if err := q.inNamespaceOf(&r.ObjectMeta); err != nil {
			return err
		}
		if err := invalidReview(checkLocalReview(r)); err != nil {
			return err
		}
		r.Status = a.reviewAccess(q, userOf(r.Spec), r.Spec.ResourceAttributes, nil)
	case *authorizationv1.SelfSubjectAccessReview:
		if err := invalidReview(append(checkAsked(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes), checkNoMetadata(r.ObjectMeta, false)...)); err != nil {
			return err
		}
		r.Status = a.reviewAccess(q, q.user, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	case *authorizationv1.SelfSubjectRulesReview:
		if r.Spec.Namespace == "" {
			return apierrors.NewBadRequest("no namespace on request")
		}
		a.reviewRules(q, r)
	}
	return nil
}

func userInfo(u *authn.Identity) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	if len(u.Extra) > 0 {
		out.Extra = make(map[string]authenticationv1.ExtraValue, len(u.Extra))
		for k, v := range u.Extra {
			out.Extra[k] = v
		}
	}
	return out
}

func (a *API) reviewToken(q *request, r *authenticationv1.TokenReview) {
	r.Status = authenticationv1.TokenReviewStatus{}
	id, ok, err := a.deps.Reviewer.ReviewToken(q.ctx(), r.Spec.Token, r.Spec.Audiences)
	if !ok {
		// Upstream's first authenticator is that of its own clients, which knows no other token.
		r.Status.Error = utilerrors.NewAggregate([]error{authn.ErrInvalidToken, err}).Error()
		return
	}
	r.Status.Authenticated = true
	r.Status.User = userInfo(id)
	r.Status.Audiences = id.Audiences
}

func userOf(s authorizationv1.SubjectAccessReviewSpec) *authn.Identity {
	u := &authn.Identity{Name: s.User, UID: s.UID, Groups: s.Groups, Extra: make(map[string][]string, len(s.Extra))}
	for k, v := range s.Extra {
		u.Extra[k] = v
	}
	return u
}

func (a *API) reviewRules(q *request, r *authorizationv1.SelfSubjectRulesReview) {
	rules, err := a.deps.Reviewer.RulesFor(q.user, r.Spec.Namespace)
	// Upstream's answer is a new object, without what was asked.
	r.ObjectMeta, r.Spec = metav1.ObjectMeta{}, authorizationv1.SelfSubjectRulesReviewSpec{}
	r.Status = authorizationv1.SubjectRulesReviewStatus{ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}, Incomplete: rules.Incomplete}
	if err != nil {
		r.Status.EvaluationError = err.Error()
	}
	for _, rule := range rules.List {
		if len(rule.Resources) > 0 {
			r.Status.ResourceRules = append(r.Status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
			})
		}
		if len(rule.NonResourceURLs) > 0 {
			r.Status.NonResourceRules = append(r.Status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
}

// Read returns the current object of a key from the cache, nil where there is
// none. The object is the caller's.
func (a *API) Read(gvr schema.GroupVersionResource, namespace, name string) (runtime.Object, error) {
	res := a.Lookup(gvr)
	if res == nil {
		return nil, apierrors.NewNotFound(gvr.GroupResource(), name)
	}
	key := name
	if res.Namespaced {
		key = namespace + "/" + name
	}
	e := res.Cache.Get(key)
	if e == nil {
		return nil, apierrors.NewNotFound(gvr.GroupResource(), name)
	}
	return a.decodeStored(res, e)
}

// ReadFresh is Read, but what the cache does not have yet is waited for.
func (a *API) ReadFresh(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (runtime.Object, error) {
	obj, err := a.Read(gvr, namespace, name)
	if !apierrors.IsNotFound(err) {
		return obj, err
	}
	if err := a.deps.Hub.WaitCurrent(ctx); err != nil {
		return nil, err
	}
	return a.Read(gvr, namespace, name)
}

// Each visits the cached objects of a resource in a namespace, or in all where
// it is empty, until visit returns false. The objects are the caller's.
func (a *API) Each(gvr schema.GroupVersionResource, namespace string, visit func(runtime.Object) bool) error {
	res := a.Lookup(gvr)
	if res == nil {
		if a.cfg.Off[gvr] {
			return nil
		}
		return apierrors.NewNotFound(gvr.GroupResource(), "")
	}
	prefix := ""
	if namespace != "" {
		prefix = namespace + "/"
	}
	var failure error
	res.Cache.Snapshot().Scan(prefix, "", func(e *entry) bool {
		obj, err := a.decodeStored(res, e)
		if err != nil {
			failure = err
			return false
		}
		return visit(obj)
	})
	return failure
}
