package rest

import (
	"encoding/json"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

// nameColumns are the table of a kind without columns of its own.
func nameColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: "Name must be unique within a namespace."},
		{Name: "Created At", Type: "date", Description: "CreationTimestamp is a timestamp representing the server time when this object was created."},
	}
}

func nameRow(obj runtime.Object) []any {
	m, ok := obj.(metav1.Object)
	if !ok {
		return []any{"", ""}
	}
	return []any{m.GetName(), m.GetCreationTimestamp().UTC().Format(time.RFC3339)}
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
	include := metav1.IncludeObjectPolicy(q.http.URL.Query().Get("includeObject"))
	switch include {
	case "":
		include = metav1.IncludeMetadata
	case metav1.IncludeMetadata, metav1.IncludeNone, metav1.IncludeObject:
	default:
		return nil, apierrors.NewBadRequest("unrecognized includeObject value: " + string(include))
	}
	t := metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: meta.ResourceVersion, Continue: meta.Continue, RemainingItemCount: meta.RemainingItemCount},
		Rows:     make([]metav1.TableRow, 0, len(entries)),
	}
	if columns {
		t.ColumnDefinitions = q.res.Strategy.Columns
		if t.ColumnDefinitions == nil {
			t.ColumnDefinitions = nameColumns()
		}
	}
	for _, e := range entries {
		row, err := a.tableRow(q.res, e, include)
		if err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, row)
	}
	return json.Marshal(t)
}

func (a *API) tableRow(res *Resource, e *watchcache.Entry, include metav1.IncludeObjectPolicy) (metav1.TableRow, error) {
	obj, err := a.decodeStored(res, e)
	if err != nil {
		return metav1.TableRow{}, err
	}
	row := metav1.TableRow{}
	if res.Strategy.Row != nil {
		row.Cells = res.Strategy.Row(obj, true)
	} else {
		row.Cells = nameRow(obj)
	}
	for i, cell := range row.Cells {
		if t, ok := cell.(metav1.Time); ok {
			row.Cells[i] = age(t)
		}
	}
	switch include {
	case metav1.IncludeMetadata:
		if row.Object.Raw, err = a.appendEntry(nil, res, form{media: mediaJSON, as: "PartialObjectMetadata"}, e); err != nil {
			return row, err
		}
	case metav1.IncludeObject:
		if row.Object.Raw, err = a.appendEntry(nil, res, form{media: mediaJSON}, e); err != nil {
			return row, err
		}
	}
	return row, nil
}

// age renders how long ago a time was, as kubectl's AGE column does.
func age(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}

func (s *watchStream) bookmarkTable(meta metav1.ObjectMeta) ([]byte, error) {
	t := metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: meta.ResourceVersion},
	}
	if s.columns {
		t.ColumnDefinitions = s.q.res.Strategy.Columns
		if t.ColumnDefinitions == nil {
			t.ColumnDefinitions = nameColumns()
		}
		s.columns = false
	}
	obj, err := json.Marshal(&metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{Kind: s.q.res.GroupVersionKind.Kind, APIVersion: s.q.res.GroupVersion().String()},
		ObjectMeta: meta,
	})
	if err != nil {
		return nil, err
	}
	t.Rows = []metav1.TableRow{{Cells: make([]any, len(t.ColumnDefinitions)), Object: runtime.RawExtension{Raw: obj}}}
	return json.Marshal(t)
}
