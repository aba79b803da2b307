package authz

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are upstream's of the authorization of requests.
type Metrics struct {
	allowed, denied, noOpinion, wrong func() outcome
}

// outcome is what is counted of attempts with one result.
type outcome struct {
	attempts prometheus.Counter
	took     prometheus.Observer
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authorization_attempts_total",
		Help: "[ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.",
	}, []string{"result"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "authorization_duration_seconds", Help: "[ALPHA] Authorization duration in seconds broken out by result.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
	}, []string{"result"})
	reg.MustRegister(attempts, took)
	result := func(name string) func() outcome {
		return sync.OnceValue(func() outcome { return outcome{attempts.WithLabelValues(name), took.WithLabelValues(name)} })
	}
	return &Metrics{allowed: result("allowed"), denied: result("denied"), noOpinion: result("no-opinion"), wrong: result("error")}
}

// Counted counts what next decides of requests. What the server asks on behalf of reviews and plugins is not.
func (m *Metrics) Counted(next Authorizer) Authorizer { return counted{next, m} }

type counted struct {
	next    Authorizer
	metrics *Metrics
}

// Authorize implements Authorizer.
func (c counted) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	start := time.Now()
	d, reason, err := c.next.Authorize(ctx, a)
	result := c.metrics.noOpinion
	switch {
	case d == Allow:
		result = c.metrics.allowed
	case err != nil:
		result = c.metrics.wrong
	case d == Deny:
		result = c.metrics.denied
	}
	o := result()
	o.attempts.Inc()
	o.took.Observe(time.Since(start).Seconds())
	return d, reason, err
}
