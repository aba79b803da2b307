package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"sort"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// Details that many fields share.
const (
	immutable      = "field is immutable"
	notPositive    = "must be greater than zero"
	badMode        = "must be a number between 0 and 0777 (octal), both inclusive"
	onlyOneVolume  = "may not specify more than 1 volume type"
	onlyOneHandler = "may not specify more than 1 handler type"
)

// checks collects what is wrong with an object.
type checks struct{ list field.ErrorList }

// root is the path of a top-level field.
func root(name string, more ...string) *field.Path { return field.NewPath(name, more...) }

func (c *checks) add(list field.ErrorList) { c.list = append(c.list, list...) }

func (c *checks) required(p *field.Path, detail string) {
	c.list = append(c.list, field.Required(p, detail))
}

func (c *checks) forbidden(p *field.Path, detail string) {
	c.list = append(c.list, field.Forbidden(p, detail))
}

func (c *checks) duplicate(p *field.Path, v any) { c.list = append(c.list, field.Duplicate(p, v)) }

func (c *checks) notFound(p *field.Path, v any) { c.list = append(c.list, field.NotFound(p, v)) }

// invalid adds one error for each detail.
func (c *checks) invalid(p *field.Path, v any, details ...string) {
	for _, d := range details {
		c.list = append(c.list, field.Invalid(p, v, d))
	}
}

// oneOf wants one of the values, which the error lists in order.
func oneOf[T ~string](c *checks, p *field.Path, v T, valid ...T) bool {
	for _, x := range valid {
		if v == x {
			return true
		}
	}
	sorted := append([]T(nil), valid...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
	c.list = append(c.list, field.NotSupported(p, v, sorted))
	return false
}

// oneOfRequired is oneOf for a value that may not be empty, with the values
// listed as they are given.
func oneOfRequired[T ~string](c *checks, p *field.Path, v T, valid ...T) {
	if v == "" {
		c.required(p, "")
		return
	}
	for _, x := range valid {
		if v == x {
			return
		}
	}
	c.list = append(c.list, field.NotSupported(p, v, valid))
}

func (c *checks) nonNegative(p *field.Path, v int64) {
	c.add(apivalidation.ValidateNonnegativeField(v, p))
}

func (c *checks) positive(p *field.Path, v int64) {
	if v <= 0 {
		c.invalid(p, v, notPositive)
	}
}

func (c *checks) between(p *field.Path, v, low, high int64) {
	if v < low || v > high {
		c.invalid(p, v, validation.InclusiveRangeError(int(low), int(high)))
	}
}

func (c *checks) mode(p *field.Path, v *int32) {
	if v != nil && (*v > 0o777 || *v < 0) {
		c.invalid(p, *v, badMode)
	}
}

func (c *checks) label(p *field.Path, v string) { c.invalid(p, v, validation.IsDNS1123Label(v)...) }

func (c *checks) subdomain(p *field.Path, v string) {
	c.invalid(p, v, validation.IsDNS1123Subdomain(v)...)
}

func (c *checks) qualified(p *field.Path, v string) {
	c.invalid(p, v, validation.IsQualifiedName(v)...)
}

func (c *checks) labelName(p *field.Path, v string) { c.add(unversioned.ValidateLabelName(v, p)) }

// requiredOr wants a value that is not empty and that check accepts.
func (c *checks) requiredOr(p *field.Path, v string, check func(*field.Path, string)) {
	if v == "" {
		c.required(p, "")
		return
	}
	check(p, v)
}

func (c *checks) needed(p *field.Path, v string) {
	if v == "" {
		c.required(p, "")
	}
}

func (c *checks) selector(p *field.Path, s *metav1.LabelSelector) {
	c.add(unversioned.ValidateLabelSelector(s, unversioned.LabelSelectorValidationOptions{}, p))
}

// same wants two values to be equal.
func (c *checks) same(p *field.Path, v, old any) {
	if !apiequality.Semantic.DeepEqual(v, old) {
		c.invalid(p, shown(v), immutable)
	}
}

// frozen is same for the fields whose immutability upstream declares beside the
// type: its errors do not show the value.
func (c *checks) frozen(p *field.Path, v, old any) {
	if !apiequality.Semantic.DeepEqual(v, old) {
		c.invalid(p, nil, immutable)
	}
}

// ip wants an address in canonical form: no leading zeros, no IPv4 mapped into
// IPv6.
func (c *checks) ip(p *field.Path, v string) {
	c.add(validation.IsValidIPForLegacyField(p, v, true, nil))
}

func (c *checks) port(p *field.Path, v int32) { c.invalid(p, v, validation.IsValidPortNum(int(v))...) }

func (c *checks) portOrName(p *field.Path, v intstr.IntOrString) {
	if v.Type == intstr.String {
		c.invalid(p, v.StrVal, validation.IsValidPortName(v.StrVal)...)
		return
	}
	c.invalid(p, v.IntValue(), validation.IsValidPortNum(v.IntValue())...)
}

// noBacksteps wants a path without "..".
func (c *checks) noBacksteps(p *field.Path, v string) {
	for _, part := range strings.Split(v, "/") {
		if part == ".." {
			c.invalid(p, v, "must not contain '..'")
			return
		}
	}
}

func (c *checks) descending(p *field.Path, v string) {
	if path.IsAbs(v) {
		c.invalid(p, v, "must be a relative path")
	}
	c.noBacksteps(p, v)
}

// notReserved wants a relative path that does not begin with "..".
func (c *checks) notReserved(p *field.Path, v string) {
	c.descending(p, v)
	if strings.HasPrefix(v, "..") && !strings.HasPrefix(v, "../") {
		c.invalid(p, v, "must not start with '..'")
	}
}

func (c *checks) quantityNotNegative(p *field.Path, q apiresource.Quantity) {
	if q.Sign() < 0 {
		c.invalid(p, q.String(), apivalidation.IsNegativeErrorMsg)
	}
}

// dualStack is whether exactly one address of each family is given.
func dualStack(ips []string) bool {
	ok, err := netutils.IsDualStackIPStrings(ips)
	return err == nil && ok && len(ips) <= 2
}

// goNamed renders a value as upstream's errors show its internal types: by the
// names of the Go fields, leaving nothing out.
type goNamed struct{ value any }

// shown wraps structures, slices and maps for errors.
func shown(v any) any {
	t := reflect.TypeOf(v)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return v
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map:
		return goNamed{v}
	}
	return v
}

