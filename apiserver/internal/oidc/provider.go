package oidc

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"go.uber.org/zap"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/client-go/util/cert"

	"flagship/apiserver/internal/authn"
)

// provider recognizes the tokens of one issuer.
type provider struct {
	cfg    *apiserverv1.JWTAuthenticator
	mapper authenticationcel.CELMapper
	client *http.Client
	verify oidc.Config
	log    *zap.Logger
	// lifetime is the context in which keys are fetched.
	lifetime context.Context //nolint:containedctx // go-oidc fetches keys in the context that a provider was made in
	verifier atomic.Pointer[oidc.IDTokenVerifier]
	metrics  *Metrics
	keys     *keyFetches

	mu sync.Mutex // guards others
	// others are the verifiers of issuers of distributed claims.
	others map[string]*oidc.IDTokenVerifier
}

const (
	retryInterval = 10 * time.Second
	httpTimeout   = 30 * time.Second
	// maxDocument bounds what a provider answers, in bytes.
	maxDocument = 1 << 20
	// maxOthers bounds the issuers of distributed claims that are remembered.
	maxOthers = 16
)

// newProvider makes a provider that is not ready before its keys are known, which is tried until ctx ends.
func newProvider(ctx context.Context, cfg *apiserverv1.JWTAuthenticator, mapper authenticationcel.CELMapper, algs []string, m *Metrics, log *zap.Logger) (*provider, error) {
	p := &provider{cfg: cfg, mapper: mapper, metrics: m, log: log, others: map[string]*oidc.IDTokenVerifier{}}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca := cfg.Issuer.CertificateAuthority; ca != "" {
		var err error
		if tlsConfig.RootCAs, err = cert.NewPoolFromBytes([]byte(ca)); err != nil {
			return nil, err
		}
	}
	var transport http.RoundTripper = &http.Transport{TLSClientConfig: tlsConfig, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second}
	if d := cfg.Issuer.DiscoveryURL; d != nil && *d != "" {
		to, err := url.Parse(*d)
		if err != nil {
			return nil, err
		}
		transport = elsewhere{transport, strings.TrimSuffix(cfg.Issuer.URL, "/") + "/.well-known/openid-configuration", to}
	}
	p.keys = &keyFetches{next: bounded{transport}, lifetime: ctx, issuer: cfg.Issuer.URL, metrics: m}
	p.client = &http.Client{Transport: p.keys, Timeout: httpTimeout}
	p.lifetime = oidc.ClientContext(ctx, p.client)
	// With several audiences they are compared here: the library knows one.
	p.verify = oidc.Config{SupportedSigningAlgs: algs, SkipClientIDCheck: true}
	go p.prepare(ctx)
	return p, nil
}

// prepare fetches the provider's keys.
func (p *provider) prepare(ctx context.Context) {
	for {
		found, err := oidc.NewProvider(p.lifetime, p.cfg.Issuer.URL)
		if err == nil {
			var document struct {
				Keys string `json:"jwks_uri"`
			}
			if found.Claims(&document) == nil {
				p.keys.address.Store(&document.Keys)
			}
			p.verifier.Store(found.Verifier(&p.verify))
			p.log.Info("tokens of the OpenID Connect provider are accepted", zap.String("issuer", p.cfg.Issuer.URL))
			return
		}
		if ctx.Err() != nil {
			return
		}
		p.log.Error("the OpenID Connect provider does not answer, trying again", zap.String("issuer", p.cfg.Issuer.URL), zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryInterval):
		}
	}
}

// elsewhere finds a provider's discovery document at another address.
type elsewhere struct {
	next http.RoundTripper
	from string
	to   *url.URL
}

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && r.URL.String() == e.from {
		r = r.Clone(r.Context())
		r.Host, r.URL = "", e.to
	}
	return e.next.RoundTrip(r)
}

// bounded limits answers.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxDocument), resp.Body}
	}
	return resp, err
}

// issuerOf is the issuer that a token names. Nobody has verified it.
func issuerOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	if claims.Issuer == "accounts.google.com" {
		// Its old name.
		return "https://accounts.google.com"
	}
	return claims.Issuer
}

