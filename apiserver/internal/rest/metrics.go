package rest

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/timing"
	"flagship/apiserver/internal/watchcache"
)

// metrics are what the API tells of watches, under upstream's names.
type metrics struct {
	events *prometheus.CounterVec
	sizes  *prometheus.HistogramVec
	lists  *prometheus.HistogramVec

	mu sync.RWMutex // guards watches
	// watches are made once for each resource, since a watch may tell of many events.
	watches map[schema.GroupVersionResource]*watchMetrics
}

func newMetrics() *metrics {
	of := []string{"group", "version", "resource"}
	return &metrics{
		watches: map[schema.GroupVersionResource]*watchMetrics{},
		events:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_watch_events_total", Help: "[BETA] Number of events sent in watch clients"}, of),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_watch_events_sizes", Help: "[BETA] Watch event size distribution in bytes", Buckets: prometheus.ExponentialBuckets(1024, 2, 8),
		}, of),
		lists: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_watch_list_duration_seconds", Help: "[BETA] Response latency distribution in seconds for watch list requests broken by group, version, resource and scope.",
			Buckets: []float64{0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300},
		}, append(of[:3:3], "scope")),
	}
}

// watchMetrics are those of one resource's watches.
type watchMetrics struct {
	events prometheus.Counter
	sizes  prometheus.Observer
}

func (w *watchMetrics) sent(frame []byte) {
	w.events.Inc()
	w.sizes.Observe(float64(len(frame)))
}

func (m *metrics) of(gvr schema.GroupVersionResource) *watchMetrics {
	m.mu.RLock()
	w := m.watches[gvr]
	m.mu.RUnlock()
	if w != nil {
		return w
	}
	w = &watchMetrics{m.events.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource), m.sizes.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource)}
	m.mu.Lock()
	m.watches[gvr] = w
	m.mu.Unlock()
	return w
}

// listed observes that a watch has sent all that there was when it began.
func (m *metrics) listed(q *request) {
	t := timing.From(q.ctx())
	if t == nil {
		return
	}
	scope := "cluster"
	switch {
	case q.info.Name != "":
		scope = "resource"
	case q.info.Namespace != "":
		scope = "namespace"
	}
	m.lists.WithLabelValues(q.info.Group, q.info.Version, q.info.Resource, scope).Observe(time.Since(t.Arrived).Seconds())
}

// What is told of stored objects when it is asked for.
var (
	objects = prometheus.NewDesc("apiserver_resource_objects", "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.", []string{"group", "resource"}, nil)
	size    = prometheus.NewDesc("apiserver_resource_size_estimate_bytes", "[ALPHA] Estimated size of stored objects in database. Estimate is based on sum of last observed sizes of serialized objects. In case of a fetching error, the value will be -1.", []string{"group", "resource"}, nil)
)

// Describe implements prometheus.Collector.
func (a *API) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{a.metrics.events, a.metrics.sizes, a.metrics.lists} {
		c.Describe(ch)
	}
	ch <- objects
	ch <- size
}

// Collect implements prometheus.Collector.
func (a *API) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{a.metrics.events, a.metrics.sizes, a.metrics.lists} {
		c.Collect(ch)
	}
	caches := map[schema.GroupResource]*watchcache.Cache{}
	a.mu.RLock()
	for gvr, r := range a.resources {
		if group := r.StoredGVK().Group; group == gvr.Group { // of what two groups serve, that which is stored
			caches[gvr.GroupResource()] = r.Cache
		}
	}
	a.mu.RUnlock()
	for gr, c := range caches {
		n, bytes := c.Size()
		ch <- prometheus.MustNewConstMetric(objects, prometheus.GaugeValue, float64(n), gr.Group, gr.Resource)
		ch <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(bytes), gr.Group, gr.Resource)
	}
}
