package store

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// operation is a kind of request to etcd, as upstream names it.
type operation string

const (
	opGet      operation = "get"
	opList     operation = "list"
	opCreate   operation = "create"
	opUpdate   operation = "update"
	opDelete   operation = "delete"
	opRevision operation = "getCurrentResourceVersion"
)

// Metrics are upstream's of etcd. What one stream or one request does for all resources has empty labels.
type Metrics struct {
	resourceOf       func(key string) schema.GroupResource
	took, lists      *prometheus.HistogramVec
	requests, errors *prometheus.CounterVec
	events           *prometheus.CounterVec
	bookmarks        prometheus.Counter
	leases           prometheus.Observer

	mu sync.RWMutex // guards what follows
	of map[schema.GroupResource]*series
}

// series are those of a resource; each is made when it is first counted.
type series struct {
	operations map[operation]func() requestSeries // read only
	events     func() prometheus.Counter
	lists      func() prometheus.Observer
}

type requestSeries struct {
	requests prometheus.Counter
	took     prometheus.Observer
	errors   func() prometheus.Counter
}

// maxSeries bounds the resources that are told apart, should a client be able to make ever new ones; those above it are one.
const maxSeries = 4096

// NewMetrics registers them. resourceOf says which resource a key belongs to, the prefix included.
func NewMetrics(reg prometheus.Registerer, resourceOf func(key string) schema.GroupResource) *Metrics {
	labels := []string{"operation", "group", "resource"}
	bookmarks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "etcd_bookmark_total", Help: "[ALPHA] Number of etcd bookmarks (progress notify events) split by kind.",
	}, labels[1:])
	leases := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "etcd_lease_object_counts", Help: "[ALPHA] Number of objects attached to a single etcd lease.", Buckets: []float64{10, 50, 100, 500, 1000, 2500, 5000},
	})
	buckets := []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}
	m := &Metrics{
		resourceOf: resourceOf,
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "etcd_request_duration_seconds", Help: "[ALPHA] Etcd request latency in seconds for each operation and object type.",
			Buckets: buckets,
		}, labels),
		lists: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_storage_list_duration_seconds", Buckets: buckets,
			Help: "[ALPHA] Latency of the storage layer GetList call in seconds, including object decode, split by whether etcd RangeStream was used.",
		}, []string{"streamed", "group", "resource"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "etcd_requests_total", Help: "[ALPHA] Etcd request counts for each operation and object type.",
		}, labels),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "etcd_request_errors_total", Help: "[ALPHA] Etcd failed request counts for each operation and object type.",
		}, labels),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_storage_events_received_total", Help: "[BETA] Number of etcd events received split by kind.",
		}, labels[1:]),
		bookmarks: bookmarks.WithLabelValues("", ""), leases: leases, of: map[schema.GroupResource]*series{},
	}
	reg.MustRegister(m.took, m.lists, m.requests, m.errors, m.events, bookmarks, leases)
	return m
}

func (m *Metrics) series(gr schema.GroupResource) *series {
	m.mu.RLock()
	s := m.of[gr]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.of) >= maxSeries {
		gr = schema.GroupResource{Resource: "other"}
	}
	if s = m.of[gr]; s != nil {
		return s
	}
	s = &series{
		operations: map[operation]func() requestSeries{},
		events:     sync.OnceValue(func() prometheus.Counter { return m.events.WithLabelValues(gr.Group, gr.Resource) }),
		lists:      sync.OnceValue(func() prometheus.Observer { return m.lists.WithLabelValues("false", gr.Group, gr.Resource) }),
	}
	for _, op := range []operation{opGet, opList, opCreate, opUpdate, opDelete, opRevision} {
		s.operations[op] = sync.OnceValue(func() requestSeries {
			labels := []string{string(op), gr.Group, gr.Resource}
			return requestSeries{
				requests: m.requests.WithLabelValues(labels...), took: m.took.WithLabelValues(labels...),
				errors: func() prometheus.Counter { return m.errors.WithLabelValues(labels...) },
			}
		})
	}
	m.of[gr] = s
	return s
}

// requested counts a request to etcd for a key, or for all of them where it is empty.
func (m *Metrics) requested(op operation, key string, start time.Time, err error) {
	var gr schema.GroupResource
	if key != "" {
		gr = m.resourceOf(key)
	}
	s := m.series(gr).operations[op]()
	s.took.Observe(time.Since(start).Seconds())
	s.requests.Inc()
	if err != nil {
		s.errors().Inc()
	}
}

func (m *Metrics) received(key string) { m.series(m.resourceOf(key)).events().Inc() }

// listed counts a page that was read and transformed, or could not be.
func (m *Metrics) listed(key string, start time.Time) {
	m.series(m.resourceOf(key)).lists().Observe(time.Since(start).Seconds())
}