// claims are those of a verified token.
type claims map[string]json.RawMessage

func (c claims) text(name string) (string, error) {
	raw, ok := c[name]
	if !ok {
		return "", errors.New("claim not present")
	}
	var s string
	return s, json.Unmarshal(raw, &s)
}

// AuthenticateToken implements authn.TokenAuthenticator.
func (p *provider) AuthenticateToken(ctx context.Context, token string) (*authn.Identity, bool, error) {
	if issuerOf(token) != p.cfg.Issuer.URL {
		return nil, false, nil
	}
	start := time.Now()
	id, err := p.authenticate(ctx, token)
	p.metrics.authenticated(p.cfg.Issuer.URL, start, err)
	return id, err == nil, err
}

func (p *provider) authenticate(ctx context.Context, token string) (*authn.Identity, error) {
	v := p.verifier.Load()
	if v == nil {
		return nil, errors.New("oidc: authenticator not initialized")
	}
	c, err := p.verified(ctx, v, token)
	if err != nil {
		return nil, fmt.Errorf("oidc: verify token: %w", err)
	}
	if err := p.expand(ctx, c); err != nil {
		return nil, fmt.Errorf("oidc: could not expand distributed claims: %w", err)
	}
	id, err := p.identity(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	return id, nil
}

func (p *provider) verified(ctx context.Context, v *oidc.IDTokenVerifier, token string) (claims, error) {
	t, err := v.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(t.Audience, func(a string) bool { return slices.Contains(p.cfg.Issuer.Audiences, a) }) {
		return nil, fmt.Errorf("expected audience in %q got %q", p.cfg.Issuer.Audiences, t.Audience)
	}
	var c claims
	return c, t.Claims(&c)
}

// identity maps claims to a user, and checks both.
func (p *provider) identity(ctx context.Context, c claims) (*authn.Identity, error) {
	var value traits.Mapper
	if m := p.mapper; m.Username != nil || m.Groups != nil || m.UID != nil || m.Extra != nil || m.ClaimValidationRules != nil {
		all := make(map[string]any, len(c))
		for name, raw := range c {
			var v any
			if err := json.Unmarshal(raw, &v); err != nil {
				return nil, fmt.Errorf("parse claim %s: %w", name, err)
			}
			all[name] = v
		}
		value, _ = types.DefaultTypeAdapter.NativeToValue(all).(traits.Mapper)
	}
	id := &authn.Identity{Extra: map[string][]string{}}
	var err error
	if id.Name, err = p.username(ctx, c, value); err != nil {
		return nil, err
	}
	if id.Groups, err = p.groups(ctx, c, value); err != nil {
		return nil, err
	}
	if id.UID, err = p.uid(ctx, c, value); err != nil {
		return nil, err
	}
	if jti, err := c.text("jti"); err == nil && jti != "" {
		id.Extra[authn.CredentialIDKey] = []string{"JTI=" + jti}
	}
	if p.mapper.Extra != nil {
		list, err := p.mapper.Extra.EvalClaimMappings(ctx, value)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			x := r.ExpressionAccessor.(*authenticationcel.ExtraMappingExpression)
			values, err := texts(r.EvalResult)
			if err != nil {
				return nil, fmt.Errorf("error evaluating extra claim expression: %s: %w", x.Expression, err)
			}
			if len(values) > 0 {
				id.Extra[x.Key] = values
			}
		}
	}
	if err := p.rules(ctx, c, value); err != nil {
		return nil, err
	}
	if err := p.userRules(ctx, id); err != nil {
		return nil, err
	}
	return id, nil
}

