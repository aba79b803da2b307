package node

import (
	"context"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Bounds of following one object: how long a reader waits for the first answer, and the wait after a failure.
const (
	firstAnswer = 10 * time.Second
	leastPause  = time.Second
	mostPause   = 30 * time.Second
)

// object is what is followed: a ConfigMap or a Secret.
type object interface{ metav1.Object }

// access reads one kind of object of a namespace.
type access[T object] struct {
	get       func(ctx context.Context, namespace, name string) (T, error)
	list      func(ctx context.Context, namespace string, o metav1.ListOptions) (items []T, version string, err error)
	watch     func(ctx context.Context, namespace string, o metav1.ListOptions) (watch.Interface, error)
	immutable func(T) bool
}

// follower keeps the objects that the node's pods refer to, each by a watch of its own while a pod refers to it; an
// immutable object is read once. It is safe for concurrent use.
type follower[T object] struct {
	api     access[T]
	changed func(uid types.UID) // tells a pod that one of its objects changed
	wg      sync.WaitGroup

	mu      sync.Mutex // guards entries and the fields of each, but ready
	entries map[types.NamespacedName]*followed[T]
}

type followed[T object] struct {
	users  map[types.UID]bool
	cancel context.CancelFunc
	ready  chan struct{} // closed at the first answer
	obj    T
	there  bool
	known  bool
}

func newFollower[T object](api access[T], changed func(types.UID)) *follower[T] {
	return &follower[T]{api: api, changed: changed, entries: map[types.NamespacedName]*followed[T]{}}
}

// use sets which objects the pod refers to, none for a pod that is gone.
func (f *follower[T]) use(ctx context.Context, uid types.UID, namespace string, names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	want := map[types.NamespacedName]bool{}
	for _, name := range names {
		key := types.NamespacedName{Namespace: namespace, Name: name}
		want[key] = true
		e, ok := f.entries[key]
		if !ok {
			e = &followed[T]{users: map[types.UID]bool{}, ready: make(chan struct{})}
			f.entries[key] = e
			var sub context.Context
			sub, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
			f.wg.Go(func() { f.run(sub, key, e) })
		}
		e.users[uid] = true
	}
	for key, e := range f.entries {
		if e.users[uid] && !want[key] {
			delete(e.users, uid)
			if len(e.users) == 0 {
				e.cancel()
				delete(f.entries, key)
			}
		}
	}
}

// stop ends every watch and waits for it.
func (f *follower[T]) stop() {
	f.mu.Lock()
	for key, e := range f.entries {
		e.cancel()
		delete(f.entries, key)
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// read answers from what is followed, and asks the API server for an object that is not, or that was not there: it may
// have been made just now.
func (f *follower[T]) read(ctx context.Context, namespace, name string) (T, error) {
	f.mu.Lock()
	e, ok := f.entries[types.NamespacedName{Namespace: namespace, Name: name}]
	f.mu.Unlock()
	if !ok {
		return f.api.get(ctx, namespace, name)
	}
	wait := time.NewTimer(firstAnswer)
	defer wait.Stop()
	select {
	case <-e.ready:
	case <-wait.C:
	case <-ctx.Done():
	}
	f.mu.Lock()
	obj, there := e.obj, e.there
	f.mu.Unlock()
	if there {
		return obj, nil
	}
	return f.api.get(ctx, namespace, name)
}

func (f *follower[T]) run(ctx context.Context, key types.NamespacedName, e *followed[T]) {
	pause := leastPause
	for ctx.Err() == nil {
		done, err := f.follow(ctx, key, e)
		if done {
			return
		}
		if err == nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			pause = leastPause
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, mostPause)
	}
}

// follow reads the object and watches it until the watch ends; done says that it need not be followed.
func (f *follower[T]) follow(ctx context.Context, key types.NamespacedName, e *followed[T]) (done bool, err error) {
	o := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, key.Name).String()}
	items, version, err := f.api.list(ctx, key.Namespace, o)
	if err != nil {
		return false, err
	}
	var zero T
	if len(items) > 0 {
		done = f.set(e, items[0], true)
	} else {
		f.set(e, zero, false)
	}
	if done {
		return true, nil
	}
	o.ResourceVersion, o.AllowWatchBookmarks = version, true
	w, err := f.api.watch(ctx, key.Namespace, o)
	if err != nil {
		return false, err
	}
	defer w.Stop()
	for ev := range w.ResultChan() {
		switch ev.Type {
		case watch.Added, watch.Modified:
			if obj, ok := ev.Object.(T); ok && f.set(e, obj, true) {
				return true, nil
			}
		case watch.Deleted:
			f.set(e, zero, false)
		case watch.Error:
			return false, apierrors.FromObject(ev.Object)
		}
	}
	return false, nil
}

// set notes an answer, wakes the pods that refer to the object when it changed, and reports an immutable one.
func (f *follower[T]) set(e *followed[T], obj T, there bool) (immutable bool) {
	f.mu.Lock()
	changed := e.known && (e.there != there || (there && e.obj.GetResourceVersion() != obj.GetResourceVersion()))
	first := !e.known
	e.obj, e.there, e.known = obj, there, true
	var tell []types.UID
	if changed {
		for uid := range e.users {
			tell = append(tell, uid)
		}
	}
	f.mu.Unlock()
	if first {
		close(e.ready)
	}
	for _, uid := range tell {
		f.changed(uid)
	}
	return there && f.api.immutable(obj)
}
