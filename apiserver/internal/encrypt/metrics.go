package encrypt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/lru"
)

// Metrics are upstream's of key management services, of transformations and of reloads.
type Metrics struct {
	latency             *prometheus.HistogramVec
	sources             *prometheus.GaugeVec
	invalid, reloads    *prometheus.CounterVec
	lastReload, config  *prometheus.GaugeVec
	operations          *prometheus.CounterVec
	took                *prometheus.HistogramVec
	misses, failedSeeds prometheus.Counter
	seeds               prometheus.Observer
	keyUses             *prometheus.CounterVec
	keyUsed, keyTold    *prometheus.GaugeVec
	identity            string
	keysUsed, keysTold  *lru.Cache // of keyLabels; what falls out takes its series with it

	mu sync.RWMutex // guards what follows
	of map[transformation]*transformed
}

// Values of the label transformation_type.
const (
	fromStorage = "from_storage"
	toStorage   = "to_storage"
)

// transformation is what transformations are told apart by.
type transformation struct {
	resource     schema.GroupResource
	kind, prefix string
}

// transformed are the series of one.
type transformed struct {
	transformation
	succeeded func() success // of which there may be none
}

type success struct {
	operations prometheus.Counter
	took       prometheus.Observer
}

// Bounds of the series, should clients be able to make resources and services keys: of transformations, and of keys as upstream's.
const (
	maxTransformations = 4096
	maxKeys            = 100
)

type keyLabels struct{ kind, service, keyID string }

// NewMetrics registers them. identity is this server's.
func NewMetrics(reg prometheus.Registerer, identity string) *Metrics {
	const envelope, config, storage = "apiserver_envelope_encryption", "apiserver_encryption_config_controller", "apiserver_storage"
	counter := func(sub, name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: sub, Name: name, Help: "[ALPHA] " + help}, labels)
		reg.MustRegister(v)
		return v
	}
	gauge := func(sub, name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: sub, Name: name, Help: "[ALPHA] " + help}, labels)
		reg.MustRegister(v)
		return v
	}
	histogram := func(sub, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: sub, Name: name, Help: "[ALPHA] " + help, Buckets: buckets}, labels)
		reg.MustRegister(v)
		return v
	}
	const provider, key, server, kind, prefix = "provider_name", "key_id_hash", "apiserver_id_hash", "transformation_type", "transformer_prefix"
	m := &Metrics{
		latency: histogram(envelope, "kms_operations_latency_seconds", "KMS operation duration with gRPC error code status total.",
			prometheus.ExponentialBuckets(0.0001, 2, 20), provider, "method_name", "grpc_status_code"),
		sources:    gauge(envelope, "dek_source_cache_size", "Number of records in data encryption key (DEK) source cache. On a restart, this value is an approximation of the number of decrypt RPC calls the server will make to the KMS plugin.", provider),
		invalid:    counter(envelope, "invalid_key_id_from_status_total", "Number of times an invalid keyID is returned by the Status RPC call split by error.", provider, "error"),
		keyUses:    counter(envelope, "key_id_hash_total", "Number of times a keyID is used split by transformation type, provider, and apiserver identity.", kind, provider, key, server),
		keyUsed:    gauge(envelope, "key_id_hash_last_timestamp_seconds", "The last time in seconds when a keyID was used.", kind, provider, key, server),
		keyTold:    gauge(envelope, "key_id_hash_status_last_timestamp_seconds", "The last time in seconds when a keyID was returned by the Status RPC call.", provider, key, server),
		reloads:    counter(config, "automatic_reloads_total", "Total number of reload successes and failures of encryption configuration split by apiserver identity.", "status", server),
		lastReload: gauge(config, "automatic_reload_last_timestamp_seconds", "Timestamp of the last successful or failed automatic reload of encryption configuration split by apiserver identity.", "status", server),
		config:     gauge(config, "last_config_info", "Information about the last applied encryption configuration with hash as label, split by apiserver identity.", server, "hash"),
		took:       histogram(storage, "transformation_duration_seconds", "Latencies in seconds of value transformation operations.", prometheus.ExponentialBuckets(5e-6, 2, 25), kind, prefix),
		operations: counter(storage, "transformation_operations_total", "Total number of transformations. Successful transformation will have a status 'OK' and a varied status string when the transformation fails. The status, resource, and transformation_type fields can be used for alerting purposes. For example, you can monitor for encryption/decryption failures using the transformation_type (e.g., from_storage for decryption and to_storage for encryption). Additionally, these fields can be used to ensure that the correct transformers are applied to each resource.",
			"resource", kind, prefix, "status"),
		misses:      counter(storage, "envelope_transformation_cache_misses_total", "Total number of cache misses while accessing key decryption key(KEK).").WithLabelValues(),
		seeds:       histogram(storage, "data_key_generation_duration_seconds", "Latencies in seconds of data encryption key(DEK) generation operations.", prometheus.ExponentialBuckets(5e-6, 2, 14)).WithLabelValues(),
		failedSeeds: counter(storage, "data_key_generation_failures_total", "Total number of failed data encryption key(DEK) generation operations.").WithLabelValues(),
		identity:    hashOf(identity), of: map[transformation]*transformed{},
	}
	m.keysUsed = lru.NewWithEvictionFunc(maxKeys, func(k lru.Key, _ any) {
		l := k.(keyLabels)
		m.keyUses.DeleteLabelValues(l.kind, l.service, hashOf(l.keyID), m.identity)
		m.keyUsed.DeleteLabelValues(l.kind, l.service, hashOf(l.keyID), m.identity)
	})
	m.keysTold = lru.NewWithEvictionFunc(maxKeys, func(k lru.Key, _ any) {
		l := k.(keyLabels)
		m.keyTold.DeleteLabelValues(l.service, hashOf(l.keyID), m.identity)
	})
	return m
}

