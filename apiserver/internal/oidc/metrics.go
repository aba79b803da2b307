package oidc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are upstream's of providers, by their issuers, and of reloads.
type Metrics struct {
	took             *prometheus.HistogramVec
	fetched, keySets *prometheus.GaugeVec
	reloads          *prometheus.CounterVec
	last, config     *prometheus.GaugeVec
	identity         string
}

// Values of the labels result and status.
const (
	success = "success"
	failure = "failure"
)

// NewMetrics registers them. identity is this server's.
func NewMetrics(reg prometheus.Registerer, identity string) *Metrics {
	const space, tokens, config = "apiserver", "authentication", "authentication_config_controller"
	const issuer, server, hash = "jwt_issuer_hash", "apiserver_id_hash", "hash"
	gauge := func(sub, name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: space, Subsystem: sub, Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &Metrics{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: space, Subsystem: tokens, Name: "jwt_authenticator_latency_seconds",
			Help:    "[ALPHA] Latency of jwt authentication operations in seconds. This is the time spent authenticating a token for cache miss only (i.e. when the token is not found in the cache).",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"result", issuer}),
		fetched: gauge(tokens, "jwt_authenticator_jwks_fetch_last_timestamp_seconds", "[ALPHA] Timestamp of the last successful or failed JWKS fetch split by result, api server identity and jwt issuer for the JWT authenticator.", "result", issuer, server),
		keySets: gauge(tokens, "jwt_authenticator_jwks_fetch_last_key_set_info", "[ALPHA] Information about the last JWKS fetched by the JWT authenticator with hash as label, split by api server identity and jwt issuer.", issuer, server, hash),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: space, Subsystem: config, Name: "automatic_reloads_total", Help: "[BETA] Total number of automatic reloads of authentication configuration split by status and apiserver identity.",
		}, []string{"status", server}),
		last:     gauge(config, "automatic_reload_last_timestamp_seconds", "[BETA] Timestamp of the last automatic reload of authentication configuration split by status and apiserver identity.", "status", server),
		config:   gauge(config, "last_config_info", "[ALPHA] Information about the last applied authentication configuration with hash as label, split by apiserver identity.", server, hash),
		identity: hashOf([]byte(identity)),
	}
	reg.MustRegister(m.took, m.reloads)
	return m
}

func hashOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// authenticated counts a token of an issuer.
func (m *Metrics) authenticated(issuer string, start time.Time, err error) {
	result := success
	if err != nil {
		result = failure
	}
	m.took.WithLabelValues(result, hashOf([]byte(issuer))).Observe(time.Since(start).Seconds())
}

// keys notes that the keys of an issuer were fetched.
func (m *Metrics) keys(issuer string, set []byte, err error) {
	issuer = hashOf([]byte(issuer))
	if err != nil {
		m.fetched.WithLabelValues(failure, issuer, m.identity).SetToCurrentTime()
		return
	}
	m.fetched.WithLabelValues(success, issuer, m.identity).SetToCurrentTime()
	m.keySets.DeletePartialMatch(prometheus.Labels{"jwt_issuer_hash": issuer})
	m.keySets.WithLabelValues(issuer, m.identity, hashOf(set)).Set(1)
}

// forget removes what there is of the keys of an issuer that is no more.
func (m *Metrics) forget(issuer string) {
	of := prometheus.Labels{"jwt_issuer_hash": hashOf([]byte(issuer))}
	m.fetched.DeletePartialMatch(of)
	m.keySets.DeletePartialMatch(of)
}

// inForce notes the file that is used.
func (m *Metrics) inForce(data []byte) {
	m.config.Reset()
	m.config.WithLabelValues(m.identity, hashOf(data)).Set(1)
}

func (m *Metrics) reloaded(data []byte, err error) {
	status := success
	if err != nil {
		status = failure
	} else {
		m.inForce(data)
	}
	m.reloads.WithLabelValues(status, m.identity).Inc()
	m.last.WithLabelValues(status, m.identity).SetToCurrentTime()
}

// keyFetches notes the answers with keys among those that pass.
type keyFetches struct {
	next     http.RoundTripper
	lifetime context.Context //nolint:containedctx // of the provider, after which nothing is noted
	issuer   string
	metrics  *Metrics
	address  atomic.Pointer[string] // nil before it is known
}

// RoundTrip implements http.RoundTripper.
func (k *keyFetches) RoundTrip(r *http.Request) (*http.Response, error) {
	at := k.address.Load()
	resp, err := k.next.RoundTrip(r)
	if at == nil || *at != r.URL.String() {
		return resp, err
	}
	note := func(set []byte, err error) {
		if k.lifetime.Err() == nil {
			k.metrics.keys(k.issuer, set, err)
		}
	}
	if err != nil {
		note(nil, err)
		return resp, err
	}
	if resp.StatusCode != http.StatusOK {
		note(nil, fmt.Errorf("answered %s", resp.Status))
		return resp, nil
	}
	set, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		note(nil, err)
		return nil, fmt.Errorf("read keys: %w", err)
	}
	note(set, json.Unmarshal(set, &jose.JSONWebKeySet{}))
	resp.Body = io.NopCloser(bytes.NewReader(set))
	return resp, nil
}
