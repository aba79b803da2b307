package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/store"
	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

// freshTimeout is how long a read waits for the cache to reach a revision,
// upstream's bound.
const freshTimeout = 3 * time.Second

// fetch reads one object: from the store, where no resourceVersion is asked
// for, else from a cache that is at least that new.
func (a *API) fetch(ctx context.Context, res *Resource, key, resourceVersion string) (*watchcache.Entry, error) {
	if resourceVersion == "" {
		it, _, err := a.deps.Store.Get(ctx, res.Prefix+key)
		var unreadable *store.Unreadable
		if errors.As(err, &unreadable) {
			return nil, corrupt(unreadable.Key, unreadable)
		}
		if err != nil {
			return nil, err
		}
		return &watchcache.Entry{Key: key, Value: it.Value, Rev: it.Rev, Stale: it.Stale}, nil
	}
	rev, err := parseRevision(resourceVersion)
	if err != nil {
		return nil, err
	}
	if err := a.waitFresh(ctx, rev); err != nil {
		return nil, err
	}
	if e := res.Cache.Get(key); e != nil {
		return e, nil
	}
	return nil, store.ErrNotFound
}

func (a *API) waitFresh(ctx context.Context, rev int64) error {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	if err := a.deps.Hub.WaitFor(ctx, rev); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", rev, a.deps.Hub.Revision()), 1)
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
		return err
	}
	return nil
}

// parseRevision reads a resource version. Upstream's server answers one that is none
// with 500 where it is not a list's.
func parseRevision(s string) (int64, error) {
	rev, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, field.Invalid(field.NewPath("resourceVersion"), s, err.Error())
	}
	return int64(rev), nil //nolint:gosec // of 63 bits
}

func (a *API) get(w http.ResponseWriter, q *request) error {
	e, err := a.fetch(q.ctx(), q.res, q.key(q.info.Name), q.http.URL.Query().Get("resourceVersion"))
	if errors.Is(err, store.ErrNotFound) {
		return q.notFound()
	}
	if err != nil {
		return err
	}
	return a.writeEntry(w, q, http.StatusOK, e)
}

// writeEntry answers with one stored object in the form asked for.
func (a *API) writeEntry(w http.ResponseWriter, q *request, code int, e *watchcache.Entry) error {
	if q.form.as == "Table" {
		return a.writeTable(w, q, code, []*watchcache.Entry{e}, wire.ListMeta{ResourceVersion: strconv.FormatInt(e.Rev, 10)})
	}
	if q.form.as == "PartialObjectMetadataList" {
		return notAcceptable()
	}
	body, err := a.appendEntry(nil, q.res, q.form, e)
	if err != nil {
		return err
	}
	if q.form.media == mediaJSON {
		body = append(body, '\n')
	}
	writeWarnings(w, q.warnings)
	return answer(w, q.http, q.form, code, body)
}

// listOptions are the query of a list.
type listOptions struct {
	sel     selection
	limit   int64
	rev     int64
	revText string
	match   metav1.ResourceVersionMatch
	start   string
	contRev int64
}

// continueToken is upstream's, so that a list may go on at another server.
type continueToken struct {
	APIVersion      string `json:"v"`
	ResourceVersion int64  `json:"rv"`
	StartKey        string `json:"start"`
}

func parseList(res *Resource, namespace string, query url.Values) (listOptions, error) {
	var o listOptions
	var err error
	if o.sel, err = parseSelection(res, namespace, query); err != nil {
		return o, err
	}
	if err := checkList(query, false); err != nil {
		return o, err
	}
	if _, err := parseSeconds(query.Get("timeoutSeconds")); err != nil {
		return o, err
	}
	if o.limit, err = parseLimit(query.Get("limit")); err != nil {
		return o, err
	}
	o.revText = query.Get("resourceVersion")
	if o.revText != "" {
		if o.rev, err = parseRevision(o.revText); err != nil {
			return o, apierrors.NewBadRequest("invalid resource version: " + err.Error())
		}
	}
	o.match = metav1.ResourceVersionMatch(query.Get("resourceVersionMatch"))
	if token := query.Get("continue"); token != "" {
		return o, o.parseContinue(token)
	}
	return o, nil
}

