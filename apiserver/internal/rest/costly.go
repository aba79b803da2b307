package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagship/apiserver/internal/wire"
)

// checkQuantities refuses the JSON of an object of a type that has a quantity which takes long to parse.
func checkQuantities(data []byte, t reflect.Type) error {
	if !wire.MayBeCostly(data) || !json.Valid(data) {
		return nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil //nolint:nilerr // who reads it next says what is wrong
	}
	if hasCostly(t, v) {
		return wire.ErrCostly
	}
	return nil
}

// hasCostly follows a type's JSON names through a value.
func hasCostly(t reflect.Type, v any) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[resource.Quantity]() {
		switch v := v.(type) {
		case string:
			return wire.CostlyQuantity(v)
		case json.Number:
			return wire.CostlyQuantity(string(v))
		case int64, float64:
			return wire.CostlyQuantity(fmt.Sprint(v))
		}
		return false
	}
	switch v := v.(type) {
	case []any:
		if t.Kind() != reflect.Slice {
			return false
		}
		for _, e := range v {
			if hasCostly(t.Elem(), e) {
				return true
			}
		}
	case map[string]any:
		switch t.Kind() {
		case reflect.Map:
			for _, e := range v {
				if hasCostly(t.Elem(), e) {
					return true
				}
			}
		case reflect.Struct:
			return fieldsCostly(t, v)
		}
	}
	return false
}

func fieldsCostly(t reflect.Type, v map[string]any) bool {
	for sf := range t.Fields() {
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if sf.Anonymous && name == "" {
			if hasCostly(sf.Type, v) {
				return true
			}
			continue
		}
		if e, ok := v[name]; ok && hasCostly(sf.Type, e) {
			return true
		}
	}
	return false
}

// maxItems bounds one list or map of an object: recording who owns each of its items takes the square of their number. Lists of a custom resource
// are owned as a whole, as a rule, and may be longer, but telling what is wrong with each item takes the square as well.
const (
	maxItems       = 32 << 10
	maxCustomItems = 64 << 10
)

// boundItems refuses an object with more of them.
func boundItems(obj runtime.Object) error {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return tooMany(mostKeys(u.Object))
	}
	return tooMany(mostItems(reflect.ValueOf(obj)))
}

// boundApplied refuses what to apply as boundItems and checkQuantities do.
func (a *API) boundApplied(res *Resource, patch map[string]any) error {
	if res.codec != nil {
		return tooMany(mostKeys(patch))
	}
	typ, err := a.empty(res)
	if err != nil {
		return err
	}
	if hasCostly(reflect.TypeOf(typ), patch) {
		return apierrors.NewBadRequest(wire.ErrCostly.Error())
	}
	return tooMany(mostItems(reflect.ValueOf(patch)))
}

func tooMany(n int) error {
	if n <= maxItems {
		return nil
	}
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("a list or map of the object has %d items, which is too many", n))
}

// mostKeys is the size of the largest map, or of the largest list if that has too many items.
func mostKeys(v any) int {
	most := 0
	switch v := v.(type) {
	case map[string]any:
		most = len(v)
		for _, e := range v {
			most = max(most, mostKeys(e))
		}
	case []any:
		if len(v) > maxCustomItems {
			return len(v)
		}
		for _, e := range v {
			most = max(most, mostKeys(e))
		}
	}
	return most
}

// mostItems is the size of the largest list or map.
func mostItems(v reflect.Value) int {
	most := 0
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return mostItems(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); v.Type().Field(i).IsExported() {
				most = max(most, mostItems(f))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return 0
		}
		most = v.Len()
		if holds(v.Type().Elem()) {
			for i := range v.Len() {
				most = max(most, mostItems(v.Index(i)))
			}
		}
	case reflect.Map:
		most = v.Len()
		if holds(v.Type().Elem()) {
			for it := v.MapRange(); it.Next(); {
				most = max(most, mostItems(it.Value()))
			}
		}
	}
	return most
}

// holds is whether values of a type may hold lists or maps.
func holds(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Struct, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	return false
}
