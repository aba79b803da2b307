package app

import (
	"context"
	"net/http"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime"

	"flagship/apiserver/internal/fairness"
	"flagship/apiserver/internal/server"
)

// reconcileInterval is how often the default objects of priority and fairness are looked after.
const reconcileInterval = time.Minute

// limits decides which requests are served.
func (s *apiserver) limits(mux *http.ServeMux) server.Limits {
	if !s.cfg.Fairness {
		return fairness.NewNumbers(s.cfg.MaxInFlight, s.cfg.MaxMutating, s.registry)
	}
	s.fairness = fairness.New(fairness.Config{Seats: s.cfg.MaxInFlight + s.cfg.MaxMutating, Wait: s.cfg.RequestTimeout / 4}, fairness.Deps{
		Log: s.log.Named("fairness"), Registry: s.registry, Costs: s.api,
		ApplyStatus: func(ctx context.Context, obj runtime.Object) error {
			return s.local.as("api-priority-and-fairness-config-consumer-v1").ApplyStatus(ctx, obj)
		},
	})
	s.fairness.Register(mux)
	return s.fairness
}

// keepFairness looks after the default objects until ctx ends.
func (s *apiserver) keepFairness(ctx context.Context) {
	tick := time.NewTicker(reconcileInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := reconcileFairness(ctx, s.fairness, s.local); err != nil && ctx.Err() == nil {
				s.log.Warn("cannot look after the objects of priority and fairness", zap.Error(err))
			}
		}
	}
}

// reconcileFairness creates the default objects that are missing, and mends the others.
func reconcileFairness(ctx context.Context, f *fairness.Controller, l *local) error {
	return f.Reconcile(ctx, l.as("api-priority-and-fairness-config-producer-v1"))
}
