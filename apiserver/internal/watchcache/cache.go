package watchcache

import (
	"sort"
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// Entry is a stored object. It never changes once it is in a tree.
type Entry struct {
	// Key is the object's key without the resource's prefix: namespace/name,
	// or name for a cluster-scoped resource.
	Key string
	// Value is the stored bytes, shared: it must not be changed.
	Value []byte
	// Rev is the revision of the last write.
	Rev int64
	// Stale is whether the store wants the value written again, see store.Item.
	Stale bool
	// Sealed is whether the value is none that can be read yet, see store.Item.
	Sealed bool
}

// ChangeType is what happened to an object.
type ChangeType int8

// The types of change.
const (
	Added ChangeType = iota
	Modified
	Deleted
)

// Change is one event of a resource. It never changes but for its frames.
type Change struct {
	Type ChangeType
	// Entry is the object after the change; after a deletion, the last object
	// with the revision of the deletion.
	Entry *Entry
	// Prev is the object before, nil where there was none.
	Prev *Entry

	mu     sync.Mutex // guards frames
	frames map[string][]byte
}

// Frame returns the bytes of the event in one form, made once and shared by
// all watchers that ask for that form. They live as long as the change does,
// which is until the last watcher sent it.
func (c *Change) Frame(form string, build func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.frames[form]; ok {
		return f, nil
	}
	f, err := build()
	if err != nil {
		return nil, err
	}
	if c.frames == nil {
		c.frames = make(map[string][]byte, 1)
	}
	c.frames[form] = f
	return f, nil
}

// Config shapes the cache of a resource.
type Config struct {
	// Prefix heads the resource's keys in the store, such as "/pods/".
	Prefix string
	// Index extracts the value by which watchers of one field are found, such
	// as spec.nodeName of a pod; nil where there is none.
	Index func(*Entry) string
	// Window bounds the remembered changes, 0 for the default.
	Window int
}

// defaultWindow is how many changes a resource remembers, the middle of
// upstream's adaptive range of 100 to 102,400.
const defaultWindow = 2048

// record is a remembered change, without frames.
type record struct {
	typ         ChangeType
	entry, prev *Entry
}

// Cache is one resource. It is safe for concurrent use.
type Cache struct {
	cfg Config
	hub *Hub

	mu     sync.RWMutex // guards what follows
	loaded bool
	tree   *btree.BTreeG[*Entry]
	// bytes is the sum of the values' lengths.
	bytes int64
	// window is a ring: the oldest at start. floor is the revision up to which
	// changes are forgotten.
	window []record
	start  int
	floor  int64
	// last is the revision of the last change.
	last     int64
	watchers watcherIndex
	// detached is whether no more changes come.
	detached bool
}

func newCache(cfg Config, hub *Hub) *Cache {
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	return &Cache{cfg: cfg, hub: hub, tree: newTree(), watchers: newWatcherIndex()}
}

func newTree() *btree.BTreeG[*Entry] {
	return btree.NewBTreeGOptions(func(a, b *Entry) bool { return a.Key < b.Key }, btree.Options{NoLocks: true, Degree: 16})
}

// Snapshot is an immutable view of a resource at one revision.
type Snapshot struct {
	tree *btree.BTreeG[*Entry]
	// Rev is the revision of the view: it holds all changes up to it.
	Rev int64
}

// Snapshot returns the resource as it is now.
func (c *Cache) Snapshot() Snapshot {
	// Copy marks nodes as shared, so that it needs the write lock.
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshot()
}

// snapshot is Snapshot with the lock held. A change is in the tree before the
// hub's revision has advanced to it, so that the later of the two holds.
func (c *Cache) snapshot() Snapshot {
	return Snapshot{tree: c.tree.Copy(), Rev: max(c.hub.Revision(), c.last)}
}

// Changed is the revision of the last change, or of the load after it.
func (c *Cache) Changed() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.last
}

// Len is the number of entries.
func (s Snapshot) Len() int { return s.tree.Len() }

// Get returns an entry by its key, nil where there is none.
func (s Snapshot) Get(key string) *Entry {
	e, ok := s.tree.Get(&Entry{Key: key})
	if !ok {
		return nil
	}
	return e
}

