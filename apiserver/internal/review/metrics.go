package review

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are upstream's of authorization webhooks. It implements authorizationcel.MatcherMetrics.
type Metrics struct {
	evaluations, open, errors, excluded *prometheus.CounterVec
	duration, matching                  *prometheus.HistogramVec
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: "apiserver_authorization", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: "apiserver_authorization", Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		evaluations: counter("webhook_evaluations_total", "Round-trips to authorization webhooks.", "name", "result"),
		open:        counter("webhook_evaluations_fail_open_total", "NoOpinion results due to webhook timeout or error.", "name", "result"),
		duration:    histogram("webhook_duration_seconds", "Request latency in seconds.", prometheus.DefBuckets, "name", "result"),
		errors:      counter("match_condition_evaluation_errors_total", "Total number of errors when an authorization webhook encounters a match condition error split by authorizer type and name.", "type", "name"),
		excluded:    counter("match_condition_exclusions_total", "Total number of exclusions when an authorization webhook is skipped because match conditions exclude it.", "type", "name"),
		matching: histogram("match_condition_evaluation_seconds", "Authorization match condition evaluation time in seconds, split by authorizer type and name.",
			[]float64{0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25}, "type", "name"),
	}
	reg.MustRegister(m.evaluations, m.open, m.duration, m.errors, m.excluded, m.matching)
	return m
}

func (m *Metrics) evaluated(name, result string, took time.Duration) {
	m.evaluations.WithLabelValues(name, result).Inc()
	m.duration.WithLabelValues(name, result).Observe(took.Seconds())
}

func (m *Metrics) failedOpen(name, result string) { m.open.WithLabelValues(name, result).Inc() }

// RecordAuthorizationMatchConditionEvaluation notes how long the conditions took.
func (m *Metrics) RecordAuthorizationMatchConditionEvaluation(_ context.Context, kind, name string, took time.Duration) {
	m.matching.WithLabelValues(kind, name).Observe(took.Seconds())
}

// RecordAuthorizationMatchConditionEvaluationFailure counts conditions that could not be evaluated.
func (m *Metrics) RecordAuthorizationMatchConditionEvaluationFailure(_ context.Context, kind, name string) {
	m.errors.WithLabelValues(kind, name).Inc()
}

// RecordAuthorizationMatchConditionExclusion counts requests that a condition excluded.
func (m *Metrics) RecordAuthorizationMatchConditionExclusion(_ context.Context, kind, name string) {
	m.excluded.WithLabelValues(kind, name).Inc()
}
