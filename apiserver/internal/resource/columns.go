package resource

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

// table is a kind's columns and how to fill them; kubectl shows those of
// priority 0, and with -o wide the others too.
type table struct {
	columns func() []metav1.TableColumnDefinition
	row     func(obj runtime.Object) []any
	fields  []string // what row and conditions read, empty for all
	// list and conditions are nil for most kinds, see Strategy.
	list       func([]runtime.Object) []ListRow
	conditions func(runtime.Object) []metav1.TableRowCondition
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

// CreatedText is the cell of a "Created At" column.
func CreatedText(m metav1.Object) string {
	return m.GetCreationTimestamp().UTC().Format(time.RFC3339)
}

// columns reads definitions, one a line: "Name:type:format | description". A
// plus before the name makes it a column of -o wide, the type is string where
// it is left out, and a description of @Type.field is the API's own. The lines
// are read whenever a table is asked for, so that no definition is held.
func columns(lines string) func() []metav1.TableColumnDefinition {
	return func() []metav1.TableColumnDefinition {
		var out []metav1.TableColumnDefinition
		for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
			out = append(out, column(line))
		}
		return out
	}
}

func column(line string) metav1.TableColumnDefinition {
	head, text, _ := strings.Cut(line, "|")
	name, typ, _ := strings.Cut(strings.TrimSpace(head), ":")
	typ, format, _ := strings.Cut(typ, ":")
	c := metav1.TableColumnDefinition{Type: typ, Format: format, Description: strings.TrimSpace(text)}
	if wide, ok := strings.CutPrefix(name, "+"); ok {
		name, c.Priority = wide, 1
	}
	c.Name = name
	switch {
	case c.Description != "":
	case name == "Name":
		c.Description = "@ObjectMeta.name"
	case name == "Age" || name == "Created At":
		c.Description = "@ObjectMeta.creationTimestamp"
	}
	if key, ok := strings.CutPrefix(c.Description, "@"); ok {
		c.Description = columnText(key)
	}
	if c.Type == "" {
		c.Type = "string"
		if name == "Name" {
			c.Format = "name"
		}
	}
	return c
}

// NameColumns are the columns of a kind without any of its own.
func NameColumns() []metav1.TableColumnDefinition { return columns("Name\nCreated At:date")() }

// ListRow is the row of one of a list's objects.
type ListRow struct {
	// Index is the object's in the list.
	Index int
	Cells []any
}

func rowOf[T runtime.Object](cells func(T) []any) func(runtime.Object) []any {
	return func(obj runtime.Object) []any { return cells(obj.(T)) }
}

// shown gives a strategy its table.
func (s Strategy) shown(t table) Strategy {
	s.Columns = t.columns
	s.Row = func(obj runtime.Object, _ bool) []any { return t.row(obj) }
	s.ListRows, s.RowConditions, s.RowFields = t.list, t.conditions, t.fields
	return s
}

// deref is what p points to, and the zero value where it is nil.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// orElse is what p points to, and text where it is nil.
func orElse[T ~string](p *T, text string) string {
	if p == nil {
		return text
	}
	return string(*p)
}

func labelText(m map[string]string) string { return labels.FormatLabels(m) }

func selectorText(s *metav1.LabelSelector) string { return metav1.FormatLabelSelector(s) }

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

// joined joins items with commas.
func joined(list []string) string { return orNone(strings.Join(list, ",")) }

// few joins at most n items, and says how many more there are.
func few(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(list[:n], ","), len(list)-n)
}

// fewOrUnset is few of three, and "<unset>" where that is empty.
func fewOrUnset(list []string) string {
	if text := few(list, 3); text != "" {
		return text
	}
	return "<unset>"
}

// distinct sorts a list and drops what is in it twice.
func distinct(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
