package app

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/internal/decision"
	"flagship/kube-proxy/internal/config"
	"flagship/kube-proxy/internal/conntrack"
	"flagship/kube-proxy/internal/health"
	"flagship/kube-proxy/internal/rules"
	"flagship/kube-proxy/internal/track"
)

// backend writes one family's rules.
type backend interface {
	Sync(ctx context.Context, s *track.Snapshot, local rules.LocalTraffic) (int, error)
	Cleanup(ctx context.Context) error
}

// stack is one address family.
type stack struct {
	name    string
	ipv6    bool
	backend backend
}

// loop writes the rules when something changed, no more often than the shortest period, and now and then all the same.
type loop struct {
	cfg       *config.Config
	log       *zap.Logger
	tracker   *track.Tracker
	stacks    []stack
	dirty     chan struct{} // holds one token while a change waits
	health    *health.Proxy
	services  *health.Services
	decisions *decision.Log
	metrics   *proxyMetrics
	now       func() time.Time
	// Run's goroutine owns what follows. recorded is what record noted last, by family; failed says that the last write did.
	recorded map[string]map[types.NamespacedName][]reach
	failed   bool
}

// reach is where a port's traffic goes.
type reach struct {
	protocol   v1.Protocol
	ip         netip.Addr
	port       int32
	ready, all int32
}

// mark notes a change. It may be called from anywhere.
func (l *loop) mark() {
	l.health.Queued()
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

const retryAfter = 5 * time.Second

// Run writes the rules until ctx ends. The rules stay when it returns: traffic goes on while the proxy restarts.
func (l *loop) Run(ctx context.Context) error {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.dirty:
		case <-tick.C:
		}
		wait := l.cfg.SyncPeriod
		if err := l.sync(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("rules not written, trying again", zap.Error(err))
			wait = min(wait, retryAfter)
		}
		tick.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(l.cfg.MinSyncPeriod):
		}
	}
}

// local says how traffic of the cluster's pods is told in one family.
func (l *loop) local(s *track.Snapshot, ipv6 bool) rules.LocalTraffic {
	switch l.cfg.LocalMode {
	case config.LocalModeNodeCIDR:
		if s.PodCIDR.IsValid() {
			return rules.LocalTraffic{CIDRs: []netip.Prefix{s.PodCIDR}}
		}
		return rules.LocalTraffic{}
	case config.LocalModeBridgeInterface:
		return rules.LocalTraffic{Bridge: l.cfg.Component.DetectLocal.BridgeInterface}
	case config.LocalModeInterfaceNamePrefix:
		return rules.LocalTraffic{InterfacePrefix: l.cfg.Component.DetectLocal.InterfaceNamePrefix}
	default:
		var out rules.LocalTraffic
		for _, p := range l.cfg.ClusterCIDRs {
			if p.Addr().Is6() == ipv6 {
				out.CIDRs = append(out.CIDRs, p)
			}
		}
		return out
	}
}

// sync writes the rules of the services that changed, or, at first and after an error, of all. iptables-restore has chains
// with rules of all services in them: it is given all every time.
func (l *loop) sync(ctx context.Context) error {
	began := l.now()
	only := l.tracker.Changed()
	if l.failed || l.cfg.Mode == config.IPTables {
		only = nil
	}
	checks := map[types.NamespacedName]health.Check{}
	var first error
	for _, st := range l.stacks {
		s := l.tracker.Snapshot(st.ipv6, only)
		if err := l.write(ctx, st, s); err != nil && first == nil {
			first = fmt.Errorf("%s: %w", st.name, err)
		}
		for i := range s.Ports {
			if p := &s.Ports[i]; p.HealthCheckPort != 0 {
				checks[p.Service] = health.Check{Port: p.HealthCheckPort, Local: max(checks[p.Service].Local, rules.LocalReady(p))}
			}
		}
	}
	l.services.Sync(ctx, only, checks)
	l.failed = first != nil
	if first == nil {
		l.health.Updated(began)
	}
	return first
}

