package app

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/allocate"
	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
)

// hooks are the allocator's, and what depends on who makes the request.
type hooks struct {
	*allocate.Hooks
	authz     authz.Authorizer
	namespace func(ctx context.Context, name string) (*corev1.Namespace, error)
}

// oneself is who asks where the server asks itself.
type oneself authn.Identity

func newOneself() *oneself {
	return &oneself{Name: authn.APIServerUser, UID: uuid.NewString(), Groups: []string{authn.AllAuthenticated, authn.PrivilegedGroup}}
}

// Authenticate implements authn.Authenticator.
func (o *oneself) Authenticate(*http.Request) (*authn.Identity, bool, error) {
	return (*authn.Identity)(o), true, nil
}

// BeforeCreate stamps a certificate request with who asks: approvers go by
// it, so that a client may not say it.
func (h hooks) BeforeCreate(ctx context.Context, k *resource.Kind, obj runtime.Object, dryRun bool) (func(written bool), error) {
	if csr, ok := obj.(*certificatesv1.CertificateSigningRequest); ok {
		u := rest.UserFrom(ctx)
		csr.Spec.Username, csr.Spec.UID, csr.Spec.Groups, csr.Spec.Extra = u.Name, u.UID, u.Groups, nil
		if len(u.Extra) > 0 {
			csr.Spec.Extra = make(map[string]certificatesv1.ExtraValue, len(u.Extra))
			for key, values := range u.Extra {
				csr.Spec.Extra[key] = values
			}
		}
	}
	return h.Hooks.BeforeCreate(ctx, k, obj, dryRun)
}

// BeforeUpdate lets only those end a pod's certificate request who may sign for
// its signer. It is no admission plugin, which could be turned off.
func (h hooks) BeforeUpdate(ctx context.Context, k *resource.Kind, obj, old runtime.Object, dryRun bool) (func(written bool), error) {
	if was, ok := old.(*certificatesv1.PodCertificateRequest); ok && !apiequality.Semantic.DeepEqual(obj.(*certificatesv1.PodCertificateRequest).Status, was.Status) {
		u, signer := rest.UserFrom(ctx), was.Spec.SignerName
		if !admission.MayUseSigner(ctx, h.authz, u, "sign", signer) {
			return nil, apierrors.NewInvalid(k.GroupVersionKind.GroupKind(), was.Name, field.ErrorList{
				field.Forbidden(field.NewPath("spec", "signerName"), fmt.Sprintf("User %q is not permitted to \"sign\" for signer %q", u.Name, signer)),
			})
		}
	}
	return h.Hooks.BeforeUpdate(ctx, k, obj, old, dryRun)
}

// MayDeleteUnread asks for the right to pass by what protects an object that can be read.
func (h hooks) MayDeleteUnread(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error {
	const verb = "unsafe-delete-ignore-read-errors"
	decision, reason, err := h.authz.Authorize(ctx, authz.Attributes{
		User: rest.UserFrom(ctx), Verb: verb, ResourceRequest: true, Namespace: namespace, Name: name, APIGroup: gvr.Group, APIVersion: gvr.Version, Resource: gvr.Resource,
	})
	switch {
	case err != nil:
		return apierrors.NewForbidden(gvr.GroupResource(), name, fmt.Errorf("error while checking permission for %q, %w", verb, err))
	case decision == authz.Allow:
		return nil
	}
	return apierrors.NewForbidden(gvr.GroupResource(), name, fmt.Errorf("not permitted to do %q, reason: %s", verb, reason))
}
