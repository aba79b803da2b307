package serving

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	certutil "k8s.io/client-go/util/cert"

	"flagship/internal/kube"
)

// Identity is who makes a request.
type Identity struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// Anonymous is the identity of a request without credentials.
var anonymous = Identity{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}

// Authenticator finds out who makes a request. False means that the request
// carries no credential it knows; an error, that it carries a wrong one.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, bool, error)
}

// Authorizer decides whether an identity may do what the review asks.
type Authorizer interface {
	Authorize(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (allowed bool, reason string, err error)
}

// ReviewKinds registers what a client for delegated reviews needs.
func ReviewKinds(s *runtime.Scheme) error {
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, authenticationv1.AddToScheme, authorizationv1.AddToScheme} {
		if err := add(s); err != nil {
			return err
		}
	}
	return nil
}

// How long a review is remembered, and how many: upstream's defaults for
// components are 10 s for tokens and for both answers of access.
const (
	reviewTTL   = 10 * time.Second
	reviewLimit = 1024
)

// x509Authenticator accepts client certificates that one of the CAs signed.
type x509Authenticator struct{ pools []func() *x509.CertPool }

func (a x509Authenticator) Authenticate(r *http.Request) (Identity, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return Identity{}, false, nil
	}
	leaf := r.TLS.PeerCertificates[0]
	intermediates := x509.NewCertPool()
	for _, c := range r.TLS.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	var last error
	for _, pool := range a.pools {
		roots := pool()
		if roots == nil {
			continue
		}
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err == nil {
			if leaf.Subject.CommonName == "" {
				return Identity{}, false, nil
			}
			groups := append(append([]string{}, leaf.Subject.Organization...), "system:authenticated")
			return Identity{Name: leaf.Subject.CommonName, Groups: groups}, true, nil
		}
		last = err
	}
	return Identity{}, false, last
}

// tokenReviewer asks the API server about bearer tokens.
type tokenReviewer struct {
	client *kube.Client
	cache  *ttlCache[Identity]
}

// NewTokenReviewer returns an authenticator of bearer tokens by TokenReview.
func NewTokenReviewer(c *kube.Client) Authenticator {
	return &tokenReviewer{client: c, cache: newTTLCache[Identity]()}
}

func (t *tokenReviewer) Authenticate(r *http.Request) (Identity, bool, error) {
	scheme, token, ok := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return Identity{}, false, nil
	}
	key := sha256.Sum256([]byte(token))
	if id, ok := t.cache.get(string(key[:])); ok {
		return id, id.Name != "", nil
	}
	rc, err := t.client.REST(authenticationv1.SchemeGroupVersion)
	if err != nil {
		return Identity{}, false, err
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	err = rc.Post().Resource("tokenreviews").Body(review).Do(r.Context()).Into(review)
	if err != nil {
		return Identity{}, false, fmt.Errorf("review token: %w", err)
	}
	if !review.Status.Authenticated {
		t.cache.put(string(key[:]), Identity{})
		if review.Status.Error != "" {
			return Identity{}, false, fmt.Errorf("review token: %s", review.Status.Error)
		}
		return Identity{}, false, nil
	}
	u := review.Status.User
	id := Identity{Name: u.Username, UID: u.UID, Groups: u.Groups, Extra: make(map[string][]string, len(u.Extra))}
	for k, v := range u.Extra {
		id.Extra[k] = v
	}
	t.cache.put(string(key[:]), id)
	return id, true, nil
}

type accessVerdict struct {
	allowed bool
	reason  string
}

// accessReviewer asks the API server what an identity may do.
type accessReviewer struct {
	client *kube.Client
	cache  *ttlCache[accessVerdict]
}

// NewAccessReviewer returns an authorizer by SubjectAccessReview.
func NewAccessReviewer(c *kube.Client) Authorizer {
	return &accessReviewer{client: c, cache: newTTLCache[accessVerdict]()}
}

func (a *accessReviewer) Authorize(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (bool, string, error) {
	raw, err := spec.Marshal()
	if err != nil {
		return false, "", err
	}
	sum := sha256.Sum256(raw)
	if v, ok := a.cache.get(string(sum[:])); ok {
		return v.allowed, v.reason, nil
	}
	rc, err := a.client.REST(authorizationv1.SchemeGroupVersion)
	if err != nil {
		return false, "", err
	}
	review := &authorizationv1.SubjectAccessReview{Spec: spec}
	if err := rc.Post().Resource("subjectaccessreviews").Body(review).Do(ctx).Into(review); err != nil {
		return false, "", fmt.Errorf("review access: %w", err)
	}
	a.cache.put(string(sum[:]), accessVerdict{review.Status.Allowed, review.Status.Reason})
	return review.Status.Allowed, review.Status.Reason, nil
}

// ttlCache holds at most reviewLimit answers for reviewTTL each.
type ttlCache[V any] struct {
	mu      sync.Mutex // guards entries
	entries map[string]ttlEntry[V]
}

type ttlEntry[V any] struct {
	value V
	until time.Time
}

func newTTLCache[V any]() *ttlCache[V] { return &ttlCache[V]{entries: map[string]ttlEntry[V]{}} }

func (c *ttlCache[V]) get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || time.Now().After(e.until) {
		var none V
		return none, false
	}
	return e.value, true
}

func (c *ttlCache[V]) put(key string, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= reviewLimit {
		clear(c.entries)
	}
	c.entries[key] = ttlEntry[V]{v, time.Now().Add(reviewTTL)}
}

// clusterCA is the client CA that the API server publishes for its components
// in kube-system/extension-apiserver-authentication.
type clusterCA struct {
	client *kube.Client

	mu   sync.Mutex // guards pool
	pool *x509.CertPool
}

func (c *clusterCA) Pool() *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pool
}

func (c *clusterCA) refresh(ctx context.Context) error {
	api := kube.For[corev1.ConfigMap, corev1.ConfigMapList](c.client, corev1.SchemeGroupVersion.WithResource("configmaps"), metav1.NamespaceSystem)
	cm, err := api.Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read client CA of the cluster: %w", err)
	}
	pem := cm.Data["client-ca-file"]
	if pem == "" {
		return nil
	}
	certs, err := certutil.ParseCertsPEM([]byte(pem))
	if err != nil {
		return fmt.Errorf("parse client CA of the cluster: %w", err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pool = pool
	return nil
}
