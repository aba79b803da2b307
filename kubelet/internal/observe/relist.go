package observe

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/cri"
)

// Periods of listing without and with an event stream, and the age of the last list at which the node is unhealthy.
const (
	fastPeriod = time.Second
	slowPeriod = 30 * time.Second
	threshold  = 3 * time.Minute
)

// Runtime is the part of CRI that observing needs.
type Runtime interface {
	Sandboxes(ctx context.Context, uid string) ([]cri.SandboxInfo, error)
	Containers(ctx context.Context, uid string) ([]cri.ContainerInfo, error)
	Events(ctx context.Context, opened func(), f func(podUID string)) error
}

// Relist watches the runtime.
type Relist struct {
	log     *zap.Logger
	runtime Runtime
	wake    func(types.UID)
	last    atomic.Int64 // unix nanoseconds of the last good list
	stream  atomic.Bool
}

// New returns a Relist that calls wake with the UID of each pod something happened to.
func New(log *zap.Logger, rt Runtime, wake func(types.UID)) *Relist {
	return &Relist{log: log, runtime: rt, wake: wake}
}

// Healthy returns an error when the runtime has not been listed for three minutes, in upstream's words.
func (r *Relist) Healthy(now time.Time) error {
	last := r.last.Load()
	if last == 0 {
		return errors.New("pleg has yet to be successful")
	}
	if age := now.Sub(time.Unix(0, last)); age > threshold {
		return fmt.Errorf("pleg was last seen active %v ago; threshold is %v", age, threshold)
	}
	return nil
}

// Run watches until ctx ends.
func (r *Relist) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.follow(ctx)
	}()
	defer func() { <-done }()
	old := map[string]string{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if now, err := r.list(ctx); err != nil {
			r.log.Debug("list containers", zap.Error(err))
		} else {
			r.compare(old, now)
			old = now
			r.last.Store(time.Now().UnixNano())
		}
		if r.stream.Load() {
			timer.Reset(slowPeriod)
		} else {
			timer.Reset(fastPeriod)
		}
	}
}

// follow keeps the event stream open; a runtime without one is asked no more.
func (r *Relist) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.runtime.Events(ctx, func() { r.stream.Store(true) }, func(uid string) { r.wake(types.UID(uid)) })
		r.stream.Store(false)
		if errors.Is(err, cri.ErrNoEvents) {
			r.log.Info("the runtime has no event stream: containers are listed every second")
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
}

// list maps container and sandbox IDs to "podUID/state".
func (r *Relist) list(ctx context.Context) (map[string]string, error) {
	sandboxes, err := r.runtime.Sandboxes(ctx, "")
	if err != nil {
		return nil, err
	}
	containers, err := r.runtime.Containers(ctx, "")
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(sandboxes)+len(containers))
	for _, s := range sandboxes {
		state := "stopped"
		if s.Ready {
			state = "ready"
		}
		out[s.ID] = s.UID + "/" + state
	}
	for _, c := range containers {
		out[c.ID] = c.PodUID + "/" + string(c.State)
	}
	return out, nil
}

// compare wakes the pod of everything that appeared, changed or vanished.
func (r *Relist) compare(old, now map[string]string) {
	woken := map[types.UID]bool{}
	wake := func(v string) {
		if uid := types.UID(v[:len(v)-len(stateOf(v))-1]); !woken[uid] {
			woken[uid] = true
			r.wake(uid)
		}
	}
	for id, v := range now {
		if old[id] != v {
			wake(v)
		}
	}
	for id, v := range old {
		if _, ok := now[id]; !ok {
			wake(v)
		}
	}
}

func stateOf(v string) string {
	for i := len(v) - 1; i >= 0; i-- {
		if v[i] == '/' {
			return v[i+1:]
		}
	}
	return ""
}
