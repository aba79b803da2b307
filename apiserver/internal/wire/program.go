package wire

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxDepth bounds how deep messages may nest, as deep as readers of JSON go: what came as JSON and was stored can be read.
const maxDepth = 10_000

// maxFieldNumber bounds the dense table of field numbers; the API's largest is below it.
const maxFieldNumber = 4096

// Program transcodes the protobuf bytes of one Go type to JSON. It is immutable once compiled.
type Program struct {
	root *message
	// nests is whether its messages may be within one of their own type.
	nests bool
}

// op says how one value is rendered.
type op uint8

const (
	opString op = iota
	opBytes
	opBool
	opInt32
	opInt64
	opUint32
	opUint64
	opFloat32
	opFloat64
	opMessage
	opStrings // a named slice of strings, a message with repeated field 1 on the wire
	opTime
	opMicroTime
	opDuration
	opQuantity
	opIntOrString
	opRawExtension
	opFieldsV1
	opOther // renders itself: decoded, then asked
)

// cardinality says how occurrences of a field make its value.
type cardinality uint8

const (
	single cardinality = iota
	repeated
	mapped
	inlined   // an embedded message whose fields are the parent's in JSON
	typeMeta  // apiVersion and kind of the envelope
	unencoded // has no protobuf tag, so it always has its zero value
)

// value is a type's rendering.
type value struct {
	op   op
	wire int8
	msg  *message     // opMessage
	typ  reflect.Type // opOther
}

// field is one JSON member of a message, in the order of encoding/json.
type field struct {
	key       []byte // `"name":`
	slot      int
	card      cardinality
	value     value
	pointer   bool
	omitEmpty bool
	omitZero  bool
	rv        bool   // ObjectMeta.resourceVersion, which AppendJSON may override
	absent    []byte // what the zero value renders as; nil if it is left out
}

// slot is a protobuf field number of a message.
type slot struct {
	wire     int8
	repeated bool
}

// message is a compiled struct type.
type message struct {
	name   string
	typ    reflect.Type
	fields []field
	slots  []slot
	byNum  []int16 // field number → slot+1

	objectMeta bool
	// typeMeta are the members kind and apiVersion of an embedded object.
	typeMeta []byte
}

// Embedded says what the objects of a type within another object are shown as: their kind has no protobuf encoding.
type Embedded struct {
	Type             reflect.Type
	APIVersion, Kind string
}

// Compile builds the Program of a struct type whose fields carry `protobuf:` tags. It fails on a type that has no
// faithful rendering, naming the field.
func Compile(t reflect.Type, embedded ...Embedded) (*Program, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("compile %s: not a struct", t)
	}
	c := compiler{done: map[reflect.Type]*message{}}
	root, err := c.message(t)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", t, err)
	}
	for _, e := range embedded {
		m := c.done[e.Type]
		if m == nil {
			return nil, fmt.Errorf("compile %s: it embeds no %s", t, e.Type)
		}
		m.typeMeta = fmt.Appendf(nil, `"kind":%q,"apiVersion":%q`, e.Kind, e.APIVersion)
	}
	return &Program{root: root, nests: root.nests(map[*message]bool{}, map[*message]bool{})}, nil
}

type compiler struct {
	done map[reflect.Type]*message
}

func (c *compiler) message(t reflect.Type) (*message, error) {
	if m := c.done[t]; m != nil {
		return m, nil
	}
	m := &message{name: t.Name(), typ: t, objectMeta: t == reflect.TypeFor[metav1.ObjectMeta]()}
	c.done[t] = m
	for i := range t.NumField() {
		if err := c.field(m, t.Field(i)); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name(), t.Field(i).Name, err)
		}
	}
	names := map[string]bool{}
	if err := m.checkNames(names, t); err != nil {
		return nil, err
	}
	return m, nil
}

// checkNames refuses members of the same name: encoding/json would choose between them by depth.
func (m *message) checkNames(seen map[string]bool, root reflect.Type) error {
	for i := range m.fields {
		f := &m.fields[i]
		switch f.card {
		case typeMeta:
			continue
		case inlined:
			if err := f.value.msg.checkNames(seen, root); err != nil {
				return err
			}
			continue
		}
		if seen[string(f.key)] {
			return fmt.Errorf("%s: two members named %s", root, f.key)
		}
		seen[string(f.key)] = true
	}
	return nil
}

func (c *compiler) field(m *message, sf reflect.StructField) error {
	jsonTag := sf.Tag.Get("json")
	if jsonTag == "-" || !sf.IsExported() && !sf.Anonymous {
		return nil
	}
	name, opts, _ := strings.Cut(jsonTag, ",")
	f := field{slot: -1, card: unencoded}
	for opt := range strings.SplitSeq(opts, ",") {
		switch opt {
		case "omitempty":
			f.omitEmpty = true
		case "omitzero":
			f.omitZero = true
		case "string":
			return fmt.Errorf("json option %q is not supported", opt)
		}
	}
	ft := sf.Type
	if sf.Anonymous && name == "" {
		if ft == reflect.TypeFor[metav1.TypeMeta]() && sf.Tag.Get("protobuf") == "" {
			m.fields = append(m.fields, field{card: typeMeta, slot: -1})
			return nil
		}
		if ft.Kind() == reflect.Pointer {
			return fmt.Errorf("embedded pointer is not supported")
		}
		if ft.Kind() == reflect.Struct {
			return c.embedded(m, sf, f)
		}
	}
	if name == "" {
		name = sf.Name
	}
	f.key = append(appendString(nil, []byte(name)), ':')
	f.rv = m.typ == reflect.TypeFor[metav1.ObjectMeta]() && name == "resourceVersion"
	if err := c.setAbsent(&f, ft); err != nil {
		return err
	}
	if tag := sf.Tag.Get("protobuf"); tag != "" && tag != "-" {
		if err := c.encoded(m, &f, ft, tag); err != nil {
			return err
		}
	}
	m.fields = append(m.fields, f)
	return nil
}

