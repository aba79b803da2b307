package server

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	certutil "k8s.io/client-go/util/cert"

	"flagship/apiserver/internal/timing"
)

func answer(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

func TestHeaders(t *testing.T) {
	ask := func(h http.Handler, method, origin string, major int) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/api", nil)
		r.ProtoMajor = major
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	h := shareOrigins(http.HandlerFunc(answer), []*regexp.Regexp{regexp.MustCompile(`//example\.com(:|$)`)})
	for _, c := range []struct {
		method, origin, allowed string
		code                    int
	}{
		{http.MethodGet, "https://example.com", "https://example.com", http.StatusOK},
		{http.MethodOptions, "https://example.com:8443", "https://example.com:8443", http.StatusNoContent},
		{http.MethodGet, "https://example.com.evil.org", "", http.StatusOK},
		{http.MethodOptions, "https://evil.org", "", http.StatusOK},
		{http.MethodGet, "", "", http.StatusOK},
	} {
		if w := ask(h, c.method, c.origin, 2); w.Code != c.code || w.Header().Get("Access-Control-Allow-Origin") != c.allowed {
			t.Errorf("%s of %q: %d, %v", c.method, c.origin, w.Code, w.Header())
		}
	}
	if got := ask(strict(http.HandlerFunc(answer), []string{"max-age=10", "preload"}), http.MethodGet, "", 2).Header().Get("Strict-Transport-Security"); got != "max-age=10; preload" {
		t.Errorf("Strict-Transport-Security: %q", got)
	}
	always := moveOn(http.HandlerFunc(answer), 1)
	if ask(always, http.MethodGet, "", 2).Header().Get("Connection") != "close" || ask(always, http.MethodGet, "", 1).Header().Get("Connection") != "" {
		t.Error("HTTP/2 connections end, others do not")
	}
}

// serving runs a server with a certificate of its own, and returns its address and a client.
func serving(t *testing.T, h func(*Drain) http.Handler, refuse bool, delay time.Duration) (string, *http.Client, Phases, context.CancelFunc, func() error) {
	t.Helper()
	cert, key, err := certutil.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	phases := NewPhases()
	d := NewDrain(phases.Draining, refuse)
	s := New(Config{
		Address: net.IPv4(127, 0, 0, 1), Port: port, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil },
		MaxStreams: 100, Delay: delay, Finish: 20 * time.Second, Drain: d,
	}, d.wrap(d.track(h(d), func(r *http.Request) bool { return r.URL.Path == "/watch" })), phases, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	var failure error
	run.Go(func() { failure = s.Run(ctx) })
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // its own certificate
	url := "https://" + net.JoinHostPort("127.0.0.1", itoa(port))
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", itoa(port)))
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	return url, client, phases, cancel, func() error { run.Wait(); return failure }
}

func itoa(n int) string { return (&net.TCPAddr{Port: n}).String()[1:] }

func TestShutdown(t *testing.T) {
	for name, refuse := range map[string]bool{"plain": false, "with Retry-After": true} {
		t.Run(name, func(t *testing.T) {
			slow, entered, watching := make(chan struct{}), make(chan struct{}), make(chan struct{})
			var phases Phases
			ready := make(chan struct{})
			url, client, p, stop, wait := serving(t, func(*Drain) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/slow":
						close(entered)
						<-slow
					case "/watch":
						w.WriteHeader(http.StatusOK)
						_ = http.NewResponseController(w).Flush()
						close(watching)
						<-ready
						<-phases.Draining
					}
					answer(w, r)
				})
			}, refuse, 300*time.Millisecond)
			phases = p
			close(ready)
			get := func(path string) (int, string) {
				resp, err := client.Get(url + path)
				if err != nil {
					return 0, err.Error()
				}
				defer func() { _ = resp.Body.Close() }()
				_, _ = io.Copy(io.Discard, resp.Body)
				return resp.StatusCode, resp.Header.Get("Retry-After")
			}
			var inFlight sync.WaitGroup
			inFlight.Go(func() {
				if code, text := get("/slow"); code != http.StatusOK {
					t.Errorf("a request in flight: %d %s", code, text)
				}
			})
			inFlight.Go(func() {
				if code, text := get("/watch"); code != http.StatusOK {
					t.Errorf("a watch: %d %s", code, text)
				}
			})
			<-entered
			<-watching
			stop()
			<-p.Stopping
			if code, text := get("/new"); code != http.StatusOK {
				t.Errorf("within the delay: %d %s", code, text)
			}
			<-p.Draining
			if refuse {
				if code, after := get("/new"); code != http.StatusTooManyRequests || after != "5" {
					t.Errorf("after the delay: %d, to be tried after %q", code, after)
				}
				if code, _ := get("/readyz"); code != http.StatusOK {
					t.Errorf("its health after the delay: %d", code)
				}
			}
			close(slow)
			inFlight.Wait()
			if err := wait(); err != nil {
				t.Errorf("ended with %v", err)
			}
			if code, _ := get("/new"); code != 0 {
				t.Errorf("after the end: %d", code)
			}
		})
	}
}

func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		c := &Chain{Log: zap.New(core)}
		ask := func(path string, took time.Duration) {
			h := auditID(info(c.slow(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				start := time.Now()
				time.Sleep(took)
				timing.From(r.Context()).Since(timing.Storage, start)
			}))))
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Header.Set("Audit-Id", "me")
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		ask("/api/v1/pods", 400*time.Millisecond)
		ask("/api/v1/pods?watch=1", time.Hour)
		ask("/api/v1/namespaces/a/pods/b/exec", time.Hour)
		if n := logs.Len(); n != 0 {
			t.Fatalf("%d requests are slow, of none", n)
		}
		ask("/api/v1/pods", 2*time.Second)
		got := logs.TakeAll()
		if len(got) != 1 {
			t.Fatalf("%d requests are slow, of one", len(got))
		}
		f := got[0].ContextMap()
		if f["auditID"] != "me" || f["verb"] != "list" || f["total"] != 2*time.Second || f["etcd"] != 2*time.Second {
			t.Errorf("%v", f)
		}
	})
}
