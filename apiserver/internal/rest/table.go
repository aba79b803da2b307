package rest

import (
	"encoding/json"
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

func (a *API) writeTable(w http.ResponseWriter, q *request, code int, entries []*watchcache.Entry, meta wire.ListMeta) error {
	data, err := a.tableJSON(q, entries, meta, true)
	if err != nil {
		return err
	}
	writeWarnings(w, q.warnings)
	respond(w, form{media: mediaJSON, pretty: q.form.pretty}, code, append(data, '\n'))
	return nil
}

// tableJSON renders objects as the table that kubectl shows.
func (a *API) tableJSON(q *request, entries []*watchcache.Entry, meta wire.ListMeta, columns bool) ([]byte, error) {
	include, err := included(q.http)
	if err != nil {
		return nil, err
	}
	t := metav1.Table{
		TypeMeta: tableKind,
		ListMeta: metav1.ListMeta{ResourceVersion: meta.ResourceVersion, Continue: meta.Continue, RemainingItemCount: meta.RemainingItemCount},
	}
	shown := a.shownAs(q.res)
	if columns {
		t.ColumnDefinitions = columnsOf(&shown.Strategy)
	}
	if len(entries) > 0 || !nullRows(shown) {
		t.Rows = make([]metav1.TableRow, 0, len(entries))
	}
	if q.info.Verb == "list" && shown.Strategy.ListRows != nil {
		err = a.listRows(&t, q.res, shown, entries, include)
	} else {
		err = a.eachRow(&t, q.res, shown, entries, include)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(t)
}

// nullRows says whether the rows of an empty table are null, as upstream's are
// where no printer makes them.
func nullRows(res *Resource) bool {
	return res.Strategy.Columns == nil || res.Group == "apiextensions.k8s.io"
}

func (a *API) eachRow(t *metav1.Table, res, shown *Resource, entries []*watchcache.Entry, include metav1.IncludeObjectPolicy) error {
	for _, e := range entries {
		obj, err := a.decodeStored(shown, e)
		if err != nil {
			return err
		}
		row := rowOf(&shown.Strategy, obj, cellsOf(&shown.Strategy, obj))
		if row.Object.Raw, err = a.rowObject(res, e, include); err != nil {
			return err
		}
		t.Rows = append(t.Rows, row)
	}
	return nil
}

// listRows makes rows that depend on the whole list, or on a page of it.
func (a *API) listRows(t *metav1.Table, res, shown *Resource, entries []*watchcache.Entry, include metav1.IncludeObjectPolicy) error {
	objs := make([]runtime.Object, 0, len(entries))
	for _, e := range entries {
		obj, err := a.decodeStored(shown, e)
		if err != nil {
			return err
		}
		objs = append(objs, obj)
	}
	for _, r := range shown.Strategy.ListRows(objs) {
		row := rowOf(&shown.Strategy, objs[r.Index], r.Cells)
		var err error
		if row.Object.Raw, err = a.rowObject(res, entries[r.Index], include); err != nil {
			return err
		}
		t.Rows = append(t.Rows, row)
	}
	return nil
}

// rowObject is what a row holds of its object, nil for nothing.
func (a *API) rowObject(res *Resource, e *watchcache.Entry, include metav1.IncludeObjectPolicy) ([]byte, error) {
	switch include {
	case metav1.IncludeMetadata:
		return a.appendEntry(nil, res, form{media: mediaJSON, as: "PartialObjectMetadata"}, e)
	case metav1.IncludeObject:
		return a.appendEntry(nil, res, form{media: mediaJSON}, e)
	}
	return nil, nil
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