func (p *provider) username(ctx context.Context, c claims, value traits.Mapper) (string, error) {
	m := &p.cfg.ClaimMappings.Username
	if p.mapper.Username != nil {
		r, err := p.mapper.Username.EvalClaimMapping(ctx, value)
		if err != nil {
			return "", fmt.Errorf("error evaluating username claim expression: %w", err)
		}
		name, ok := r.EvalResult.Value().(string)
		if !ok || r.EvalResult.Type() != celgo.StringType {
			return "", errors.New("error evaluating username claim expression: username claim expression must return a string")
		}
		if name == "" {
			return "", errors.New("empty username via CEL expression is not allowed")
		}
		return name, nil
	}
	name, err := c.text(m.Claim)
	if err != nil {
		return "", fmt.Errorf("parse username claims %q: %w", m.Claim, err)
	}
	if raw, ok := c["email_verified"]; m.Claim == "email" && ok {
		var verified bool
		if err := json.Unmarshal(raw, &verified); err != nil {
			return "", fmt.Errorf("parse 'email_verified' claim: %w", err)
		}
		if !verified {
			return "", errors.New("email not verified")
		}
	}
	if m.Prefix != nil {
		name = *m.Prefix + name
	}
	return name, nil
}

func (p *provider) groups(ctx context.Context, c claims, value traits.Mapper) ([]string, error) {
	m := &p.cfg.ClaimMappings.Groups
	if raw, ok := c[m.Claim]; ok && m.Claim != "" {
		var list []string
		if json.Unmarshal(raw, &list) != nil {
			// Some providers have a single role.
			var one string
			if err := json.Unmarshal(raw, &one); err != nil {
				return nil, fmt.Errorf("parse groups claim %q: %w", m.Claim, err)
			}
			list = []string{one}
		}
		if m.Prefix != nil {
			for i := range list {
				list[i] = *m.Prefix + list[i]
			}
		}
		return list, nil
	}
	if p.mapper.Groups == nil {
		return nil, nil
	}
	r, err := p.mapper.Groups.EvalClaimMapping(ctx, value)
	if err != nil {
		return nil, fmt.Errorf("error evaluating group claim expression: %w", err)
	}
	list, err := texts(r.EvalResult)
	if err != nil {
		return nil, fmt.Errorf("error evaluating group claim expression: %w", err)
	}
	return list, nil
}

func (p *provider) uid(ctx context.Context, c claims, value traits.Mapper) (string, error) {
	if claim := p.cfg.ClaimMappings.UID.Claim; claim != "" {
		uid, err := c.text(claim)
		if err != nil {
			return "", fmt.Errorf("parse uid claim %q: %w", claim, err)
		}
		return uid, nil
	}
	if p.mapper.UID == nil {
		return "", nil
	}
	r, err := p.mapper.UID.EvalClaimMapping(ctx, value)
	if err != nil {
		return "", fmt.Errorf("error evaluating uid claim expression: %w", err)
	}
	uid, ok := r.EvalResult.Value().(string)
	if !ok || r.EvalResult.Type() != celgo.StringType {
		return "", errors.New("error evaluating uid claim expression: uid claim expression must return a string")
	}
	return uid, nil
}

// texts are those of a result that is a text, a list of texts or null. Empty ones are left out.
func texts(v ref.Val) ([]string, error) {
	switch x := v.(type) {
	case types.String:
		if x == "" {
			return nil, nil
		}
		return []string{string(x)}, nil
	case types.Null:
		return nil, nil
	case traits.Lister:
		var out []string
		for it := x.Iterator(); it.HasNext() == types.True; {
			s, ok := it.Next().Value().(string)
			if !ok {
				return nil, errors.New("expression must return a string or a list of strings")
			}
			if s != "" {
				out = append(out, s)
			}
		}
		return out, nil
	}
	return nil, errors.New("expression must return a string or a list of strings")
}

// rules checks the claims.
func (p *provider) rules(ctx context.Context, c claims, value traits.Mapper) error {
	for _, r := range p.cfg.ClaimValidationRules {
		if r.Claim == "" {
			continue
		}
		if _, ok := c[r.Claim]; !ok {
			return fmt.Errorf("required claim %s not present in ID token", r.Claim)
		}
		got, err := c.text(r.Claim)
		if err != nil {
			return fmt.Errorf("parse claim %s: %w", r.Claim, err)
		}
		if got != r.RequiredValue {
			return fmt.Errorf("required claim %s value does not match. Got = %s, want = %s", r.Claim, got, r.RequiredValue)
		}
	}
	if p.mapper.ClaimValidationRules == nil {
		return nil
	}
	list, err := p.mapper.ClaimValidationRules.EvalClaimMappings(ctx, value)
	if err == nil {
		err = hold(list)
	}
	if err != nil {
		return fmt.Errorf("error evaluating claim validation expression: %w", err)
	}
	return nil
}

