package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"gopkg.in/natefinch/lumberjack.v2"
)

// Audit is a policy and where its events go. A nil one tells nothing.
type Audit struct {
	policy  *Policy
	sink    Sink
	parts   []runner
	metrics *counters
	// decode makes JSON of protobuf answers.
	decode func([]byte) ([]byte, error)
}

// runner is a sink that works in the background.
type runner interface{ Run(ctx context.Context) }

type counters struct {
	events, rejected prometheus.Counter
	failures, levels *prometheus.CounterVec
}

func newCounters(reg prometheus.Registerer) *counters {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Subsystem: "apiserver_audit", Name: name, Help: help}
	}
	c := &counters{
		events:   prometheus.NewCounter(opts("event_total", "[ALPHA] Counter of audit events generated and sent to the audit backend.")),
		rejected: prometheus.NewCounter(opts("requests_rejected_total", "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging backend.")),
		failures: prometheus.NewCounterVec(opts("error_total", "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error."), []string{"plugin"}),
		levels:   prometheus.NewCounterVec(opts("level_total", "Counter of policy levels for audit events (1 per request)."), []string{"level"}),
	}
	reg.MustRegister(c.events, c.rejected, c.failures, c.levels)
	return c
}

// New makes the audit that the flags ask for: nil without a policy or without a place to send events to. decode makes JSON of an answer in protobuf.
//
// Errors: a file is missing or wrong.
func New(cfg *Config, reg prometheus.Registerer, decode func([]byte) ([]byte, error), log *zap.Logger) (*Audit, error) {
	if cfg.PolicyFile == "" {
		if cfg.Log.Path != "" || cfg.Webhook.ConfigFile != "" {
			log.Warn("without --audit-policy-file nothing is audited")
		}
		return nil, nil
	}
	policy, strange, err := LoadPolicy(cfg.PolicyFile)
	if err != nil {
		return nil, fmt.Errorf("--audit-policy-file: %w", err)
	}
	if strange != nil {
		log.Warn("the audit policy has fields that are not known", zap.Error(strange))
	}
	a := &Audit{policy: policy, metrics: newCounters(reg), decode: decode}
	var sinks union
	add := func(name string, s Sink, m Mode, b Batch, t Truncate, failed func(n int, err error)) {
		if t.Enabled {
			s = &truncating{next: s, cfg: t, failed: failed}
		}
		switch m {
		case Batched:
			queue := newBatching(s, b, failed)
			a.parts = append(a.parts, queue)
			s = queue
		case Blocking:
			s = forgiving{s}
		}
		sinks = append(sinks, s)
		log.Info("requests are audited", zap.String("to", name), zap.String("policy", cfg.PolicyFile))
	}
	if path := cfg.Log.Path; path != "" {
		file, err := openLog(&cfg.Log)
		if err != nil {
			return nil, fmt.Errorf("--audit-log-path: %w", err)
		}
		failed := a.failed("log", log)
		add(path, &logSink{out: file, legacy: cfg.Log.Format == FormatLegacy, failed: failed}, cfg.Log.Mode, cfg.Log.Batch, cfg.Log.Truncate, failed)
	}
	if path := cfg.Webhook.ConfigFile; path != "" {
		failed := a.failed("webhook", log)
		hook, err := newHook(path, cfg.Webhook.InitialBackoff, failed)
		if err != nil {
			return nil, fmt.Errorf("--audit-webhook-config-file: %w", err)
		}
		add(hook.url, hook, cfg.Webhook.Mode, cfg.Webhook.Batch, cfg.Webhook.Truncate, failed)
	}
	if len(sinks) == 0 {
		return nil, nil
	}
	a.sink = sinks
	return a, nil
}

// failed counts events that a sink could not take.
func (a *Audit) failed(plugin string, log *zap.Logger) func(n int, err error) {
	return func(n int, err error) {
		a.metrics.failures.WithLabelValues(plugin).Add(float64(n))
		log.Error("audit events are lost", zap.String("plugin", plugin), zap.Int("events", n), zap.Error(err))
	}
}

// Run sends what is gathered until ctx ends, and then what is left.
func (a *Audit) Run(ctx context.Context) error {
	done := make(chan struct{}, len(a.parts))
	for _, p := range a.parts {
		go func() {
			p.Run(ctx)
			done <- struct{}{}
		}()
	}
	<-ctx.Done()
	for range a.parts {
		<-done
	}
	return nil
}

// openLog opens the file of a log; it turns into another when it is large.
func openLog(cfg *LogConfig) (writeSyncer, error) {
	if cfg.Path == "-" {
		return os.Stdout, nil
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if cfg.MaxSize == 0 {
		return f, nil
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return &lumberjack.Logger{Filename: cfg.Path, MaxAge: cfg.MaxAge, MaxBackups: cfg.MaxBackups, MaxSize: cfg.MaxSize, Compress: cfg.Compress}, nil
}
