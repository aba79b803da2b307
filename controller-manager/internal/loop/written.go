package loop

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Versioned is a cache that knows how far it has come.
type Versioned interface{ version() string }

// Written remembers, per key, what a controller has written itself, so that it does not act on a cache that is older.
type Written struct {
	mu sync.Mutex // guards m
	m  map[string]map[Versioned]wrote
}

type wrote struct {
	version string
	at      time.Time
}

// patience bounds how long a cache is waited for: a server whose versions do not compare must not stop a controller.
const patience = 30 * time.Second

// NewWritten returns an empty memory.
func NewWritten() *Written { return &Written{m: map[string]map[Versioned]wrote{}} }

// Note records that key's sync has written obj, which src will show.
func (w *Written) Note(key string, src Versioned, obj metav1.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m[key] == nil {
		w.m[key] = map[Versioned]wrote{}
	}
	w.m[key][src] = wrote{obj.GetResourceVersion(), time.Now()}
}

// Seen says whether the caches hold all that was written for key, and forgets what they do.
func (w *Written) Seen(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for src, last := range w.m[key] {
		have := src.version()
		if have != "" && time.Since(last.at) < patience {
			if order, err := resourceversion.CompareResourceVersion(have, last.version); err == nil && order < 0 {
				return false
			}
		}
		delete(w.m[key], src)
	}
	delete(w.m, key)
	return true
}

// recheck is after what time a key whose caches lag is looked at again.
const recheck = 50 * time.Millisecond

// Wait returns the error that asks for another sync while the caches lag behind what was written for key.
func (w *Written) Wait(key string) error {
	if w.Seen(key) {
		return nil
	}
	return In(recheck)
}

// Expectations count, per key, the pods whose creation or deletion a controller has asked for and not yet seen.
type Expectations struct {
	mu sync.Mutex // guards m
	m  map[string]*expected
}

type expected struct {
	adds int
	gone map[string]bool
	at   time.Time
}

// expectationsLast is after what time an unmet expectation is given up, as upstream's.
const expectationsLast = 5 * time.Minute

// NewExpectations returns none.
func NewExpectations() *Expectations { return &Expectations{m: map[string]*expected{}} }

// Expect sets what is awaited for key: a number of new objects and the UIDs of those to go.
func (x *Expectations) Expect(key string, adds int, gone ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := &expected{adds: adds, gone: map[string]bool{}, at: time.Now()}
	for _, g := range gone {
		e.gone[g] = true
	}
	x.m[key] = e
}

// Created counts one new object of key as seen, or as failed to be made.
func (x *Expectations) Created(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.m[key]; e != nil {
		e.adds--
	}
}

// Gone counts an object of key as seen to go, or as failed to be deleted.
func (x *Expectations) Gone(key, uid string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.m[key]; e != nil {
		delete(e.gone, uid)
	}
}

// Met says whether nothing is awaited for key.
func (x *Expectations) Met(key string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.m[key]
	return e == nil || (e.adds <= 0 && len(e.gone) == 0) || time.Since(e.at) > expectationsLast
}

// Forget drops a key.
func (x *Expectations) Forget(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.m, key)
}
