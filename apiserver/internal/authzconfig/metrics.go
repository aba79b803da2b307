package authzconfig

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/review"
)

// metrics are upstream's.
type metrics struct {
	webhooks  *review.Metrics
	decisions *prometheus.CounterVec
	reloads   *prometheus.CounterVec
	last      *prometheus.GaugeVec
	config    *prometheus.GaugeVec
	identity  string
}

func newMetrics(reg prometheus.Registerer, identity string) *metrics {
	m := &metrics{
		webhooks: review.NewMetrics(reg), identity: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(identity))),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Subsystem: "apiserver_authorization", Name: "decisions_total",
			Help: "[ALPHA] Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.",
		}, []string{"type", "name", "decision"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Subsystem: "apiserver_authorization_config_controller", Name: "automatic_reloads_total",
			Help: "[BETA] Total number of automatic reloads of authorization configuration split by status and apiserver identity.",
		}, []string{"status", "apiserver_id_hash"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Subsystem: "apiserver_authorization_config_controller", Name: "automatic_reload_last_timestamp_seconds",
			Help: "[BETA] Timestamp of the last automatic reload of authorization configuration split by status and apiserver identity.",
		}, []string{"status", "apiserver_id_hash"}),
		config: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Subsystem: "apiserver_authorization_config_controller", Name: "last_config_info",
			Help: "[ALPHA] Information about the last applied authorization configuration with hash as label, split by apiserver identity.",
		}, []string{"apiserver_id_hash", "hash"}),
	}
	reg.MustRegister(m.decisions, m.reloads, m.last, m.config)
	return m
}

// inForce notes the file that is used.
func (m *metrics) inForce(data []byte) {
	m.config.Reset()
	m.config.WithLabelValues(m.identity, fmt.Sprintf("sha256:%x", sha256.Sum256(data))).Set(1)
}

func (m *metrics) reloaded(data []byte, err error) {
	status := "success"
	if err != nil {
		status = "failure"
	} else {
		m.inForce(data)
	}
	m.reloads.WithLabelValues(status, m.identity).Inc()
	m.last.WithLabelValues(status, m.identity).SetToCurrentTime()
}

// counted counts an authorizer's decisions.
func (m *metrics) counted(kind, name string, next authz.Authorizer) authz.Authorizer {
	counter := func(decision string) func() prometheus.Counter {
		return sync.OnceValue(func() prometheus.Counter { return m.decisions.WithLabelValues(kind, name, decision) })
	}
	return &counting{Authorizer: next, allowed: counter("allowed"), denied: counter("denied")}
}

type counting struct {
	authz.Authorizer
	allowed, denied func() prometheus.Counter
}

// Authorize implements authz.Authorizer.
func (c *counting) Authorize(ctx context.Context, a authz.Attributes) (authz.Decision, string, error) {
	d, reason, err := c.Authorizer.Authorize(ctx, a)
	switch d {
	case authz.Allow:
		c.allowed().Inc()
	case authz.Deny:
		c.denied().Inc()
	}
	return d, reason, err
}

// RulesFor implements authz.RuleResolver.
func (c *counting) RulesFor(user *authn.Identity, namespace string) (authz.Rules, error) {
	if r, ok := c.Authorizer.(authz.RuleResolver); ok {
		return r.RulesFor(user, namespace)
	}
	return authz.Rules{}, nil
}
