package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"

	"flagship/internal/decision"
	"flagship/internal/kube"
	"flagship/internal/logging"
	"flagship/internal/metrics"
	"flagship/internal/process"
	"flagship/internal/serving"
	"flagship/kube-proxy/internal/apply"
	"flagship/kube-proxy/internal/config"
	"flagship/kube-proxy/internal/conntrack"
	"flagship/kube-proxy/internal/health"
	"flagship/kube-proxy/internal/podnet"
	"flagship/kube-proxy/internal/rules"
	"flagship/kube-proxy/internal/track"
)

const decisionsKept = 2048

// Run runs the proxy until ctx ends, or does the one thing that a flag asks for.
func Run(ctx context.Context, cfg *config.Config) error {
	log, err := logging.New(cfg.Logging)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	cfg.Set.WarnInert(log)
	switch {
	case cfg.WriteTo != "":
		return writeConfig(cfg)
	case cfg.Cleanup:
		return cleanup(ctx)
	}
	tune(cfg, log)
	if cfg.InitOnly {
		return nil
	}
	cc := cfg.Component.ClientConnection
	rc, err := kube.Load(kube.Config{Kubeconfig: cc.Kubeconfig, Master: cfg.Master, UserAgent: config.Binary, QPS: cc.QPS, Burst: int(cc.Burst), ContentType: cc.ContentType})
	if err != nil {
		return err
	}
	client, err := kube.NewClient(rc, v1.AddToScheme, discoveryv1.AddToScheme)
	if err != nil {
		return err
	}
	if err := client.Verify(); err != nil {
		return err
	}
	return serve(ctx, cfg, log, client)
}

func serve(ctx context.Context, cfg *config.Config, log *zap.Logger, client *kube.Client) error {
	registry := metrics.NewRegistry(config.Binary)
	l := &loop{
		cfg: cfg, log: log, dirty: make(chan struct{}, 1), now: time.Now, recorded: map[string]map[types.NamespacedName][]reach{},
		decisions: decision.NewLog(config.Binary, decisionsKept), metrics: newProxyMetrics(registry, cfg.Mode),
	}
	l.tracker = track.New(cfg.NodeName, func() { l.mark() })
	l.health = health.NewProxy(2*cfg.SyncPeriod, time.Now, l.tracker.NodeDeleting)
	l.services = health.NewServices(log, l.health)
	pods := podnet.New(cfg.NodeName, cfg.ClusterCIDRs, log.Named("podnet"))
	w, err := newWatches(client, cfg, l.tracker, pods)
	if err != nil {
		return err
	}
	srv, err := serving.New(config.Binary, cfg.Serving, serving.Deps{
		Log: log, Registry: registry, Set: cfg.Set, Decisions: l.decisions, Identity: cfg.NodeName, Anonymous: true,
		Config: map[string]any{"kubeproxy.config.k8s.io": cfg.Component},
	})
	if err != nil {
		return err
	}
	srv.Checks().Add(serving.Check{Name: "rules", Live: true, Ready: true, Probe: func(context.Context) error {
		if ok, at := l.health.Healthy(); !ok {
			return fmt.Errorf("rules last written at %v, and a change waits for too long", at)
		}
		return nil
	}})
	listen := func(what, address string, h http.Handler) func(context.Context) error {
		return func(ctx context.Context) error {
			if _, port, _ := net.SplitHostPort(address); port == "0" {
				return untilStopped(ctx)
			}
			return health.ServeHTTP(ctx, log, what, address, cfg.Component.BindAddressHardFail, h)
		}
	}
	network := process.Part{Name: "pod network", Run: pods.Run}
	if !cfg.PodNetwork {
		network.Run = untilStopped
	}
	return process.Run(ctx, log,
		process.Part{Name: "secure port", Run: srv.Run},
		process.Part{Name: "health", Run: listen("health", cfg.Component.HealthzBindAddress, l.health.Handler())},
		process.Part{Name: "metrics", Run: listen("metrics", cfg.Component.MetricsBindAddress, metricsHandler(cfg, registry, srv))},
		process.Part{Name: "health check node ports", Run: l.services.Run},
		process.Part{Name: "informers", Run: w.Run, Ready: w.wait},
		network,
		process.Trim(log),
		process.Part{Name: "rules", Run: func(ctx context.Context) error {
			// Node addresses are known once the informers have synced.
			stacks, err := newStacks(ctx, cfg, log, l.tracker)
			if err != nil {
				return err
			}
			l.stacks = stacks
			cleanOther(ctx, cfg, log)
			return l.Run(ctx)
		}},
	)
}

func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// metricsHandler is the plain port that upstream's proxy has: metrics, pages and the mode, without authentication.
func metricsHandler(cfg *config.Config, registry *prometheus.Registry, srv *serving.Server) http.Handler {
	mux := http.NewServeMux()
	srv.Checks().Register(mux)
	serving.Pages{
		Component: config.Binary, Registry: registry, Options: cfg.Set, Start: time.Now(), Profiling: cfg.Component.EnableProfiling,
		Config: map[string]any{"kubeproxy.config.k8s.io": cfg.Component},
	}.Register(mux)
	mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = fmt.Fprint(w, cfg.Mode)
	})
	return mux
}

