package policy

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are upstream's of policies. Those who may make policies and bindings make series.
type Metrics struct {
	validations, mutations       *prometheus.CounterVec
	validationTime, mutationTime *prometheus.HistogramVec
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	const space, validating, mutating = "apiserver", "validating_admission_policy", "mutating_admission_policy"
	labels := []string{"policy", "policy_binding", "error_type", "enforcement_action"}
	buckets := []float64{0.0000005, 0.001, 0.01, 0.1, 1.0}
	m := &Metrics{
		validations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: space, Subsystem: validating, Name: "check_total",
			Help: "[BETA] Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
		}, labels),
		validationTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: space, Subsystem: validating, Name: "check_duration_seconds", Buckets: buckets,
			Help: "[BETA] Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
		}, labels),
		mutations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: space, Subsystem: mutating, Name: "check_total",
			Help: "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by binding.",
		}, labels[:3]),
		mutationTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: space, Subsystem: mutating, Name: "check_duration_seconds", Buckets: buckets,
			Help: "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
		}, labels[:3]),
	}
	reg.MustRegister(m.validations, m.validationTime, m.mutations, m.mutationTime)
	return m
}

// errorType tells what a message is about, in upstream's way: a validation that is false is "invalid_error".
func errorType(message string) string {
	switch {
	case strings.HasPrefix(message, "compilation"):
		return "compile_error"
	case strings.HasPrefix(message, "validation failed due to running out of cost budget"):
		return "out_of_budget"
	}
	return "invalid_error"
}

// validated counts what was done about a validation that failed; those that hold are not counted.
func (m *Metrics) validated(policy, binding, action string, d *decision) {
	labels := []string{policy, binding, errorType(d.message), action}
	m.validations.WithLabelValues(labels...).Inc()
	m.validationTime.WithLabelValues(labels...).Observe(d.took.Seconds())
}

// mutated counts one mutation.
func (m *Metrics) mutated(policy, binding string, took time.Duration, err error) {
	kind := "no_error"
	if err != nil {
		kind = errorType(err.Error())
	}
	m.mutations.WithLabelValues(policy, binding, kind).Inc()
	m.mutationTime.WithLabelValues(policy, binding, kind).Observe(took.Seconds())
}
