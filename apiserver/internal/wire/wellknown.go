package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// merged renders a singular field of a type whose occurrences merge, applying omitempty and omitzero.
func (t *transcoder) merged(dst []byte, start int, f *field, frags []span, depth int) ([]byte, error) {
	if f.value.op == opStrings {
		before := len(dst)
		dst, err := t.strings(dst, frags)
		if err == nil && !f.pointer && f.omitEmpty && len(dst) == before+2 {
			return dst[:start], nil
		}
		return dst, err
	}
	if f.omitZero && !f.pointer {
		obj, err := t.decode(f.value.typ, frags)
		if err != nil {
			return nil, err
		}
		if isZero(obj) {
			return dst[:start], nil
		}
	}
	return t.wellKnown(dst, f.value, frags)
}

// wellKnown renders a value of a type with a rendering of its own.
func (t *transcoder) wellKnown(dst []byte, v value, frags []span) ([]byte, error) {
	last := frags[len(frags)-1]
	switch v.op {
	case opStrings:
		return t.strings(dst, frags)
	case opTime:
		sec, _, ok, err := t.timestamp(last)
		if err != nil || !ok || sec == zeroUnix {
			return append(dst, "null"...), err
		}
		return appendTime(dst, time.Unix(sec, 0), time.RFC3339), nil
	case opMicroTime:
		sec, nanos, ok, err := t.timestamp(last)
		if err != nil || !ok {
			return append(dst, "null"...), err
		}
		return appendTime(dst, time.Unix(sec, int64(time.Duration(nanos).Truncate(time.Microsecond))), metav1.RFC3339Micro), nil
	case opDuration:
		vals, _, err := t.small(frags, wireVarint)
		return appendString(dst, []byte(time.Duration(vals[1]).String())), err
	case opQuantity:
		return t.quantity(dst, last)
	case opIntOrString:
		return t.intOrString(dst, frags)
	case opRawExtension, opFieldsV1:
		return t.raw(dst, v, frags)
	case opOther:
		obj, err := t.decode(v.typ, frags)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(obj.Interface())
		return append(dst, data...), err
	}
	return nil, fmt.Errorf("wire: no rendering for op %d", v.op)
}

// absentWellKnown renders the zero value of a map's element.
func (t *transcoder) absentWellKnown(dst []byte, v value) ([]byte, error) {
	data, err := json.Marshal(reflect.Zero(v.typ).Interface())
	return append(dst, data...), err
}

// small reads a message whose fields 1..3 are varints or bytes, given the wire type wanted of each; it returns
// numbers by field number and spans (zero if absent) of the length-delimited ones.
func (t *transcoder) small(frags []span, want ...int) (vals [4]uint64, spans [4]node, err error) {
	for _, s := range frags {
		i, end := int(s.start), int(s.end)
		for i < end {
			num, wire, next, err := tag(t.b, i, end)
			if err != nil {
				return vals, spans, err
			}
			if int(num) > len(want) {
				if i, err = skip(t.b, next, end, wire); err != nil {
					return vals, spans, err
				}
				continue
			}
			if wire != want[num-1] {
				return vals, spans, fmt.Errorf("proto: wrong wireType = %d for field %d", wire, num)
			}
			val, after, err := t.read(wire, next, end)
			if err != nil {
				return vals, spans, err
			}
			if wire == wireBytes {
				spans[num] = node{val: val, next: 1}
			} else {
				vals[num] = val
			}
			i = after
		}
	}
	return vals, spans, nil
}

// timestamp reads seconds and nanoseconds; ok is false for the zero time, which has no bytes.
func (t *transcoder) timestamp(s span) (sec int64, nanos int32, ok bool, err error) {
	if s.start == s.end {
		return 0, 0, false, nil
	}
	one := [1]span{s}
	vals, _, err := t.small(one[:], wireVarint, wireVarint)
	return int64(vals[1]), int32(vals[2]), true, err
}

// quantity renders a resource.Quantity in canonical form.
func (t *transcoder) quantity(dst []byte, s span) ([]byte, error) {
	b, i, end := t.b, int(s.start), int(s.end)
	var q resource.Quantity
	text := []byte(nil)
	for i < end {
		num, wire, next, err := tag(b, i, end)
		if err != nil {
			return nil, err
		}
		if num != 1 {
			if i, err = skip(b, next, end, wire); err != nil {
				return nil, err
			}
			continue
		}
		if wire != wireBytes {
			return nil, fmt.Errorf("proto: wrong wireType = %d for field String_", wire)
		}
		start, after, err := length(b, next, end)
		if err != nil {
			return nil, err
		}
		text, i = b[start:after], after
		if !canonicalQuantity(text) {
			if q, err = resource.ParseQuantity(string(text)); err != nil {
				return nil, err
			}
		}
	}
	if text != nil && canonicalQuantity(text) {
		dst = append(append(dst, '"'), text...)
		return append(dst, '"'), nil
	}
	out, err := q.MarshalJSON()
	return append(dst, out...), err
}

// canonicalQuantity recognizes, without parsing, the commonest quantities that are certainly in canonical form: an
// integer of 1 to 999 with no suffix or one of m, k, M, G, Ki, Mi, Gi, Ti; or zero.
func canonicalQuantity(s []byte) bool {
	n := 0
	for n < len(s) && s[n]-'0' <= 9 {
		n++
	}
	if n == 0 || n > 3 {
		return false
	}
	if s[0] == '0' {
		return len(s) == 1
	}
	switch string(s[n:]) {
	case "", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti":
		return true
	}
	return false
}

