package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flagship/scheduler/internal/queue"
)

// Metrics are the scheduler's, under upstream's names.
type Metrics struct {
	ScheduleAttempts   *prometheus.CounterVec
	AttemptDuration    *prometheus.HistogramVec
	Algorithm          prometheus.Histogram
	Attempts           prometheus.Histogram
	SLI                *prometheus.HistogramVec
	Pending            *prometheus.GaugeVec
	Incoming           *prometheus.CounterVec
	Goroutines         *prometheus.GaugeVec
	CacheSize          *prometheus.GaugeVec
	Unschedulable      *prometheus.GaugeVec
	PreemptionVictims  prometheus.Histogram
	PreemptionAttempts prometheus.Counter
}

const subsystem = "scheduler"

// NewMetrics makes the metrics and registers them.
func NewMetrics(r *prometheus.Registry) *Metrics {
	counters := func(name, help string, l ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, l)
	}
	gauges := func(name, help string, l ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: subsystem, Name: name, Help: help}, l)
	}
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Subsystem: subsystem, Name: name, Help: help, Buckets: buckets}
	}
	m := &Metrics{
		ScheduleAttempts: counters("schedule_attempts_total", "Attempts to schedule pods, by result: scheduled, unschedulable, or error for a failure of the scheduler itself.", "result", "profile"),
		AttemptDuration: prometheus.NewHistogramVec(histogram("scheduling_attempt_duration_seconds",
			"Latency of an attempt (algorithm and binding) in seconds.", prometheus.ExponentialBuckets(0.001, 2, 15)), []string{"result", "profile"}),
		Algorithm: prometheus.NewHistogram(histogram("scheduling_algorithm_duration_seconds",
			"Latency of the scheduling algorithm in seconds.", prometheus.ExponentialBuckets(0.001, 2, 15))),
		Attempts: prometheus.NewHistogram(histogram("pod_scheduling_attempts",
			"Number of attempts it took to schedule a pod.", prometheus.ExponentialBuckets(1, 2, 5))),
		SLI: prometheus.NewHistogramVec(histogram("pod_scheduling_sli_duration_seconds",
			"Latency of a pod from its first attempt to its binding in seconds.", prometheus.ExponentialBuckets(0.01, 2, 20)), []string{"attempts"}),
		Pending:       gauges("pending_pods", "Pods that wait, by queue: active, backoff, unschedulable, gated.", "queue"),
		Incoming:      counters("queue_incoming_pods_total", "Pods added to the queues, by event and queue.", "queue", "event"),
		Goroutines:    gauges("goroutines", "Goroutines by the work they do.", "operation"),
		CacheSize:     gauges("cache_size", "Nodes, pods, and assumed pods in the snapshot.", "type"),
		Unschedulable: gauges("unschedulable_pods", "Rejections of pods by plugin.", "plugin", "profile"),
		PreemptionVictims: prometheus.NewHistogram(histogram("preemption_victims",
			"Number of victims of a preemption.", prometheus.ExponentialBuckets(1, 2, 7))),
		PreemptionAttempts: prometheus.NewCounter(prometheus.CounterOpts{Subsystem: subsystem, Name: "preemption_attempts_total", Help: "Preemptions till now."}),
	}
	r.MustRegister(m.ScheduleAttempts, m.AttemptDuration, m.Algorithm, m.Attempts, m.SLI, m.Pending, m.Incoming,
		m.Goroutines, m.CacheSize, m.Unschedulable, m.PreemptionVictims, m.PreemptionAttempts)
	return m
}

func (m *Metrics) attempt(result, profile string, took time.Duration) {
	m.ScheduleAttempts.WithLabelValues(result, profile).Inc()
	m.AttemptDuration.WithLabelValues(result, profile).Observe(took.Seconds())
}

func (m *Metrics) unschedulable(profile string, plugins []string) {
	for _, name := range plugins {
		m.Unschedulable.WithLabelValues(name, profile).Inc()
	}
}

// observe sets the gauges from the engine's state; the engine's goroutine calls it.
func (m *Metrics) observe(e *Engine) {
	for place, n := range e.queue.Count() {
		if place != queue.InFlight {
			m.Pending.WithLabelValues(string(place)).Set(float64(n))
		}
	}
	m.CacheSize.WithLabelValues("nodes").Set(float64(len(e.cluster.Order())))
	m.CacheSize.WithLabelValues("pods").Set(float64(e.cluster.NumPods()))
	m.CacheSize.WithLabelValues("assumed_pods").Set(float64(len(e.assumed)))
}
