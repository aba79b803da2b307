package loop

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// TestController shows back-off after errors, a second sync after In, one sync at a time per key, and that the others go
// on after a panic.
func TestController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		seen := map[string][]time.Duration{}
		start := time.Now()
		c := Deps{Name: "test", Log: zap.NewNop(), Now: time.Now}.Controller(2, func(_ context.Context, key string) error {
			mu.Lock()
			defer mu.Unlock()
			seen[key] = append(seen[key], time.Since(start))
			switch n := len(seen[key]); {
			case key == "fails" && n < 3:
				return errors.New("not yet")
			case key == "later" && n == 1:
				return In(time.Minute)
			case key == "panics" && n == 1:
				panic("broken")
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		for _, k := range []string{"fails", "later", "panics", "plain", "plain"} {
			c.Add(k)
		}
		time.Sleep(2 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		want := map[string][]time.Duration{
			"fails": {0, 5 * time.Millisecond, 15 * time.Millisecond}, "later": {0, time.Minute},
			"panics": {0, 5 * time.Millisecond}, "plain": {0},
		}
		for k, times := range want {
			if !slices.Equal(seen[k], times) {
				t.Errorf("%s: synced at %v, want %v", k, seen[k], times)
			}
		}
	})
}

func TestExpectations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := NewExpectations()
		x.Expect("a", 2, "u1")
		x.Created("a")
		x.Gone("a", "u1")
		x.Gone("a", "u1")
		if x.Met("a") {
			t.Error("met with one creation missing")
		}
		x.Created("a")
		if !x.Met("a") {
			t.Error("not met with all seen")
		}
		x.Expect("b", 1)
		time.Sleep(expectationsLast + time.Second)
		if !x.Met("b") {
			t.Error("never given up")
		}
	})
}

type fakeCache string

func (f fakeCache) version() string { return string(f) }

func TestWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWritten()
		behind, level := fakeCache("99"), fakeCache("100")
		o := &metav1.ObjectMeta{ResourceVersion: "100"}
		w.Note("a", level, o)
		if !w.Seen("a") {
			t.Error("a cache that is level is waited for")
		}
		w.Note("b", behind, o)
		if w.Seen("b") || w.Wait("b") == nil {
			t.Error("a cache that is behind is not waited for")
		}
		time.Sleep(patience)
		if !w.Seen("b") {
			t.Error("waited for ever")
		}
	})
}

func TestIdentities(t *testing.T) {
	var mu sync.Mutex
	var log []string
	made := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
		switch {
		case strings.HasSuffix(r.URL.Path, "/token") && !made:
			w.WriteHeader(http.StatusNotFound)
		case strings.HasSuffix(r.URL.Path, "/token"):
			_, _ = io.WriteString(w, `{"status":{"token":"t1","expirationTimestamp":"2030-01-01T00:00:00Z"}}`)
		case strings.HasSuffix(r.URL.Path, "/serviceaccounts"):
			made = true
			_, _ = io.WriteString(w, `{}`)
		}
	}))
	defer srv.Close()
	cfg := &rest.Config{Host: srv.URL, BearerToken: "own", QPS: -1}
	if err := UseAccounts(cfg, func() time.Time { return time.Unix(0, 0) }); err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, ctx := range []context.Context{As(t.Context(), "x-controller"), As(t.Context(), "x-controller"), t.Context()} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/work", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	const sa = "/api/v1/namespaces/kube-system/serviceaccounts"
	want := []string{
		"POST " + sa + "/x-controller/token Bearer own", "POST " + sa + " Bearer own", "POST " + sa + "/x-controller/token Bearer own",
		"GET /work Bearer t1", "GET /work Bearer t1", "GET /work Bearer own",
	}
	if !slices.Equal(log, want) {
		t.Errorf("got  %q\nwant %q", log, want)
	}
}
