package extend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/util/jsonpath"
)

// column is one of a table, besides the name.
type column struct {
	typ  string
	path *jsonpath.JSONPath
}

// table is the definition's additional columns after the name; a definition
// without any has the age. A column that cannot be parsed ends the table.
func table(v *apiextensionsv1.CustomResourceDefinitionVersion) (func() []metav1.TableColumnDefinition, func(runtime.Object, bool) []any) {
	doc := metav1.ObjectMeta{}.SwaggerDoc()
	defs := []metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name", Description: doc["name"]}}
	more := v.AdditionalPrinterColumns
	if len(more) == 0 {
		more = []apiextensionsv1.CustomResourceColumnDefinition{{Name: "Age", Type: "date", Description: doc["creationTimestamp"], JSONPath: ".metadata.creationTimestamp"}}
	}
	columns := make([]column, 0, len(more))
	for _, c := range more {
		path := jsonpath.New(c.Name).AllowMissingKeys(true)
		if err := path.Parse("{" + c.JSONPath + "}"); err != nil {
			break
		}
		text := c.Description
		if text == "" {
			text = "Custom resource definition column (in JSONPath format): " + c.JSONPath
		}
		columns = append(columns, column{c.Type, path})
		defs = append(defs, metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Format: c.Format, Description: text, Priority: c.Priority})
	}
	var mu sync.Mutex // a JSONPath is not safe for concurrent use
	return func() []metav1.TableColumnDefinition { return defs }, func(obj runtime.Object, _ bool) []any {
		u := obj.(*unstructured.Unstructured)
		mu.Lock()
		defer mu.Unlock()
		cells := []any{u.GetName()}
		for _, c := range columns {
			cells = append(cells, c.cell(u.Object))
		}
		return cells
	}
}

func (c column) cell(obj map[string]any) any {
	results, err := c.path.FindResults(obj)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil
	}
	value := results[0][0].Interface()
	if c.typ != "string" {
		return cell(c.typ, value)
	}
	buf := &bytes.Buffer{}
	if c.path.PrintResults(buf, []reflect.Value{reflect.ValueOf(value)}) != nil {
		return nil
	}
	return buf.String()
}

// cell is a value as its column's type, nil where it is of another.
func cell(typ string, value any) any {
	switch typ {
	case "integer":
		switch n := value.(type) {
		case int64:
			return n
		case float64:
			return int64(n)
		case json.Number:
			if i, err := n.Int64(); err == nil {
				return i
			}
		}
	case "number":
		switch n := value.(type) {
		case int64:
			return float64(n)
		case float64:
			return n
		case json.Number:
			if f, err := n.Float64(); err == nil {
				return f
			}
		}
	case "boolean":
		if b, ok := value.(bool); ok {
			return b
		}
	case "date":
		text, ok := value.(string)
		if !ok {
			return nil
		}
		at, err := time.Parse(time.RFC3339, text)
		switch {
		case err != nil && (text == "" || text == "null"), err == nil && at.IsZero():
			return "<unknown>"
		case err != nil:
			return "<invalid>"
		}
		return duration.HumanDuration(time.Since(at))
	}
	return nil
}

// selectable are the fields by which the objects can be selected.
func selectable(list []apiextensionsv1.SelectableField) (func(runtime.Object) map[string]string, []string) {
	if len(list) == 0 {
		return nil, nil
	}
	names := make([]string, 0, len(list))
	paths := make([][]string, 0, len(list))
	for _, f := range list {
		name := strings.TrimPrefix(f.JSONPath, ".")
		names = append(names, name)
		// Only the dot notation is admitted.
		paths = append(paths, steps(name))
	}
	return func(obj runtime.Object) map[string]string {
		u := obj.(*unstructured.Unstructured)
		out := make(map[string]string, len(names)+2)
		for i, name := range names {
			out[name] = ""
			if v, ok, err := unstructured.NestedFieldNoCopy(u.Object, paths[i]...); err == nil && ok && v != nil {
				out[name] = fmt.Sprint(v)
			}
		}
		return out
	}, names
}
