// Package process runs the parts of a binary in order and stops them in
// reverse.
//
// Data in: named parts, each a blocking function. Data out: the first failure.
// It owns one goroutine per part and waits for all of them.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"go.uber.org/zap"
)

// Part is one long-running piece of a binary.
type Part struct {
	Name string
	// Run blocks until ctx ends or the part fails.
	Run func(ctx context.Context) error
	// Ready, where set, is waited for before the next part starts.
	Ready func(ctx context.Context) error
}

// SignalContext returns a context that ends on SIGTERM or SIGINT. A second
// signal ends the process at once.
func SignalContext() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Run starts the parts in order and, when ctx ends or one part fails, stops
// them in the reverse order, each fully before the one it stands on. It
// returns the first failure, nil after an ordinary stop.
func Run(ctx context.Context, log *zap.Logger, parts ...Part) error {
	type running struct {
		name   string
		cancel context.CancelFunc
		done   chan error
	}
	failed := make(chan error, len(parts))
	var started []running
	var first error
	for _, p := range parts {
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{name: p.Name, cancel: cancel, done: make(chan error, 1)}
		go func() {
			err := runPart(partCtx, p)
			r.done <- err
			failed <- err
		}()
		started = append(started, r)
		log.Debug("part started", zap.String("part", p.Name))
		if p.Ready == nil {
			continue
		}
		if first = awaitReady(ctx, p, failed); first != nil {
			break
		}
	}
	if first == nil {
		select {
		case <-ctx.Done():
		case first = <-failed:
		}
	}
	for i := len(started) - 1; i >= 0; i-- {
		started[i].cancel()
		if err := <-started[i].done; err != nil && first == nil {
			first = err
		}
		log.Debug("part stopped", zap.String("part", started[i].name))
	}
	if errors.Is(first, context.Canceled) && ctx.Err() != nil {
		return nil //nolint:nilerr // an ordinary stop
	}
	return first
}

func runPart(ctx context.Context, p Part) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s: panic: %v\n%s", p.Name, v, debug.Stack())
		}
	}()
	err = p.Run(ctx)
	switch {
	case err == nil || (ctx.Err() != nil && errors.Is(err, ctx.Err())):
		if ctx.Err() == nil {
			return fmt.Errorf("%s: ended by itself", p.Name)
		}
		return nil //nolint:nilerr // an ordinary stop
	default:
		return fmt.Errorf("%s: %w", p.Name, err)
	}
}

// awaitReady waits until the part is ready, the process is told to stop, or
// any part fails.
func awaitReady(ctx context.Context, p Part, failed <-chan error) error {
	readyCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- p.Ready(readyCtx) }()
	select {
	case err := <-failed:
		cancel()
		_ = <-ready // the stop's own error
		return err
	case err := <-ready:
		if err != nil {
			return fmt.Errorf("%s: wait until ready: %w", p.Name, err)
		}
		return nil
	}
}
