package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	schedconfig "k8s.io/kube-scheduler/config/v1"

	"flagship/internal/decision"
	"flagship/scheduler/internal/cycle"
	"flagship/scheduler/internal/plugin"
	"flagship/scheduler/internal/preempt"
	"flagship/scheduler/internal/queue"
	"flagship/scheduler/internal/snapshot"
)

// api is a Binder and Recorder that notes what it is asked, and fails bindings as often as it is told to.
type api struct {
	mu    sync.Mutex // guards all
	calls []string
	fail  int
	took  time.Duration
	bound func(p *v1.Pod, node string)
}

func (a *api) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprintf(format, args...))
}

func (a *api) Bind(_ context.Context, p *v1.Pod, node string, _ plugin.VolumePlan) error {
	time.Sleep(a.took) // synctest's clock
	a.mu.Lock()
	failing := a.fail > 0
	a.fail--
	a.mu.Unlock()
	if failing {
		a.note("bind %s failed", p.Name)
		return errors.New("conflict")
	}
	a.note("bind %s to %s", p.Name, node)
	if a.bound != nil {
		a.bound(p, node)
	}
	return nil
}

func (a *api) Condition(_ context.Context, p *v1.Pod, reason, message string, nominated *string, _ time.Time) error {
	at := ""
	if nominated != nil {
		at = " nominated " + *nominated
	}
	a.note("condition %s %s: %s%s", p.Name, reason, message, at)
	return nil
}

func (a *api) Nominate(context.Context, *v1.Pod, string) error { return nil }

func (a *api) Evict(_ context.Context, victim *snapshot.Pod, _ string, _ time.Time) error {
	a.note("evict %s", victim.Name)
	return nil
}

func (a *api) Eventf(runtime.Object, string, string, string, ...any) {}

func (a *api) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.calls
	a.calls = nil
	slices.Sort(out)
	return out
}

func cpu(n int64) v1.ResourceList {
	return v1.ResourceList{v1.ResourceCPU: *resource.NewQuantity(n, resource.DecimalSI), v1.ResourcePods: *resource.NewQuantity(10, resource.DecimalSI)}
}

func pod(name, node string, priority int32, n int64) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name)}}
	p.Spec.SchedulerName, p.Spec.NodeName, p.Spec.Priority = "s", node, &priority
	p.Spec.Containers = []v1.Container{{Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: cpu(n)[v1.ResourceCPU]}}}}
	return p
}

func newEngine(t *testing.T, a *api) *Engine {
	fit, err := plugin.NewNodeResourcesFit(schedconfig.NodeResourcesFitArgs{ScoringStrategy: &schedconfig.ScoringStrategy{
		Type: schedconfig.LeastAllocated, Resources: []schedconfig.ResourceSpec{{Name: "cpu", Weight: 1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{
		Queue: queue.Config{InitialBackoff: time.Second, MaxBackoff: 10 * time.Second, MaxUnschedulable: 5 * time.Minute}, Inbox: 16, Requests: 4,
	}, Deps{
		Log: zap.NewNop(), Binder: a, Recorder: a, Decisions: decision.NewLog("test", 16), Metrics: NewMetrics(prometheus.NewRegistry()),
		Now: time.Now, Seed: func() uint64 { return 0 },
		Profiles: map[string]*Profile{"s": {
			Profile: &cycle.Profile{Name: "s", Filters: []plugin.Filter{fit}, Scorers: []cycle.Weighted{{Scorer: fit, Weight: 1}}, Preempt: true},
			Limits:  preempt.Limits{Percentage: 10, Absolute: 100},
		}},
	})
}

// run runs f with an engine that leads and knows the node n of 4 CPUs.
func run(t *testing.T, a *api, f func(t *testing.T, e *Engine)) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, a)
		ctx, stop := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		parts.Go(func() { _ = e.Run(ctx) })
		parts.Go(func() { _ = e.Lead(ctx) })
		n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
		n.Status.Allocatable = cpu(4)
		e.SetNode(n)
		f(t, e)
		stop()
		parts.Wait()
	})
}

func expect(t *testing.T, a *api, want ...string) {
	t.Helper()
	synctest.Wait()
	if d := cmp.Diff(want, a.take()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestAssume has the second pod see the room that the first takes before its binding is done.
func TestAssume(t *testing.T) {
	a := &api{took: time.Second}
	run(t, a, func(t *testing.T, e *Engine) {
		e.SetPod(pod("a", "", 0, 3))
		e.SetPod(pod("b", "", 0, 3))
		expect(t, a, "condition b Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
		time.Sleep(2 * time.Second)
		expect(t, a, "bind a to n")
		e.RemovePod(pod("a", "n", 0, 3))
		time.Sleep(2 * time.Second)
		expect(t, a, "bind b to n")
	})
}

// TestStaleNews has old news of a pod come after its binding: it must not be scheduled again.
func TestStaleNews(t *testing.T) {
	a := &api{}
	run(t, a, func(t *testing.T, e *Engine) {
		e.SetPod(pod("a", "", 0, 1))
		expect(t, a, "bind a to n")
		e.SetPod(pod("a", "", 0, 1))
		e.SetPod(pod("a", "n", 0, 1))
		time.Sleep(time.Minute)
		expect(t, a)
	})
}

// TestBindingFails has the pod tried again after its backoff, on the room that it had taken.
func TestBindingFails(t *testing.T) {
	a := &api{fail: 1}
	run(t, a, func(t *testing.T, e *Engine) {
		e.SetPod(pod("a", "", 0, 4))
		expect(t, a, "bind a failed", "condition a SchedulerError: conflict")
		time.Sleep(time.Second + time.Millisecond)
		expect(t, a, "bind a to n")
	})
}

// TestPreemption has a pod push another off and take its place when it is gone.
func TestPreemption(t *testing.T) {
	a := &api{}
	run(t, a, func(t *testing.T, e *Engine) {
		e.SetPod(pod("low", "n", 0, 4))
		e.SetPod(pod("high", "", 10, 4))
		expect(t, a, "condition high Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: found a potential placement for pod on node n, preempting 1 victims nominated n", "evict low")
		// The room is kept: a pod of a lower priority does not get it.
		e.RemovePod(pod("low", "n", 0, 4))
		e.SetPod(pod("sneak", "", 5, 4))
		synctest.Wait()
		if !slices.Contains(a.take(), "bind high to n") {
			t.Error("high did not get its place")
		}
	})
}
