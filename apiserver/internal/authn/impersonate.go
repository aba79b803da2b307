package authn

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Impersonation is one thing that a request asks to act as; the requester needs the verb impersonate for each.
type Impersonation struct {
	APIGroup, APIVersion  string
	Resource, Subresource string // users, groups, serviceaccounts, uids; userextras with the key
	Namespace, Name       string
}

// Impersonate reads the impersonation headers. It returns the identity to act as and what has to be allowed for it
// first, in order; nil if the request impersonates nobody. The error is a 400 Status.
func Impersonate(h http.Header) (*Identity, []Impersonation, error) {
	name := h.Get(authenticationv1.ImpersonateUserHeader)
	groups := h.Values(authenticationv1.ImpersonateGroupHeader)
	uid := h.Get(authenticationv1.ImpersonateUIDHeader)
	extra := extraHeaders(h, []string{authenticationv1.ImpersonateUserExtraHeaderPrefix})
	if name == "" {
		if len(groups) > 0 || uid != "" || len(extra) > 0 {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("requested %s without impersonating a user", describe(groups, uid, extra)))
		}
		return nil, nil, nil
	}
	id := &Identity{Name: name, UID: uid, Extra: extra, Groups: slices.Clone(groups)}
	var asks []Impersonation
	if ns, sa, ok := SplitServiceAccount(name); ok {
		asks = append(asks, Impersonation{Resource: "serviceaccounts", Namespace: ns, Name: sa})
		if len(groups) == 0 {
			id.Groups = ServiceAccountGroups(ns)
		}
	} else {
		asks = append(asks, Impersonation{Resource: "users", Name: name})
	}
	for _, g := range groups {
		asks = append(asks, Impersonation{Resource: "groups", Name: g})
	}
	gv := authenticationv1.SchemeGroupVersion
	keys := make([]string, 0, len(extra))
	for k := range extra {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		for _, v := range extra[k] {
			asks = append(asks, Impersonation{APIGroup: gv.Group, APIVersion: gv.Version, Resource: "userextras", Subresource: k, Name: v})
		}
	}
	if uid != "" {
		asks = append(asks, Impersonation{APIGroup: gv.Group, APIVersion: gv.Version, Resource: "uids", Name: uid})
	}
	id.Groups = impersonatedGroups(name, id.Groups)
	return id, asks, nil
}

// impersonatedGroups adds the group that says whether a user is authenticated, unless the request named one.
func impersonatedGroups(name string, groups []string) []string {
	if name == Anonymous {
		if slices.Contains(groups, AllUnauthenticated) {
			return groups
		}
		return append(groups, AllUnauthenticated)
	}
	if slices.Contains(groups, AllAuthenticated) || slices.Contains(groups, AllUnauthenticated) {
		return groups
	}
	return append(groups, AllAuthenticated)
}

func describe(groups []string, uid string, extra map[string][]string) string {
	var parts []string
	for _, g := range groups {
		parts = append(parts, "group "+g)
	}
	for k := range extra {
		parts = append(parts, "extra "+k)
	}
	slices.Sort(parts)
	if uid != "" {
		parts = append(parts, "uid "+uid)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// ClearImpersonation removes the impersonation headers, so that nobody behind us acts on them again.
func ClearImpersonation(h http.Header) {
	h.Del(authenticationv1.ImpersonateUserHeader)
	h.Del(authenticationv1.ImpersonateGroupHeader)
	h.Del(authenticationv1.ImpersonateUIDHeader)
	for name := range h {
		if hasPrefixFold(name, authenticationv1.ImpersonateUserExtraHeaderPrefix) {
			delete(h, name)
		}
	}
}
