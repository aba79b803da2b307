package authn

import (
	"context"
	"crypto/subtle"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// BootstrapTokens recognizes the tokens of a joining node, which are Secrets of kube-system.
type BootstrapTokens struct {
	Getter interface {
		GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	}
	Now func() time.Time // time.Now if nil
}

const (
	bootstrapUserPrefix   = "system:bootstrap:"
	bootstrapDefaultGroup = "system:bootstrappers"
)

var (
	bootstrapToken = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	bootstrapGroup = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// AuthenticateToken implements TokenAuthenticator. A token that is unknown, expired or not meant for authentication is
// not recognized rather than refused.
func (b *BootstrapTokens) AuthenticateToken(ctx context.Context, token string) (*Identity, bool, error) {
	parts := bootstrapToken.FindStringSubmatch(token)
	if parts == nil {
		return nil, false, nil
	}
	secret, err := b.Getter.GetSecret(ctx, "kube-system", "bootstrap-token-"+parts[1])
	if err != nil || secret.DeletionTimestamp != nil || secret.Type != corev1.SecretTypeBootstrapToken {
		return nil, false, nil //nolint:nilerr // see above
	}
	get := func(key string) string { return string(secret.Data[key]) }
	if subtle.ConstantTimeCompare([]byte(get("token-secret")), []byte(parts[2])) != 1 || get("token-id") != parts[1] {
		return nil, false, nil
	}
	now := time.Now
	if b.Now != nil {
		now = b.Now
	}
	if at := get("expiration"); at != "" {
		if t, err := time.Parse(time.RFC3339, at); err != nil || now().After(t) {
			return nil, false, nil //nolint:nilerr // see above
		}
	}
	if get("usage-bootstrap-authentication") != "true" {
		return nil, false, nil
	}
	groups, err := bootstrapGroups(get("auth-extra-groups"))
	if err != nil {
		return nil, false, nil //nolint:nilerr // see above
	}
	return &Identity{Name: bootstrapUserPrefix + parts[1], Groups: groups}, true, nil
}

func bootstrapGroups(extra string) ([]string, error) {
	groups := []string{bootstrapDefaultGroup}
	if extra != "" {
		for g := range strings.SplitSeq(extra, ",") {
			if !bootstrapGroup.MatchString(g) {
				return nil, fmt.Errorf("bootstrap group %q is invalid (must match %s)", g, bootstrapGroup)
			}
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}
