package allocate

import (
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How an address or port came about, the values of the label scope.
const (
	static  = "static"
	dynamic = "dynamic"
)

// Metrics are upstream's of cluster IPs, by range, and of node ports. Ranges are objects that administrators make; the series of one end with it.
type Metrics struct {
	allocatedIPs, availableIPs     *prometheus.GaugeVec
	ips, ipErrors                  *prometheus.CounterVec
	took                           *prometheus.HistogramVec
	allocatedPorts, availablePorts prometheus.Gauge
	ports, portErrors              *prometheus.CounterVec

	mu sync.Mutex // guards what follows
	// used are how many addresses of each range are taken. What another server takes is known with the next repair.
	used map[netip.Prefix]float64
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	const space, ip, port = "kube_apiserver", "clusterip_allocator", "nodeport_allocator"
	gauge := func(sub, name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: space, Subsystem: sub, Name: name, Help: help}, labels)
	}
	counter := func(sub, name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: space, Subsystem: sub, Name: name, Help: help}, labels)
	}
	allocatedPorts := gauge(port, "allocated_ports", "[ALPHA] Gauge measuring the number of allocated NodePorts for Services")
	availablePorts := gauge(port, "available_ports", "[ALPHA] Gauge measuring the number of available NodePorts for Services")
	m := &Metrics{
		allocatedIPs: gauge(ip, "allocated_ips", "[ALPHA] Gauge measuring the number of allocated IPs for Services", "cidr"),
		availableIPs: gauge(ip, "available_ips", "[ALPHA] Gauge measuring the number of available IPs for Services", "cidr"),
		ips:          counter(ip, "allocation_total", "[ALPHA] Number of Cluster IPs allocations", "cidr", "scope"),
		ipErrors:     counter(ip, "allocation_errors_total", "[ALPHA] Number of errors trying to allocate Cluster IPs", "cidr", "scope"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: space, Subsystem: ip, Name: "allocation_duration_seconds", Help: "[ALPHA] Duration in seconds to allocate a Cluster IP by ServiceCIDR", Buckets: prometheus.DefBuckets,
		}, []string{"cidr"}),
		allocatedPorts: allocatedPorts.WithLabelValues(), availablePorts: availablePorts.WithLabelValues(),
		ports:      counter(port, "allocation_total", "[ALPHA] Number of NodePort allocations", "scope"),
		portErrors: counter(port, "allocation_errors_total", "[ALPHA] Number of errors trying to allocate NodePort", "scope"),
		used:       map[netip.Prefix]float64{},
	}
	reg.MustRegister(m.allocatedIPs, m.availableIPs, m.ips, m.ipErrors, m.took, allocatedPorts, availablePorts, m.ports, m.portErrors)
	return m
}

func (m *Metrics) ip(pool netip.Prefix, scope string, start time.Time) {
	m.ips.WithLabelValues(pool.String(), scope).Inc()
	m.took.WithLabelValues(pool.String()).Observe(time.Since(start).Seconds())
	m.held(pool, 1)
}

func (m *Metrics) ipError(pool netip.Prefix, scope string) {
	m.ipErrors.WithLabelValues(pool.String(), scope).Inc()
}

// held says that so many more addresses of a range are taken.
func (m *Metrics) held(pool netip.Prefix, more float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(pool, max(0, m.used[pool]+more))
}

// recount replaces the counts of all ranges.
func (m *Metrics) recount(used map[netip.Prefix]float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for pool := range m.used {
		if _, ok := used[pool]; !ok {
			delete(m.used, pool)
			cidr := prometheus.Labels{"cidr": pool.String()}
			for _, v := range []interface {
				DeletePartialMatch(labels prometheus.Labels) int
			}{m.allocatedIPs, m.availableIPs, m.ips, m.ipErrors, m.took} {
				v.DeletePartialMatch(cidr)
			}
		}
	}
	for pool, n := range used {
		m.set(pool, n)
	}
}

// set is called with mu held.
func (m *Metrics) set(pool netip.Prefix, used float64) {
	m.used[pool] = used
	m.allocatedIPs.WithLabelValues(pool.String()).Set(used)
	m.availableIPs.WithLabelValues(pool.String()).Set(max(0, usableIn(pool)-used))
}

// usableIn is how many addresses of a range may be taken.
func usableIn(p netip.Prefix) float64 {
	bits := p.Addr().BitLen() - p.Bits()
	switch {
	case bits >= 64:
		return math.MaxInt64 // upstream's bound
	case p.Addr().Is4():
		return max(0, float64(uint64(1)<<bits)-2)
	}
	return float64(uint64(1)<<bits) - 1
}

// heldPorts says how many node ports are taken.
func (m *Metrics) heldPorts(used, of int) {
	m.allocatedPorts.Set(float64(used))
	m.availablePorts.Set(float64(of - used))
}
