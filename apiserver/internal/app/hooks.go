package app

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"flagship/apiserver/internal/allocate"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
)

// hooks are the allocator's, and what depends on who makes the request.
type hooks struct{ *allocate.Hooks }

// BeforeCreate stamps a certificate request with who asks: approvers go by
// it, so that a client may not say it.
func (h hooks) BeforeCreate(ctx context.Context, k *resource.Kind, obj runtime.Object, dryRun bool) (func(), error) {
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
