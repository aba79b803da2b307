package tracing

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// collector keeps what it is sent.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	mu    sync.Mutex // guards spans
	spans []*tracev1.Span
}

func (c *collector) Export(_ context.Context, r *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range r.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func TestTracer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{}
	server := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	endpoint := l.Addr().String()
	tracer, err := New(t.Context(), &Config{Endpoint: &endpoint}, "me")
	if err != nil {
		t.Fatal(err)
	}
	webhook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Traceparent"), "00-0af7651916cd43dd8448eb211c80319c-") {
			t.Errorf("what is passed on: %q", r.Header.Get("Traceparent"))
		}
	}))
	defer webhook.Close()
	h := tracer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx, end := Start(r.Context(), "etcd")
		end()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, webhook.URL, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := (&http.Client{Transport: tracer.Transport(http.DefaultTransport)}).Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Body.Close()
	}), func(*http.Request) string { return "GET /api/v1/pods" }, func(*http.Request) bool { return true }, func(*http.Request) string { return "audit" })
	for _, parent := range []string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/pods", nil)
		if parent == "" {
			continue // it is not sampled
		}
		r.Header.Set("Traceparent", parent)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tracer.Run(ctx); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	got := map[string]string{}
	for _, s := range c.spans {
		got[s.Name] = s.Kind.String()
		for _, a := range s.Attributes {
			if a.Key == "audit-id" && a.Value.GetStringValue() != "audit" {
				t.Errorf("audit-id %v", a)
			}
		}
	}
	want := map[string]string{"GET /api/v1/pods": "SPAN_KIND_SERVER", "etcd": "SPAN_KIND_INTERNAL", "HTTP POST": "SPAN_KIND_CLIENT"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("spans (-want +got):\n%s", d)
	}
	if out, end := Start(t.Context(), "none"); out != t.Context() {
		end()
		t.Error("a span without a trace")
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tracing.yaml")
	for text, want := range map[string]string{
		"{apiVersion: apiserver.config.k8s.io/v1, kind: TracingConfiguration, endpoint: 'localhost:4317', samplingRatePerMillion: 100}": "",
		"{apiVersion: apiserver.config.k8s.io/v1beta1, kind: TracingConfiguration, endpoint: 'dns://collector:4317'}":                   "",
		"{apiVersion: apiserver.config.k8s.io/v1, kind: TracingConfiguration, endpoint: 'http://collector:4317'}":                       "unsupported scheme: http:",
		"{apiVersion: apiserver.config.k8s.io/v1, kind: TracingConfiguration, samplingRatePerMillion: 1000001}":                         "samplingRatePerMillion: 1000001 is not in 0 to 1000000",
		"{apiVersion: apiserver.config.k8s.io/v1, kind: TracingConfiguration, colour: red}":                                             "unknown field",
		"{apiVersion: v1, kind: Pod}": "not of apiserver.config.k8s.io/v1",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); (err != nil || want != "") && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
