package server

import (
	"bufio"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flagship/apiserver/internal/rest"
)

// Metrics are the request metrics, under upstream's stable names.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	watches  *prometheus.GaugeVec
	failures prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total",
			Help: "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
		}, []string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_duration_seconds",
			Help:    "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60},
		}, []string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"}),
		watches: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_longrunning_requests",
			Help: "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
		}, []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "authentication_attempts_failed_total",
			Help: "Counter of requests that were not authenticated.",
		}),
	}
	reg.MustRegister(m.requests, m.duration, m.watches, m.failures)
	return m
}

func (m *Metrics) unauthenticated() { m.failures.Inc() }

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	code int
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
	return r.ResponseWriter.Write(p)
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
	case i.Name != "":
		return "resource"
	case i.Namespace != "":
		return "namespace"
	case i.IsResource:
		return "cluster"
	}
	return ""
}

// verb is the metric's name of a request's verb.
func verb(i *rest.Info, method string) string {
	switch i.Verb {
	case "list":
		return "LIST"
	case "watch":
		return "WATCH"
	case "get":
		return "GET"
	case "create":
		return "POST"
	case "update":
		return "PUT"
	case "patch":
		return "PATCH"
	case "delete":
		return "DELETE"
	case "deletecollection":
		return "DELETECOLLECTION"
	}
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead, http.MethodOptions:
		return method
	}
	return "other"
}

func (m *Metrics) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := rest.InfoFrom(r.Context())
		if !i.IsResource {
			next.ServeHTTP(w, r)
			return
		}
		long := longRunning(i, r)
		v, start := verb(i, r.Method), time.Now()
		if long {
			g := m.watches.WithLabelValues(v, i.Group, i.Version, i.Resource, i.Subresource, scope(i), "apiserver")
			g.Inc()
			defer g.Dec()
		}
		rec := &recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r)
		dry := ""
		if r.URL.Query().Has("dryRun") {
			dry = "All"
		}
		// A resource that is not served would let clients make series at will.
		if rec.code == http.StatusNotFound && i.Name == "" {
			return
		}
		m.requests.WithLabelValues(v, dry, i.Group, i.Version, i.Resource, i.Subresource, scope(i), "apiserver", strconv.Itoa(rec.code)).Inc()
		if !long {
			m.duration.WithLabelValues(v, dry, i.Group, i.Version, i.Resource, i.Subresource, scope(i), "apiserver").Observe(time.Since(start).Seconds())
		}
	})
}
