package rest

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/watchcache"
)

type entry = watchcache.Entry

// Follow tells every object of a resource to set, then every change, until ctx
// ends. A deleted object is told to gone. After the cache was loaded anew,
// what is there is told once more. Started is called after the first objects.
func (a *API) Follow(ctx context.Context, gvr schema.GroupVersionResource, set, gone func(runtime.Object), started func()) error {
	res := a.Lookup(gvr)
	if res == nil && a.cfg.Off[gvr] {
		if started != nil {
			started()
		}
		<-ctx.Done()
		return ctx.Err()
	}
	if res == nil {
		return errors.New("follow " + gvr.String() + ": it is not served")
	}
	for ctx.Err() == nil {
		snap, w := res.Cache.SnapshotAndWatch(watchcache.Scope{})
		var failure error
		snap.Scan("", "", func(e *entry) bool {
			var obj runtime.Object
			if obj, failure = a.decodeStored(res, e); failure == nil {
				set(obj)
			}
			return failure == nil
		})
		if failure != nil {
			w.Close()
			return failure
		}
		if started != nil {
			started()
			started = nil
		}
		err := a.follow(ctx, res, w, set, gone)
		w.Close()
		if !errors.Is(err, watchcache.ErrGone) && !errors.Is(err, watchcache.ErrSlow) {
			return err
		}
	}
	return ctx.Err()
}

func (a *API) follow(ctx context.Context, res *Resource, w *watchcache.Watcher, set, gone func(runtime.Object)) error {
	for {
		changes, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, c := range changes {
			obj, err := a.decodeStored(res, c.Entry)
			if err != nil {
				return err
			}
			if c.Type == watchcache.Deleted {
				gone(obj)
			} else {
				set(obj)
			}
		}
	}
}
