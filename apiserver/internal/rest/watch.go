package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

// bookmarkInterval is how often a watch that allows bookmarks gets one.
const bookmarkInterval = time.Minute

// watchStream is one watch on its way to a client.
type watchStream struct {
	api     *API
	q       *request
	sel     selection
	w       http.ResponseWriter
	flush   func() error
	columns bool // the next table event carries the column definitions
	metrics *watchMetrics
}

func (a *API) watch(w http.ResponseWriter, q *request) error {
	query := q.http.URL.Query()
	ns := q.info.Namespace
	if !q.res.Namespaced {
		ns = ""
	}
	sel, err := parseSelection(q.res, ns, query)
	if err != nil {
		return err
	}
	if sel.name == "" && q.info.Name != "" {
		sel.name = q.info.Name
	}
	initial := query.Get("sendInitialEvents") == "true"
	if err := checkList(query, true); err != nil {
		return err
	}
	snap, watcher, err := a.begin(q, &sel, query, initial)
	if err != nil {
		return err
	}
	defer watcher.Close()
	timeout, err := a.watchTimeout(query)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(q.ctx(), timeout)
	defer cancel()
	s := &watchStream{api: a, q: q, sel: sel, w: w, flush: http.NewResponseController(w).Flush, columns: true, metrics: a.metrics.of(q.res.GVR())}
	s.header()
	if snap != nil {
		if err := s.initial(*snap, initial); err != nil {
			return nil //nolint:nilerr // the client is gone: there is nobody to tell
		}
		if initial {
			a.metrics.listed(q)
		}
	}
	Begun(q.ctx())
	s.follow(ctx, watcher, truthy(query.Get("allowWatchBookmarks")))
	return nil
}

// begin opens the watcher, with the objects to send first where the request
// asks for the present state.
func (a *API) begin(q *request, sel *selection, query url.Values, initial bool) (*watchcache.Snapshot, *watchcache.Watcher, error) {
	text := query.Get("resourceVersion")
	switch {
	case initial || text == "":
		// From "most recent": the cache must hold all that was acknowledged.
		if text == "" {
			if err := a.deps.Hub.WaitCurrent(q.ctx()); err != nil {
				return nil, nil, err
			}
		} else {
			rev, err := parseRevision(text)
			if err != nil {
				return nil, nil, err
			}
			if err := a.waitFresh(q.ctx(), rev); err != nil {
				return nil, nil, err
			}
		}
		snap, watcher := q.res.Cache.SnapshotAndWatch(sel.scope())
		if query.Get("sendInitialEvents") == "false" {
			return nil, watcher, nil
		}
		return &snap, watcher, nil
	case text == "0":
		snap, watcher := q.res.Cache.SnapshotAndWatch(sel.scope())
		if query.Get("sendInitialEvents") == "false" {
			return nil, watcher, nil
		}
		return &snap, watcher, nil
	}
	rev, err := parseRevision(text)
	if err != nil {
		return nil, nil, err
	}
	watcher, err := q.res.Cache.Watch(sel.scope(), rev)
	if errors.Is(err, watchcache.ErrTooOld) {
		return nil, nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", rev, q.res.Cache.Floor()))
	}
	return nil, watcher, err
}

func (a *API) watchTimeout(query url.Values) (time.Duration, error) {
	n, err := parseSeconds(query.Get("timeoutSeconds"))
	if err != nil {
		return 0, err
	}
	if n > 0 {
		return time.Duration(n) * time.Second, nil
	}
	return a.cfg.MinRequestTimeout + rand.N(a.cfg.MinRequestTimeout), nil
}

func (s *watchStream) header() {
	h := s.w.Header()
	ct := s.q.form.media
	switch ct {
	case mediaProtobuf:
		ct += ";stream=watch"
	case mediaYAML:
		s.q.form.media, ct = mediaJSON, mediaJSON
	}
	h.Set("Content-Type", ct)
	h.Set("Cache-Control", "no-cache, private")
	writeWarnings(s.w, s.q.warnings)
	s.w.WriteHeader(http.StatusOK)
	_ = s.flush()
}

func (s *watchStream) initial(snap watchcache.Snapshot, marked bool) error {
	prefix, _ := s.sel.prefix(s.q.res)
	var err error
	snap.Scan(prefix, "", func(e *watchcache.Entry) bool {
		var ok bool
		if ok, err = s.api.matches(s.q.res, &s.sel, e); err != nil || !ok {
			return err == nil
		}
		var frame []byte
		if frame, err = s.frame("ADDED", e); err == nil {
			s.metrics.sent(frame)
			_, err = s.w.Write(frame)
		}
		return err == nil
	})
	if err == nil && marked {
		err = s.bookmark(snap.Rev, true)
	}
	if err == nil {
		err = s.flush()
	}
	return err
}

func (s *watchStream) follow(ctx context.Context, watcher *watchcache.Watcher, bookmarks bool) {
	var tick <-chan time.Time
	if bookmarks {
		t := time.NewTicker(bookmarkInterval)
		defer t.Stop()
		tick = t.C
	}
	stopping, over := s.api.deps.Stopping, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-stopping:
			if s.api.cfg.WatchGrace <= 0 {
				return
			}
			// Not all clients are to come to the other servers at once.
			stopping, over = nil, time.After(rand.N(s.api.cfg.WatchGrace))
		case <-over:
			return
		case <-tick:
			// Changes up to this revision were pushed before it was reached.
			rev := s.api.deps.Hub.Revision()
			if !s.drain(watcher) || s.bookmark(rev, false) != nil || s.flush() != nil {
				return
			}
		case <-watcher.Wake():
			if !s.drain(watcher) {
				return
			}
		}
	}
}

