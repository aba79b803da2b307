package process

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

// journal records what happens in order.
type journal struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) part(name string) Part {
	return Part{Name: name, Run: func(ctx context.Context) error {
		j.add("start " + name)
		<-ctx.Done()
		j.add("stop " + name)
		return nil
	}, Ready: func(context.Context) error {
		j.add("ready " + name)
		return nil
	}}
}

func TestStopsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Run(ctx, zap.NewNop(), j.part("store"), j.part("cache"), j.part("server")) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		var stops []string
		for _, line := range j.lines {
			if strings.HasPrefix(line, "stop") {
				stops = append(stops, line)
			}
		}
		if diff := cmp.Diff([]string{"stop server", "stop cache", "stop store"}, stops); diff != "" {
			t.Errorf("stops (-want +got):\n%s\nall: %v", diff, j.lines)
		}
	})
}

func TestFailureStopsTheRest(t *testing.T) {
	broken := errors.New("broken")
	for scenario, tc := range map[string]struct {
		part Part
		want string
	}{
		"a part fails":       {Part{Name: "p", Run: func(context.Context) error { return broken }}, "p: broken"},
		"a part panics":      {Part{Name: "p", Run: func(context.Context) error { panic("at the disco") }}, "p: panic: at the disco"},
		"a part just ends":   {Part{Name: "p", Run: func(context.Context) error { return nil }}, "p: ended by itself"},
		"a part never ready": {Part{Name: "p", Run: func(ctx context.Context) error { <-ctx.Done(); return nil }, Ready: func(context.Context) error { return broken }}, "p: wait until ready: broken"},
	} {
		t.Run(scenario, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &journal{}
				err := Run(t.Context(), zap.NewNop(), j.part("store"), tc.part)
				if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
					t.Errorf("error %v, want %q", err, tc.want)
				}
				if j.lines[len(j.lines)-1] != "stop store" {
					t.Errorf("the other part was not stopped: %v", j.lines)
				}
			})
		})
	}
}

func TestPartsWaitForThoseTheyStandOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		slow := j.part("slow")
		slow.Ready = func(context.Context) error {
			time.Sleep(time.Minute) // the test's own clock
			j.add("ready slow")
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Run(ctx, zap.NewNop(), slow, j.part("next")) }()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"start slow", "ready slow"}, j.lines[:2]); diff != "" {
			t.Errorf("first (-want +got):\n%s", diff)
		}
	})
}
