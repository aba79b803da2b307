package watchcache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"flagship/apiserver/internal/store"
)

// Source is the store that a hub follows.
type Source interface {
	List(ctx context.Context, prefix, start string, limit, rev int64) (store.Page, error)
	Stream(ctx context.Context, after int64, apply func(events []store.Event, rev int64)) error
	Revision(ctx context.Context) (int64, error)
}

// Hub feeds the caches of all resources from one stream.
type Hub struct {
	source Source
	log    *zap.Logger
	ready  chan struct{}

	mu sync.RWMutex // guards what follows; taken before any cache's lock
	// caches by the first segment of the key; a resource's prefix may have
	// more than one segment, such as /services/specs/.
	caches map[string][]*Cache
	live   bool

	progress struct {
		sync.Mutex // guards what follows; taken last
		rev        int64
		waiters    map[chan struct{}]int64
	}
}

// NewHub returns a hub without caches. It does no I/O.
func NewHub(source Source, log *zap.Logger) *Hub {
	h := &Hub{source: source, log: log, ready: make(chan struct{}), caches: map[string][]*Cache{}}
	h.progress.waiters = map[chan struct{}]int64{}
	return h
}

func firstSegment(key string) string {
	segment, _, _ := strings.Cut(strings.TrimPrefix(key, "/"), "/")
	return segment
}

// Add adds the cache of a resource. Once the hub runs, its content is read
// before Add returns.
func (h *Hub) Add(ctx context.Context, cfg Config) (*Cache, error) {
	c := newCache(cfg, h)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.live {
		// The stream waits for the lock, so that the list at its revision and
		// what the stream brings next have no gap between them.
		rev := h.Revision()
		entries, err := h.read(ctx, cfg.Prefix, rev)
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", cfg.Prefix, err)
		}
		c.replace(entries, rev)
	}
	segment := firstSegment(cfg.Prefix)
	h.caches[segment] = append(h.caches[segment], c)
	return c, nil
}

// Remove drops the cache of a resource and ends its watchers. Who still holds
// it reads what was in it.
func (h *Hub) Remove(c *Cache) {
	h.mu.Lock()
	defer h.mu.Unlock()
	segment := firstSegment(c.cfg.Prefix)
	kept := h.caches[segment][:0:0]
	for _, other := range h.caches[segment] {
		if other != c {
			kept = append(kept, other)
		}
	}
	h.caches[segment] = kept
	c.detach()
}

// Unseal reads anew what the caches hold of values that could not be read, now that they can. Watchers of a resource
// that had some are ended, to list again.
//
// Errors: the store cannot be read; the caches stay as they are.
func (h *Hub) Unseal(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	rev := h.Revision()
	for _, caches := range h.caches {
		for _, c := range caches {
			if !c.sealed() {
				continue
			}
			entries, err := h.read(ctx, c.cfg.Prefix, rev)
			if err != nil {
				return fmt.Errorf("load %s: %w", c.cfg.Prefix, err)
			}
			c.replace(entries, rev)
		}
	}
	return nil
}

// Revision is the one up to which all changes are in the caches.
func (h *Hub) Revision() int64 {
	h.progress.Lock()
	defer h.progress.Unlock()
	return h.progress.rev
}

func (h *Hub) advance(rev int64) {
	h.progress.Lock()
	defer h.progress.Unlock()
	if rev <= h.progress.rev {
		return
	}
	h.progress.rev = rev
	for ch, want := range h.progress.waiters {
		if want <= rev {
			close(ch)
			delete(h.progress.waiters, ch)
		}
	}
}

// WaitFor blocks until the caches hold all changes up to rev, or ctx ends.
func (h *Hub) WaitFor(ctx context.Context, rev int64) error {
	h.progress.Lock()
	if rev <= h.progress.rev {
		h.progress.Unlock()
		return nil
	}
	ch := make(chan struct{})
	h.progress.waiters[ch] = rev
	h.progress.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		h.progress.Lock()
		delete(h.progress.waiters, ch)
		h.progress.Unlock()
		return ctx.Err()
	}
}

// WaitCurrent blocks until the caches hold all that was acknowledged before
// the call: a consistent read.
func (h *Hub) WaitCurrent(ctx context.Context) error {
	rev, err := h.source.Revision(ctx)
	if err != nil {
		return err
	}
	return h.WaitFor(ctx, rev)
}

// Ready is closed when the caches were first loaded.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// retryPause is the time between tries to reach the store.
const retryPause = 500 * time.Millisecond

// Run loads the caches and follows the store until ctx ends. A broken stream
// goes on where it broke; a compacted one loads everything anew.
func (h *Hub) Run(ctx context.Context) error {
	loaded := false
	for ctx.Err() == nil {
		if !loaded {
			if err := h.load(ctx); err != nil {
				h.log.Warn("cannot load the watch cache, trying again", zap.Error(err))
				pause(ctx, retryPause)
				continue
			}
			loaded = true
		}
		err := h.source.Stream(ctx, h.Revision(), h.dispatch)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // an ordinary stop
		case errors.Is(err, store.ErrCompacted):
			h.log.Warn("stream fell behind compaction, loading the watch cache anew")
			loaded = false
		default:
			h.log.Warn("stream of changes broke, going on", zap.Error(err))
			pause(ctx, retryPause)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (h *Hub) load(ctx context.Context) error {
	rev, err := h.source.Revision(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, caches := range h.caches {
		for _, c := range caches {
			entries, err := h.read(ctx, c.cfg.Prefix, rev)
			if err != nil {
				return fmt.Errorf("load %s: %w", c.cfg.Prefix, err)
			}
			c.replace(entries, rev)
		}
	}
	h.advance(rev)
	if !h.live {
		h.live = true
		close(h.ready)
	}
	return nil
}

// loadPage is how many keys are read from the store at once.
const loadPage = 5000

func (h *Hub) read(ctx context.Context, prefix string, rev int64) ([]*Entry, error) {
	var out []*Entry
	start := ""
	for {
		page, err := h.source.List(ctx, prefix, start, loadPage, rev)
		if err != nil {
			return nil, err
		}
		for _, it := range page.Items {
			out = append(out, &Entry{Key: strings.TrimPrefix(it.Key, prefix), Value: it.Value, Rev: it.Rev, Stale: it.Stale, Sealed: it.Sealed})
		}
		if !page.More || len(page.Items) == 0 {
			return out, nil
		}
		start = page.Items[len(page.Items)-1].Key + "\x00"
	}
}

func (h *Hub) dispatch(events []store.Event, rev int64) {
	// The lock is held until the revision is advanced, so that Add sees either
	// both the changes and their revision or neither.
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, e := range events {
		for _, c := range h.caches[firstSegment(e.Key)] {
			if key, ok := strings.CutPrefix(e.Key, c.cfg.Prefix); ok {
				c.apply(&Entry{Key: key, Value: e.Value, Rev: e.Rev, Stale: e.Stale, Sealed: e.Sealed}, e.Deleted)
			}
		}
	}
	h.advance(rev)
}
