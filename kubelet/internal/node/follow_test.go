package node

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// server has one ConfigMap.
type server struct {
	mu                   sync.Mutex
	obj                  *corev1.ConfigMap
	watches              map[*watch.FakeWatcher]bool
	gets, lists, started atomic.Int32
}

func (s *server) access() access[*corev1.ConfigMap] {
	return access[*corev1.ConfigMap]{
		get: func(context.Context, string, string) (*corev1.ConfigMap, error) {
			s.gets.Add(1)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.obj == nil {
				return nil, apierrors.NewNotFound(schema.GroupResource{}, "cm")
			}
			return s.obj, nil
		},
		list: func(context.Context, string, metav1.ListOptions) ([]*corev1.ConfigMap, string, error) {
			s.lists.Add(1)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.obj == nil {
				return nil, "1", nil
			}
			return []*corev1.ConfigMap{s.obj}, "1", nil
		},
		watch: func(ctx context.Context, _ string, o metav1.ListOptions) (watch.Interface, error) {
			if o.FieldSelector != "metadata.name=cm" || o.ResourceVersion != "1" {
				return nil, apierrors.NewBadRequest(o.FieldSelector)
			}
			s.started.Add(1)
			w := watch.NewFake()
			s.mu.Lock()
			s.watches[w] = true
			s.mu.Unlock()
			context.AfterFunc(ctx, w.Stop)
			return w, nil
		},
		immutable: func(c *corev1.ConfigMap) bool { return c.Immutable != nil && *c.Immutable },
	}
}

func (s *server) set(version, value string) *corev1.ConfigMap {
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm", ResourceVersion: version}, Data: map[string]string{"k": value}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.obj = obj
	for w := range s.watches {
		if !w.IsStopped() {
			w.Modify(obj)
		}
	}
	return obj
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{watches: map[*watch.FakeWatcher]bool{}}
		var told atomic.Int32
		f := newFollower(s.access(), func(types.UID) { told.Add(1) })
		defer f.stop()
		read := func() string {
			t.Helper()
			obj, err := f.read(t.Context(), "n", "cm")
			if err != nil {
				return err.Error()
			}
			return obj.Data["k"]
		}
		f.use(t.Context(), "pod", "n", []string{"cm"})
		if got := read(); got != ` "cm" not found` {
			t.Errorf("an object that is not there: %s", got)
		}
		synctest.Wait()
		s.set("2", "a")
		synctest.Wait()
		if got, n := read(), told.Load(); got != "a" || n != 1 {
			t.Errorf("made: %q, the pod was told %d times", got, n)
		}
		gets := s.gets.Load()
		for range 100 {
			read()
		}
		if s.gets.Load() != gets || s.lists.Load() != 1 {
			t.Errorf("what is followed was asked for: %d gets, %d lists", s.gets.Load()-gets, s.lists.Load())
		}
		s.set("3", "b")
		synctest.Wait()
		if got, n := read(), told.Load(); got != "b" || n != 2 {
			t.Errorf("changed: %q, the pod was told %d times", got, n)
		}
		// A second pod shares the watch; it ends with the last.
		f.use(t.Context(), "pod2", "n", []string{"cm"})
		f.use(t.Context(), "pod", "n", nil)
		synctest.Wait()
		if n := s.started.Load(); n != 1 || len(f.entries) != 1 {
			t.Errorf("%d watches, %d objects followed", n, len(f.entries))
		}
		f.use(t.Context(), "pod2", "n", nil)
		synctest.Wait()
		for w := range s.watches {
			if !w.IsStopped() {
				t.Error("a watch that nobody needs goes on")
			}
		}
	})
}

func TestFollowImmutable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{watches: map[*watch.FakeWatcher]bool{}}
		yes := true
		s.set("1", "a").Immutable = &yes
		f := newFollower(s.access(), func(types.UID) {})
		defer f.stop()
		f.use(t.Context(), "pod", "n", []string{"cm"})
		if obj, err := f.read(t.Context(), "n", "cm"); err != nil || obj.Data["k"] != "a" {
			t.Errorf("%v, %v", obj, err)
		}
		time.Sleep(time.Hour)
		if s.started.Load() != 0 || s.lists.Load() != 1 {
			t.Errorf("an immutable object: %d watches, %d lists", s.started.Load(), s.lists.Load())
		}
	})
}
