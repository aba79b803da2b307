package cert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"

	"flagship/controller-manager/internal/loop"
)

// token is a valid bootstrap token out of a Secret.
type token struct{ id, secret string }

// tokenPattern is what an ID and a secret look like.
var tokenPattern = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)

// signingToken returns the token of a Secret that may sign, "" and false where it is no such token or is over.
func signingToken(s *corev1.Secret, now time.Time) (token, bool) {
	id, secret := string(s.Data[bootstrapapi.BootstrapTokenIDKey]), string(s.Data[bootstrapapi.BootstrapTokenSecretKey])
	if s.Name != bootstrapapi.BootstrapTokenSecretPrefix+id || !tokenPattern.MatchString(id+"."+secret) ||
		string(s.Data[bootstrapapi.BootstrapTokenUsageSigningKey]) != "true" || !s.DeletionTimestamp.IsZero() {
		return token{}, false
	}
	if left, ends := tokenLeft(s, now); ends && left <= 0 {
		return token{}, false
	}
	return token{id, secret}, true
}

// tokenLeft is how long a token is valid yet, and whether it ends at all. An unreadable time is over.
func tokenLeft(s *corev1.Secret, now time.Time) (time.Duration, bool) {
	text := string(s.Data[bootstrapapi.BootstrapTokenExpirationKey])
	if text == "" {
		return 0, false
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, true
	}
	return at.Sub(now), true
}

// detachedJWS signs content with a token: a JWS of HS256 whose payload is left out (RFC 7515 appendix F).
func detachedJWS(content string, t token) string {
	enc := base64.RawURLEncoding
	header := enc.EncodeToString([]byte(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, t.id)))
	mac := hmac.New(sha256.New, []byte(t.secret))
	_, _ = mac.Write([]byte(header + "." + enc.EncodeToString([]byte(content))))
	return header + ".." + enc.EncodeToString(mac.Sum(nil))
}

// signed returns the data of cluster-info with a signature by each token and no other.
func signed(data map[string]string, tokens []token) map[string]string {
	out := maps.Clone(data)
	maps.DeleteFunc(out, func(k, _ string) bool { return strings.HasPrefix(k, bootstrapapi.JWSSignatureKeyPrefix) })
	content, ok := data[bootstrapapi.KubeConfigKey]
	if !ok {
		return data
	}
	for _, t := range tokens {
		out[bootstrapapi.JWSSignatureKeyPrefix+t.id] = detachedJWS(content, t)
	}
	return out
}

// NewBootstrapSigner returns the bootstrap-signer-controller.
func NewBootstrapSigner(d loop.Deps) *loop.Controller {
	secrets, infos := d.Sources.BootstrapTokens(), d.Sources.PublicConfigMaps()
	const key = metav1.NamespacePublic + "/" + bootstrapapi.ConfigMapClusterInfo
	ctl := d.Controller(1, func(ctx context.Context, _ string) error {
		info := infos.Get(metav1.NamespacePublic, bootstrapapi.ConfigMapClusterInfo)
		if info == nil {
			return nil
		}
		var tokens []token
		for _, s := range secrets.All() {
			if t, ok := signingToken(s, d.Now()); ok {
				tokens = append(tokens, t)
			}
		}
		data := signed(info.Data, tokens)
		if maps.Equal(data, info.Data) {
			return nil
		}
		next := info.DeepCopy()
		next.Data = data
		_, err := loop.Core[corev1.ConfigMap, corev1.ConfigMapList](d, "configmaps", metav1.NamespacePublic).Update(ctx, next, metav1.UpdateOptions{})
		return err
	})
	loop.Watch(ctl, infos, func(loop.Event[corev1.ConfigMap]) []string { return []string{key} })
	loop.Watch(ctl, secrets, func(loop.Event[corev1.Secret]) []string { return []string{key} })
	return ctl
}

// NewTokenCleaner returns the token-cleaner-controller: it deletes bootstrap tokens that are over.
func NewTokenCleaner(d loop.Deps) *loop.Controller {
	secrets := d.Sources.BootstrapTokens()
	ctl := d.Controller(1, func(ctx context.Context, key string) error {
		s := secrets.Get(loop.Split(key))
		if s == nil {
			return nil
		}
		left, ends := tokenLeft(s, d.Now())
		if !ends {
			return nil
		}
		if left > 0 {
			return loop.In(left)
		}
		err := loop.Core[corev1.Secret, corev1.SecretList](d, "secrets", s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion},
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		if err == nil {
			d.Decide("Secret", s.Namespace, s.Name, s.UID, 0, "deleted: the bootstrap token has expired")
		}
		return err
	})
	loop.Watch(ctl, secrets, loop.Own[corev1.Secret])
	return ctl
}
