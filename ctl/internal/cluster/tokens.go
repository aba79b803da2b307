package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/ctl/internal/spec"
)

const tokenPrefix = "bootstrap-token-"

// NewToken is a random bootstrap token.
func NewToken() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			k, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
			if err != nil {
				panic(err) // crypto/rand does not fail
			}
			b[i] = letters[k.Int64()]
		}
		return string(b)
	}
	return text(6) + "." + text(16)
}

// tokenSecret is how a token is stored.
func tokenSecret(t spec.BootstrapToken, now time.Time) *corev1.Secret {
	id, secret, _ := strings.Cut(t.Token, ".")
	data := map[string]string{"token-id": id, "token-secret": secret}
	if t.Description != "" {
		data["description"] = t.Description
	}
	switch {
	case t.Expires != nil:
		data["expiration"] = t.Expires.UTC().Format(time.RFC3339)
	case t.TTL != nil && t.TTL.Duration > 0:
		data["expiration"] = now.Add(t.TTL.Duration).UTC().Format(time.RFC3339)
	}
	for _, u := range t.Usages {
		data["usage-bootstrap-"+u] = "true"
	}
	if len(t.Groups) > 0 {
		data["auth-extra-groups"] = strings.Join(t.Groups, ",")
	}
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: tokenPrefix + id, Namespace: metav1.NamespaceSystem},
		Type:       corev1.SecretTypeBootstrapToken, StringData: data,
	}
}

// CreateToken stores a token.
func (c *Client) CreateToken(ctx context.Context, t spec.BootstrapToken, now time.Time) error {
	s := tokenSecret(t, now)
	return Retry(ctx, func() error {
		_, err := c.Typed.CoreV1().Secrets(s.Namespace).Create(ctx, s, metav1.CreateOptions{})
		return err
	})
}

// Token is a stored token as it is listed.
type Token struct {
	Token, Description string
	Expires            string
	Usages, Groups     []string
}

// Tokens lists the tokens.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	list, err := c.Typed.CoreV1().Secrets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeBootstrapToken)})
	if err != nil {
		return nil, fmt.Errorf("list bootstrap tokens: %w", err)
	}
	var out []Token
	for _, s := range list.Items {
		t := Token{
			Token: string(s.Data["token-id"]) + "." + string(s.Data["token-secret"]), Description: string(s.Data["description"]),
			Expires: string(s.Data["expiration"]),
		}
		for k, v := range s.Data {
			if u, ok := strings.CutPrefix(k, "usage-bootstrap-"); ok && string(v) == "true" {
				t.Usages = append(t.Usages, u)
			}
		}
		slices.Sort(t.Usages)
		if g := string(s.Data["auth-extra-groups"]); g != "" {
			t.Groups = strings.Split(g, ",")
		}
		out = append(out, t)
	}
	return out, nil
}

// DeleteToken removes a token by itself or by its ID.
func (c *Client) DeleteToken(ctx context.Context, token string) error {
	id, _, _ := strings.Cut(token, ".")
	return c.Typed.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, tokenPrefix+id, metav1.DeleteOptions{})
}

// ConfigMap is a config map as a manifest.
func ConfigMap(namespace, name string, data map[string]string) ([]byte, error) {
	return json.Marshal(&corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Data: data,
	})
}
