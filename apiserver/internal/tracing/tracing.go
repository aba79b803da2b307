// Package tracing sends spans of requests to an OpenTelemetry collector, KEP-647: of the requests themselves, of what they do in etcd and of the webhooks that
// they ask. It is off without a configuration.
//
// Data in: a TracingConfiguration, requests and their contexts. Data out: spans, by OTLP over gRPC. Its goroutines are the exporter's, ended by Run.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Config is a TracingConfiguration.
type Config struct {
	metav1.TypeMeta `json:",inline"`
	// Endpoint is the collector's address, localhost:4317 where it is nil.
	Endpoint *string `json:"endpoint,omitempty"`
	// SamplingRatePerMillion is how many of a million requests are sampled that are not part of a trace already; none where it is nil.
	SamplingRatePerMillion *int32 `json:"samplingRatePerMillion,omitempty"`
}

// versions are those of a TracingConfiguration; they have the same fields.
var versions = []string{"apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"}

// Read reads a configuration.
//
// Errors: the file cannot be read, or is none.
func Read(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c Config
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return nil, fmt.Errorf("unable to decode tracing configuration data: %w", err)
	}
	if c.Kind != "TracingConfiguration" || !slices.Contains(versions, c.APIVersion) {
		return nil, fmt.Errorf("it is of apiVersion %q and kind %q, not of %s and TracingConfiguration", c.APIVersion, c.Kind, versions[0])
	}
	if r := c.SamplingRatePerMillion; r != nil && (*r < 0 || *r > 1_000_000) {
		return nil, fmt.Errorf("samplingRatePerMillion: %d is not in 0 to 1000000", *r)
	}
	if c.Endpoint != nil {
		if scheme, _, ok := strings.Cut(*c.Endpoint, "//"); ok && !slices.Contains([]string{"dns:", "unix:", "unix-abstract:"}, scheme) {
			return nil, fmt.Errorf("endpoint: unsupported scheme: %s  Options are none, dns, unix, or unix-abstract", scheme)
		}
	}
	return &c, nil
}

// Tracer makes spans. A nil one makes none.
type Tracer struct{ provider *sdktrace.TracerProvider }

// name is that of the tracer in spans.
const name = "flagship/kube-apiserver"

// New returns a tracer of the server named. It connects when there is something to send.
func New(ctx context.Context, c *Config, identity string) (*Tracer, error) {
	opts := []otlptracegrpc.Option{otlptracegrpc.WithInsecure()}
	if c.Endpoint != nil {
		opts = append(opts, otlptracegrpc.WithEndpoint(*c.Endpoint))
	}
	exporter, err := otlptracegrpc.New(ctx, opts...)
	if err != nil {
		return nil, err
	}
	res, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "apiserver"), attribute.String("service.instance.id", identity)))
	if err != nil {
		return nil, err
	}
	sampler := sdktrace.NeverSample()
	if r := c.SamplingRatePerMillion; r != nil && *r > 0 {
		sampler = sdktrace.TraceIDRatioBased(float64(*r) / 1e6)
	}
	return &Tracer{sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sampler)), sdktrace.WithBatcher(exporter), sdktrace.WithResource(res),
	)}, nil
}

// flushTime bounds how long the last spans may take to be sent.
const flushTime = 5 * time.Second

// Run waits until ctx ends, and sends what is left.
func (t *Tracer) Run(ctx context.Context) error {
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	if err := t.provider.Shutdown(stop); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

var propagators = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// Handler makes a span of each request that is sampled. span names it; trusted is whether the client may make it part of a trace of its own: others are only linked to it.
func (t *Tracer) Handler(next http.Handler, span func(*http.Request) string, trusted func(*http.Request) bool, id func(*http.Request) string) http.Handler {
	if t == nil {
		return next
	}
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := trace.SpanFromContext(r.Context())
		s.SetAttributes(attribute.String("http.target", r.URL.RequestURI()), attribute.String("audit-id", id(r)))
		next.ServeHTTP(w, r)
	})
	return otelhttp.NewHandler(inner, "KubernetesAPI",
		otelhttp.WithPropagators(propagators), otelhttp.WithTracerProvider(t.provider),
		otelhttp.WithPublicEndpointFn(func(r *http.Request) bool { return !trusted(r) }),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return span(r) }),
	)
}

// Transport makes a span of each request that goes out, as part of the trace that its context is in.
func (t *Tracer) Transport(next http.RoundTripper) http.RoundTripper {
	if t == nil {
		return next
	}
	return otelhttp.NewTransport(next, otelhttp.WithPropagators(propagators), otelhttp.WithTracerProvider(t.provider))
}

// Start begins a span within the trace that a context is in. end ends it; without a trace it does nothing.
func Start(ctx context.Context, what string) (out context.Context, end func()) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, nothing
	}
	out, s := parent.TracerProvider().Tracer(name).Start(ctx, what)
	return out, func() { s.End() }
}

func nothing() {}