// drain sends what waits, false when the stream ends.
func (s *watchStream) drain(watcher *watchcache.Watcher) bool {
	changes, err := watcher.Take()
	if errors.Is(err, watchcache.ErrGone) {
		s.fail(apierrors.NewResourceExpired("the watch cache was loaded anew: list again"))
	}
	if err != nil {
		return false
	}
	for _, c := range changes {
		if err := s.send(c); err != nil {
			return false
		}
	}
	return len(changes) == 0 || s.flush() == nil
}

// send writes one change as this watch's selection sees it.
func (s *watchStream) send(c *watchcache.Change) error {
	res := s.q.res
	now, err := s.api.matches(res, &s.sel, c.Entry)
	if err != nil {
		return err
	}
	before := false
	if c.Prev != nil && c.Type == watchcache.Modified && !s.sel.all() {
		if before, err = s.api.matches(res, &s.sel, c.Prev); err != nil {
			return err
		}
	} else if c.Prev != nil {
		before = now
	}
	typ, entry := "", c.Entry
	switch {
	case c.Type == watchcache.Deleted && before:
		typ = "DELETED"
	case c.Type == watchcache.Deleted:
		return nil
	case now && before:
		typ = "MODIFIED"
	case now:
		typ = "ADDED"
	case before:
		// It left the selection: its last state in it, at this revision.
		typ, entry = "DELETED", &watchcache.Entry{Key: c.Entry.Key, Value: c.Prev.Value, Rev: c.Entry.Rev}
	default:
		return nil
	}
	var frame []byte
	if s.q.form.as == "Table" {
		frame, err = s.frame(typ, entry)
	} else {
		frame, err = c.Frame(typ+";"+s.q.form.key()+";"+res.apiVersion, func() ([]byte, error) { return s.frame(typ, entry) })
	}
	if err != nil {
		return err
	}
	s.metrics.sent(frame)
	_, err = s.w.Write(frame)
	return err
}

func (s *watchStream) frame(typ string, e *watchcache.Entry) ([]byte, error) {
	f := s.q.form
	if f.as == "Table" {
		data, err := s.api.tableJSON(s.q, []*watchcache.Entry{e}, wire.ListMeta{ResourceVersion: strconv.FormatInt(e.Rev, 10)}, s.columns)
		if err != nil {
			return nil, err
		}
		s.columns = false
		return wire.AppendJSONWatchFrame(nil, typ, data), nil
	}
	f.as = strings.TrimSuffix(f.as, "List")
	if f.media == mediaProtobuf {
		data, err := s.api.appendEntry(nil, s.q.res, f, e)
		if err != nil {
			return nil, err
		}
		return wire.AppendProtoWatchFrame(nil, typ, data), nil
	}
	out, err := s.api.appendEntry(wire.AppendJSONWatchHead(nil, typ), s.q.res, f, e)
	if err != nil {
		return nil, err
	}
	return append(out, wire.JSONWatchTail...), nil
}

// initialEventsEnd marks the bookmark after the initial events, KEP-3157.
const initialEventsEnd = "k8s.io/initial-events-end"

// bookmark tells the client up to where it has seen everything.
func (s *watchStream) bookmark(rev int64, end bool) error {
	meta := metav1.ObjectMeta{ResourceVersion: strconv.FormatInt(rev, 10)}
	if end {
		meta.Annotations = map[string]string{initialEventsEnd: "true"}
	}
	gvk := s.q.res.GroupVersionKind
	if s.q.form.as != "" {
		gvk = metav1.SchemeGroupVersion.WithKind(strings.TrimSuffix(s.q.form.as, "List"))
	}
	var frame []byte
	switch {
	case s.q.form.media == mediaProtobuf:
		raw, err := (&metav1.PartialObjectMetadata{ObjectMeta: meta}).Marshal()
		if err != nil {
			return err
		}
		frame = wire.AppendProtoWatchFrame(nil, "BOOKMARK", wire.AppendEnvelope(nil, gvk.GroupVersion().String(), gvk.Kind, raw))
	case s.q.form.as == "Table":
		data, err := s.bookmarkTable(meta)
		if err != nil {
			return err
		}
		frame = wire.AppendJSONWatchFrame(nil, "BOOKMARK", data)
	default:
		var obj runtime.Object = &metav1.PartialObjectMetadata{}
		if s.q.form.as == "" {
			var err error
			if obj, err = s.api.empty(s.q.res); err != nil {
				return err
			}
		}
		obj.GetObjectKind().SetGroupVersionKind(gvk)
		m, ok := obj.(metav1.Object)
		if !ok {
			return fmt.Errorf("bookmark of %T: it has no metadata", obj)
		}
		m.SetResourceVersion(meta.ResourceVersion)
		m.SetAnnotations(meta.Annotations)
		data, err := json.Marshal(obj)
		if err != nil {
			return err
		}
		frame = wire.AppendJSONWatchFrame(nil, "BOOKMARK", data)
	}
	_, err := s.w.Write(frame)
	return err
}

// fail sends an error event, the last of a stream.
func (s *watchStream) fail(err error) {
	status := statusOf(err)
	status.Kind, status.APIVersion = "Status", "v1"
	var frame []byte
	if s.q.form.media == mediaProtobuf {
		raw, merr := status.Marshal()
		if merr != nil {
			return
		}
		frame = wire.AppendProtoWatchFrame(nil, "ERROR", wire.AppendEnvelope(nil, "v1", "Status", raw))
	} else {
		data, merr := json.Marshal(status)
		if merr != nil {
			return
		}
		frame = wire.AppendJSONWatchFrame(nil, "ERROR", data)
	}
	_, _ = s.w.Write(frame)
	_ = s.flush()
}