// MarshalJSON implements json.Marshaler.
func (g goNamed) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	err := writeGoNamed(&b, reflect.ValueOf(g.value))
	return b.Bytes(), err
}

func writeGoNamed(b *bytes.Buffer, v reflect.Value) error {
	if !v.IsValid() || (v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.IsNil() {
		b.WriteString("null")
		return nil
	}
	if v.Kind() == reflect.Pointer {
		return writeGoNamed(b, v.Elem())
	}
	switch {
	case v.Kind() == reflect.Struct && !strings.HasPrefix(v.Type().PkgPath(), "k8s.io/apimachinery"):
		return writeGoStruct(b, v)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeGoNamed(b, v.Index(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		return fmt.Errorf("render a value for an error: %w", err)
	}
	b.Write(data)
	return nil
}

func writeGoStruct(b *bytes.Buffer, v reflect.Value) error {
	b.WriteByte('{')
	n := 0
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		if f.Anonymous {
			// What is embedded shows its own fields in place.
			var own bytes.Buffer
			if err := writeGoNamed(&own, v.Field(i)); err != nil {
				return err
			}
			if inner := bytes.Trim(own.Bytes(), "{}"); len(inner) > 0 {
				if n > 0 {
					b.WriteByte(',')
				}
				n++
				b.Write(own.Bytes()[1 : own.Len()-1])
			}
			continue
		}
		if n > 0 {
			b.WriteByte(',')
		}
		n++
		fmt.Fprintf(b, "%q:", f.Name)
		if err := writeGoNamed(b, v.Field(i)); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}
