package loop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

type identityKey struct{}

// As returns a context whose requests are made as the service account kube-system/<account>.
func As(ctx context.Context, account string) context.Context {
	return context.WithValue(ctx, identityKey{}, account)
}

// Identities makes requests as the service account that their context names, over connections that all accounts share.
// Requests without one keep the process' own identity. Each account has its own rate limit and its own token, which is
// asked for when first needed and renewed before it expires; a missing account is created.
type Identities struct {
	host  string
	agent string
	qps   float32
	burst int
	// own sends with the process' credentials, bare without any.
	own, bare http.RoundTripper
	now       func() time.Time

	mu       sync.Mutex // guards accounts
	accounts map[string]*account
}

type account struct {
	limit flowcontrol.RateLimiter

	mu      sync.Mutex // guards token and renew; held while a token is fetched, so that one request fetches it
	token   string
	renewAt time.Time
}

// tokenSeconds is how long a token is asked to be valid.
const tokenSeconds = 3600

// UseAccounts makes cfg's clients send requests as their contexts say. cfg must not be in use yet.
func UseAccounts(cfg *rest.Config, now func() time.Time) error {
	own, err := rest.TransportFor(cfg)
	if err != nil {
		return fmt.Errorf("connection for service accounts: %w", err)
	}
	bare, err := rest.TransportFor(rest.AnonymousClientConfig(cfg))
	if err != nil {
		return fmt.Errorf("connection for service accounts: %w", err)
	}
	ids := &Identities{
		host: strings.TrimSuffix(cfg.Host, "/"), agent: cfg.UserAgent, qps: cfg.QPS, burst: cfg.Burst,
		own: own, bare: bare, now: now, accounts: map[string]*account{},
	}
	if !strings.Contains(ids.host, "://") {
		ids.host = "https://" + ids.host
	}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &roundTripper{ids: ids, next: next} })
	return nil
}

type roundTripper struct {
	ids  *Identities
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	name, _ := req.Context().Value(identityKey{}).(string)
	if name == "" {
		return rt.next.RoundTrip(req)
	}
	a := rt.ids.account(name)
	if err := a.limit.Wait(req.Context()); err != nil {
		return nil, fmt.Errorf("rate limit of %s: %w", name, err)
	}
	token, err := rt.ids.token(req.Context(), name, a)
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.Header.Set("Authorization", "Bearer "+token)
	out.Header.Set("User-Agent", rt.ids.agent+"/system:serviceaccount:kube-system:"+name)
	resp, err := rt.ids.bare.RoundTrip(out)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		a.drop(token)
	}
	return resp, err
}

func (i *Identities) account(name string) *account {
	i.mu.Lock()
	defer i.mu.Unlock()
	a := i.accounts[name]
	if a == nil {
		a = &account{limit: flowcontrol.NewFakeAlwaysRateLimiter()}
		if i.qps > 0 {
			a.limit = flowcontrol.NewTokenBucketRateLimiter(i.qps, i.burst)
		}
		i.accounts[name] = a
	}
	return a
}

func (a *account) drop(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token == token {
		a.token = ""
	}
}

func (i *Identities) token(ctx context.Context, name string, a *account) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token != "" && i.now().Before(a.renewAt) {
		return a.token, nil
	}
	tr, status, err := i.request(ctx, name)
	if status == http.StatusNotFound {
		if err = i.create(ctx, name); err == nil {
			tr, _, err = i.request(ctx, name)
		}
	}
	if err != nil {
		if a.token != "" {
			// The old token is good for a fifth of its life yet; the next request tries again.
			return a.token, nil
		}
		return "", fmt.Errorf("token of service account kube-system/%s: %w", name, err)
	}
	now := i.now()
	a.token = tr.Status.Token
	a.renewAt = now.Add(tr.Status.ExpirationTimestamp.Sub(now) * 4 / 5)
	return a.token, nil
}

func (i *Identities) request(ctx context.Context, name string) (*authenticationv1.TokenRequest, int, error) {
	seconds := int64(tokenSeconds)
	in := &authenticationv1.TokenRequest{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"},
		Spec:     authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds},
	}
	out := &authenticationv1.TokenRequest{}
	status, err := i.post(ctx, "/api/v1/namespaces/kube-system/serviceaccounts/"+name+"/token", in, out)
	return out, status, err
}

func (i *Identities) create(ctx context.Context, name string) error {
	sa := &corev1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name},
	}
	status, err := i.post(ctx, "/api/v1/namespaces/kube-system/serviceaccounts", sa, &corev1.ServiceAccount{})
	if status == http.StatusConflict {
		return nil
	}
	return err
}

// maxAnswer bounds the answer to a token request.
const maxAnswer = 1 << 20

func (i *Identities) post(ctx context.Context, path string, in, out any) (int, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.host+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", i.agent+"/tokens-controller")
	resp, err := i.own.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.StatusCode, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		var st metav1.Status
		_ = json.Unmarshal(data, &st)
		return resp.StatusCode, fmt.Errorf("POST %s: %s: %s", path, resp.Status, st.Message)
	}
	return resp.StatusCode, json.Unmarshal(data, out)
}
