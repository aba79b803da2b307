package resource

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/sets"
)

// table is a kind's columns and how to fill them; kubectl shows those of
// priority 0, and with -o wide the others too.
type table struct {
	columns []metav1.TableColumnDefinition
	row     func(obj runtime.Object) []any
}

// sinceText and durationText render times as kubectl does. The clock is read
// here, since a row is only ever about now.
func sinceText(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return durationText(time.Since(t.Time))
}

func durationText(d time.Duration) string { return duration.HumanDuration(d) }

func secondsText(n int64) string { return durationText(time.Duration(n) * time.Second) }

// columns reads "Name:string:format:priority" definitions, separated by commas,
// of which all but the name may be left out.
func columns(text string) []metav1.TableColumnDefinition {
	var out []metav1.TableColumnDefinition
	for _, part := range strings.Split(text, ",") {
		c := metav1.TableColumnDefinition{Type: "string"}
		name, typ, _ := strings.Cut(part, ":")
		if wide, ok := strings.CutPrefix(name, "+"); ok {
			name, c.Priority = wide, 1
		}
		c.Name = name
		if name == "Name" {
			c.Format = "name"
		}
		if typ != "" {
			c.Type = typ
		}
		c.Description = describe(name)
		out = append(out, c)
	}
	return out
}

func describe(column string) string {
	switch column {
	case "Name":
		return "Name must be unique within a namespace."
	case "Age":
		return "CreationTimestamp is a timestamp representing the server time when this object was created."
	}
	return column + " of the object."
}

func rowOf[T runtime.Object](cells func(T) []any) func(runtime.Object) []any {
	return func(obj runtime.Object) []any { return cells(obj.(T)) }
}

// shown gives a strategy its table.
func (s Strategy) shown(t table) Strategy {
	s.Columns = t.columns
	s.Row = func(obj runtime.Object, _ bool) []any { return t.row(obj) }
	return s
}

func labelText(m map[string]string) string {
	if len(m) == 0 {
		return "<none>"
	}
	parts := make([]string, 0, len(m))
	for _, k := range sets.List(sets.KeySet(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ",")
}

func selectorText(s *metav1.LabelSelector) string {
	if s == nil {
		return "<none>"
	}
	return metav1.FormatLabelSelector(s)
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

func joined(list []string) string {
	if len(list) == 0 {
		return "<none>"
	}
	return strings.Join(list, ",")
}

// few joins at most three items, and says how many more there are.
func few(list []string) string {
	if len(list) > 3 {
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:3], ","), len(list)-3)
	}
	return joined(list)
}
