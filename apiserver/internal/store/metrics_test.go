package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// byPrefix takes /registry/RESOURCE/… apart.
func byPrefix(key string) schema.GroupResource {
	return schema.GroupResource{Resource: strings.Split(key, "/")[2]}
}

func TestMetrics(t *testing.T) {
	const url = "http://127.0.0.1:0"
	etcd, err := StartEmbedded(t.Context(), EmbeddedConfig{DataDir: t.TempDir(), Name: "etcd", ClientURL: url, PeerURL: url, PeerAdvertise: url, Unsafe: true}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	reg := prometheus.NewRegistry()
	s := New(Config{Prefix: "/registry", Metrics: NewMetrics(reg, byPrefix)}, etcd.Client)
	ctx := t.Context()
	rev, err := s.Create(ctx, "/pods/a", []byte("1"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	first := rev
	if _, err = s.Create(ctx, "/pods/a", nil, time.Hour); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if rev, err = s.Update(ctx, "/pods/a", []byte("2"), rev, 0); err != nil {
		t.Error(err)
	}
	if _, err = s.Update(ctx, "/pods/a", []byte("3"), 1, 0); err == nil {
		t.Error("no conflict")
	}
	for _, key := range []string{"/pods/a", "/nodes/a"} {
		_, _, _ = s.Get(ctx, key)
	}
	_, _ = s.List(ctx, "/pods/", "", 0, 0)
	_, _ = s.Revision(ctx)
	if rev, err = s.Delete(ctx, "/pods/a", rev); err != nil {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err = s.Get(gone, "/nodes/a"); err == nil {
		t.Error("read though it was not to be")
	}
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	_ = s.Stream(ctx, first-1, func(_ []Event, seen int64) {
		if seen >= rev {
			cancel()
		}
	})
	err = testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP apiserver_storage_events_received_total [BETA] Number of etcd events received split by kind.
# TYPE apiserver_storage_events_received_total counter
apiserver_storage_events_received_total{group="",resource="pods"} 3
# HELP etcd_request_errors_total [ALPHA] Etcd failed request counts for each operation and object type.
# TYPE etcd_request_errors_total counter
etcd_request_errors_total{group="",operation="get",resource="nodes"} 1
# HELP etcd_requests_total [ALPHA] Etcd request counts for each operation and object type.
# TYPE etcd_requests_total counter
etcd_requests_total{group="",operation="create",resource="pods"} 2
etcd_requests_total{group="",operation="delete",resource="pods"} 1
etcd_requests_total{group="",operation="get",resource="nodes"} 2
etcd_requests_total{group="",operation="get",resource="pods"} 1
etcd_requests_total{group="",operation="getCurrentResourceVersion",resource=""} 1
etcd_requests_total{group="",operation="list",resource="pods"} 1
etcd_requests_total{group="",operation="update",resource="pods"} 2
# HELP etcd_lease_object_counts [ALPHA] Number of objects attached to a single etcd lease.
# TYPE etcd_lease_object_counts histogram
etcd_lease_object_counts_bucket{le="10"} 1
etcd_lease_object_counts_bucket{le="50"} 1
etcd_lease_object_counts_bucket{le="100"} 1
etcd_lease_object_counts_bucket{le="500"} 1
etcd_lease_object_counts_bucket{le="1000"} 1
etcd_lease_object_counts_bucket{le="2500"} 1
etcd_lease_object_counts_bucket{le="5000"} 1
etcd_lease_object_counts_bucket{le="+Inf"} 1
etcd_lease_object_counts_sum 1
etcd_lease_object_counts_count 1
`), "apiserver_storage_events_received_total", "etcd_request_errors_total", "etcd_requests_total", "etcd_lease_object_counts")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "etcd_request_duration_seconds"); n != 7 || err != nil {
		t.Error(n, err)
	}
	if n, err := testutil.GatherAndCount(reg, "apiserver_storage_list_duration_seconds"); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func TestMetricsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg, byPrefix)
	for i := range maxSeries + 100 {
		m.received(fmt.Sprintf("/registry/r%d/x", i))
	}
	if n, err := testutil.GatherAndCount(reg, "apiserver_storage_events_received_total"); n != maxSeries+1 || err != nil {
		t.Error(n, err)
	}
	if n := testutil.ToFloat64(m.events.WithLabelValues("", "other")); n != 100 {
		t.Error(n)
	}
}

func BenchmarkRequested(b *testing.B) {
	m := NewMetrics(prometheus.NewRegistry(), func(string) schema.GroupResource { return schema.GroupResource{Resource: "pods"} })
	b.ReportAllocs()
	for b.Loop() {
		m.requested(opGet, "/registry/pods/a", time.Now(), nil)
	}
}
