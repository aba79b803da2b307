package review

import (
	"context"
	"errors"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/apiserver/internal/authn"
)

// Tokens recognizes the tokens that a server says are good.
type Tokens struct {
	client *Client
	kind   metav1.TypeMeta
	// audiences are the API server's own, which a token is for where the server outside knows no audiences.
	audiences []string
}

// NewTokens asks by TokenReviews of a version of authentication.k8s.io.
//
// Errors: the version is not one of Versions.
func NewTokens(c *Client, version string, audiences []string) (*Tokens, error) {
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	return &Tokens{client: c, kind: metav1.TypeMeta{Kind: "TokenReview", APIVersion: authenticationv1.GroupName + "/" + version}, audiences: audiences}, nil
}

// AuthenticateToken implements authn.TokenAuthenticator.
func (t *Tokens) AuthenticateToken(ctx context.Context, token string) (*authn.Identity, bool, error) {
	wanted := t.audiences
	if asked, explicit := authn.AudiencesFrom(ctx); explicit {
		wanted = asked
	}
	// The two versions have the same form.
	in := authenticationv1.TokenReview{TypeMeta: t.kind, Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: wanted}}
	var out authenticationv1.TokenReview
	if err := t.client.Post(ctx, &in, &out, t.kind, nil); err != nil {
		return nil, false, err
	}
	good := out.Status.Audiences
	if len(good) == 0 {
		good = t.audiences
	}
	var audiences []string
	for _, a := range wanted {
		if slices.Contains(good, a) {
			audiences = append(audiences, a)
		}
	}
	switch {
	case len(audiences) == 0:
		return nil, false, nil
	case !out.Status.Authenticated && out.Status.Error != "":
		return nil, false, errors.New(out.Status.Error)
	case !out.Status.Authenticated:
		return nil, false, nil
	}
	u := out.Status.User
	id := &authn.Identity{Name: u.Username, UID: u.UID, Groups: u.Groups, Audiences: audiences}
	if u.Extra != nil {
		id.Extra = make(map[string][]string, len(u.Extra))
		for k, v := range u.Extra {
			id.Extra[k] = v
		}
	}
	return id, true, nil
}
