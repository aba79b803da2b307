package observe

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/podstate"
)

// runtime lists one container and has events if told so.
type runtime struct {
	mu     sync.Mutex
	state  podstate.State
	lists  int
	events chan string // nil: no event stream
	broken error       // of lists
}

func (r *runtime) Sandboxes(context.Context, string) ([]cri.SandboxInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lists++
	return []cri.SandboxInfo{{ID: "sb", UID: "u", Ready: true}}, r.broken
}

func (r *runtime) Containers(context.Context, string) ([]cri.ContainerInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return []cri.ContainerInfo{{ID: "c", PodUID: "u", State: r.state}}, nil
}

func (r *runtime) Events(ctx context.Context, opened func(), f func(string)) error {
	r.mu.Lock()
	events := r.events
	r.mu.Unlock()
	if events == nil {
		return cri.ErrNoEvents
	}
	opened()
	for {
		select {
		case uid, ok := <-events:
			if !ok {
				return errors.New("stream broke")
			}
			f(uid)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listed is how often it was listed.
func (r *runtime) listed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lists
}

func (r *runtime) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// watch runs a Relist in a bubble of time and gives the woken pods since the last call.
func watch(t *testing.T, r *runtime) (rel *Relist, woken func() []types.UID) {
	t.Helper()
	var mu sync.Mutex
	var list []types.UID
	rel = New(zap.NewNop(), r, func(uid types.UID) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, uid)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- rel.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return rel, func() []types.UID {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		out := list
		list = nil
		return out
	}
}

func expect(t *testing.T, what string, got []types.UID, want ...types.UID) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: woken (-want +got):\n%s", what, diff)
	}
}

func TestWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runtime{state: podstate.Running}
		_, woken := watch(t, r)
		expect(t, "at first", woken(), "u")
		time.Sleep(5 * time.Second)
		expect(t, "nothing happened", woken())
		r.set(func() { r.state = podstate.Exited })
		time.Sleep(time.Second)
		expect(t, "a container exited", woken(), "u")
		if n := r.listed(); n < 6 {
			t.Errorf("listed %d times in 6 s, want every second", n)
		}
	})
}

func TestWithEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runtime{state: podstate.Running, events: make(chan string)}
		_, woken := watch(t, r)
		expect(t, "at first", woken(), "u")
		r.events <- "v"
		expect(t, "an event", woken(), "v")
		time.Sleep(25 * time.Second)
		if n := r.listed(); n > 3 {
			t.Errorf("listed %d times in 25 s although there are events", n)
		}
		r.set(func() { r.state = podstate.Exited }) // and its event is lost
		time.Sleep(35 * time.Second)
		expect(t, "the safety net", woken(), "u")
		close(r.events)
		synctest.Wait()
		r.set(func() { r.events = nil })
		before := r.listed()
		time.Sleep(time.Minute)
		if n := r.listed() - before; n < 25 {
			t.Errorf("listed %d times in a minute after the stream broke", n)
		}
	})
}

func TestHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runtime{}
		rel, woken := watch(t, r)
		if err := New(zap.NewNop(), r, nil).Healthy(time.Now()); err == nil {
			t.Error("healthy before the first list")
		}
		woken()
		if err := rel.Healthy(time.Now()); err != nil {
			t.Error(err)
		}
		r.set(func() { r.broken = errors.New("down") })
		time.Sleep(4 * time.Minute)
		if err := rel.Healthy(time.Now()); err == nil {
			t.Error("healthy although nothing was listed for four minutes")
		}
	})
}
