package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

var tableKind = metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"}

func columnsOf(s *resource.Strategy) []metav1.TableColumnDefinition {
	if s.Columns == nil {
		return resource.NameColumns()
	}
	return s.Columns()
}

func cellsOf(s *resource.Strategy, obj runtime.Object) []any {
	if s.Row != nil {
		return s.Row(obj, true)
	}
	m, ok := obj.(metav1.Object)
	if !ok {
		return []any{"", ""}
	}
	return []any{m.GetName(), resource.CreatedText(m)}
}

// rowOf is a row without the object.
func rowOf(s *resource.Strategy, obj runtime.Object, cells []any) metav1.TableRow {
	for i, cell := range cells {
		if t, ok := cell.(metav1.Time); ok {
			cells[i] = age(t)
		}
	}
	row := metav1.TableRow{Cells: cells}
	if s.RowConditions != nil {
		row.Conditions = s.RowConditions(obj)
	}
	return row
}

// age renders how long ago a time was, as kubectl's AGE column does.
func age(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// shownAs is the resource whose table shows this one: a version that is stored
// as another has no table of its own.
func (a *API) shownAs(res *Resource) *Resource {
	if res.Strategy.Row != nil || res.Stored.Empty() {
		return res
	}
	if stored := a.Lookup(res.Stored.WithResource(res.Resource)); stored != nil {
		return stored
	}
	return res
}

// included is what a table holds of its objects.
func included(r *http.Request) (metav1.IncludeObjectPolicy, error) {
	o := metav1.TableOptions{IncludeObject: metav1.IncludeObjectPolicy(r.URL.Query().Get("includeObject"))}
	if errs := metavalidation.ValidateTableOptions(&o); len(errs) > 0 {
		return "", apierrors.NewBadRequest("Unable to convert to Table as requested: " + errs[0].Error())
	}
	if o.IncludeObject == "" {
		return metav1.IncludeMetadata, nil
	}
	return o.IncludeObject, nil
}

// writeTable answers with objects as the table that kubectl shows.
func (a *API) writeTable(w http.ResponseWriter, q *request, code int, entries []*watchcache.Entry, meta wire.ListMeta) error {
	t, err := a.newTable(q, meta, true)
	if err != nil {
		return err
	}
	rows, err := t.rows(entries)
	if err != nil {
		return err
	}
	writeWarnings(w, q.warnings)
	if q.form.pretty {
		b := &buffer{}
		if err := t.write(b, rows); err != nil {
			return err
		}
		return answer(w, q.http, form{media: mediaJSON, pretty: true}, code, b.data)
	}
	out := newStream(w, q.http, form{media: mediaJSON}, code)
	return out.finish(t.write(out, rows))
}

// tableJSON renders objects as a table, without a newline.
func (a *API) tableJSON(q *request, entries []*watchcache.Entry, meta wire.ListMeta, columns bool) ([]byte, error) {
	t, err := a.newTable(q, meta, columns)
	if err != nil {
		return nil, err
	}
	rows, err := t.rows(entries)
	if err != nil {
		return nil, err
	}
	b := &buffer{}
	if err := t.write(b, rows); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.data, []byte{'\n'}), nil
}

// tableWriter renders the rows of one answer.
type tableWriter struct {
	api     *API
	q       *request
	shown   *Resource
	include metav1.IncludeObjectPolicy
	// head is the table up to its rows.
	head []byte
	kept []byte // scratch
}

// tableRow is a row that is not rendered yet: an entry, and its cells where they depend on those of others.
type tableRow struct {
	entry *watchcache.Entry
	obj   runtime.Object
	cells []any
}

func (a *API) newTable(q *request, meta wire.ListMeta, columns bool) (*tableWriter, error) {
	t := &tableWriter{api: a, q: q, shown: a.shownAs(q.res)}
	var err error
	if t.include, err = included(q.http); err != nil {
		return nil, err
	}
	table := metav1.Table{
		TypeMeta: tableKind,
		ListMeta: metav1.ListMeta{ResourceVersion: meta.ResourceVersion, Continue: meta.Continue, RemainingItemCount: meta.RemainingItemCount},
	}
	if columns {
		table.ColumnDefinitions = columnsOf(&t.shown.Strategy)
	}
	if t.head, err = json.Marshal(table); err != nil {
		return nil, err
	}
	t.head = bytes.TrimSuffix(t.head, []byte(noRows))
	return t, nil
}

// noRows ends a table without rows.
const noRows = "null}"

// rows are the rows of the entries in the order of the table.
func (t *tableWriter) rows(entries []*watchcache.Entry) ([]tableRow, error) {
	out := make([]tableRow, 0, len(entries))
	if t.q.info.Verb != "list" || t.shown.Strategy.ListRows == nil {
		for _, e := range entries {
			out = append(out, tableRow{entry: e})
		}
		return out, nil
	}
	objs := make([]runtime.Object, len(entries))
	for i, e := range entries {
		var err error
		if objs[i], err = t.api.decodeStored(t.shown, e); err != nil {
			return nil, err
		}
	}
	for _, r := range t.shown.Strategy.ListRows(objs) {
		out = append(out, tableRow{entry: entries[r.Index], obj: objs[r.Index], cells: r.Cells})
	}
	return out, nil
}

// write writes the table in chunks, ending in a newline. Upstream's rows of an empty table are null where no printer makes them.
func (t *tableWriter) write(w io.Writer, rows []tableRow) error {
	if len(rows) == 0 && (t.shown.Strategy.Columns == nil || t.shown.Group == "apiextensions.k8s.io") {
		_, err := w.Write(append(t.head, noRows+"\n"...))
		return err
	}
	return wire.WriteJSONItems(w, append(t.head, '['), len(rows), func(dst []byte, i int) ([]byte, error) { return t.appendRow(dst, rows[i]) })
}

