package oidc

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/sets"
)

// issuer is a provider in this process.
type issuer struct {
	*httptest.Server
	signer jose.Signer
	groups string // the token that its groups are in
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{}
	if i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	answer := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	doc := answer(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	mux.HandleFunc("/.well-known/openid-configuration", doc)
	mux.HandleFunc("/elsewhere", doc)
	mux.HandleFunc("/keys", answer(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "RS256", Use: "sig"}}}))
	mux.HandleFunc("/groups", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer inner" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = w.Write([]byte(i.groups))
	})
	return i
}

func (i *issuer) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))
}

// token has the claims, and those that each has.
func (i *issuer) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": i.URL, "aud": "k8s", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := i.signer.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func indent(s, by string) string { return by + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n"+by) }

// file writes a configuration of one provider; rest is what it has besides the issuer.
func (i *issuer) file(t *testing.T, path, rest, more string) {
	t.Helper()
	text := "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: " + i.URL + "\n    audiences: [k8s, other]\n    audienceMatchPolicy: MatchAny\n    certificateAuthority: |\n" +
		indent(i.ca(), "      ") + "\n" + indent(rest, "  ") + "\n" + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func ready(t *testing.T, p *Providers) {
	t.Helper()
	for range 500 {
		if p.now.Load().tokens[0].(*provider).verifier.Load() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the provider's keys were not fetched")
}

func TestClaims(t *testing.T) {
	i := newIssuer(t)
	path := filepath.Join(t.TempDir(), "config.yaml")
	i.file(t, path, `claimMappings:
  username: {claim: email, prefix: "p:"}
  groups: {claim: roles, prefix: "g:"}
  uid: {claim: sub}
claimValidationRules:
- {claim: hd, requiredValue: example.com}`, "")
	p, err := New(t.Context(), Config{Metrics: NewMetrics(prometheus.NewRegistry(), "me"), Path: path}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ready(t, p)
	good := map[string]any{"email": "a@b", "email_verified": true, "roles": []string{"x", "y"}, "sub": "1", "hd": "example.com", "jti": "id"}
	id, ok, err := p.AuthenticateToken(t.Context(), i.token(t, good))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if id.Name != "p:a@b" || id.UID != "1" || strings.Join(id.Groups, " ") != "g:x g:y system:authenticated" || id.Extra["authentication.kubernetes.io/credential-id"][0] != "JTI=id" {
		t.Errorf("identity %+v", id)
	}
	for what, x := range map[string]struct {
		change map[string]any
		want   string
	}{
		"an unverified address": {map[string]any{"email_verified": false}, "email not verified"},
		"another audience":      {map[string]any{"aud": "z"}, "expected audience"},
		"an old one":            {map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, "token is expired"},
		"another domain":        {map[string]any{"hd": "z"}, "required claim hd value does not match"},
		"no domain":             {map[string]any{"hd": nil}, "required claim hd"},
		"no name":               {map[string]any{"email": 5}, "parse username claims"},
		"groups that are none":  {map[string]any{"roles": 5}, "parse groups claim"},
	} {
		claims := map[string]any{}
		for k, v := range good {
			claims[k] = v
		}
		for k, v := range x.change {
			claims[k] = v
		}
		if _, ok, err := p.AuthenticateToken(t.Context(), i.token(t, claims)); ok || err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %t, %v", what, ok, err)
		}
	}
	forged := newIssuer(t).token(t, map[string]any{"iss": i.URL, "email": "a@b", "hd": "example.com"})
	if _, ok, err := p.AuthenticateToken(t.Context(), forged); ok || err == nil {
		t.Errorf("a token of another's key: %t, %v", ok, err)
	}
	if _, ok, err := p.AuthenticateToken(t.Context(), i.token(t, map[string]any{"iss": "https://other"})); ok || err != nil {
		t.Errorf("a token of another issuer: %t, %v", ok, err)
	}
	// The other audience, one role, and groups that are elsewhere.
	i.groups = i.token(t, map[string]any{"roles": []string{"far"}})
	good["aud"], good["roles"] = []string{"other"}, "one"
	if id, _, err = p.AuthenticateToken(t.Context(), i.token(t, good)); err != nil || id.Groups[0] != "g:one" {
		t.Errorf("%+v, %v", id, err)
	}
	delete(good, "roles")
	good["_claim_names"] = map[string]string{"roles": "src"}
	good["_claim_sources"] = map[string]any{"src": map[string]string{"endpoint": i.URL + "/groups", "access_token": "inner"}}
	if id, _, err = p.AuthenticateToken(t.Context(), i.token(t, good)); err != nil || id.Groups[0] != "g:far" {
		t.Errorf("distributed claims: %+v, %v", id, err)
	}
}

func TestExpressions(t *testing.T) {
	i := newIssuer(t)
	path := filepath.Join(t.TempDir(), "config.yaml")
	i.file(t, path, `claimMappings:
  username: {expression: "claims.sub + '@' + claims.?tenant.orValue('none')"}
  groups: {expression: "dyn(claims.roles).filter(r, r.startsWith('k8s-'))"}
  uid: {expression: "string(claims.n)"}
  extra:
  - {key: example.com/tenant, valueExpression: "claims.?tenant.orValue('')"}
  - {key: example.com/roles, valueExpression: "claims.roles"}
claimValidationRules:
- {expression: "claims.n > 1.0", message: n is too small}
userValidationRules:
- {expression: "!user.username.startsWith('system:')", message: reserved}
- {expression: "user.groups.all(g, g != 'k8s-root')"}`, "")
	p, err := New(t.Context(), Config{Metrics: NewMetrics(prometheus.NewRegistry(), "me"), Path: path}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ready(t, p)
	id, ok, err := p.AuthenticateToken(t.Context(), i.token(t, map[string]any{"sub": "u", "n": 2, "roles": []string{"k8s-a", "b"}}))
	if err != nil || !ok || id.Name != "u@none" || id.UID != "2" || id.Groups[0] != "k8s-a" || len(id.Extra) != 1 || len(id.Extra["example.com/roles"]) != 2 {
		t.Errorf("identity %+v, %v", id, err)
	}
	for want, claims := range map[string]map[string]any{
		"n is too small":                          {"sub": "u", "n": 1, "roles": []string{}},
		"failed: reserved":                        {"sub": "system:u", "n": 2, "roles": []string{}},
		"user.groups.all(g, g != 'k8s-root')":     {"sub": "u", "n": 2, "roles": []string{"k8s-root"}},
		"error evaluating group claim expression": {"sub": "u", "n": 2},
		"must return a string or a list":          {"sub": "u", "n": 2, "roles": []string{}, "tenant": map[string]string{"a": "b"}},
	} {
		if _, ok, err := p.AuthenticateToken(t.Context(), i.token(t, claims)); ok || err == nil || want != "must return a string or a list" && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %t, %v", want, ok, err)
		}
	}
}

func TestReloadAndAnonymous(t *testing.T) {
	i := newIssuer(t)
	path := filepath.Join(t.TempDir(), "config.yaml")
	i.file(t, path, `claimMappings: {username: {claim: sub, prefix: "a:"}}`, "anonymous: {enabled: true, conditions: [{path: /livez}]}\n")
	p, err := New(t.Context(), Config{Metrics: NewMetrics(prometheus.NewRegistry(), "me"), Path: path}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]bool{"/livez": true, "/version": false} {
		if _, ok, err := p.Authenticate(httptest.NewRequest(http.MethodGet, url, nil)); ok != want || err != nil {
			t.Errorf("anonymous at %s: %t, %v", url, ok, err)
		}
	}
	ready(t, p)
	name := func() string {
		id, _, err := p.AuthenticateToken(t.Context(), i.token(t, map[string]any{"sub": "u"}))
		if err != nil {
			return err.Error()
		}
		return id.Name
	}
	i.file(t, path, `claimMappings: {username: {claim: sub, prefix: "b:"}}`, "anonymous: {enabled: false}\n")
	p.reload(t.Context())
	ready(t, p)
	if got := name(); got != "b:u" {
		t.Errorf("after a change the user is %s", got)
	}
	if _, ok, _ := p.Authenticate(httptest.NewRequest(http.MethodGet, "/livez", nil)); ok {
		t.Error("anonymous requests after they were forbidden")
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.reload(t.Context())
	if got := name(); got != "b:u" {
		t.Errorf("after a bad change the user is %s", got)
	}
}

func TestFlags(t *testing.T) {
	i := newIssuer(t)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, []byte(i.ca()), 0o600); err != nil {
		t.Fatal(err)
	}
	f := Flags{Set: true, IssuerURL: i.URL, ClientID: "k8s", CAFile: ca, UsernameClaim: "sub", GroupsClaim: "g", SigningAlgs: []string{"RS256"}, RequiredClaims: map[string]string{"a": "b"}}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, err := New(ctx, Config{Metrics: NewMetrics(prometheus.NewRegistry(), "me"), Flags: f}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ready(t, p)
	id, _, err := p.AuthenticateToken(ctx, i.token(t, map[string]any{"sub": "u", "g": "x", "a": "b"}))
	if err != nil || id.Name != i.URL+"#u" || id.Groups[0] != "x" {
		t.Errorf("%+v, %v", id, err)
	}
	f.ClientID = ""
	if f.Validate() == nil {
		t.Error("an issuer without a client")
	}
}

func TestValidation(t *testing.T) {
	const head = "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthenticationConfiguration\njwt:\n"
	const issuer = "- issuer: {url: \"https://a\", audiences: [x]}\n"
	const named = "  claimMappings: {username: {claim: sub, prefix: \"\"}}\n"
	for text, want := range map[string]string{
		issuer: "jwt[0].claimMappings.username: Required value: claim or expression is required",
		"- issuer: {url: \"http://a\", audiences: [x]}\n" + named:                                                          "URL scheme must be https",
		"- issuer: {url: \"https://own\", audiences: [x]}\n" + named:                                                       "must not overlap with disallowed issuers",
		"- issuer: {url: \"https://a\", audiences: [x, y]}\n" + named:                                                      "audienceMatchPolicy must be MatchAny",
		"- issuer: {url: \"https://a\"}\n" + named:                                                                         "at least one jwt[0].issuer.audiences is required",
		"- issuer: {url: \"https://a\", audiences: [x], certificateAuthority: z}\n" + named:                                "jwt[0].issuer.certificateAuthority",
		"- issuer: {url: \"https://a\", discoveryURL: \"https://a/\", audiences: [x]}\n" + named:                           "discoveryURL must be different from URL",
		issuer + named + issuer + named:                                                                                    "jwt[1].issuer.url: Duplicate value",
		issuer + "  claimMappings: {username: {claim: sub}}\n":                                                             "prefix is required when claim is set",
		issuer + "  claimMappings: {username: {expression: \"claims.email\"}}\n":                                           "claims.email_verified must be used",
		issuer + "  claimMappings: {username: {expression: \"claims.?email.orValue('')\"}}\n":                              "claims.email_verified must be used",
		issuer + "  claimMappings: {username: {expression: \"claims.(\"}}\n":                                               "compilation failed",
		issuer + "  claimMappings: {username: {claim: sub, prefix: \"\"}, extra: [{key: k8s.io/a, valueExpression: a}]}\n": "reserved for Kubernetes use",
		issuer + named + "  claimValidationRules: [{claim: a, expression: b}]\n":                                           "claim and expression can't both be set",
		issuer + named + "  claimValidationRules: [{expression: \"claims.a\"}]\n":                                          "must evaluate to bool",
		issuer + named + "  userValidationRules: [{expression: \"user.nonsense\"}]\n":                                      "undefined field",
		"  []\nanonymous: {enabled: false, conditions: [{path: /a}]}":                                                      "enabled should be set to true",
	} {
		c, err := Parse([]byte(head + text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		check := &checker{own: sets.New("https://own")}
		check.check(c)
		if got := check.errs.ToAggregate(); got == nil || !strings.Contains(got.Error(), want) {
			t.Errorf("%q: %v, not %s", text, got, want)
		}
	}
	if _, err := Parse([]byte("apiVersion: v1\nkind: X")); err == nil {
		t.Error("another kind is taken")
	}
}

func FuzzTokens(f *testing.F) {
	f.Add("a.b.c")
	f.Add("a.eyJpc3MiOiJhY2NvdW50cy5nb29nbGUuY29tIn0.c")
	f.Fuzz(func(_ *testing.T, token string) { issuerOf(token) })
}
