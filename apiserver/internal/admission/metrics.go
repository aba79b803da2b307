package admission

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The halves of a chain, as metrics name them.
const (
	admitting  = "admit"
	validating = "validate"
)

// Why a webhook ended a request, as metrics name it.
const (
	NoError       = "no_error"
	CallingError  = "calling_webhook_error"
	InternalError = "apiserver_internal_error"
)

// Metrics are how long admission takes, under upstream's names. A nil one observes nothing.
type Metrics struct {
	steps, plugins, webhooks       *prometheus.HistogramVec
	rejections, failOpen, requests *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	const prefix = "apiserver_admission_"
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	}
	buckets := []float64{0.005, 0.025, 0.1, 0.5, 1.0, 2.5}
	m := &Metrics{
		steps: histogram("step_admission_duration_seconds",
			"[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).", buckets, "type", "operation", "rejected"),
		plugins: histogram("controller_admission_duration_seconds",
			"[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).", buckets, "name", "type", "operation", "rejected"),
		webhooks: histogram("webhook_admission_duration_seconds",
			"[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).", append(buckets[:len(buckets):len(buckets)], 10, 25), "name", "type", "operation", "rejected"),
		rejections: counter("webhook_rejection_count",
			"[ALPHA] Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
			"name", "type", "operation", "error_type", "rejection_code"),
		failOpen: counter("webhook_fail_open_count", "[ALPHA] Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).", "name", "type"),
		requests: counter("webhook_request_total",
			"[ALPHA] Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
			"name", "type", "operation", "code", "rejected"),
	}
	reg.MustRegister(m.steps, m.plugins, m.webhooks, m.rejections, m.failOpen, m.requests)
	return m
}

func (m *Metrics) step(half string, op Operation, start time.Time, err error) {
	if m != nil {
		m.steps.WithLabelValues(half, string(op), strconv.FormatBool(err != nil)).Observe(time.Since(start).Seconds())
	}
}

func (m *Metrics) plugin(name, half string, op Operation, start time.Time, err error) {
	if m != nil {
		m.plugins.WithLabelValues(name, half, string(op), strconv.FormatBool(err != nil)).Observe(time.Since(start).Seconds())
	}
}

// Asked observes that a webhook was asked: half is "admit" or "validating"; why is why its answer ended the request, empty where it did not, and code that of its answer.
func (m *Metrics) Asked(name, half string, op Operation, start time.Time, why string, code int, err error) {
	if m == nil {
		return
	}
	rejected := strconv.FormatBool(why != "")
	text := strconv.Itoa(min(code, 600))
	m.webhooks.WithLabelValues(name, half, string(op), rejected).Observe(time.Since(start).Seconds())
	m.requests.WithLabelValues(name, half, string(op), text, rejected).Inc()
	if why != "" && !errors.Is(err, context.Canceled) {
		m.rejections.WithLabelValues(name, half, string(op), why, text).Inc()
	}
}

// PassedOver observes that a webhook failed and the request went on.
func (m *Metrics) PassedOver(name, half string) {
	if m != nil {
		m.failOpen.WithLabelValues(name, half).Inc()
	}
}