func (t *tableWriter) appendRow(dst []byte, r tableRow) ([]byte, error) {
	var err error
	if r.obj == nil {
		if r.obj, err = t.decode(r.entry); err != nil {
			return nil, err
		}
		r.cells = cellsOf(&t.shown.Strategy, r.obj)
	}
	row := rowOf(&t.shown.Strategy, r.obj, r.cells)
	dst = append(dst, `{"cells":[`...)
	for i, cell := range row.Cells {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = wire.AppendJSONValue(dst, cell); err != nil {
			return nil, fmt.Errorf("cell %d of %s%s: %w", i, t.shown.Prefix, r.entry.Key, err)
		}
	}
	dst = append(dst, ']')
	if len(row.Conditions) > 0 {
		conditions, err := json.Marshal(row.Conditions)
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, `,"conditions":`...), conditions...)
	}
	dst = append(dst, `,"object":`...)
	switch t.include {
	case metav1.IncludeMetadata:
		dst, err = t.api.appendEntry(dst, t.q.res, form{media: mediaJSON, as: "PartialObjectMetadata"}, r.entry)
	case metav1.IncludeObject:
		dst, err = t.api.appendEntry(dst, t.q.res, form{media: mediaJSON}, r.entry)
	default:
		dst = append(dst, "null"...)
	}
	return append(dst, '}'), err
}

// decode builds as much of an object as its row shows.
func (t *tableWriter) decode(e *watchcache.Entry) (runtime.Object, error) {
	if t.shown.row == nil || !storedAs(e.Value, t.shown) {
		return t.api.decodeStored(t.shown, e)
	}
	_, _, raw, _, err := wire.SplitEnvelope(e.Value)
	if err != nil {
		return nil, undecodable(t.shown, e, err)
	}
	if t.kept, err = wire.AppendKept(t.kept[:0], raw, t.shown.row); err != nil {
		return nil, undecodable(t.shown, e, err)
	}
	obj, err := t.api.deps.Scheme.New(t.shown.GroupVersionKind)
	if err != nil {
		return nil, undecodable(t.shown, e, err)
	}
	p, ok := obj.(protoObject)
	if !ok {
		return nil, undecodable(t.shown, e, fmt.Errorf("%T has no protobuf encoding", obj))
	}
	if err := p.Unmarshal(t.kept); err != nil {
		return nil, undecodable(t.shown, e, err)
	}
	return obj, nil
}

// bookmarkTable is the table of an empty object. The end of the initial events
// is told by its metadata, which is there for that whatever was asked for.
func (s *watchStream) bookmarkTable(meta metav1.ObjectMeta) ([]byte, error) {
	include, err := included(s.q.http)
	if err != nil {
		return nil, err
	}
	t := metav1.Table{TypeMeta: tableKind, ListMeta: metav1.ListMeta{ResourceVersion: meta.ResourceVersion}}
	shown := s.api.shownAs(s.q.res)
	if s.columns {
		t.ColumnDefinitions = columnsOf(&shown.Strategy)
		s.columns = false
	}
	obj, err := s.api.empty(shown)
	if err != nil {
		return nil, err
	}
	row := rowOf(&shown.Strategy, obj, cellsOf(&shown.Strategy, obj))
	switch {
	case include == metav1.IncludeObject:
		if obj, err = s.api.empty(s.q.res); err != nil {
			return nil, err
		}
		m := obj.(metav1.Object)
		m.SetResourceVersion(meta.ResourceVersion)
		m.SetAnnotations(meta.Annotations)
		row.Object.Raw, err = json.Marshal(obj)
	case include == metav1.IncludeMetadata || meta.Annotations[initialEventsEnd] != "":
		row.Object.Raw, err = partialJSON(meta)
	}
	if err != nil {
		return nil, err
	}
	t.Rows = []metav1.TableRow{row}
	return json.Marshal(t)
}

func partialJSON(meta metav1.ObjectMeta) ([]byte, error) {
	return json.Marshal(&metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"}, ObjectMeta: meta,
	})
}

// writeShown answers with objects that are not stored: as a table where the
// client asks for one, and else as whole, which may be a list of them.
func writeShown(w http.ResponseWriter, r *http.Request, s resource.Strategy, whole runtime.Object, objs ...runtime.Object) error {
	f, err := negotiate(r)
	if err != nil {
		return err
	}
	if f.as != "Table" {
		return WriteObject(w, r, http.StatusOK, whole)
	}
	include, err := included(r)
	if err != nil {
		return err
	}
	t := metav1.Table{TypeMeta: tableKind, ColumnDefinitions: columnsOf(&s), Rows: make([]metav1.TableRow, 0, len(objs))}
	if m, ok := whole.(metav1.Common); ok {
		t.ResourceVersion = m.GetResourceVersion()
	}
	for _, obj := range objs {
		row := rowOf(&s, obj, cellsOf(&s, obj))
		switch include {
		case metav1.IncludeObject:
			row.Object.Raw, err = json.Marshal(obj)
		case metav1.IncludeMetadata:
			m := obj.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
			row.Object.Raw, err = partialJSON(*m)
		}
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, row)
	}
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	respond(w, form{media: mediaJSON, pretty: f.pretty}, http.StatusOK, append(data, '\n'))
	return nil
}
