package watchcache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"flagship/apiserver/internal/store"
)

// memory is a Source that a test feeds.
type memory struct {
	items  map[string]store.Item
	rev    int64
	stream chan batch
}

type batch struct {
	events []store.Event
	rev    int64
}

func newMemory() *memory { return &memory{items: map[string]store.Item{}, stream: make(chan batch)} }

func (m *memory) List(_ context.Context, prefix, start string, limit, rev int64) (store.Page, error) {
	var page store.Page
	for k, it := range m.items {
		if strings.HasPrefix(k, prefix) && k >= start {
			page.Items = append(page.Items, it)
		}
	}
	slices.SortFunc(page.Items, func(a, b store.Item) int { return strings.Compare(a.Key, b.Key) })
	if limit > 0 && int64(len(page.Items)) > limit {
		page.Items, page.More = page.Items[:limit], true
	}
	page.Revision = rev
	return page, nil
}

func (m *memory) Stream(ctx context.Context, _ int64, apply func([]store.Event, int64)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-m.stream:
			apply(b.events, b.rev)
		}
	}
}

func (m *memory) Revision(context.Context) (int64, error) { return m.rev, nil }

func (m *memory) put(key, value string) {
	m.rev++
	it := store.Item{Key: key, Value: []byte(value), Rev: m.rev}
	m.items[key] = it
	m.stream <- batch{[]store.Event{{Item: it}}, m.rev}
}

func (m *memory) remove(key string) {
	m.rev++
	delete(m.items, key)
	m.stream <- batch{[]store.Event{{Item: store.Item{Key: key, Rev: m.rev}, Deleted: true}}, m.rev}
}

// start runs a hub with one cache until the test ends.
func start(t *testing.T, m *memory, cfg Config) (*Hub, *Cache) {
	t.Helper()
	h := NewHub(m, zap.NewNop())
	c, err := h.Add(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	<-h.Ready()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		goleak.VerifyNone(t)
	})
	return h, c
}

func entries(s Snapshot, prefix string) []string {
	var out []string
	s.Scan(prefix, "", func(e *Entry) bool {
		out = append(out, fmt.Sprintf("%s=%s@%d", e.Key, e.Value, e.Rev))
		return true
	})
	return out
}

func TestSnapshotStaysAsItWas(t *testing.T) {
	m := newMemory()
	m.items["/pods/a/x"] = store.Item{Key: "/pods/a/x", Value: []byte("0"), Rev: 1}
	m.rev = 1
	h, c := start(t, m, Config{Prefix: "/pods/"})
	before := c.Snapshot()
	m.put("/pods/a/x", "1")
	m.put("/pods/b/y", "2")
	if err := h.WaitCurrent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/x=0@1"}, entries(before, "")); diff != "" {
		t.Errorf("old snapshot (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b/y=2@3"}, entries(c.Snapshot(), "b/")); diff != "" {
		t.Errorf("namespace b (-want +got):\n%s", diff)
	}
	m.remove("/pods/a/x")
	if err := h.WaitFor(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if e := c.Get("a/x"); e != nil {
		t.Errorf("deleted object is still there: %+v", e)
	}
}

