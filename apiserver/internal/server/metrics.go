package server

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/apiserver/internal/rest"
	"flagship/apiserver/internal/timing"
)

// Metrics are the request metrics, under upstream's names.
type Metrics struct {
	// known is whether a resource is served: what is not would let clients make series at will.
	known func(group, version, resource, subresource string) bool

	requests, terminations     *prometheus.CounterVec
	duration, objective, sizes *prometheus.HistogramVec
	watches, deprecated        *prometheus.GaugeVec
}

// NewMetrics registers the metrics of requests for resources that are known.
func NewMetrics(reg prometheus.Registerer, known func(group, version, resource, subresource string) bool) *Metrics {
	of := []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}
	ofDry := []string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"}
	m := &Metrics{
		known: known,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total",
			Help: "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
		}, append(slices.Clone(ofDry), "code")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_duration_seconds",
			Help:    "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60},
		}, ofDry),
		objective: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_sli_duration_seconds",
			Help:    "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
			Buckets: []float64{0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60},
		}, of),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_response_sizes",
			Help:    "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
			Buckets: prometheus.ExponentialBuckets(1000, 10, 7),
		}, of),
		watches: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_longrunning_requests",
			Help: "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
		}, of),
		deprecated: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_requested_deprecated_apis",
			Help: "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
		}, []string{"group", "version", "resource", "subresource", "removed_release"}),
		terminations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_terminations_total",
			Help: "[ALPHA] Number of requests which apiserver terminated in self-defense.",
		}, append(slices.Clone(of), "code")),
	}
	reg.MustRegister(m.requests, m.duration, m.objective, m.sizes, m.watches, m.deprecated, m.terminations)
	return m
}

// recorder remembers the status of an answer, and its size in bytes.
type recorder struct {
	http.ResponseWriter
	code  int
	bytes int64
}

func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush sends what is buffered.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// Hijack takes over the connection, for upgrades.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.code = http.StatusSwitchingProtocols
	return http.NewResponseController(r.ResponseWriter).Hijack()
}

func scope(i *rest.Info) string {
	switch {
	case i.Name != "" || i.Verb == "create":
		return "resource"
	case i.Namespace != "":
		return "namespace"
	case i.IsResource:
		return "cluster"
	}
	return ""
}

// verb is the metric's name of a request's verb.
func verb(i *rest.Info, r *http.Request) string {
	switch i.Subresource {
	case "log", "exec", "portforward", "attach", "proxy":
		return "CONNECT"
	}
	switch i.Verb {
	case "list", "watch":
		return strings.ToUpper(i.Verb)
	case "deletecollection":
		return http.MethodDelete
	case "patch":
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/apply-patch") {
			return "APPLY"
		}
	}
	switch r.Method {
	case http.MethodHead:
		return http.MethodGet
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions:
		return r.Method
	}
	return "other"
}

// dryRun is the metric's name of a request's dry run.
func dryRun(r *http.Request) string {
	if !strings.Contains(r.URL.RawQuery, "dryRun") {
		return ""
	}
	for _, v := range r.URL.Query()["dryRun"] {
		if v != metav1.DryRunAll {
			return "invalid"
		}
	}
	return metav1.DryRunAll
}

// counted are the paths that are no resources and counted.
var counted = map[string]string{"/healthz": "/healthz", "/livez": "/livez", "/readyz": "/readyz", "/metrics": "/metrics", "/openapi/v2": "openapi/v2", "/openapi/v3": "openapi/v3"}

const component = "apiserver"

// count observes the requests that are served, and those that are ended in self-defense.
func (m *Metrics) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := rest.InfoFrom(r.Context())
		part := component
		name := rest.Info{Group: i.Group, Version: i.Version, Resource: i.Resource, Subresource: i.Subresource}
		if !i.IsResource {
			part, name = "", rest.Info{Subresource: counted[r.URL.Path]}
		}
		if name.Subresource == "" && !i.IsResource || i.IsResource && !m.known(i.Group, i.Version, i.Resource, i.Subresource) {
			next.ServeHTTP(w, r)
			return
		}
		v, of := verb(i, r), scope(i)
		long := longRunning(i, r)
		if long {
			g := m.watches.WithLabelValues(v, name.Group, name.Version, name.Resource, name.Subresource, of, part)
			g.Inc()
			defer g.Dec()
		}
		rec := &recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r)
		t := timing.From(r.Context())
		code := strconv.Itoa(rec.code)
		if rec.code == http.StatusGatewayTimeout || rec.code == http.StatusTooManyRequests && !t.Served.Load() {
			m.terminations.WithLabelValues(v, name.Group, name.Version, name.Resource, name.Subresource, of, part, code).Inc()
		} else if !t.Served.Load() {
			return // who may not ask makes no series
		}
		dry := dryRun(r)
		m.requests.WithLabelValues(v, dry, name.Group, name.Version, name.Resource, name.Subresource, of, part, code).Inc()
		if t.Deprecated.Load() {
			m.deprecated.WithLabelValues(name.Group, name.Version, name.Resource, name.Subresource, "").Set(1)
		}
		took := time.Since(t.Arrived)
		m.duration.WithLabelValues(v, dry, name.Group, name.Version, name.Resource, name.Subresource, of, part).Observe(took.Seconds())
		if dry == "" {
			own := took - t.Of(timing.MutatingWebhook) - t.Of(timing.ValidatingWebhook) - t.Of(timing.Queue)
			m.objective.WithLabelValues(v, name.Group, name.Version, name.Resource, name.Subresource, of, part).Observe(own.Seconds())
		}
		if !long && (v == http.MethodGet || v == "LIST") {
			m.sizes.WithLabelValues(v, name.Group, name.Version, name.Resource, name.Subresource, of, part).Observe(float64(rec.bytes))
		}
	})
}

// served marks the requests that nothing has refused.
func served(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timing.From(r.Context()).Served.Store(true)
		next.ServeHTTP(w, r)
	})
}
