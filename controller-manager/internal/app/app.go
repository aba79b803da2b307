package app

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"

	"flagship/controller-manager/internal/config"
	"flagship/controller-manager/internal/loop"
	"flagship/internal/decision"
	"flagship/internal/kube"
	"flagship/internal/leader"
	"flagship/internal/logging"
	"flagship/internal/metrics"
	"flagship/internal/process"
	"flagship/internal/serving"
)

// decisionsKept bounds the decision log.
const decisionsKept = 1024

// heapGrowth is by how many percent the heap may grow between collections: little is allocated here when little changes,
// and memory that is kept free for it is memory that pods do not have. GOGC in the environment wins.
const heapGrowth = 40

// Run runs the controller manager until ctx ends.
func Run(ctx context.Context, cfg *config.Config) error {
	log, err := logging.New(cfg.Logging)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	cfg.Set.WarnInert(log)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	client, err := newClient(cfg)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read hostname: %w", err)
	}
	cfg.Leader.Identity = host + "_" + string(uuid.NewUUID())
	leases := kube.For[coordinationv1.Lease, coordinationv1.LeaseList](client, coordinationv1.SchemeGroupVersion.WithResource("leases"), cfg.Leader.Namespace)
	elector := leader.New(cfg.Leader, leases, log)

	registry := metrics.NewRegistry(config.Binary)
	decisions := decision.NewLog(config.Binary, decisionsKept)
	m := &manager{cfg: cfg, log: log, client: client, decisions: decisions, metrics: loop.NewMetrics(registry)}
	srv, err := serving.New(config.Binary, cfg.Serving, serving.Deps{
		Log: log, Registry: registry, Set: cfg.Set, Decisions: decisions,
		Config:   map[string]any{"kubecontrollermanager.config.k8s.io": effective(cfg)},
		Identity: cfg.Leader.Identity, Leader: elector.Leader, Profiling: cfg.Profiling, Anonymous: true,
	})
	if err != nil {
		return err
	}
	return process.Run(ctx, log,
		process.Part{Name: "secure port", Run: srv.Run},
		process.Trim(log),
		process.Part{Name: "election", Run: func(ctx context.Context) error { return elector.Run(ctx, m.lead) }},
	)
}

// effective is what /configz shows: every option by name.
func effective(cfg *config.Config) map[string]string {
	out := map[string]string{}
	for _, o := range cfg.Set.List() {
		out[o.Name] = o.Value
	}
	return out
}

func newClient(cfg *config.Config) (*kube.Client, error) {
	rc, err := kube.Load(kube.Config{
		Kubeconfig: cfg.Kubeconfig, Master: cfg.Master, UserAgent: config.Binary,
		QPS: cfg.QPS, Burst: int(cfg.Burst), ContentType: cfg.ContentType,
	})
	if err != nil {
		return nil, err
	}
	// The API server is near; decompressing costs more memory than it saves time.
	rc.DisableCompression = true
	if cfg.UseAccounts {
		if err := loop.UseAccounts(rc, time.Now); err != nil {
			return nil, err
		}
		// Each account has its own limit; what the process asks for itself is informers, elections and events.
		rc = rest.CopyConfig(rc)
		rc.QPS = -1
	}
	client, err := kube.NewClient(rc, loop.Kinds()...)
	if err != nil {
		return nil, err
	}
	return client, client.Verify()
}

// manager makes and runs the controllers while this instance leads.
type manager struct {
	cfg       *config.Config
	log       *zap.Logger
	client    *kube.Client
	decisions *decision.Log
	metrics   *loop.Metrics
}

func (m *manager) lead(ctx context.Context) error {
	recordCtx, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecording()
	sources := loop.NewSources(m.client)
	type running struct {
		ctl     *loop.Controller
		account string
	}
	var all []running
	table := builders(m.cfg)
	for _, c := range config.Controllers() {
		build, known := table[c.Name]
		switch {
		case !m.cfg.Enabled(c):
			m.log.Info("controller is off", zap.String("controller", c.Name))
			continue
		case !known:
			m.log.Warn("controller not built in this version", zap.String("controller", c.Name))
			continue
		}
		ctl, err := build(loop.Deps{
			Name: c.Name, Log: m.log.Named(c.Name), Client: m.client, Sources: sources,
			Events:    &lazyRecorder{make: func() recorder { return kube.Recorder(recordCtx, m.client, eventSource(c), "") }},
			Decisions: m.decisions, Metrics: m.metrics, Now: time.Now,
		})
		if err != nil {
			return fmt.Errorf("controller %s: %w", c.Name, err)
		}
		if ctl == nil {
			m.log.Info("controller has nothing to do with these options", zap.String("controller", c.Name))
			continue
		}
		all = append(all, running{ctl, c.Account})
	}
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { _ = sources.Run(ctx) })
	for _, r := range all {
		runCtx := ctx
		if m.cfg.UseAccounts && r.account != "" {
			runCtx = loop.As(ctx, r.account)
		}
		group.Go(func() {
			if err := r.ctl.Run(runCtx); err != nil && ctx.Err() == nil {
				m.log.Error("controller ended", zap.String("controller", r.ctl.Name()), zap.Error(err))
			}
		})
	}
	m.log.Info("controllers run", zap.Int("count", len(all)))
	<-ctx.Done()
	return nil
}
