package serving

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// slis are the outcomes of health checks, as upstream's components tell them at /metrics/slis (KEP-3466). They have a registry of their own, so that they can be
// scraped more often than the rest.
type slis struct {
	registry *prometheus.Registry
	last     *prometheus.GaugeVec
	total    *prometheus.CounterVec
}

func newSLIs() *slis {
	s := &slis{
		registry: prometheus.NewRegistry(),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "kubernetes", Name: "healthcheck", Help: "[STABLE] This metric records the result of a single healthcheck.",
		}, []string{"name", "type"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "kubernetes", Name: "healthchecks_total", Help: "[STABLE] This metric records the results of all healthcheck.",
		}, []string{"name", "type", "status"}),
	}
	s.registry.MustRegister(s.last, s.total)
	return s
}

// observe counts what was found for /healthz, /livez or /readyz.
func (s *slis) observe(root string, results []Result) {
	for _, r := range results {
		status, value := "success", 1.0
		if r.Err != nil {
			status, value = "error", 0
		}
		s.last.WithLabelValues(r.Name, root).Set(value)
		s.total.WithLabelValues(r.Name, root, status).Inc()
	}
}

func (s *slis) handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true})
}
