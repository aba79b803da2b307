package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/store"
)

// Connector reaches nodes and addresses for the subresources that stream.
type Connector interface {
	// Connect serves pods/log, exec, attach, portforward and the proxies.
	Connect(w http.ResponseWriter, r *http.Request, info *Info) error
}

// TokenIssuer answers a TokenRequest for a service account. It admits the request when it is valid.
type TokenIssuer interface {
	Issue(ctx context.Context, sa *corev1.ServiceAccount, req *authenticationv1.TokenRequest, admit func() error) error
}

func (a *API) serveSubresource(w http.ResponseWriter, q *request) error {
	sub, ok := q.res.Subresources[q.info.Subresource]
	if !ok {
		a.NotFound(w, q.http)
		return nil
	}
	connects := false
	switch q.info.Subresource {
	case "log", "exec", "attach", "portforward", "proxy":
		connects = true
	}
	// OPTIONS has no verb: it is for what is behind a proxy to answer.
	passed := q.info.Subresource == "proxy" && q.http.Method == http.MethodOptions
	if !has(sub.Verbs, q.info.Verb) && !passed {
		return notAllowed(q.info.Verb)
	}
	if connects {
		if q.info.Subresource != "log" {
			if err := a.admitConnect(q, strings.Join(q.info.Parts, "/")); err != nil {
				return err
			}
		}
		return a.deps.Connect.Connect(w, q.http, q.info)
	}
	f, err := q.negotiate()
	if err != nil {
		return err
	}
	q.form = f
	switch q.info.Subresource {
	case "scale":
		return a.serveScale(w, q)
	case "binding":
		return a.bind(w, q, false)
	case "eviction":
		return a.evict(w, q)
	case "token":
		return a.token(w, q)
	}
	return a.serveView(w, q)
}

func has(verbs []string, verb string) bool {
	for _, v := range verbs {
		if v == verb {
			return true
		}
	}
	return false
}

// serveView serves a subresource that is the object itself with only a part of
// it open to change: status, approval, finalize, ephemeralcontainers, resize.
func (a *API) serveView(w http.ResponseWriter, q *request) error {
	sub := q.info.Subresource
	switch q.info.Verb {
	case "get":
		return a.get(w, q)
	case "patch":
		return a.patch(w, q, sub)
	case "update":
		return a.update(w, q, sub)
	}
	return notAllowed(q.info.Verb)
}

// onlyPart is old with the part of obj that a subresource opens.
func onlyPart(sub string, obj, old runtime.Object) runtime.Object {
	switch sub {
	case "ephemeralcontainers":
		from, out := obj.(*corev1.Pod), old.(*corev1.Pod).DeepCopy()
		out.ManagedFields = from.ManagedFields
		out.Spec.EphemeralContainers = from.Spec.EphemeralContainers
		return out
	case "resize":
		return resource.Resized(obj.(*corev1.Pod), old.(*corev1.Pod))
	case "finalize":
		out := obj.(*corev1.Namespace).DeepCopy()
		out.Status = *old.(*corev1.Namespace).Status.DeepCopy()
		return out
	case "approval":
		was, out := old.(*certificatesv1.CertificateSigningRequest).DeepCopy(), obj.(*certificatesv1.CertificateSigningRequest).DeepCopy()
		out.Spec, out.Status.Certificate = was.Spec, was.Status.Certificate
		return out
	}
	return obj
}

// scaleOf is the Scale of a scalable object.
func scaleOf(obj runtime.Object) (*autoscalingv1.Scale, error) {
	s := &autoscalingv1.Scale{TypeMeta: metav1.TypeMeta{Kind: "Scale", APIVersion: "autoscaling/v1"}}
	var selector string
	var err error
	switch t := obj.(type) {
	case *appsv1.Deployment:
		s.Spec.Replicas, s.Status.Replicas = *t.Spec.Replicas, t.Status.Replicas
		selector, err = selectorText(t.Spec.Selector)
	case *appsv1.ReplicaSet:
		s.Spec.Replicas, s.Status.Replicas = *t.Spec.Replicas, t.Status.Replicas
		selector, err = selectorText(t.Spec.Selector)
	case *appsv1.StatefulSet:
		s.Spec.Replicas, s.Status.Replicas = *t.Spec.Replicas, t.Status.Replicas
		selector, err = selectorText(t.Spec.Selector)
	case *corev1.ReplicationController:
		s.Spec.Replicas, s.Status.Replicas = *t.Spec.Replicas, t.Status.Replicas
		selector, err = selectorText(&metav1.LabelSelector{MatchLabels: t.Spec.Selector})
	default:
		return nil, fmt.Errorf("scale of %T is not known", obj)
	}
	if err != nil {
		return nil, err
	}
	m := obj.(metav1.Object)
	s.Status.Selector = selector
	s.ObjectMeta = metav1.ObjectMeta{
		Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUID(),
		ResourceVersion: m.GetResourceVersion(), CreationTimestamp: m.GetCreationTimestamp(),
	}
	return s, nil
}

