package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"

	"go.uber.org/zap"

	"flagship/internal/decision"
	"flagship/internal/kube"
	"flagship/internal/leader"
	"flagship/internal/logging"
	"flagship/internal/metrics"
	"flagship/scheduler/internal/bind"
	"flagship/scheduler/internal/config"
	"flagship/scheduler/internal/engine"
	"flagship/scheduler/internal/queue"
)

// Bounds of the process.
const (
	decisionsKept = 4096
	inboxSize     = 4096
	maxRequests   = 64
)

// Run runs the scheduler until ctx ends.
func Run(ctx context.Context, cfg *config.Config) error {
	if cfg.WriteTo != "" {
		return writeConfig(cfg)
	}
	log, err := logging.New(cfg.Logging)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	cfg.Set.WarnInert(log)
	client, err := newClient(cfg)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read hostname: %w", err)
	}
	profiles := map[string]*engine.Profile{}
	for i := range cfg.Profiles {
		p, err := newProfile(&cfg.Profiles[i])
		if err != nil {
			return err
		}
		profiles[p.Name] = p
	}
	registry := metrics.NewRegistry(config.Binary)
	decisions := decision.NewLog(config.Binary, decisionsKept)
	recordCtx, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecording()

	var eng *engine.Engine
	w, err := newWatches(client, func() *engine.Engine { return eng })
	if err != nil {
		return err
	}
	binder := bind.New(bind.Config{VolumeTimeout: time.Duration(*cfg.Profiles[0].Args.Binding.BindTimeoutSeconds) * time.Second}, client, w)
	eng = engine.New(engine.Config{
		Queue: queue.Config{
			InitialBackoff:   time.Duration(*cfg.Component.PodInitialBackoffSeconds) * time.Second,
			MaxBackoff:       time.Duration(*cfg.Component.PodMaxBackoffSeconds) * time.Second,
			MaxUnschedulable: cfg.MaxUnschedulable,
		},
		Inbox: inboxSize, Requests: maxRequests, Instance: host,
	}, engine.Deps{
		Log: log, Profiles: profiles, Binder: binder, Decisions: decisions, Metrics: engine.NewMetrics(registry),
		Recorder: kube.Recorder(recordCtx, client, cfg.Profiles[0].Name, ""),
		Now:      time.Now, Seed: rand.Uint64,
	})
	return serve(ctx, cfg, parts{log: log, client: client, engine: eng, watches: w, registry: registry, decisions: decisions, host: host})
}

func newClient(cfg *config.Config) (*kube.Client, error) {
	cc := cfg.Component.ClientConnection
	rc, err := kube.Load(kube.Config{
		Kubeconfig: cc.Kubeconfig, Master: cfg.Master, UserAgent: config.Binary, QPS: cc.QPS, Burst: int(cc.Burst), ContentType: cc.ContentType,
	})
	if err != nil {
		return nil, err
	}
	client, err := kube.NewClient(rc, v1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme, storagev1.AddToScheme, coordinationv1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return client, client.Verify()
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

// hasSynced says whether every informer has delivered what there was at the start.
func (w *watches) hasSynced() bool {
	for _, f := range w.synced {
		if !f() {
			return false
		}
	}
	return true
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

func newElector(cfg *config.Config, client *kube.Client, host string, log *zap.Logger) *leader.Elector {
	cfg.Leader.Identity = host + "_" + string(uuid.NewUUID())
	leases := kube.For[coordinationv1.Lease, coordinationv1.LeaseList](client, coordinationv1.SchemeGroupVersion.WithResource("leases"), cfg.Leader.Namespace)
	return leader.New(cfg.Leader, leases, log)
}
