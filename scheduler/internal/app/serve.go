package app

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"flagship/internal/decision"
	"flagship/internal/kube"
	"flagship/internal/process"
	"flagship/internal/serving"
	"flagship/scheduler/internal/config"
	"flagship/scheduler/internal/engine"
)

type parts struct {
	log       *zap.Logger
	client    *kube.Client
	engine    *engine.Engine
	watches   *watches
	registry  *prometheus.Registry
	decisions *decision.Log
	host      string
}

// serve starts the parts: the secure port first, so that probes are answered, the engine before the informers that post to
// it, and the election last.
func serve(ctx context.Context, cfg *config.Config, p parts) error {
	elector := newElector(cfg, p.client, p.host, p.log)
	srv, err := serving.New(config.Binary, cfg.Serving, serving.Deps{
		Log: p.log, Registry: p.registry, Set: cfg.Set, Decisions: p.decisions,
		Config:   map[string]any{"kubescheduler.config.k8s.io": cfg.Component},
		Identity: cfg.Leader.Identity, Leader: elector.Leader,
		Profiling: *cfg.Component.EnableProfiling, Anonymous: true,
	})
	if err != nil {
		return err
	}
	srv.Checks().Add(serving.Check{Name: "sched-handler-sync", Ready: true, Probe: func(context.Context) error {
		if !p.watches.hasSynced() {
			return errors.New("informers have not synced")
		}
		return nil
	}})
	return process.Run(ctx, p.log,
		process.Part{Name: "secure port", Run: srv.Run},
		process.Part{Name: "engine", Run: p.engine.Run},
		process.Part{Name: "informers", Run: p.watches.Run, Ready: p.watches.wait},
		process.Trim(p.log),
		process.Part{Name: "election", Run: func(ctx context.Context) error { return elector.Run(ctx, p.engine.Lead) }},
	)
}
