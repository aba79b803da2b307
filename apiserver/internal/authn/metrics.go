package authn

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are upstream's of authentication. Every label has a fixed set of values: no client can make series.
type Metrics struct {
	users                   map[string]func() prometheus.Counter // of those who have their own, read only
	emails, others          func() prometheus.Counter
	success, failure, wrong func() outcome
	tokens                  *tokenMetrics
	expiry                  prometheus.Observer // of client certificates
	cache                   *cacheMetrics
}

// outcome is what is counted of attempts with one result.
type outcome struct {
	attempts prometheus.Counter
	took     prometheus.Observer
}

func (o outcome) since(start time.Time) {
	o.attempts.Inc()
	o.took.Observe(time.Since(start).Seconds())
}

// tokenMetrics are of the tokens of service accounts that were looked at, which those in the cache are not.
type tokenMetrics struct {
	valid, stale, legacy, manual, automatic, invalid prometheus.Counter
}

// cacheMetrics are of the caches of tokens together.
type cacheMetrics struct {
	hit, miss         func() outcome
	fetched, failed   func() prometheus.Counter
	blocked, fetching prometheus.Gauge
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	users := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authenticated_user_requests", Help: "[ALPHA] Counter of authenticated requests broken out by username.",
	}, []string{"username"})
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "authentication_attempts", Help: "[ALPHA] Counter of authenticated attempts."}, []string{"result"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "authentication_duration_seconds", Help: "[ALPHA] Authentication duration in seconds broken out by result.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
	}, []string{"result"})
	const hour, day = 3600, 86400
	expiry := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "apiserver", Subsystem: "client", Name: "certificate_expiration_seconds", Help: "[ALPHA] Distribution of the remaining lifetime on the certificate used to authenticate a request.",
		Buckets: []float64{0, hour / 2, hour, 2 * hour, 6 * hour, 12 * hour, day, 2 * day, 4 * day, 7 * day, 30 * day, 90 * day, 180 * day, 360 * day},
	})
	reg.MustRegister(users, attempts, took, expiry)
	result := func(name string) func() outcome {
		return sync.OnceValue(func() outcome { return outcome{attempts.WithLabelValues(name), took.WithLabelValues(name)} })
	}
	user := func(name string) func() prometheus.Counter {
		return sync.OnceValue(func() prometheus.Counter { return users.WithLabelValues(name) })
	}
	m := &Metrics{
		users: map[string]func() prometheus.Counter{}, emails: user("email_id"), others: user("other"), success: result("success"), failure: result("failure"), wrong: result("error"),
		tokens: newTokenMetrics(reg), expiry: expiry, cache: newCacheMetrics(reg),
	}
	for _, name := range []string{"admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"} {
		m.users[name] = user(name)
	}
	return m
}

func newTokenMetrics(reg prometheus.Registerer) *tokenMetrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Subsystem: "serviceaccount", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	return &tokenMetrics{
		valid:     counter("valid_tokens_total", "[BETA] Cumulative valid projected service account tokens used"),
		stale:     counter("stale_tokens_total", "[BETA] Cumulative stale projected service account tokens used"),
		legacy:    counter("legacy_tokens_total", "[BETA] Cumulative legacy service account tokens used"),
		manual:    counter("legacy_manual_token_uses_total", "[ALPHA] Cumulative manually created legacy tokens used"),
		automatic: counter("legacy_auto_token_uses_total", "[ALPHA] Cumulative auto-generated legacy tokens used"),
		invalid:   counter("invalid_legacy_auto_token_uses_total", "[ALPHA] Cumulative invalid auto-generated legacy tokens used"),
	}
}

func newCacheMetrics(reg prometheus.Registerer) *cacheMetrics {
	const help = "[ALPHA] "
	status := []string{"status"}
	opts := prometheus.Opts{Namespace: "authentication", Subsystem: "token_cache", Help: help}
	name := func(n string) prometheus.Opts { o := opts; o.Name = n; return o }
	requests := prometheus.NewCounterVec(prometheus.CounterOpts(name("request_total")), status)
	fetches := prometheus.NewCounterVec(prometheus.CounterOpts(name("fetch_total")), status)
	active := prometheus.NewGaugeVec(prometheus.GaugeOpts(name("active_fetch_count")), status)
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: opts.Namespace, Subsystem: opts.Subsystem, Name: "request_duration_seconds", Help: help, Buckets: prometheus.DefBuckets,
	}, status)
	reg.MustRegister(requests, fetches, active, took)
	request := func(s string) func() outcome {
		return sync.OnceValue(func() outcome { return outcome{requests.WithLabelValues(s), took.WithLabelValues(s)} })
	}
	fetch := func(s string) func() prometheus.Counter {
		return sync.OnceValue(func() prometheus.Counter { return fetches.WithLabelValues(s) })
	}
	return &cacheMetrics{
		hit: request("hit"), miss: request("miss"), fetched: fetch("ok"), failed: fetch("error"),
		blocked: active.WithLabelValues("blocked"), fetching: active.WithLabelValues("in_flight"),
	}
}

// fetch counts what is asked for because the cache does not know it, until what it returns is called.
func (m *cacheMetrics) fetch(start time.Time) func(error) {
	m.blocked.Inc()
	m.fetching.Inc()
	return func(err error) {
		m.fetching.Dec()
		m.blocked.Dec()
		if err != nil {
			m.failed().Inc()
		} else {
			m.fetched().Inc()
		}
		m.miss().since(start)
	}
}

func (m *Metrics) user(name string) prometheus.Counter {
	u, ok := m.users[name]
	switch {
	case ok:
	case strings.Contains(name, "@"):
		u = m.emails
	default:
		u = m.others
	}
	return u()
}

// Counted counts what next says of requests.
func (m *Metrics) Counted(next Authenticator) Authenticator { return counted{next, m} }

type counted struct {
	next    Authenticator
	metrics *Metrics
}

// Authenticate implements Authenticator.
func (c counted) Authenticate(req *http.Request) (*Identity, bool, error) {
	start := time.Now()
	id, ok, err := c.next.Authenticate(req)
	switch {
	case err != nil:
		c.metrics.wrong().since(start)
	case !ok:
		c.metrics.failure().since(start)
	default:
		c.metrics.success().since(start)
		c.metrics.user(id.Name).Inc()
	}
	return id, ok, err
}