// newStacks makes a backend for each family that this machine can serve; one at least.
func newStacks(ctx context.Context, cfg *config.Config, log *zap.Logger, t *track.Tracker) ([]stack, error) {
	var out []stack
	var problems []error
	for _, st := range []stack{{name: "IPv4"}, {name: "IPv6", ipv6: true}} {
		addrs, err := nodePortAddrs(cfg, t, st.ipv6)
		if err != nil {
			return nil, err
		}
		rc := rules.Config{
			IPv6: st.ipv6, MasqueradeAll: cfg.MasqueradeAll, MasqueradeMark: cfg.MasqueradeMark, NodePortAddrs: addrs,
			LocalhostNodePorts: *cfg.Component.IPTables.LocalhostNodePorts,
		}
		if cfg.Mode == config.IPTables {
			st.backend, err = apply.NewIPTables(rc)
		} else {
			st.backend, err = apply.NewNFTables(ctx, rc)
		}
		if err == nil && st.ipv6 && !ipv6Enabled() {
			err = errors.New("the kernel has no IPv6")
		}
		if err != nil {
			log.Info("family not served", zap.String("family", st.name), zap.Error(err))
			problems = append(problems, err)
			continue
		}
		out = append(out, st)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no address family can be served: %w", errors.Join(problems...))
	}
	return out, nil
}

func ipv6Enabled() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// nodePortAddrs are the addresses that serve node ports, nil for all.
func nodePortAddrs(cfg *config.Config, t *track.Tracker, ipv6 bool) ([]netip.Addr, error) {
	if !cfg.PrimaryOnly && len(cfg.NodePorts) == 0 {
		return nil, nil
	}
	out := []netip.Addr{}
	if cfg.PrimaryOnly {
		out = append(out, t.Snapshot(ipv6, track.Names{}).NodeIPs...)
	}
	local, err := conntrack.LocalAddrs(ipv6)
	if err != nil {
		return nil, err
	}
	for _, ip := range local {
		for _, p := range cfg.NodePorts {
			if p.Contains(ip) {
				out = append(out, ip)
			}
		}
	}
	return out, nil
}

func writeConfig(cfg *config.Config) error {
	data, err := yaml.Marshal(cfg.Component)
	if err != nil {
		return err
	}
	if err := os.WriteFile(cfg.WriteTo, data, 0o600); err != nil {
		return fmt.Errorf("--write-config-to: %w", err)
	}
	return nil
}

// cleanOther removes the rules of the mode that is not used: both at once would translate packets twice. What cannot be
// removed, since the other mode's tools are missing, cannot have been made on this machine.
func cleanOther(ctx context.Context, cfg *config.Config, log *zap.Logger) {
	for _, ipv6 := range []bool{false, true} {
		var other interface{ Cleanup(context.Context) error }
		var err error
		if cfg.Mode == config.IPTables {
			other, err = apply.NewNFTables(ctx, rules.Config{IPv6: ipv6})
		} else {
			other, err = apply.NewIPTables(rules.Config{IPv6: ipv6})
		}
		if err == nil {
			err = other.Cleanup(ctx)
		}
		if err != nil {
			log.Debug("rules of the other mode not removed", zap.Bool("ipv6", ipv6), zap.Error(err))
		}
	}
}

// cleanup removes what either backend may have left, in both families, and the pod network.
func cleanup(ctx context.Context) error {
	problems := []error{podnet.Cleanup(ctx)}
	for _, ipv6 := range []bool{false, true} {
		if n, err := apply.NewNFTables(ctx, rules.Config{IPv6: ipv6}); err == nil {
			problems = append(problems, n.Cleanup(ctx))
		}
		if t, err := apply.NewIPTables(rules.Config{IPv6: ipv6}); err == nil {
			problems = append(problems, t.Cleanup(ctx))
		}
	}
	return errors.Join(problems...)
}

// tune sets sysctls and the OOM score. What is not permitted is logged: the proxy serves all the same.
func tune(cfg *config.Config, log *zap.Logger) {
	k := &cfg.Component
	try := func(err error) {
		if err != nil {
			log.Warn("kernel setting not made", zap.Error(err))
		}
	}
	seconds := func(path string, d time.Duration) {
		if d > 0 {
			try(conntrack.SetSysctl(path, int(d.Seconds()), false))
		}
	}
	if most := max(int(*k.Conntrack.MaxPerCore)*runtime.NumCPU(), int(*k.Conntrack.Min)); *k.Conntrack.MaxPerCore > 0 {
		try(conntrack.SetSysctl("net/netfilter/nf_conntrack_max", most, true))
	}
	seconds("net/netfilter/nf_conntrack_tcp_timeout_established", k.Conntrack.TCPEstablishedTimeout.Duration)
	seconds("net/netfilter/nf_conntrack_tcp_timeout_close_wait", k.Conntrack.TCPCloseWaitTimeout.Duration)
	seconds("net/netfilter/nf_conntrack_udp_timeout", k.Conntrack.UDPTimeout.Duration)
	seconds("net/netfilter/nf_conntrack_udp_timeout_stream", k.Conntrack.UDPStreamTimeout.Duration)
	if k.Conntrack.TCPBeLiberal {
		try(conntrack.SetSysctl("net/netfilter/nf_conntrack_tcp_be_liberal", 1, false))
	}
	if cfg.Mode == config.IPTables && *k.IPTables.LocalhostNodePorts {
		try(conntrack.SetSysctl("net/ipv4/conf/all/route_localnet", 1, false))
	}
	if k.OOMScoreAdj != nil {
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(int(*k.OOMScoreAdj))), 0o600); err != nil {
			log.Debug("oom_score_adj not set", zap.Error(err))
		}
	}
}

// watches are the informers.
type watches struct {
	list   []cache.SharedIndexInformer
	synced []cache.InformerSynced
}

// Run runs the informers.
func (w *watches) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	for _, inf := range w.list {
		group.Go(func() { inf.RunWithContext(ctx) })
	}
	<-ctx.Done()
	return nil
}

func (w *watches) wait(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), w.synced...) {
		return errors.New("informers did not sync before the stop")
	}
	return nil
}