// userRules checks the user that the claims were mapped to.
func (p *provider) userRules(ctx context.Context, id *authn.Identity) error {
	if p.mapper.UserValidationRules == nil {
		return nil
	}
	user := map[string]any{"username": id.Name, "uid": id.UID, "groups": id.Groups, "extra": id.Extra}
	value, _ := types.DefaultTypeAdapter.NativeToValue(user).(traits.Mapper)
	list, err := p.mapper.UserValidationRules.EvalUser(ctx, value)
	if err == nil {
		err = hold(list)
	}
	if err != nil {
		return fmt.Errorf("error evaluating user info validation rule: %w", err)
	}
	return nil
}

// hold wants all conditions to be true.
func hold(list []authenticationcel.EvaluationResult) error {
	for _, r := range list {
		if r.EvalResult == types.True {
			continue
		}
		message := ""
		switch x := r.ExpressionAccessor.(type) {
		case *authenticationcel.ClaimValidationCondition:
			message = x.Message
		case *authenticationcel.UserValidationCondition:
			message = x.Message
		}
		if message == "" {
			message = "validation failed"
		}
		return fmt.Errorf("validation expression '%s' failed: %s", r.ExpressionAccessor.GetExpression(), message)
	}
	return nil
}

// expand fetches the groups where a token says only where they are (OpenID Connect Core 5.6.2).
func (p *provider) expand(ctx context.Context, c claims) error {
	claim := p.cfg.ClaimMappings.Groups.Claim
	if _, have := c[claim]; claim == "" || have || c["_claim_names"] == nil {
		return nil
	}
	var names map[string]string
	if err := json.Unmarshal(c["_claim_names"], &names); err != nil {
		return fmt.Errorf("error parsing distributed claim names: %w", err)
	}
	source, ok := names[claim]
	if !ok {
		return nil
	}
	var sources map[string]struct {
		Endpoint    string `json:"endpoint"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(c["_claim_sources"], &sources); err != nil {
		return fmt.Errorf("could not parse claim sources: %w", err)
	}
	s, ok := sources[source]
	if !ok {
		return fmt.Errorf("id token _claim_names contained a source %s missing in _claims_sources", source)
	}
	if s.Endpoint == "" {
		return nil
	}
	token, err := p.fetch(ctx, s.Endpoint, s.AccessToken)
	if err != nil {
		return fmt.Errorf("while getting distributed claim %q: %w", claim, err)
	}
	v, err := p.other(issuerOf(token))
	if err != nil {
		return err
	}
	found, err := p.verified(ctx, v, token)
	if err != nil {
		return fmt.Errorf("verify distributed claim token: %w", err)
	}
	value, ok := found[claim]
	if !ok {
		return fmt.Errorf("jwt returned by distributed claim endpoint %q did not contain claim: %s", s.Endpoint, claim)
	}
	c[claim] = value
	return nil
}

func (p *provider) fetch(ctx context.Context, endpoint, token string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, http.NoBody)
	if err != nil {
		return "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered %s", endpoint, resp.Status)
	}
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

// other is the verifier of an issuer of distributed claims.
func (p *provider) other(issuer string) (*oidc.IDTokenVerifier, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.others[issuer]; v != nil {
		return v, nil
	}
	found, err := oidc.NewProvider(p.lifetime, issuer)
	if err != nil {
		return nil, fmt.Errorf("verifying untrusted issuer %q failed: %w", issuer, err)
	}
	if len(p.others) >= maxOthers {
		clear(p.others)
	}
	p.others[issuer] = found.Verifier(&p.verify)
	return p.others[issuer], nil
}
