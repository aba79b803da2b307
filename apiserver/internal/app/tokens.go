package app

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/authn"
)

// tokenIssuer answers TokenRequests, KEP-1205.
type tokenIssuer struct {
	issuer *authn.Issuer
	getter authn.Getter
}

// Bounds of spec.expirationSeconds.
const (
	minTokenSeconds = 10 * 60
	maxTokenSeconds = 1 << 32
)

// Issue fills the request's status with a token for the service account.
func (t *tokenIssuer) Issue(ctx context.Context, sa *corev1.ServiceAccount, req *authenticationv1.TokenRequest, admit func() error) error {
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = t.issuer.APIAudiences
	}
	path := field.NewPath("spec", "expirationSeconds")
	var errs field.ErrorList
	if n := *req.Spec.ExpirationSeconds; n < minTokenSeconds {
		errs = append(errs, field.Invalid(path, n, "may not specify a duration less than 10 minutes"))
	} else if n > maxTokenSeconds {
		errs = append(errs, field.Invalid(path, n, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), "", errs)
	}
	if err := admit(); err != nil {
		return err
	}
	spec := authn.TokenSpec{ServiceAccount: sa, Audiences: req.Spec.Audiences, ExpirationSeconds: *req.Spec.ExpirationSeconds}
	if ref := req.Spec.BoundObjectRef; ref != nil {
		if err := t.bind(ctx, sa, ref, &spec); err != nil {
			return err
		}
	}
	tok, err := t.issuer.Issue(spec)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("issue token: %w", err))
	}
	audit.From(ctx).Annotate("authentication.kubernetes.io/issued-credential-id", tok.CredentialID)
	seconds := tok.ExpirationSeconds
	req.Spec.ExpirationSeconds = &seconds
	req.Status = authenticationv1.TokenRequestStatus{Token: tok.Token, ExpirationTimestamp: metav1.NewTime(tok.Expires)}
	return nil
}

// bind finds the object that the token is to live and die with.
func (t *tokenIssuer) bind(ctx context.Context, sa *corev1.ServiceAccount, ref *authenticationv1.BoundObjectReference, spec *authn.TokenSpec) error {
	gv := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	var uid types.UID
	var err error
	resource := ""
	switch gv {
	case corev1.SchemeGroupVersion.WithKind("Pod"):
		resource = "pods"
		if spec.Pod, err = t.getter.GetPod(ctx, sa.Namespace, ref.Name); err != nil {
			return err
		}
		if spec.Pod.Spec.ServiceAccountName != sa.Name {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", sa.Name))
		}
		uid = spec.Pod.UID
		if name := spec.Pod.Spec.NodeName; name != "" {
			// A node that is gone leaves the token bound to its name alone.
			if spec.Node, err = t.getter.GetNode(ctx, name); apierrors.IsNotFound(err) {
				spec.Node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
			} else if err != nil {
				return err
			}
		}
	case corev1.SchemeGroupVersion.WithKind("Secret"):
		resource = "secrets"
		if spec.Secret, err = t.getter.GetSecret(ctx, sa.Namespace, ref.Name); err != nil {
			return err
		}
		uid = spec.Secret.UID
	case corev1.SchemeGroupVersion.WithKind("Node"):
		resource = "nodes"
		if spec.Node, err = t.getter.GetNode(ctx, ref.Name); err != nil {
			return err
		}
		uid = spec.Node.UID
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gv))
	}
	if ref.UID != "" && ref.UID != uid {
		return apierrors.NewConflict(schema.GroupResource{Resource: resource}, ref.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return nil
}