func (o *listOptions) parseContinue(token string) error {
	if o.revText != "" && o.revText != "0" {
		return apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	bad := func(format string, args ...any) error {
		return apierrors.NewBadRequest("invalid continue token: " + fmt.Sprintf(format, args...))
	}
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return bad("continue key is not valid: %v", err)
	}
	var t continueToken
	if err := json.Unmarshal(data, &t); err != nil {
		return bad("continue key is not valid: %v", err)
	}
	switch {
	case t.APIVersion != "meta.k8s.io/v1":
		return bad("server does not recognize this encoded version %v", t.APIVersion)
	case t.ResourceVersion == 0:
		return bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
	case t.StartKey == "":
		return bad("encoded start key empty (version meta.k8s.io/v1)")
	}
	if key := "/" + strings.TrimPrefix(t.StartKey, "/"); path.Clean(key) != key {
		return bad("continue key is not valid: %v", t.StartKey)
	}
	o.contRev = t.ResourceVersion
	o.start = strings.TrimPrefix(t.StartKey, "/")
	return nil
}

func encodeContinue(rev int64, start string) string {
	data, err := json.Marshal(continueToken{APIVersion: "meta.k8s.io/v1", ResourceVersion: rev, StartKey: start})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func (a *API) list(w http.ResponseWriter, q *request) error {
	ns := q.info.Namespace
	if !q.res.Namespaced {
		ns = ""
	}
	o, err := parseList(q.res, ns, q.http.URL.Query())
	if err != nil {
		return err
	}
	entries, meta, err := a.collect(q.ctx(), q.res, &o)
	if err != nil {
		return err
	}
	if err := a.readable(q.res, entries); err != nil {
		return err
	}
	if q.form.as != "Table" {
		writeWarnings(w, q.warnings)
	}
	switch {
	case q.form.as == "Table":
		return a.writeTable(w, q, http.StatusOK, entries, meta)
	case q.form.as == "PartialObjectMetadata":
		return notAcceptable()
	}
	return a.writeList(w, q, entries, meta)
}

// collect finds the objects of a list.
func (a *API) collect(ctx context.Context, res *Resource, o *listOptions) ([]*watchcache.Entry, wire.ListMeta, error) {
	if o.contRev != 0 || o.match == metav1.ResourceVersionMatchExact {
		return a.collectAt(ctx, res, o)
	}
	var err error
	if o.revText == "" {
		err = a.deps.Hub.WaitCurrent(ctx)
	} else {
		err = a.waitFresh(ctx, o.rev)
	}
	if err != nil {
		return nil, wire.ListMeta{}, err
	}
	snap := res.Cache.Snapshot()
	meta := wire.ListMeta{ResourceVersion: strconv.FormatInt(snap.Rev, 10)}
	var out []*watchcache.Entry
	prefix, exact := o.sel.prefix(res)
	if exact {
		if e := snap.Get(prefix); e != nil {
			ok, err := a.matches(res, &o.sel, e)
			if err != nil {
				return nil, meta, err
			}
			if ok {
				out = append(out, e)
			}
		}
		return out, meta, nil
	}
	// A limited list from resourceVersion 0 is answered whole, as upstream's
	// cache does.
	limit := int(o.limit)
	if o.revText == "0" {
		limit = 0
	}
	if limit == 0 && o.sel.all() {
		out = make([]*watchcache.Entry, 0, snap.Len())
	}
	more := false
	snap.Scan(prefix, "", func(e *watchcache.Entry) bool {
		if limit > 0 && len(out) == limit {
			more = true
			return false
		}
		ok := true
		if !o.sel.all() || o.sel.name != "" {
			if ok, err = a.matches(res, &o.sel, e); err != nil {
				return false
			}
		}
		if ok {
			out = append(out, e)
		}
		return true
	})
	if err != nil {
		return nil, meta, err
	}
	if more {
		next := out[len(out)-1].Key + "\x00"
		meta.Continue = encodeContinue(snap.Rev, next)
		if o.sel.all() {
			left := int64(snap.Count(prefix, next))
			meta.RemainingItemCount = &left
		}
	}
	return out, meta, nil
}

// collectAt reads a list at an exact revision from the store, which has the
// history that the cache has not.
func (a *API) collectAt(ctx context.Context, res *Resource, o *listOptions) ([]*watchcache.Entry, wire.ListMeta, error) {
	rev := o.rev
	if o.contRev > 0 {
		rev = o.contRev
	}
	prefix, _ := o.sel.prefix(res)
	start := o.start
	if start != "" && !strings.HasPrefix(start, prefix) {
		return nil, wire.ListMeta{}, apierrors.NewBadRequest("continue key is not valid")
	}
	var out []*watchcache.Entry
	meta := wire.ListMeta{ResourceVersion: strconv.FormatInt(max(rev, 0), 10)}
	// A negative revision is upstream's token for an inconsistent
	// continuation: the rest of the list as it is now.
	at := max(rev, 0)
	for {
		want := int64(0)
		if o.limit > 0 {
			want = o.limit - int64(len(out))
		}
		from := ""
		if start != "" {
			from = res.Prefix + start
		}
		page, err := a.deps.Store.List(ctx, res.Prefix+prefix, from, want, at)
		if errors.Is(err, store.ErrCompacted) {
			return nil, meta, expiredContinue(res, o)
		}
		if err != nil {
			return nil, meta, err
		}
		if at == 0 {
			at, meta.ResourceVersion = page.Revision, strconv.FormatInt(page.Revision, 10)
		}
		for _, it := range page.Items {
			e := &watchcache.Entry{Key: strings.TrimPrefix(it.Key, res.Prefix), Value: it.Value, Rev: it.Rev}
			ok, err := a.matches(res, &o.sel, e)
			if err != nil {
				return nil, meta, err
			}
			if ok {
				out = append(out, e)
			}
			start = e.Key + "\x00"
		}
		if !page.More || len(page.Items) == 0 {
			return out, meta, nil
		}
		if o.limit > 0 && int64(len(out)) >= o.limit {
			meta.Continue = encodeContinue(at, start)
			if o.sel.all() {
				left := page.Count - int64(len(page.Items))
				meta.RemainingItemCount = &left
			}
			return out, meta, nil
		}
	}
}

// expiredContinue answers a list that can no longer go on at its revision,
// with a token to go on without consistency.
func expiredContinue(res *Resource, o *listOptions) error {
	if o.contRev == 0 {
		return apierrors.NewResourceExpired(fmt.Sprintf("The resourceVersion for the provided list is too old: %d", o.rev))
	}
	err := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
	err.ErrStatus.ListMeta.Continue = encodeContinue(-1, o.start)
	return err
}

func (a *API) writeList(w http.ResponseWriter, q *request, entries []*watchcache.Entry, meta wire.ListMeta) error {
	res, f := q.res, q.form
	apiVersion, kind := res.apiVersion, res.ListName()
	if f.as != "" {
		apiVersion, kind = metav1.SchemeGroupVersion.String(), "PartialObjectMetadataList"
	}
	item := form{media: f.media, as: strings.TrimSuffix(f.as, "List")}
	if f.media == mediaProtobuf {
		return a.writeProtoList(w, q, apiVersion, kind, entries, meta, item)
	}
	appendItem := func(dst []byte, i int) ([]byte, error) {
		return a.appendEntry(dst, res, form{media: mediaJSON, as: item.as, bare: f.as == ""}, entries[i])
	}
	if f.media == mediaYAML || f.pretty {
		b := &buffer{}
		if err := wire.WriteJSONList(b, apiVersion, kind, meta, len(entries), appendItem); err != nil {
			return err
		}
		body := b.data
		if f.media == mediaYAML {
			var err error
			if body, err = yaml.JSONToYAML(body); err != nil {
				return err
			}
		}
		return answer(w, q.http, f, http.StatusOK, body)
	}
	out := newStream(w, q.http, f, http.StatusOK)
	return out.finish(wire.WriteJSONList(out, apiVersion, kind, meta, len(entries), appendItem))
}

func (a *API) writeProtoList(w http.ResponseWriter, q *request, apiVersion, kind string, entries []*watchcache.Entry, meta wire.ListMeta, item form) error {
	raws := func(i int) ([]byte, string) {
		_, _, raw, _, err := wire.SplitEnvelope(entries[i].Value)
		if err != nil {
			return nil, ""
		}
		return raw, strconv.FormatInt(entries[i].Rev, 10)
	}
	if q.res.converts || item.as != "" {
		bodies := make([][]byte, len(entries))
		for i, e := range entries {
			data, err := a.appendEntry(nil, q.res, item, e)
			if err != nil {
				return err
			}
			if _, _, bodies[i], _, err = wire.SplitEnvelope(data); err != nil {
				return err
			}
		}
		raws = func(i int) ([]byte, string) { return bodies[i], "" }
	}
	out := newStream(w, q.http, q.form, http.StatusOK)
	return out.finish(wire.WriteProtoList(out, apiVersion, kind, meta, len(entries), raws))
}

type buffer struct{ data []byte }

func (b *buffer) Write(p []byte) (int, error) {
	b.data = append(b.data, p...)
	return len(p), nil
}
