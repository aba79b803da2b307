package static

import (
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are upstream's.
type Metrics struct {
	identity string
	reloads  *prometheus.CounterVec
	at       *prometheus.GaugeVec
	info     *prometheus.GaugeVec

	mu   sync.Mutex        // guards last
	last map[string]string // hashes by plugin
}

// NewMetrics registers the metrics of the server named.
func NewMetrics(reg prometheus.Registerer, identity string) *Metrics {
	const space, sub = "apiserver", "manifest_admission_config_controller"
	m := &Metrics{
		identity: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(identity))), last: map[string]string{},
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: space, Subsystem: sub, Name: "automatic_reloads_total",
			Help: "Total number of automatic reloads of admission manifest configuration split by status, plugin, and apiserver identity.",
		}, []string{"status", "plugin", "apiserver_id_hash"}),
		at: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: space, Subsystem: sub, Name: "automatic_reload_last_timestamp_seconds",
			Help: "Timestamp of the last automatic reload of admission manifest configuration split by status, plugin, and apiserver identity.",
		}, []string{"status", "plugin", "apiserver_id_hash"}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: space, Subsystem: sub, Name: "last_config_info",
			Help: "Information about the last applied admission manifest configuration with hash as label, split by plugin and apiserver identity.",
		}, []string{"plugin", "apiserver_id_hash", "hash"}),
	}
	reg.MustRegister(m.reloads, m.at, m.info)
	return m
}

func (m *Metrics) read(plugin, hash string, err error) {
	status := "success"
	if err != nil {
		status = "failure"
	}
	m.reloads.WithLabelValues(status, plugin, m.identity).Inc()
	m.at.WithLabelValues(status, plugin, m.identity).SetToCurrentTime()
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.info.DeleteLabelValues(plugin, m.identity, m.last[plugin])
	m.last[plugin] = hash
	m.info.WithLabelValues(plugin, m.identity, hash).Set(1)
}
