package watchcache

import (
	"context"
	"errors"
	"strings"
	"sync"
)

// Sentinels a caller branches on.
var (
	// ErrTooOld means that a watch asks for changes that are forgotten.
	ErrTooOld = errors.New("revision too old")
	// ErrGone means that the cache was loaded anew under the watcher.
	ErrGone = errors.New("watch cache was loaded anew")
	// ErrSlow means that the watcher did not keep up.
	ErrSlow = errors.New("watcher too slow")
)

// maxBacklog bounds the changes that wait for one watcher's reader. Beyond it
// the watcher is ended, never waited for.
const maxBacklog = 8192

// Scope narrows a watch to what the index can find.
type Scope struct {
	// Namespace and Name are empty for all.
	Namespace, Name string
	// Index is a value of the cache's index, with Indexed set.
	Index   string
	Indexed bool
}

// Watcher receives the changes of a resource in order. One goroutine reads it.
type Watcher struct {
	cache *Cache
	key   watcherKey

	mu    sync.Mutex // guards queue and err
	queue []*Change
	err   error
	wake  chan struct{}
}

func (w *Watcher) push(c *Change) {
	w.mu.Lock()
	if len(w.queue) >= maxBacklog {
		w.err = ErrSlow
		w.queue = nil
	}
	if w.err == nil {
		w.queue = append(w.queue, c)
	}
	w.mu.Unlock()
	w.signal()
}

func (w *Watcher) end(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.mu.Unlock()
	w.signal()
}

func (w *Watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Wake is signalled when Take may have something.
func (w *Watcher) Wake() <-chan struct{} { return w.wake }

// Take returns the changes that came since the last call, and why there will
// be no more, nil while there may be.
func (w *Watcher) Take() ([]*Change, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.queue
	w.queue = nil
	if len(out) == 0 {
		return nil, w.err
	}
	if w.err != nil {
		w.signal() // the end is told by the next call
	}
	return out, nil
}

// Next blocks until there are changes, the watcher ends or ctx does.
func (w *Watcher) Next(ctx context.Context) ([]*Change, error) {
	for {
		if out, err := w.Take(); len(out) > 0 || err != nil {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.wake:
		}
	}
}

// Close ends the watcher; it must be called once.
func (w *Watcher) Close() {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	w.cache.watchers.remove(w)
}

// Watch follows the resource from after revision rev. Changes since then come
// first. ErrTooOld means that some of them are forgotten; the error carries
// nothing else, Floor says how far back the cache remembers.
func (c *Cache) Watch(scope Scope, rev int64) (*Watcher, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	past, ok := c.since(rev)
	if !ok || c.detached {
		return nil, ErrTooOld
	}
	w := c.watcher(scope)
	for _, r := range past {
		change := &Change{Type: r.typ, Entry: r.entry, Prev: r.prev}
		if w.key.concerns(c.cfg.Index, change) {
			w.queue = append(w.queue, change)
		}
	}
	if len(w.queue) > 0 {
		w.signal() // nothing else may happen for long
	}
	c.watchers.add(w)
	return w, nil
}

// SnapshotAndWatch returns the resource as it is now and a watcher of every
// change after it.
func (c *Cache) SnapshotAndWatch(scope Scope) (Snapshot, *Watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watcher(scope)
	if c.detached {
		w.err = ErrGone
		w.signal()
		return c.snapshot(), w
	}
	c.watchers.add(w)
	return c.snapshot(), w
}

// Floor is the revision up to which changes are forgotten.
func (c *Cache) Floor() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.floor
}

func (c *Cache) watcher(scope Scope) *Watcher {
	if c.cfg.Index == nil {
		scope.Indexed = false // a cache without an index has nobody find its watchers by one
	}
	return &Watcher{cache: c, key: keyOf(scope), wake: make(chan struct{}, 1)}
}

// watcherKey is the narrowest bucket that a watcher fits in: by name, by the
// indexed field, by namespace, or all.
type watcherKey struct {
	kind  byte
	value string
}

const (
	byAll byte = iota
	byNamespace
	byName
	byBase // a name in whatever namespace
	byIndex
)

func keyOf(s Scope) watcherKey {
	switch {
	case s.Name != "" && s.Namespace != "":
		return watcherKey{byName, s.Namespace + "/" + s.Name}
	case s.Name != "":
		return watcherKey{byBase, s.Name}
	case s.Indexed:
		return watcherKey{byIndex, s.Index}
	case s.Namespace != "":
		return watcherKey{byNamespace, s.Namespace}
	}
	return watcherKey{kind: byAll}
}

func namespaceOf(key string) string {
	ns, _, ok := strings.Cut(key, "/")
	if !ok {
		return ""
	}
	return ns
}

// baseOf is an object's name in its key.
func baseOf(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

func (k watcherKey) concerns(index func(*Entry) string, c *Change) bool {
	switch k.kind {
	case byName:
		return c.Entry.Key == k.value
	case byBase:
		return baseOf(c.Entry.Key) == k.value
	case byNamespace:
		return namespaceOf(c.Entry.Key) == k.value
	case byIndex:
		if index == nil {
			return true
		}
		return index(c.Entry) == k.value || (c.Prev != nil && index(c.Prev) == k.value)
	}
	return true
}

// watcherIndex finds the watchers that a change may concern.
type watcherIndex struct {
	buckets map[watcherKey]map[*Watcher]struct{}
	count   int
	indexed int
}

func newWatcherIndex() watcherIndex {
	return watcherIndex{buckets: map[watcherKey]map[*Watcher]struct{}{}}
}

func (x *watcherIndex) add(w *Watcher) {
	b := x.buckets[w.key]
	if b == nil {
		b = map[*Watcher]struct{}{}
		x.buckets[w.key] = b
	}
	b[w] = struct{}{}
	x.count++
	if w.key.kind == byIndex {
		x.indexed++
	}
}

func (x *watcherIndex) remove(w *Watcher) {
	b := x.buckets[w.key]
	if _, ok := b[w]; !ok {
		return
	}
	delete(b, w)
	if len(b) == 0 {
		delete(x.buckets, w.key)
	}
	x.count--
	if w.key.kind == byIndex {
		x.indexed--
	}
}

func (x *watcherIndex) takeAll() []*Watcher {
	var out []*Watcher
	for _, b := range x.buckets {
		for w := range b {
			out = append(out, w)
		}
	}
	*x = newWatcherIndex()
	return out
}

func (x *watcherIndex) visit(index func(*Entry) string, c *Change, push func(*Watcher)) {
	each := func(k watcherKey) {
		for w := range x.buckets[k] {
			push(w)
		}
	}
	each(watcherKey{kind: byAll})
	each(watcherKey{byName, c.Entry.Key})
	each(watcherKey{byBase, baseOf(c.Entry.Key)})
	if ns := namespaceOf(c.Entry.Key); ns != "" {
		each(watcherKey{byNamespace, ns})
	}
	if index == nil || x.indexed == 0 {
		return
	}
	now := index(c.Entry)
	each(watcherKey{byIndex, now})
	if c.Prev != nil {
		if before := index(c.Prev); before != now {
			each(watcherKey{byIndex, before})
		}
	}
}
