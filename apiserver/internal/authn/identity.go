package authn

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// Names and groups that the API server itself knows.
const (
	Anonymous            = "system:anonymous"
	AllAuthenticated     = "system:authenticated"
	AllUnauthenticated   = "system:unauthenticated"
	PrivilegedGroup      = "system:masters"
	APIServerUser        = "system:apiserver"
	NodesGroup           = "system:nodes"
	MonitoringGroup      = "system:monitoring"
	nodeUserPrefix       = "system:node:"
	serviceAccountPrefix = "system:serviceaccount:"
	serviceAccountsGroup = "system:serviceaccounts"
)

// Keys of Identity.Extra.
const (
	CredentialIDKey = "authentication.kubernetes.io/credential-id"
	PodNameKey      = "authentication.kubernetes.io/pod-name"
	PodUIDKey       = "authentication.kubernetes.io/pod-uid"
	NodeNameKey     = "authentication.kubernetes.io/node-name"
	NodeUIDKey      = "authentication.kubernetes.io/node-uid"
)

// Identity is an authenticated user. It is not changed once it has been handed out.
type Identity struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
	// Audiences are the requested audiences that a token was valid for; nil if the credentials have no audience.
	Audiences []string
}

// GetName and the next three make an Identity a user.Info of k8s.io/apiserver.
func (i *Identity) GetName() string { return i.Name }

// GetUID returns the UID.
func (i *Identity) GetUID() string { return i.UID }

// GetGroups returns the groups.
func (i *Identity) GetGroups() []string { return i.Groups }

// GetExtra returns the extra attributes.
func (i *Identity) GetExtra() map[string][]string { return i.Extra }

// InGroup says whether the user is a member of the group.
func (i *Identity) InGroup(group string) bool { return slices.Contains(i.Groups, group) }

// ServiceAccountUsername returns the user name of a service account.
func ServiceAccountUsername(namespace, name string) string {
	return serviceAccountPrefix + namespace + ":" + name
}

// ServiceAccountGroups returns the groups that every service account of a namespace is a member of.
func ServiceAccountGroups(namespace string) []string {
	return []string{serviceAccountsGroup, serviceAccountsGroup + ":" + namespace}
}

// SplitServiceAccount takes a service account's user name apart; ok is false for any other name.
func SplitServiceAccount(username string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(username, serviceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	if !ok || len(content.IsDNS1123Label(namespace)) > 0 || len(content.IsDNS1123Subdomain(name)) > 0 {
		return "", "", false
	}
	return namespace, name, true
}

// Authenticator recognizes one kind of credentials. ok is false and err nil if the request carries none of its kind.
type Authenticator interface {
	Authenticate(req *http.Request) (id *Identity, ok bool, err error)
}

// TokenAuthenticator recognizes one kind of bearer token.
type TokenAuthenticator interface {
	AuthenticateToken(ctx context.Context, token string) (id *Identity, ok bool, err error)
}

type audiencesKey struct{}

// WithAudiences returns a context that asks for tokens valid for one of the audiences instead of the API server's own
// (what a TokenReview does).
func WithAudiences(ctx context.Context, audiences []string) context.Context {
	return context.WithValue(ctx, audiencesKey{}, audiences)
}

func AudiencesFrom(ctx context.Context) ([]string, bool) {
	a, ok := ctx.Value(audiencesKey{}).([]string)
	return a, ok
}

// Chain asks its authenticators in order. Everybody it recognizes is a member of system:authenticated, except the
// anonymous user.
type Chain []Authenticator

// Authenticate implements Authenticator.
func (c Chain) Authenticate(req *http.Request) (*Identity, bool, error) {
	var errs []error
	for _, a := range c {
		id, ok, err := a.Authenticate(req)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return withAuthenticated(id), true, nil
		}
	}
	return nil, false, utilerrors.NewAggregate(errs)
}

func withAuthenticated(id *Identity) *Identity {
	if id.Name == Anonymous || id.InGroup(AllAuthenticated) || id.InGroup(AllUnauthenticated) {
		return id
	}
	out := *id
	out.Groups = append(slices.Clone(id.Groups), AllAuthenticated)
	return &out
}

// Tokens asks its authenticators in order about one token.
type Tokens []TokenAuthenticator

// AuthenticateToken implements TokenAuthenticator.
func (t Tokens) AuthenticateToken(ctx context.Context, token string) (*Identity, bool, error) {
	var errs []error
	for _, a := range t {
		id, ok, err := a.AuthenticateToken(ctx, token)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return withAuthenticated(id), true, nil
		}
	}
	return nil, false, utilerrors.NewAggregate(errs)
}

// Bearer reads a token from the Authorization header, or from the subprotocol of a WebSocket request, and removes it
// from the request once it has been accepted.
type Bearer struct{ Tokens TokenAuthenticator }

// ErrInvalidToken is reported for a token nobody recognizes; upstream gives no reason either.
var ErrInvalidToken = errors.New("invalid bearer token")

// Authenticate implements Authenticator.
func (b Bearer) Authenticate(req *http.Request) (*Identity, bool, error) {
	if scheme, token, ok := strings.Cut(strings.TrimSpace(req.Header.Get("Authorization")), " "); ok && strings.EqualFold(scheme, "bearer") {
		token, _, _ = strings.Cut(token, " ")
		if token == "" {
			return nil, false, nil
		}
		id, ok, err := b.Tokens.AuthenticateToken(req.Context(), token)
		if ok {
			req.Header.Del("Authorization")
		} else if err == nil {
			err = ErrInvalidToken
		}
		return id, ok, err
	}
	return b.webSocket(req)
}

// AnonymousAuthenticator lets in whoever carries no credentials.
type AnonymousAuthenticator struct{}

// Authenticate implements Authenticator.
func (AnonymousAuthenticator) Authenticate(*http.Request) (*Identity, bool, error) {
	return &Identity{Name: Anonymous, Groups: []string{AllUnauthenticated}}, true, nil
}

// FailOnError is a Chain that ends with the anonymous authenticator only if no credentials were refused.
type FailOnError struct {
	Chain     Chain
	Anonymous Authenticator // nil forbids anonymous requests
}

// Authenticate implements Authenticator.
func (f FailOnError) Authenticate(req *http.Request) (*Identity, bool, error) {
	id, ok, err := f.Chain.Authenticate(req)
	if ok || err != nil || f.Anonymous == nil {
		return id, ok, err
	}
	return f.Anonymous.Authenticate(req)
}
