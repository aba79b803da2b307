package encrypt

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/status"
)

// Metrics are upstream's of key management services and of reloads.
type Metrics struct {
	latency          *prometheus.HistogramVec
	sources          *prometheus.GaugeVec
	invalid, reloads *prometheus.CounterVec
	identity         string
}

// NewMetrics registers them. identity is this server's.
func NewMetrics(reg prometheus.Registerer, identity string) *Metrics {
	const envelope = "apiserver_envelope_encryption"
	m := &Metrics{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Subsystem: envelope, Name: "kms_operations_latency_seconds", Help: "KMS operation duration with gRPC error code status total.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 20),
		}, []string{"provider_name", "method_name", "grpc_status_code"}),
		sources: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Subsystem: envelope, Name: "dek_source_cache_size", Help: "Number of records in data encryption key (DEK) source cache. On a restart, this value is an approximation of the number of decrypt RPC calls the server will make to the KMS plugin.",
		}, []string{"provider_name"}),
		invalid: prometheus.NewCounterVec(prometheus.CounterOpts{
			Subsystem: envelope, Name: "invalid_key_id_from_status_total", Help: "Number of times an invalid keyID is returned by the Status RPC call split by error.",
		}, []string{"provider_name", "error"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Subsystem: "apiserver_encryption_config_controller", Name: "automatic_reloads_total",
			Help: "Total number of reload successes and failures of encryption configuration split by apiserver identity.",
		}, []string{"status", "apiserver_id_hash"}),
		identity: hashOf(identity),
	}
	reg.MustRegister(m.latency, m.sources, m.invalid, m.reloads)
	return m
}

func (m *Metrics) called(name, method string, took time.Duration, err error) {
	m.latency.WithLabelValues(name, method, status.Code(err).String()).Observe(took.Seconds())
}

func (m *Metrics) cached(name string, n int) { m.sources.WithLabelValues(name).Set(float64(n)) }

func (m *Metrics) invalidKeyID(name, id string) {
	code := "too_long"
	if id == "" {
		code = "empty"
	}
	m.invalid.WithLabelValues(name, code).Inc()
}

func (m *Metrics) reloaded(err error) {
	status := "success"
	if err != nil {
		status = "failure"
	}
	m.reloads.WithLabelValues(status, m.identity).Inc()
}