func (m *Metrics) called(name, method string, took time.Duration, err error) {
	m.latency.WithLabelValues(name, method, codeOf(err)).Observe(took.Seconds())
}

// codeOf is an error's code of gRPC, if it is of a call.
func codeOf(err error) string {
	if err == nil {
		return codes.OK.String()
	}
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Code().String()
	}
	return "unknown-non-grpc"
}

func (m *Metrics) cached(name string, n int) { m.sources.WithLabelValues(name).Set(float64(n)) }

func (m *Metrics) invalidKeyID(name, id string) {
	code := "too_long"
	if id == "" {
		code = "empty"
	}
	m.invalid.WithLabelValues(name, code).Inc()
}

// keyUse are the series of one key.
type keyUse struct {
	uses prometheus.Counter
	last prometheus.Gauge
}

// usedKey counts a value that a service's key is behind.
func (m *Metrics) usedKey(kind, service, keyID string) {
	l := keyLabels{kind, service, keyID}
	u, ok := m.keysUsed.Get(l)
	if !ok {
		hash := hashOf(keyID)
		u = &keyUse{m.keyUses.WithLabelValues(kind, service, hash, m.identity), m.keyUsed.WithLabelValues(kind, service, hash, m.identity)}
		m.keysUsed.Add(l, u)
	}
	u.(*keyUse).uses.Inc()
	u.(*keyUse).last.SetToCurrentTime()
}

// toldKey notes the key that a service says is its own.
func (m *Metrics) toldKey(service, keyID string) {
	m.keysTold.Add(keyLabels{service: service, keyID: keyID}, nil)
	m.keyTold.WithLabelValues(service, hashOf(keyID), m.identity).SetToCurrentTime()
}

// generated counts a new seed.
func (m *Metrics) generated(start time.Time, err error) {
	if err != nil {
		m.failedSeeds.Inc()
		return
	}
	m.seeds.Observe(time.Since(start).Seconds())
}

// transformed counts a value that a provider has read or written, or could not.
func (m *Metrics) transformed(t transformation, start time.Time, err error) {
	s := m.series(t)
	if err != nil {
		m.operations.WithLabelValues(s.resource.String(), s.kind, s.prefix, codeOf(err)).Inc()
		return
	}
	ok := s.succeeded()
	ok.operations.Inc()
	ok.took.Observe(time.Since(start).Seconds())
}

func (m *Metrics) series(t transformation) *transformed {
	m.mu.RLock()
	s := m.of[t]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.of) >= maxTransformations {
		t.resource = schema.GroupResource{Resource: "other"}
	}
	if s = m.of[t]; s == nil {
		s = &transformed{transformation: t, succeeded: sync.OnceValue(func() success {
			return success{m.operations.WithLabelValues(t.resource.String(), t.kind, t.prefix, codes.OK.String()), m.took.WithLabelValues(t.kind, t.prefix)}
		})}
		m.of[t] = s
	}
	return s
}

// inForce notes the configuration that is used.
func (m *Metrics) inForce(sum [sha256.Size]byte) {
	m.config.Reset()
	m.config.WithLabelValues(m.identity, fmt.Sprintf("sha256:%x", sum)).Set(1)
}

func (m *Metrics) reloaded(err error) {
	status := "success"
	if err != nil {
		status = "failure"
	}
	m.reloads.WithLabelValues(status, m.identity).Inc()
	m.lastReload.WithLabelValues(status, m.identity).SetToCurrentTime()
}