func (c *compiler) embedded(m *message, sf reflect.StructField, f field) error {
	inner, err := c.message(sf.Type)
	if err != nil {
		return err
	}
	f.card = inlined
	f.value = value{op: opMessage, wire: wireBytes, msg: inner}
	if tag := sf.Tag.Get("protobuf"); tag != "" {
		if f.slot, err = m.addSlot(tag, slot{wire: wireBytes}); err != nil {
			return err
		}
	}
	m.fields = append(m.fields, f)
	return nil
}

// setAbsent works out what the field's zero value renders as.
func (c *compiler) setAbsent(f *field, t reflect.Type) error {
	if f.omitZero || f.omitEmpty && t.Kind() != reflect.Struct {
		return nil
	}
	var err error
	f.absent, err = json.Marshal(reflect.Zero(t).Interface())
	return err
}

// encoded fills in how the field's occurrences on the wire are read.
func (c *compiler) encoded(m *message, f *field, t reflect.Type, tag string) error {
	f.card = single
	var err error
	if t.Kind() == reflect.Pointer {
		f.pointer = true
		t = t.Elem()
	}
	switch {
	case isScalar(t) || wellKnown(t) != opMessage || rendersItself(t):
		f.value, err = c.value(t)
	case t.Kind() == reflect.Slice && !isMessage(t):
		f.card = repeated
		elem := t.Elem()
		if elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		f.value, err = c.value(elem)
	case t.Kind() == reflect.Map:
		f.card = mapped
		if t.Key().Kind() != reflect.String {
			return fmt.Errorf("map key %s is not supported", t.Key())
		}
		f.value, err = c.value(t.Elem())
	default:
		f.value, err = c.value(t)
	}
	if err != nil {
		return err
	}
	s := slot{wire: f.value.wire, repeated: f.card == repeated}
	if f.card == mapped {
		s.wire = wireBytes
	}
	f.slot, err = m.addSlot(tag, s)
	return err
}

func (m *message) addSlot(tag string, s slot) (int, error) {
	parts := strings.SplitN(tag, ",", 3)
	if len(parts) < 2 {
		return 0, fmt.Errorf("protobuf tag %q", tag)
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil || n < 1 || n > maxFieldNumber {
		return 0, fmt.Errorf("protobuf tag %q: field number", tag)
	}
	for len(m.byNum) <= n {
		m.byNum = append(m.byNum, 0)
	}
	m.slots = append(m.slots, s)
	m.byNum[n] = int16(len(m.slots))
	return len(m.slots) - 1, nil
}

// isScalar says whether the type is one value on the wire by itself.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Pointer, reflect.Interface:
		return false
	case reflect.Slice:
		return t.Elem().Kind() == reflect.Uint8
	}
	return true
}

// wellKnown returns the op of a type that is rendered natively, or opMessage.
func wellKnown(t reflect.Type) op {
	switch t {
	case reflect.TypeFor[metav1.Time]():
		return opTime
	case reflect.TypeFor[metav1.MicroTime]():
		return opMicroTime
	case reflect.TypeFor[metav1.Duration]():
		return opDuration
	case reflect.TypeFor[metav1.FieldsV1]():
		return opFieldsV1
	case reflect.TypeFor[resource.Quantity]():
		return opQuantity
	case reflect.TypeFor[intstr.IntOrString]():
		return opIntOrString
	case reflect.TypeFor[runtime.RawExtension]():
		return opRawExtension
	}
	return opMessage
}

func rendersItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// isMessage says whether a named slice is a message of its own on the wire rather than a repeated field.
func isMessage(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[unmarshaler]())
}

func (c *compiler) value(t reflect.Type) (value, error) {
	if known := wellKnown(t); known != opMessage {
		return value{op: known, wire: wireBytes, typ: t}, nil
	}
	if rendersItself(t) {
		if !reflect.PointerTo(t).Implements(reflect.TypeFor[unmarshaler]()) {
			return value{}, fmt.Errorf("%s renders itself and has no Unmarshal", t)
		}
		return value{op: opOther, wire: wireBytes, typ: t}, nil
	}
	switch t.Kind() {
	case reflect.String:
		return value{op: opString, wire: wireBytes}, nil
	case reflect.Bool:
		return value{op: opBool, wire: wireVarint}, nil
	case reflect.Int32:
		return value{op: opInt32, wire: wireVarint}, nil
	case reflect.Int, reflect.Int64:
		return value{op: opInt64, wire: wireVarint}, nil
	case reflect.Uint32:
		return value{op: opUint32, wire: wireVarint}, nil
	case reflect.Uint64:
		return value{op: opUint64, wire: wireVarint}, nil
	case reflect.Float32:
		return value{op: opFloat32, wire: wireFixed32}, nil
	case reflect.Float64:
		return value{op: opFloat64, wire: wireFixed64}, nil
	case reflect.Struct:
		m, err := c.message(t)
		return value{op: opMessage, wire: wireBytes, msg: m}, err
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return value{op: opBytes, wire: wireBytes}, nil
		}
		if t.Elem().Kind() == reflect.String && isMessage(t) {
			return value{op: opStrings, wire: wireBytes}, nil
		}
	}
	return value{}, fmt.Errorf("type %s is not supported", t)
}

// unmarshaler is what generated API types implement.
type unmarshaler interface{ Unmarshal([]byte) error }