// write writes the rules of one family.
func (l *loop) write(ctx context.Context, st stack, s *track.Snapshot) error {
	began := l.now()
	n, err := st.backend.Sync(ctx, s, l.local(s, st.ipv6))
	took := l.now().Sub(began)
	l.metrics.duration.WithLabelValues(st.name).Observe(took.Seconds())
	if err != nil {
		l.metrics.failures.WithLabelValues(st.name).Inc()
		return err
	}
	l.metrics.last.WithLabelValues(st.name).Set(float64(l.now().Unix()))
	if n > 0 || s.Only != nil {
		l.record(s, st.name)
	}
	if n > 0 {
		l.log.Debug("rules written", zap.String("family", st.name), zap.Int("operations", n), zap.Int("ports", len(s.Ports)), zap.Duration("took", took))
		l.cleanFlows(s, st.ipv6)
	}
	return nil
}

// record notes where the traffic of service ports goes, for those where that is new.
func (l *loop) record(s *track.Snapshot, family string) {
	before := l.recorded[family]
	if s.Only == nil {
		l.recorded[family] = make(map[types.NamespacedName][]reach, len(s.Ports))
	}
	now := map[types.NamespacedName][]reach{}
	for name := range s.Only {
		now[name] = nil
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		now[p.Service] = append(now[p.Service], l.recordPort(s, p, family, before[p.Service]))
	}
	for name, list := range now {
		if list == nil {
			delete(l.recorded[family], name)
		} else {
			l.recorded[family][name] = list
		}
	}
}

func (l *loop) recordPort(s *track.Snapshot, p *track.Port, family string, before []reach) reach {
	ends := rules.Reachable(p, s)
	now := reach{p.Protocol, p.ClusterIP, p.Port, int32(len(ends)), int32(len(p.Endpoints))} //nolint:gosec // endpoints of one service
	if slices.Contains(before, now) {
		return now
	}
	verdict := "programmed"
	if len(ends) == 0 {
		verdict = "no endpoints"
	}
	message := fmt.Sprintf("%s: %d of %d endpoints get traffic of %s:%d on this node", family, len(ends), len(p.Endpoints), p.ClusterIP, p.Port)
	l.decisions.Record(decision.Entry{
		Actor: l.cfg.Mode, Time: l.now(), Kind: "Service", Namespace: p.Service.Namespace, Name: p.Service.Name, UID: p.UID, Verdict: verdict,
		Reasons: []decision.Reason{{Subject: "port/" + strconv.Itoa(int(p.Port)), Code: "Endpoints", Count: len(ends), Message: message}},
	})
	return now
}

func (l *loop) cleanFlows(s *track.Snapshot, ipv6 bool) {
	n, err := conntrack.Clean(ipv6, conntrack.NewPlan(s))
	if n > 0 {
		l.log.Debug("stale UDP flows removed", zap.Uint("flows", n))
	}
	if err != nil {
		l.log.Warn("stale UDP flows not removed", zap.Error(err))
	}
}

// proxyMetrics are the proxy's, under upstream's names.
type proxyMetrics struct {
	duration *prometheus.HistogramVec
	last     *prometheus.GaugeVec
	failures *prometheus.CounterVec
}

func newProxyMetrics(r *prometheus.Registry, mode string) *proxyMetrics {
	m := &proxyMetrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Subsystem: "kubeproxy", Name: "sync_proxy_rules_duration_seconds",
			Help: "Time of a write of the rules in seconds.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"ip_family"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Subsystem: "kubeproxy", Name: "sync_proxy_rules_last_timestamp_seconds",
			Help: "When the rules were last written.",
		}, []string{"ip_family"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Subsystem: "kubeproxy", Name: "sync_proxy_rules_" + mode + "_sync_failures_total",
			Help: "Writes of the rules that failed.",
		}, []string{"ip_family"}),
	}
	r.MustRegister(m.duration, m.last, m.failures)
	return m
}
