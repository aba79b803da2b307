package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/internal/decision"
	"flagship/kube-proxy/internal/config"
	"flagship/kube-proxy/internal/health"
	"flagship/kube-proxy/internal/rules"
	"flagship/kube-proxy/internal/track"
)

// fake is a backend that notes what it is given.
type fake struct {
	got     []string
	problem error
}

func (f *fake) Sync(_ context.Context, s *track.Snapshot, _ rules.LocalTraffic) (int, error) {
	f.got = nil
	if s.Only == nil {
		f.got = append(f.got, "all:")
	}
	for i := range s.Ports {
		f.got = append(f.got, s.Ports[i].Service.Name)
	}
	return len(s.Ports) + len(s.Only), f.problem
}

func (f *fake) Cleanup(context.Context) error { return nil }

// TestSync gives the backends what changed, and everything at first and after an error of any of them.
func TestSync(t *testing.T) {
	for mode, c := range map[string]struct{ first, change, gone, failed, after []string }{
		config.NFTables: {first: []string{"all:", "a", "b"}, change: []string{"b"}, failed: []string{"b"}, after: []string{"all:", "a", "b"}},
		config.IPTables: {first: []string{"all:", "a", "b"}, change: []string{"all:", "a", "b"}, gone: []string{"all:", "a"}, failed: []string{"all:", "a", "b"}, after: []string{"all:", "a", "b"}},
	} {
		t.Run(mode, func(t *testing.T) {
			four, six := &fake{}, &fake{}
			l := &loop{
				cfg: &config.Config{Mode: mode}, log: zap.NewNop(), now: time.Now, dirty: make(chan struct{}, 1), recorded: map[string]map[types.NamespacedName][]reach{},
				decisions: decision.NewLog(config.Binary, 16), metrics: newProxyMetrics(prometheus.NewRegistry(), mode),
				stacks: []stack{{name: "IPv4", backend: four}, {name: "IPv6", ipv6: true, backend: six}},
			}
			l.tracker = track.New("n", l.mark)
			l.health = health.NewProxy(time.Minute, time.Now, l.tracker.NodeDeleting)
			l.services = health.NewServices(l.log, l.health)
			svc := func(name string) *v1.Service {
				return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: v1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []v1.ServicePort{{Port: 80}}}}
			}
			step := func(what string, want []string, fails bool) {
				t.Helper()
				if err := l.sync(t.Context()); (err != nil) != fails {
					t.Errorf("%s: error %v", what, err)
				}
				if d := cmp.Diff(want, four.got); d != "" {
					t.Errorf("%s (-want +got):\n%s", what, d)
				}
			}
			l.tracker.SetService(svc("a"), false)
			l.tracker.SetService(svc("b"), false)
			step("first", c.first, false)
			l.tracker.SetService(svc("b"), false)
			step("one changed", c.change, false)
			if n := len(l.recorded["IPv4"]); n != 2 {
				t.Errorf("%d services recorded, want 2", n)
			}
			l.tracker.SetService(svc("b"), true)
			step("one gone", c.gone, false)
			if n := len(l.recorded["IPv4"]); n != 1 {
				t.Errorf("%d services recorded, want 1", n)
			}
			six.problem = errors.New("no")
			l.tracker.SetService(svc("b"), false)
			step("the other family fails", c.failed, true)
			six.problem = nil
			step("after that", c.after, false)
		})
	}
}
