package fairness

import (
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics/prometheusextension"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/rest"
)

// Numbers bounds requests by their number, where priority and fairness is off.
type Numbers struct {
	kinds            kinds
	reading, writing chan struct{}
}

// NewNumbers bounds reading and writing requests each by a number, 0 for no bound.
func NewNumbers(reading, writing int, reg prometheus.Registerer) *Numbers {
	slots := func(n int) chan struct{} {
		if n <= 0 {
			return nil
		}
		return make(chan struct{}, n)
	}
	n := &Numbers{kinds: newKinds(reg), reading: slots(reading), writing: slots(writing)}
	n.kinds.reading.executing.divideBy(reading)
	n.kinds.writing.executing.divideBy(writing)
	return n
}

// Serve has next answer a request, and refuses one above the bound with 429. Watches are not bounded.
func (n *Numbers) Serve(w http.ResponseWriter, r *http.Request, _ time.Time, mutating bool, next http.Handler) {
	slots := n.reading
	if mutating {
		slots = n.writing
	}
	if slots == nil || rest.InfoFrom(r.Context()).Verb == "watch" {
		next.ServeHTTP(w, r)
		return
	}
	select {
	case slots <- struct{}{}:
		executing := n.kinds.of(mutating).executing
		executing.add(1)
		defer func() {
			executing.add(-1)
			<-slots
		}()
	default:
		// Those who mend an overloaded cluster get through.
		if !rest.UserFrom(r.Context()).InGroup(authn.PrivilegedGroup) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, TooMany, http.StatusTooManyRequests)
			return
		}
	}
	next.ServeHTTP(w, r)
}

// kinds are the requests that read and those that write.
type kinds struct{ reading, writing kind }

// kind counts the requests of a kind that wait and those that are served.
type kind struct{ waiting, executing *mark }

func (k *kinds) of(mutating bool) *kind {
	if mutating {
		return &k.writing
	}
	return &k.reading
}

func newKinds(reg prometheus.Registerer) kinds {
	over := prometheusextension.NewTimingHistogramVec(prometheusextension.TimingHistogramOpts{
		Namespace: "apiserver", Subsystem: "flowcontrol", Name: "read_vs_write_current_requests",
		Help:    "Observations, at the end of every nanosecond, of the number of requests (as a fraction of the relevant limit) waiting or in regular stage of execution",
		Buckets: []float64{0, 0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1},
	}, "phase", "request_kind")
	reg.MustRegister(over)
	one := func(phase, name, metric, help string) *mark {
		m := &mark{gauge: over.WithLabelValues(phase, name), clock: time.Now}
		m.divideBy(1)
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metric, Help: help, ConstLabels: prometheus.Labels{"request_kind": name}}, m.last))
		return m
	}
	of := func(name string) kind {
		return kind{
			waiting:   one("waiting", name, "apiserver_current_inqueue_requests", "[ALPHA] Maximal number of queued requests in this apiserver per request kind in last second."),
			executing: one("executing", name, "apiserver_current_inflight_requests", "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second."),
		}
	}
	return kinds{reading: of("readOnly"), writing: of("mutating")}
}

// mark is a number, and the highest it was in the last second. It is safe for concurrent use.
type mark struct {
	gauge prometheusextension.GaugeOps
	clock func() time.Time
	of    atomic.Uint64 // the bits of a float

	mu sync.Mutex // guards what follows
	// second is the one that high is of, and before the highest of the one before it.
	second            int64
	now, high, before int
}

func (m *mark) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	m.now += n
	m.high = max(m.high, m.now)
	m.gauge.Set(float64(m.now) / math.Float64frombits(m.of.Load()))
}

// turn begins another second.
func (m *mark) turn() {
	s := m.clock().Unix()
	if s == m.second {
		return
	}
	m.before = m.high
	if s > m.second+1 {
		m.before = m.now // nothing changed in the second before
	}
	m.second, m.high = s, m.now
}

// last is the highest value of the last whole second.
func (m *mark) last() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	return float64(m.before)
}

func (m *mark) divideBy(of int) { m.of.Store(math.Float64bits(float64(max(1, of)))) }
