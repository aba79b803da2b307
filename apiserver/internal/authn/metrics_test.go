package authn

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type says struct {
	id  *Identity
	err error
}

func (s says) Authenticate(*http.Request) (*Identity, bool, error) { return s.id, s.id != nil, s.err }

func (s says) AuthenticateToken(context.Context, string) (*Identity, bool, error) {
	return s.id, s.id != nil, s.err
}

func compare(t *testing.T, reg *prometheus.Registry, want string, names ...string) {
	t.Helper()
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestAttempts(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, s := range []says{
		{id: &Identity{Name: "admin"}},
		{id: &Identity{Name: "eve@example.com"}},
		{id: &Identity{Name: "eve"}},
		{id: &Identity{Name: "system:node:n1"}},
		{id: &Identity{Name: "email_id"}},
		{},
		{err: errNotFound},
		{err: errNotFound},
	} {
		_, _, _ = m.Counted(s).Authenticate(req)
	}
	compare(t, reg, `
# HELP authenticated_user_requests [ALPHA] Counter of authenticated requests broken out by username.
# TYPE authenticated_user_requests counter
authenticated_user_requests{username="admin"} 1
authenticated_user_requests{username="email_id"} 1
authenticated_user_requests{username="other"} 3
# HELP authentication_attempts [ALPHA] Counter of authenticated attempts.
# TYPE authentication_attempts counter
authentication_attempts{result="error"} 2
authentication_attempts{result="failure"} 1
authentication_attempts{result="success"} 5
`, "authenticated_user_requests", "authentication_attempts")
	if n, err := testutil.GatherAndCount(reg, "authentication_duration_seconds"); n != 3 || err != nil {
		t.Error(n, err)
	}
}

func TestTokenCacheMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	c := NewCache(says{id: &Identity{Name: "jane"}}, time.Hour, 0, m)
	for range 3 {
		_, _, _ = c.AuthenticateToken(t.Context(), "a")
	}
	_, _, _ = NewCache(says{err: errors.New("no")}, time.Hour, 0, m).AuthenticateToken(t.Context(), "b")
	compare(t, reg, `
# HELP authentication_token_cache_active_fetch_count [ALPHA] 
# TYPE authentication_token_cache_active_fetch_count gauge
authentication_token_cache_active_fetch_count{status="blocked"} 0
authentication_token_cache_active_fetch_count{status="in_flight"} 0
# HELP authentication_token_cache_fetch_total [ALPHA] 
# TYPE authentication_token_cache_fetch_total counter
authentication_token_cache_fetch_total{status="error"} 1
authentication_token_cache_fetch_total{status="ok"} 1
# HELP authentication_token_cache_request_total [ALPHA] 
# TYPE authentication_token_cache_request_total counter
authentication_token_cache_request_total{status="hit"} 2
authentication_token_cache_request_total{status="miss"} 2
`, "authentication_token_cache_active_fetch_count", "authentication_token_cache_fetch_total", "authentication_token_cache_request_total")
	if n, err := testutil.GatherAndCount(reg, "authentication_token_cache_request_duration_seconds"); n != 2 || err != nil {
		t.Error(n, err)
	}
}

func TestServiceAccountMetrics(t *testing.T) {
	key := writeKey(t)
	signer, err := LoadSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := LoadPublicKeys([]string{key})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "u1"}, Secrets: []corev1.ObjectReference{{Name: "automatic"}}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u2"}}
	issuer := &Issuer{Name: "https://k", Signer: signer, APIAudiences: []string{"api"}, ExtendExpiration: true, Now: func() time.Time { return now }}
	issue := func(seconds int64) string {
		tok, err := issuer.Issue(TokenSpec{ServiceAccount: sa, Pod: pod, ExpirationSeconds: seconds})
		if err != nil {
			t.Fatal(err)
		}
		return tok.Token
	}
	secrets := map[string]*corev1.Secret{}
	kept := func(name string, labels map[string]string) string {
		token, err := jwt.Signed(signer).Claims(&privateClaims{LegacyName: "sa", LegacyUID: "u1", LegacySecret: name, LegacyNamespace: "ns"}).
			Claims(&jwt.Claims{Issuer: LegacyIssuer, Subject: "system:serviceaccount:ns:sa"}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: labels}, Data: map[string][]byte{corev1.ServiceAccountTokenKey: []byte(token)}}
		return token
	}
	for name, tc := range map[string]struct {
		token string
		at    time.Duration
		want  string
	}{
		"extended":           {token: issue(WarnOnlyExpirationSeconds), want: "serviceaccount_valid_tokens_total"},
		"extended and stale": {token: issue(WarnOnlyExpirationSeconds), at: 2 * time.Hour, want: "serviceaccount_stale_tokens_total"},
		"not extended":       {token: issue(600)},
		"automatic":          {token: kept("automatic", nil), want: "serviceaccount_legacy_auto_token_uses_total serviceaccount_legacy_tokens_total"},
		"manual":             {token: kept("manual", nil), want: "serviceaccount_legacy_manual_token_uses_total serviceaccount_legacy_tokens_total"},
		"invalid":            {token: kept("invalid", map[string]string{InvalidSinceLabel: "2025-01-01"}), want: "serviceaccount_invalid_legacy_auto_token_uses_total serviceaccount_legacy_tokens_total"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			auth := &ServiceAccounts{
				Metrics: NewMetrics(reg), Issuers: []string{"https://k"}, Keys: keys, APIAudiences: []string{"api"}, Getter: &objects{sa: sa, pod: pod, secrets: secrets},
				Now: func() time.Time { return now.Add(tc.at) },
			}
			_, _, err := auth.AuthenticateToken(t.Context(), tc.token)
			if err != nil && name != "invalid" {
				t.Fatal(err)
			}
			families, _ := reg.Gather()
			var got []string
			for _, f := range families {
				if strings.HasPrefix(f.GetName(), "serviceaccount_") && f.GetMetric()[0].GetCounter().GetValue() == 1 {
					got = append(got, f.GetName())
				}
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("%s, want %s", s, tc.want)
			}
		})
	}
}

func BenchmarkCounted(b *testing.B) {
	c, req := NewMetrics(prometheus.NewRegistry()).Counted(says{id: &Identity{Name: "system:node:n1"}}), httptest.NewRequest(http.MethodGet, "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = c.Authenticate(req)
	}
}