func selectorText(s *metav1.LabelSelector) (string, error) {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return "", err
	}
	return sel.String(), nil
}

func setReplicas(obj runtime.Object, n int32) {
	switch t := obj.(type) {
	case *appsv1.Deployment:
		t.Spec.Replicas = &n
	case *appsv1.ReplicaSet:
		t.Spec.Replicas = &n
	case *appsv1.StatefulSet:
		t.Spec.Replicas = &n
	case *corev1.ReplicationController:
		t.Spec.Replicas = &n
	}
}

func (r *Resource) scale(obj runtime.Object) (*autoscalingv1.Scale, error) {
	if r.Strategy.Scale != nil {
		return r.Strategy.Scale(obj)
	}
	return scaleOf(obj)
}

// scales are the Scales of an object and of what it was.
func (q *request) scales(obj, old runtime.Object) (now, before runtime.Object, err error) {
	if now, err = q.res.scale(obj); err != nil {
		return nil, nil, err
	}
	before, err = q.res.scale(old)
	return now, before, err
}

func (r *Resource) setReplicas(obj runtime.Object, n int32) error {
	if r.Strategy.SetReplicas != nil {
		return r.Strategy.SetReplicas(obj, n)
	}
	setReplicas(obj, n)
	return nil
}

func (a *API) serveScale(w http.ResponseWriter, q *request) error {
	if q.info.Verb == "get" {
		e, err := a.fetch(q.ctx(), q.res, q.key(q.info.Name), q.http.URL.Query().Get("resourceVersion"))
		if errors.Is(err, store.ErrNotFound) {
			return q.notFound()
		}
		if err != nil {
			return err
		}
		obj, err := a.decodeStored(q.res, e)
		if err != nil {
			return err
		}
		s, err := q.res.scale(obj)
		if err != nil {
			return err
		}
		if s.Spec.Replicas == resource.NoReplicas {
			return apierrors.NewInternalError(fmt.Errorf("the spec replicas field %q does not exist", q.res.Strategy.ReplicasPath))
		}
		return writeShown(w, q.http, resource.Scale(q.res.codec != nil), s, s)
	}
	change, err := a.scaleChange(q)
	if err != nil {
		return err
	}
	dry := dryRun(q.http)
	e, _, err := a.guaranteed(q, "scale", dry, func(old runtime.Object) (runtime.Object, error) {
		if old == nil {
			return nil, errNoObject
		}
		was, err := q.res.scale(old)
		if err != nil {
			return nil, err
		}
		next, err := change(was, old.(metav1.Object))
		if err != nil {
			return nil, err
		}
		if err := q.named(next); err != nil {
			return nil, err
		}
		if next.UID != "" && next.UID != was.UID {
			return nil, apierrors.NewConflict(q.res.GroupResource(), q.info.Name, q.otherUID(next.UID, was.UID))
		}
		if err := a.admitMutate(q, a.attributes(q, admission.Update, "scale", next, was, dry)); err != nil {
			return nil, err
		}
		if next.Spec.Replicas == resource.NoReplicas {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("the spec replicas field %q cannot be empty", q.res.Strategy.ReplicasPath))
		}
		// A custom object says it of its own field.
		if next.Spec.Replicas < 0 && q.res.codec == nil {
			return nil, apierrors.NewInvalid(autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind(), q.info.Name, field.ErrorList{
				field.Invalid(field.NewPath("spec", "replicas"), next.Spec.Replicas, "must be greater than or equal to 0"),
			})
		}
		if err := q.res.setReplicas(old, next.Spec.Replicas); err != nil {
			return nil, err
		}
		m := old.(metav1.Object)
		if next.ResourceVersion != "" {
			m.SetResourceVersion(next.ResourceVersion)
		}
		return old, nil
	})
	if err != nil {
		return err
	}
	result, err := a.decodeStored(q.res, e)
	if err != nil {
		return err
	}
	s, err := q.res.scale(result)
	if err != nil {
		return err
	}
	return writeShown(w, q.http, resource.Scale(q.res.codec != nil), s, s)
}
