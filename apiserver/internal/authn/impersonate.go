package authn

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Impersonate takes the impersonation headers out of a request, so that nobody behind acts on them again. It returns whom they name, with nothing
// but what they say; nil if they name nobody. The error is a 400 Status.
func Impersonate(h http.Header) (*Identity, error) {
	id := &Identity{
		Name: h.Get(authenticationv1.ImpersonateUserHeader), UID: h.Get(authenticationv1.ImpersonateUIDHeader),
		Groups: slices.Clone(h.Values(authenticationv1.ImpersonateGroupHeader)),
		Extra:  extraHeaders(h, []string{authenticationv1.ImpersonateUserExtraHeaderPrefix}),
	}
	if id.Name == "" {
		if len(id.Groups) > 0 || id.UID != "" || len(id.Extra) > 0 {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("requested %#v without impersonating a user name", &user.DefaultInfo{UID: id.UID, Groups: id.Groups, Extra: id.Extra}))
		}
		return nil, nil
	}
	h.Del(authenticationv1.ImpersonateUserHeader)
	h.Del(authenticationv1.ImpersonateGroupHeader)
	h.Del(authenticationv1.ImpersonateUIDHeader)
	for name := range h {
		if hasPrefixFold(name, authenticationv1.ImpersonateUserExtraHeaderPrefix) {
			delete(h, name)
		}
	}
	return id, nil
}

// NodeOf is the node that a user name is of.
func NodeOf(username string) (string, bool) {
	name, ok := strings.CutPrefix(username, nodeUserPrefix)
	return name, ok && len(content.IsDNS1123Subdomain(name)) == 0
}