// Scan visits the entries whose keys begin with prefix, from the key start on
// (or the prefix, where start is empty), in order, until visit returns false.
func (s Snapshot) Scan(prefix, start string, visit func(*Entry) bool) {
	if start < prefix {
		start = prefix
	}
	s.tree.Ascend(&Entry{Key: start}, func(e *Entry) bool {
		if !strings.HasPrefix(e.Key, prefix) {
			return false
		}
		return visit(e)
	})
}

// Count is the number of entries below prefix from the key start on.
func (s Snapshot) Count(prefix, start string) int {
	n := 0
	s.Scan(prefix, start, func(*Entry) bool { n++; return true })
	return n
}

// Get returns the current entry of a key, nil where there is none.
func (c *Cache) Get(key string) *Entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.tree.Get(&Entry{Key: key})
	if !ok {
		return nil
	}
	return e
}

// Len is the current number of entries.
func (c *Cache) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.tree.Len()
}

// Size is the current number of entries and the sum of the lengths of their values.
func (c *Cache) Size() (entries int, bytes int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.tree.Len(), c.bytes
}

// Interested is how many watchers hear of a change of an object, but for those that are found by the index. Namespace and name are empty where they are not known.
func (c *Cache) Interested(namespace, name string) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := len(c.watchers.buckets[watcherKey{kind: byAll}])
	if namespace != "" {
		n += len(c.watchers.buckets[watcherKey{byNamespace, namespace}])
	}
	if name != "" {
		n += len(c.watchers.buckets[keyOf(Scope{Namespace: namespace, Name: name})])
	}
	return n
}

// replace loads the resource anew at revision rev. Watchers end: what happened
// in between is not known.
func (c *Cache) replace(entries []*Entry, rev int64) {
	tree, bytes := newTree(), int64(0)
	for _, e := range entries {
		tree.Set(e)
		bytes += int64(len(e.Value))
	}
	c.mu.Lock()
	c.tree, c.loaded, c.bytes = tree, true, bytes
	c.window, c.start, c.floor, c.last = nil, 0, rev, rev
	ended := c.watchers.takeAll()
	c.mu.Unlock()
	for _, w := range ended {
		w.end(ErrGone)
	}
}

// sealed is whether a value could not be read.
func (c *Cache) sealed() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found := false
	c.tree.Scan(func(e *Entry) bool {
		found = e.Sealed
		return !found
	})
	return found
}

// detach ends the watchers; no more changes come.
func (c *Cache) detach() {
	c.mu.Lock()
	c.detached = true
	ended := c.watchers.takeAll()
	c.mu.Unlock()
	for _, w := range ended {
		w.end(ErrGone)
	}
}

// apply takes one change and hands it to the watchers it may concern.
func (c *Cache) apply(e *Entry, deleted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = e.Rev
	r := record{entry: e}
	if deleted {
		prev, ok := c.tree.Delete(&Entry{Key: e.Key})
		if !ok {
			return
		}
		c.bytes -= int64(len(prev.Value))
		r.typ, r.prev, r.entry.Value = Deleted, prev, prev.Value
	} else {
		prev, replaced := c.tree.Set(r.entry)
		c.bytes += int64(len(e.Value))
		if replaced {
			c.bytes -= int64(len(prev.Value))
			r.typ, r.prev = Modified, prev
		}
	}
	c.remember(r)
	if c.watchers.count == 0 {
		return
	}
	change := &Change{Type: r.typ, Entry: r.entry, Prev: r.prev}
	c.watchers.visit(c.cfg.Index, change, func(w *Watcher) { w.push(change) })
}

func (c *Cache) remember(r record) {
	if len(c.window) < c.cfg.Window {
		c.window = append(c.window, r)
		return
	}
	c.floor = c.window[c.start].entry.Rev
	c.window[c.start] = r
	c.start = (c.start + 1) % len(c.window)
}

// at returns the i-th oldest remembered change.
func (c *Cache) at(i int) record { return c.window[(c.start+i)%len(c.window)] }

// since returns the remembered changes after revision rev, false where some of
// them are forgotten. The caller holds the lock.
func (c *Cache) since(rev int64) ([]record, bool) {
	if rev < c.floor {
		return nil, false
	}
	n := len(c.window)
	first := sort.Search(n, func(i int) bool { return c.at(i).entry.Rev > rev })
	out := make([]record, 0, n-first)
	for i := first; i < n; i++ {
		out = append(out, c.at(i))
	}
	return out, true
}