func (t *transcoder) intOrString(dst []byte, frags []span) ([]byte, error) {
	vals, spans, err := t.small(frags, wireVarint, wireVarint, wireBytes)
	if err != nil {
		return nil, err
	}
	switch intstr.Type(vals[1]) {
	case intstr.Int:
		return strconv.AppendInt(dst, int64(int32(vals[2])), 10), nil
	case intstr.String:
		s := spans[3].span()
		return appendString(dst, t.b[s.start:s.end]), nil
	}
	return nil, fmt.Errorf("impossible IntOrString.Type")
}

// raw renders a RawExtension or FieldsV1, whose one field holds JSON.
func (t *transcoder) raw(dst []byte, v value, frags []span) ([]byte, error) {
	_, spans, err := t.small(frags, wireBytes)
	if err != nil {
		return nil, err
	}
	s := spans[1].span()
	data := t.b[s.start:s.end]
	if spans[1].next == 0 || v.op == opFieldsV1 && len(data) == 0 {
		return append(dst, "null"...), nil
	}
	if len(data) > 0 && (data[0] >= 0x80 || data[0] == 'k') { // CBOR, or a protobuf envelope
		if v.op == opFieldsV1 {
			data, err = metav1.FieldsV1{Raw: data}.MarshalJSON()
		} else {
			data, err = runtime.RawExtension{Raw: data}.MarshalJSON()
		}
		if err != nil {
			return nil, err
		}
	}
	return appendCompact(dst, data)
}

// strings renders a named slice of strings.
func (t *transcoder) strings(dst []byte, frags []span) ([]byte, error) {
	dst = append(dst, '[')
	for _, s := range frags {
		i, end := int(s.start), int(s.end)
		for i < end {
			num, wire, next, err := tag(t.b, i, end)
			if err != nil {
				return nil, err
			}
			if num != 1 {
				if i, err = skip(t.b, next, end, wire); err != nil {
					return nil, err
				}
				continue
			}
			if wire != wireBytes {
				return nil, fmt.Errorf("proto: wrong wireType = %d for field Items", wire)
			}
			start, after, err := length(t.b, next, end)
			if err != nil {
				return nil, err
			}
			dst = appendString(comma(dst), t.b[start:after])
			i = after
		}
	}
	return append(dst, ']'), nil
}

// decode builds a value from its fragments.
func (t *transcoder) decode(typ reflect.Type, frags []span) (reflect.Value, error) {
	v := reflect.New(typ)
	for _, s := range frags {
		if err := v.Interface().(unmarshaler).Unmarshal(t.b[s.start:s.end]); err != nil {
			return v, err
		}
	}
	return v, nil
}

// isZero is encoding/json's omitzero.
func isZero(ptr reflect.Value) bool {
	if z, ok := ptr.Interface().(interface{ IsZero() bool }); ok {
		return z.IsZero()
	}
	return ptr.Elem().IsZero()
}

// zeroValue says whether omitzero leaves the value out.
func (t *transcoder) zeroValue(v value, n node) bool {
	switch v.op {
	case opTime, opMicroTime:
		sec, nanos, ok, err := t.timestamp(n.span())
		return err == nil && (!ok || sec == zeroUnix && (v.op == opTime || time.Duration(nanos).Truncate(time.Microsecond) == 0))
	case opQuantity:
		one := [1]span{n.span()}
		obj, err := t.decode(v.typ, one[:])
		return err == nil && isZero(obj)
	case opBytes:
		return false
	}
	return t.empty(v, n)
}

// zero says whether a message decodes to the zero value of its type.
func (t *transcoder) zero(m *message, frags []span, depth int) (bool, error) {
	if depth > maxDepth {
		return false, errDepth
	}
	nodes := len(t.nodes)
	base, err := t.open(m, frags)
	defer func() { t.chains, t.nodes = t.chains[:base], t.nodes[:nodes] }()
	if err != nil {
		return false, err
	}
	for i := range m.fields {
		f := &m.fields[i]
		if f.slot < 0 || t.chains[base+f.slot].head == 0 {
			continue
		}
		c := t.chains[base+f.slot]
		if f.pointer || f.card == repeated || f.card == mapped || f.value.op == opBytes {
			return false, nil
		}
		if zero, err := t.zeroField(f, c, depth); !zero || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (t *transcoder) zeroField(f *field, c chain, depth int) (bool, error) {
	mark, frags := t.fragments(c)
	defer func() { t.spans = t.spans[:mark] }()
	switch f.value.op {
	case opMessage:
		return t.zero(f.value.msg, frags, depth+1)
	case opTime, opMicroTime:
		// A decoded time carries a location, so that only one without bytes is the zero value.
		return frags[len(frags)-1].start == frags[len(frags)-1].end, nil
	case opStrings:
		return false, nil // present, so an empty slice rather than nil
	case opDuration, opQuantity, opIntOrString, opRawExtension, opFieldsV1, opOther:
		obj, err := t.decode(f.value.typ, frags)
		return err == nil && obj.Elem().IsZero(), err
	}
	return t.empty(f.value, t.nodes[c.tail-1]), nil
}
