package hook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/tracing"
)

// Service is a webhook that the cluster runs.
type Service struct {
	Namespace, Name string
	Path            string
	Port            int32 // 443 where it is 0
}

// Target is where a webhook is: a URL or a service.
type Target struct {
	URL      string
	Service  *Service
	CABundle []byte // empty for the system's authorities
}

// Resolver finds the address, with its port, at which a service answers.
type Resolver interface {
	Resolve(ctx context.Context, namespace, name string, port int32) (string, error)
}

// maxClients bounds the clients that are kept.
const maxClients = 128

// maxAnswer bounds a webhook's answer in bytes.
const maxAnswer = 16 << 20

// Caller calls webhooks. It is safe for concurrent use.
type Caller struct {
	resolver    Resolver
	self        http.RoundTripper
	credentials *Credentials
	tracer      *tracing.Tracer

	mu      sync.Mutex // guards what follows
	clients map[string]*http.Client
}

// New returns a caller without connections, who shows the credentials and is traced, each nil for not. self answers for the service kubernetes.
func New(resolver Resolver, self http.RoundTripper, credentials *Credentials, tracer *tracing.Tracer) *Caller {
	return &Caller{resolver: resolver, self: self, credentials: credentials, tracer: tracer, clients: map[string]*http.Client{}}
}

// selfHost is the host of the service kubernetes, where this server is asked by its own identity, whatever the credentials.
const selfHost = "kubernetes.default.svc:443"

// address is the URL to post to, and the server's name where it is a service.
func (t *Target) address() (string, string, error) {
	if t.Service == nil {
		u, err := url.Parse(t.URL)
		if err != nil {
			return "", "", fmt.Errorf("unparsable URL: %w", err)
		}
		return u.String(), "", nil
	}
	s := t.Service
	port := s.Port
	if port == 0 {
		port = 443
	}
	name := s.Name + "." + s.Namespace + ".svc"
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(name, strconv.Itoa(int(port))), Path: s.Path}
	return u.String(), name, nil
}

func (c *Caller) client(t *Target, address, serverName string) (*http.Client, error) {
	host, err := hostOf(address)
	if err != nil {
		return nil, err
	}
	if host == selfHost {
		return &http.Client{Transport: c.self, CheckRedirect: sameHost}, nil
	}
	sum := sha256.Sum256(t.CABundle)
	key := serverName + "\x00" + string(sum[:])
	if t.Service != nil {
		key += "\x00" + strconv.Itoa(int(t.Service.Port))
	}
	if c.credentials != nil {
		key += "\x00" + host
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.clients[key]; ok {
		return have, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
	if len(bytes.TrimSpace(t.CABundle)) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(t.CABundle) {
			return nil, errors.New("unable to load root certificates: unable to parse bytes as PEM block")
		}
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		TLSClientConfig: config, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
		// HTTP/1.1 spreads over the endpoints of a service.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		DialContext:  dialer.DialContext,
	}
	if s := t.Service; s != nil {
		service := *s
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			address, err := c.resolver.Resolve(ctx, service.Namespace, service.Name, service.Port)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, address)
		}
	}
	if len(c.clients) >= maxClients {
		for k, old := range c.clients {
			old.CloseIdleConnections()
			delete(c.clients, k)
			break
		}
	}
	trip, err := c.credentials.wrap(host, transport)
	if err != nil {
		return nil, err
	}
	out := &http.Client{Transport: c.tracer.Transport(trip), CheckRedirect: sameHost}
	c.clients[key] = out
	return out, nil
}

// maxRedirects bounds how often a webhook may send to another of its paths.
const maxRedirects = 10

// sameHost follows a redirect within a webhook's host, such as from a path with two slashes to the one with one. The credentials are for no other.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

// Call posts in as JSON and decodes the answer into out. The deadline of ctx is
// told to the webhook, in whole seconds.
func (c *Caller) Call(ctx context.Context, t Target, in, out any) error {
	address, name, err := t.address()
	if err != nil {
		return err
	}
	client, err := c.client(&t, address, name)
	if err != nil {
		return err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left > 0 {
			if whole := left.Truncate(time.Second); whole != left {
				left = whole + time.Second
			}
			u, err := url.Parse(address)
			if err != nil {
				return err
			}
			query := u.Query()
			query.Set("timeout", left.String())
			u.RawQuery = query.Encode()
			address = u.String()
		}
	}
	for try := 0; ; try++ {
		wait, err := post(ctx, client, address, body, out)
		if err == nil || wait < 0 || try == maxRetries {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// maxRetries bounds how often a webhook may ask to come again, as client-go does.
const maxRetries = 10

// post asks once. wait is below zero but where the answer is an error that asks to come again after it. What cannot be reached is not tried again: it
// may have seen the request.
func post(ctx context.Context, client *http.Client, address string, body []byte, out any) (wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*")
	req.Header.Set("User-Agent", "kube-apiserver-admission")
	resp, err := client.Do(req)
	if err != nil {
		return -1, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return -1, fmt.Errorf("read the answer: %w", err)
	}
	if code := resp.StatusCode; code < http.StatusOK || code >= http.StatusMultipleChoices {
		seconds, notNumber := strconv.Atoi(resp.Header.Get("Retry-After"))
		if notNumber != nil {
			return -1, failure(code, data, 0)
		}
		if code == http.StatusTooManyRequests || code >= http.StatusInternalServerError {
			return time.Duration(max(seconds, 0)) * time.Second, failure(code, data, seconds)
		}
		return -1, failure(code, data, seconds)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return -1, fmt.Errorf("decode the answer: %w", err)
	}
	return -1, nil
}

// failure is the error of an answer that is none.
func failure(code int, body []byte, retryAfter int) error {
	status := metav1.Status{}
	if json.Unmarshal(body, &status) == nil && status.Kind == "Status" && status.Status == metav1.StatusFailure {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return apierrors.NewGenericServerResponse(code, "POST", schema.GroupResource{}, "", string(bytes.TrimSpace(body)), retryAfter, true)
}
