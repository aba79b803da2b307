package timing

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := With(t.Context(), &Timing{ID: "x", Arrived: time.Now()})
		start := time.Now()
		time.Sleep(time.Second)
		From(ctx).Since(Storage, start)
		From(ctx).Since(Storage, start)
		From(ctx).Since(Queue, start.Add(500*time.Millisecond))
		var got []string
		From(ctx).Spent(func(name string, d time.Duration) { got = append(got, fmt.Sprint(name, " ", d)) })
		if s := strings.Join(got, ", "); s != "apf-queue-wait 500ms, etcd 2s" {
			t.Errorf("spent %s", s)
		}
	})
	none := From(context.Background())
	none.Since(Storage, time.Now())
	none.Spent(func(string, time.Duration) { t.Error("nothing was spent") })
}

func BenchmarkTiming(b *testing.B) {
	ctx := With(b.Context(), &Timing{})
	b.ReportAllocs()
	for b.Loop() {
		From(ctx).Since(Storage, time.Now())
	}
}
