package fairness

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics/prometheusextension"
)

// metrics are those of apiserver_flowcontrol_*, under upstream's names.
type metrics struct {
	rejected, dispatched, noAccommodation                            *prometheus.CounterVec
	waiting, waitingSeats, executing, seats                          *prometheus.GaugeVec
	queueLength, waited, took, watchers, estimated                   *prometheus.HistogramVec
	progress, dispatchedAt, latest, bounds, discounted               *prometheus.GaugeVec
	nominal, lower, upper, current                                   *prometheus.GaugeVec
	demandHigh, demandMean, demandDeviation, demandSmoothed, targets *prometheus.GaugeVec
	fair                                                             prometheus.Gauge
	seatUse, requestUse, demand                                      *prometheusextension.TimingHistogramVec
	kinds                                                            kinds
}

func newMetrics(reg prometheus.Registerer) *metrics {
	const space, sub = "apiserver", "flowcontrol"
	level, both := []string{"priority_level"}, []string{"priority_level", "flow_schema"}
	var all []prometheus.Collector
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: space, Subsystem: sub, Name: name, Help: help}, labels)
		all = append(all, v)
		return v
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: space, Subsystem: sub, Name: name, Help: help}, labels)
		all = append(all, v)
		return v
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: space, Subsystem: sub, Name: name, Help: help, Buckets: buckets}, labels)
		all = append(all, v)
		return v
	}
	timing := func(name, help string, constant prometheus.Labels, buckets []float64, labels ...string) *prometheusextension.TimingHistogramVec {
		v := prometheusextension.NewTimingHistogramVec(prometheusextension.TimingHistogramOpts{
			Namespace: space, Subsystem: sub, Name: name, Help: help, ConstLabels: constant, Buckets: buckets,
		}, labels...)
		all = append(all, v)
		return v
	}
	durations := []float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30}
	m := &metrics{
		rejected:        counter("rejected_requests_total", "Number of requests rejected by API Priority and Fairness subsystem", append(both, "reason")...),
		dispatched:      counter("dispatched_requests_total", "[BETA] Number of requests executed by API Priority and Fairness subsystem", both...),
		noAccommodation: counter("request_dispatch_no_accommodation_total", "Number of times a dispatch attempt resulted in a non accommodation due to lack of available seats", both...),
		waiting:         gauge("current_inqueue_requests", "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem", both...),
		waitingSeats:    gauge("current_inqueue_seats", "[ALPHA] Number of seats currently pending in queues of the API Priority and Fairness subsystem", both...),
		executing:       gauge("current_executing_requests", "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem", both...),
		seats:           gauge("current_executing_seats", "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem", both...),
		queueLength:     histogram("request_queue_length_after_enqueue", "[ALPHA] Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued", []float64{0, 10, 25, 50, 100, 250, 500, 1000}, both...),
		waited:          histogram("request_wait_duration_seconds", "[BETA] Length of time a request spent waiting in its queue", durations, append(both, "execute")...),
		took:            histogram("request_execution_seconds", "[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem", durations, append(both, "type")...),
		watchers:        histogram("watch_count_samples", "[ALPHA] count of watchers for mutating requests in API Priority and Fairness", []float64{0, 1, 10, 100, 1000, 10000}, both...),
		estimated:       histogram("work_estimated_seats", "[ALPHA] Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness", []float64{1, 2, 4, 8, 16, 32, 64, 100}, both...),
		progress:        gauge("current_r", "[ALPHA] R(time of last change)", level...),
		dispatchedAt:    gauge("dispatch_r", "[ALPHA] R(time of last dispatch)", level...),
		latest:          gauge("latest_s", "[ALPHA] S(most recently dispatched request)", level...),
		bounds:          gauge("next_s_bounds", "[ALPHA] min and max, over queues, of S(oldest waiting request in queue)", append(level, "bound")...),
		discounted:      gauge("next_discounted_s_bounds", "[ALPHA] min and max, over queues, of S(oldest waiting request in queue) - estimated work in progress", append(level, "bound")...),
		nominal:         gauge("nominal_limit_seats", "[BETA] Nominal number of execution seats configured for each priority level", level...),
		lower:           gauge("lower_limit_seats", "[ALPHA] Configured lower bound on number of execution seats available to each priority level", level...),
		upper:           gauge("upper_limit_seats", "[ALPHA] Configured upper bound on number of execution seats available to each priority level", level...),
		current:         gauge("current_limit_seats", "[ALPHA] current derived number of execution seats available to each priority level", level...),
		demandHigh:      gauge("demand_seats_high_watermark", "[ALPHA] High watermark, over last adjustment period, of demand_seats", level...),
		demandMean:      gauge("demand_seats_average", "[ALPHA] Time-weighted average, over last adjustment period, of demand_seats", level...),
		demandDeviation: gauge("demand_seats_stdev", "[ALPHA] Time-weighted standard deviation, over last adjustment period, of demand_seats", level...),
		demandSmoothed:  gauge("demand_seats_smoothed", "[ALPHA] Smoothed seat demands", level...),
		targets:         gauge("target_seats", "[ALPHA] Seat allocation targets", level...),
		seatUse: timing("priority_level_seat_utilization", "Observations, at the end of every nanosecond, of utilization of seats for any stage of execution (but only initial stage for WATCHes)",
			prometheus.Labels{"phase": "executing"}, []float64{0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1}, level...),
		requestUse: timing("priority_level_request_utilization", "Observations, at the end of every nanosecond, of number of requests (as a fraction of the relevant limit) waiting or in any stage of execution (but only initial stage for WATCHes)",
			nil, []float64{0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1}, "phase", "priority_level"),
		demand: timing("demand_seats", "Observations, at the end of every nanosecond, of (the number of seats each priority level could use) / (nominal number of seats for that level)",
			nil, []float64{0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.7, 2, 2.8, 4, 6}, level...),
		fair: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: space, Subsystem: sub, Name: "seat_fair_frac", Help: "[ALPHA] Fair fraction of server's concurrency to allocate to each priority level that can use it",
		}),
	}
	m.kinds = newKinds(reg)
	reg.MustRegister(append(all, m.fair)...)
	return m
}

