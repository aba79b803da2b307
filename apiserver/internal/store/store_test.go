package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// TestStreamCatchesUp reads a history that etcd sends in several parts: no part may say that what is in a later one was seen, since a consistent read would miss it.
func TestStreamCatchesUp(t *testing.T) {
	const url = "http://127.0.0.1:0"
	etcd, err := StartEmbedded(t.Context(), EmbeddedConfig{DataDir: t.TempDir(), Name: "etcd", ClientURL: url, PeerURL: url, PeerAdvertise: url, Unsafe: true}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	s := New(Config{Prefix: "/registry", Metrics: NewMetrics(prometheus.NewRegistry(), byPrefix)}, etcd.Client)
	const changes = 2500
	var first, last int64
	for i := range changes {
		if last, err = s.Create(t.Context(), fmt.Sprintf("/pods/%d", i), []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = last
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, parts := 0, 0
	_ = s.Stream(ctx, first-1, func(events []Event, rev int64) {
		parts++
		seen += len(events)
		if want := first + int64(seen) - 1; len(events) > 0 && rev != want {
			t.Errorf("part %d: revision %d with changes up to %d", parts, rev, want)
		}
		if rev >= last {
			cancel()
		}
	})
	if seen != changes || parts < 2 {
		t.Errorf("%d changes in %d parts, want %d in several", seen, parts, changes)
	}
}
