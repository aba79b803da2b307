package loop

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"flagship/internal/decision"
	"flagship/internal/kube"
)

// Deps is what a controller stands on.
type Deps struct {
	// Name is the controller's in --controllers.
	Name string
	Log  *zap.Logger
	// Client writes with the identity that the context of a sync carries.
	Client    *kube.Client
	Sources   *Sources
	Events    record.EventRecorder
	Decisions *decision.Log
	Metrics   *Metrics
	Now       func() time.Time
}

// Controller returns a runner with a queue of its own. sync may be nil for a controller that only has side parts.
func (d Deps) Controller(workers int, sync func(ctx context.Context, key string) error) *Controller {
	return &Controller{
		name: d.Name, workers: max(workers, 1), log: d.Log, sync: sync, metrics: d.Metrics,
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](5*time.Millisecond, 1000*time.Second)),
	}
}

// Decide records why the controller did what it did.
func (d Deps) Decide(kind, namespace, name string, uid types.UID, generation int64, verdict string, reasons ...decision.Reason) {
	d.Decisions.Record(decision.Entry{
		Actor: d.Name, Time: d.Now(), Kind: kind, Namespace: namespace, Name: name, UID: uid,
		Generation: generation, Verdict: verdict, Reasons: reasons,
	})
}

// Metrics counts syncs per controller.
type Metrics struct {
	syncs   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		syncs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flagship_controller_syncs_total", Help: "Number of syncs of a key, by controller and result.",
		}, []string{"controller", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "flagship_controller_sync_duration_seconds", Help: "Time that one sync of a key took.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10},
		}, []string{"controller"}),
	}
	r.MustRegister(m.syncs, m.seconds)
	return m
}

func (m *Metrics) observe(controller string, took time.Duration, err error) {
	if m == nil {
		return
	}
	result := "success"
	if err != nil {
		result = "again"
	}
	m.syncs.WithLabelValues(controller, result).Inc()
	m.seconds.WithLabelValues(controller).Observe(took.Seconds())
}