func TestWatchersSeeWhatConcernsThem(t *testing.T) {
	node := func(e *Entry) string { return strings.SplitN(string(e.Value), ",", 2)[0] }
	for scenario, tc := range map[string]struct {
		scope Scope
		want  []string
		plain bool // the cache has no index
	}{
		"all":         {Scope{}, []string{"0 a/x", "0 b/y", "1 a/x", "2 a/x"}, false},
		"namespace":   {Scope{Namespace: "b"}, []string{"0 b/y"}, false},
		"name":        {Scope{Namespace: "a", Name: "x"}, []string{"0 a/x", "1 a/x", "2 a/x"}, false},
		"name of any": {Scope{Name: "x"}, []string{"0 a/x", "1 a/x", "2 a/x"}, false},
		"index":       {Scope{Index: "n1", Indexed: true}, []string{"0 b/y", "1 a/x", "2 a/x"}, false},
		"no index":    {Scope{Index: "n1", Indexed: true}, []string{"0 a/x", "0 b/y", "1 a/x", "2 a/x"}, true},
	} {
		t.Run(scenario, func(t *testing.T) {
			m := newMemory()
			cfg := Config{Prefix: "/pods/", Index: node}
			if tc.plain {
				cfg.Index = nil
			}
			h, c := start(t, m, cfg)
			w, err := c.Watch(tc.scope, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			m.put("/pods/a/x", "")
			m.put("/pods/b/y", "n1,")
			m.put("/nodes/z", "")
			m.put("/pods/a/x", "n1,")
			m.remove("/pods/a/x")
			if err := h.WaitCurrent(t.Context()); err != nil {
				t.Fatal(err)
			}
			changes, err := w.Take()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, ch := range changes {
				got = append(got, fmt.Sprintf("%d %s", ch.Type, ch.Entry.Key))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWindowForgets(t *testing.T) {
	m := newMemory()
	h, c := start(t, m, Config{Prefix: "/pods/", Window: 3})
	for i := range 5 {
		m.put("/pods/a/x", fmt.Sprint(i))
	}
	if err := h.WaitCurrent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Watch(Scope{}, 1); !errors.Is(err, ErrTooOld) {
		t.Errorf("watch from 1: %v, want ErrTooOld", err)
	}
	w, err := c.Watch(Scope{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if changes, _ := w.Take(); len(changes) != 3 || changes[0].Entry.Rev != 3 {
		t.Errorf("changes since 2: %d, first %+v; want 3 from revision 3", len(changes), changes[0].Entry)
	}
}

func TestReplayWakes(t *testing.T) {
	m := newMemory()
	h, c := start(t, m, Config{Prefix: "/pods/"})
	m.put("/pods/a/x", "1")
	if err := h.WaitCurrent(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := c.Watch(Scope{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	select {
	case <-w.Wake():
	default:
		t.Error("a watcher with changes of the past is not woken")
	}
	w.end(ErrGone)
	<-w.Wake()
	if changes, err := w.Take(); len(changes) != 1 || err != nil {
		t.Errorf("took %d changes, %v", len(changes), err)
	}
	select {
	case <-w.Wake():
	default:
		t.Error("a watcher that ended is not woken again after its last changes")
	}
	if _, err := w.Take(); !errors.Is(err, ErrGone) {
		t.Errorf("end: %v, want ErrGone", err)
	}
}

func TestSlowWatcherEnds(t *testing.T) {
	m := newMemory()
	h, c := start(t, m, Config{Prefix: "/pods/"})
	_, w := c.SnapshotAndWatch(Scope{})
	defer w.Close()
	for range maxBacklog + 1 {
		m.put("/pods/a/x", "")
	}
	if err := h.WaitCurrent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Take(); !errors.Is(err, ErrSlow) {
		t.Errorf("a watcher that did not keep up: %v, want ErrSlow", err)
	}
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	h, _ := start(t, newMemory(), Config{Prefix: "/pods/"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := h.WaitFor(ctx, 99); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for a revision to come: %v", err)
	}
}

// TestRandom compares a cache, and what a watcher of it has seen, with a map,
// over seeded random writes.
func TestRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // a seed
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
	m := newMemory()
	h, c := start(t, m, Config{Prefix: "/pods/", Window: 10000})
	_, w := c.SnapshotAndWatch(Scope{})
	defer w.Close()
	for range 2000 {
		key := fmt.Sprintf("/pods/n%d/p%d", r.IntN(5), r.IntN(40))
		if _, ok := m.items[key]; ok && r.IntN(3) == 0 {
			m.remove(key)
		} else {
			m.put(key, fmt.Sprint(m.rev))
		}
	}
	// A cache that is added while the stream runs must be the same.
	late, err := h.Add(t.Context(), Config{Prefix: "/pods/"})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.WaitCurrent(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	changes, err := w.Take()
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range changes {
		if _, had := seen[ch.Entry.Key]; had != (ch.Prev != nil) {
			t.Fatalf("%s: previous object known %v, had %v", ch.Entry.Key, ch.Prev != nil, had)
		}
		if ch.Type == Deleted {
			delete(seen, ch.Entry.Key)
		} else {
			seen[ch.Entry.Key] = string(ch.Entry.Value)
		}
	}
	want := map[string]string{}
	for k, it := range m.items {
		want[strings.TrimPrefix(k, "/pods/")] = string(it.Value)
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("watcher (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(entries(c.Snapshot(), ""), entries(late.Snapshot(), "")); diff != "" {
		t.Errorf("late cache (-first +late):\n%s", diff)
	}
	if c.Len() != len(want) {
		t.Errorf("%d entries, want %d", c.Len(), len(want))
	}
}

func TestUnseal(t *testing.T) {
	m := newMemory()
	m.items["/secrets/a/x"] = store.Item{Key: "/secrets/a/x", Value: []byte("sealed"), Rev: 1, Sealed: true}
	m.rev = 1
	h, sealed := start(t, m, Config{Prefix: "/secrets/"})
	open, err := h.Add(t.Context(), Config{Prefix: "/pods/"})
	if err != nil {
		t.Fatal(err)
	}
	m.put("/pods/a/p", "pod")
	if err := h.WaitFor(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	m.items["/secrets/a/x"] = store.Item{Key: "/secrets/a/x", Value: []byte("plain"), Rev: 1}
	before := open.tree
	if err := h.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/x=plain@1"}, entries(sealed.Snapshot(), "")); diff != "" {
		t.Errorf("what was sealed (-want +got):\n%s", diff)
	}
	if open.tree != before {
		t.Error("a resource that was readable is loaded anew")
	}
}