// classMetrics are those of a schema at a level. What is rare is looked up when it happens, so that there are no series of what never did; those of waiting are
// nil at the exempt level.
type classMetrics struct {
	dispatched                              prometheus.Counter
	waiting, waitingSeats, executing, seats prometheus.Gauge
	queueLength, waited, took, estimated    prometheus.Observer
	level, schema                           string
	all                                     *metrics
}

// class returns what makes the metrics of a class when its first request comes.
func (m *metrics) class(level, schema string, exempt bool) func() *classMetrics {
	return sync.OnceValue(func() *classMetrics {
		c := &classMetrics{
			dispatched: m.dispatched.WithLabelValues(level, schema), executing: m.executing.WithLabelValues(level, schema), seats: m.seats.WithLabelValues(level, schema),
			took: m.took.WithLabelValues(level, schema, "regular"), estimated: m.estimated.WithLabelValues(level, schema),
			level: level, schema: schema, all: m,
		}
		if !exempt {
			c.waiting, c.waitingSeats = m.waiting.WithLabelValues(level, schema), m.waitingSeats.WithLabelValues(level, schema)
			c.queueLength, c.waited = m.queueLength.WithLabelValues(level, schema), m.waited.WithLabelValues(level, schema, "true")
		}
		return c
	})
}

func (c *classMetrics) rejected(r refusal, exempt bool, after time.Duration) {
	c.all.rejected.WithLabelValues(c.level, c.schema, string(r)).Inc()
	if !exempt {
		c.all.waited.WithLabelValues(c.level, c.schema, "false").Observe(after.Seconds())
	}
}

func (c *classMetrics) noAccommodation() {
	c.all.noAccommodation.WithLabelValues(c.level, c.schema).Inc()
}

func (c *classMetrics) watched(watchers int) {
	c.all.watchers.WithLabelValues(c.level, c.schema).Observe(float64(watchers))
}

func (c *classMetrics) served(watch bool, d time.Duration) {
	if watch {
		c.all.took.WithLabelValues(c.level, c.schema, "watch").Observe(d.Seconds())
		return
	}
	c.took.Observe(d.Seconds())
}

// levelMetrics are those of a level. Its caller guards it by the lock of the level.
type levelMetrics struct {
	name                      string
	progress                  prometheus.Gauge
	waiting, executing, seats *ratio
	demand                    *demandGauge
	all                       *metrics
}

func (m *metrics) level(name string) *levelMetrics {
	return &levelMetrics{
		name: name, progress: m.progress.WithLabelValues(name),
		waiting:   &ratio{of: 1, gauge: m.requestUse.WithLabelValues("waiting", name)},
		executing: &ratio{of: 1, gauge: m.requestUse.WithLabelValues("executing", name)},
		seats:     &ratio{of: 1, gauge: m.seatUse.WithLabelValues(name)},
		demand:    &demandGauge{ratio: ratio{of: 1, gauge: m.demand.WithLabelValues(name)}},
		all:       m,
	}
}

// dispatched notes who was chosen of those that waited.
func (l *levelMetrics) dispatched(progress, due float64, b *bounds) {
	l.all.dispatchedAt.WithLabelValues(l.name).Set(progress)
	l.all.latest.WithLabelValues(l.name).Set(due)
	l.all.bounds.WithLabelValues(l.name, "min").Set(b.min)
	l.all.bounds.WithLabelValues(l.name, "max").Set(b.max)
	l.all.discounted.WithLabelValues(l.name, "min").Set(b.discountedMin)
	l.all.discounted.WithLabelValues(l.name, "max").Set(b.discountedMax)
}

func (l *levelMetrics) noteWaiting(mutating bool, n int) { l.all.kinds.of(mutating).waiting.add(n) }

// limits notes what the numbers of a level are divided by.
func (l *levelMetrics) limits(s shape, denominator int) {
	l.waiting.divideBy(float64(max(1, s.length) * max(1, s.queues)))
	l.executing.divideBy(float64(denominator))
	l.seats.divideBy(float64(denominator))
	l.demand.divideBy(float64(denominator))
}

// adjusted notes the outcome of an adjustment.
func (m *metrics) adjusted(name string, s *share) {
	mean, deviation, _ := s.demand.moments()
	for gauge, value := range map[*prometheus.GaugeVec]float64{
		m.nominal: float64(s.nominal), m.lower: float64(s.min), m.upper: float64(s.max), m.current: float64(s.current),
		m.demandHigh: float64(s.demand.most()), m.demandMean: mean, m.demandDeviation: deviation, m.demandSmoothed: s.smoothed, m.targets: s.target,
	} {
		gauge.WithLabelValues(name).Set(value)
	}
}

// ratio is a number by another, over time.
type ratio struct {
	value, of float64
	gauge     prometheusextension.GaugeOps
}

func (r *ratio) add(n float64) { r.set(r.value + n) }

func (r *ratio) set(v float64) {
	r.value = v
	r.gauge.Set(v / r.of)
}

func (r *ratio) divideBy(of float64) {
	r.of = of
	r.set(r.value)
}

// demandGauge is the demand of a level, for its limit and as a metric.
type demandGauge struct {
	ratio
	demand demand
}

func (d *demandGauge) set(v float64, now time.Time) {
	d.demand.set(v, now)
	d.ratio.set(v)
}
