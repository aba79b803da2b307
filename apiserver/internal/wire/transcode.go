package wire

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
)

// AppendJSON appends the JSON of the message raw (what is inside the `k8s\0` envelope) to dst: what encoding/json
// gives for the decoded object, without a newline. apiVersion and kind are the envelope's; empty ones are left out as
// in the items of a list. A non-empty resourceVersion replaces the object's own. Malformed bytes are an error, after
// which dst's contents beyond its length are undefined.
func (p *Program) AppendJSON(dst []byte, apiVersion, kind string, raw []byte, resourceVersion string) ([]byte, error) {
	if len(raw) > math.MaxInt32 {
		return nil, fmt.Errorf("transcode %s: %d bytes are too many", p.root.name, len(raw))
	}
	t := transcoders.Get().(*transcoder)
	t.b, t.apiVersion, t.kind, t.rv = raw, apiVersion, kind, resourceVersion
	whole := [1]span{{0, int32(len(raw))}}
	out, err := t.message(dst, p.root, whole[:], 0)
	t.release()
	if err != nil {
		return nil, fmt.Errorf("transcode %s: %w", p.root.name, err)
	}
	return out, nil
}

// transcoders keeps scratch space between calls; a transcoder holds no reference to its input while in the pool.
var transcoders = sync.Pool{New: func() any { return new(transcoder) }}

// maxScratch is the number of nodes above which a transcoder's scratch space is not kept.
const maxScratch = 1 << 16

// span is a range of the input.
type span struct{ start, end int32 }

// node is one occurrence of a field: a span (start<<32|end) or a number.
type node struct {
	val  uint64
	next int32
}

func (n node) span() span { return span{int32(n.val >> 32), int32(n.val & math.MaxUint32)} }

// chain is the list of a field's occurrences: indexes into nodes, plus one; 0 is none.
type chain struct{ head, tail int32 }

// entry is one pair of a map.
type entry struct {
	key     span
	val     node
	present bool
}

type transcoder struct {
	b                    []byte
	apiVersion, kind, rv string
	nodes                []node
	chains               []chain
	spans                []span
	entries              []entry
}

func (t *transcoder) release() {
	t.b = nil
	if cap(t.nodes) > maxScratch || cap(t.entries) > maxScratch || cap(t.spans) > maxScratch {
		*t = transcoder{}
	}
	t.nodes, t.chains, t.spans, t.entries = t.nodes[:0], t.chains[:0], t.spans[:0], t.entries[:0]
	transcoders.Put(t)
}

// open scans the fragments of a message and returns the index of its first chain.
func (t *transcoder) open(m *message, frags []span) (base int, err error) {
	base = len(t.chains)
	t.chains = slices.Grow(t.chains, len(m.slots))[:base+len(m.slots)]
	clear(t.chains[base:])
	for _, s := range frags {
		if err := t.scan(m, base, s); err != nil {
			return base, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return base, nil
}

func (t *transcoder) add(base, slot int, val uint64) {
	t.nodes = append(t.nodes, node{val: val})
	n := int32(len(t.nodes))
	c := &t.chains[base+slot]
	if c.tail == 0 {
		c.head = n
	} else {
		t.nodes[c.tail-1].next = n
	}
	c.tail = n
}

// scan records where each field of one fragment lies.
func (t *transcoder) scan(m *message, base int, s span) error {
	b, i, end := t.b, int(s.start), int(s.end)
	for i < end {
		num, wire, next, err := tag(b, i, end)
		if err != nil {
			return err
		}
		slotOf := -1
		if int(num) < len(m.byNum) {
			slotOf = int(m.byNum[num]) - 1
		}
		if slotOf < 0 {
			if i, err = skip(b, next, end, wire); err != nil {
				return err
			}
			continue
		}
		sl := m.slots[slotOf]
		if wire == wireBytes && sl.repeated && sl.wire == wireVarint {
			if i, err = t.packed(base, slotOf, next, end); err != nil {
				return err
			}
			continue
		}
		if wire != int(sl.wire) {
			return fmt.Errorf("proto: wrong wireType = %d for field %d", wire, num)
		}
		val, after, err := t.read(wire, next, end)
		if err != nil {
			return err
		}
		t.add(base, slotOf, val)
		i = after
	}
	return nil
}

// read reads a value of the given wire type into a node's val.
func (t *transcoder) read(wire, i, end int) (uint64, int, error) {
	switch wire {
	case wireVarint:
		return uvarint(t.b, i, end)
	case wireFixed64, wireFixed32:
		n := 8
		if wire == wireFixed32 {
			n = 4
		}
		if n > end-i {
			return 0, 0, fmt.Errorf("proto: truncated number")
		}
		var v uint64
		for k := n - 1; k >= 0; k-- {
			v = v<<8 | uint64(t.b[i+k])
		}
		return v, i + n, nil
	}
	start, after, err := length(t.b, i, end)
	return uint64(start)<<32 | uint64(after), after, err
}

func (t *transcoder) packed(base, slot, i, end int) (int, error) {
	i, stop, err := length(t.b, i, end)
	for err == nil && i < stop {
		var v uint64
		if v, i, err = uvarint(t.b, i, stop); err == nil {
			t.add(base, slot, v)
		}
	}
	return stop, err
}

// message renders a message made of the given fragments (later ones merge into earlier ones).
func (t *transcoder) message(dst []byte, m *message, frags []span, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	nodes := len(t.nodes)
	base, err := t.open(m, frags)
	if err == nil {
		dst = append(dst, '{')
		dst, err = t.members(dst, m, base, depth)
		dst = append(dst, '}')
	}
	t.chains, t.nodes = t.chains[:base], t.nodes[:nodes]
	return dst, err
}

// members renders the fields of an open message.
func (t *transcoder) members(dst []byte, m *message, base, depth int) ([]byte, error) {
	var err error
	for i := range m.fields {
		f := &m.fields[i]
		var c chain
		if f.slot >= 0 {
			c = t.chains[base+f.slot]
		}
		switch {
		case f.card == typeMeta:
			if depth == 0 {
				dst = t.typeMeta(dst)
			} else if m.typeMeta != nil {
				dst = append(comma(dst), m.typeMeta...)
			}
			continue
		case f.card == inlined:
			dst, err = t.inline(dst, f, c, depth)
		case f.rv && depth == 1 && t.rv != "":
			dst = appendString(append(comma(dst), f.key...), []byte(t.rv))
		case c.head == 0 && !(depth == 0 && t.rv != "" && f.value.msg != nil && f.value.msg.objectMeta):
			if f.absent != nil {
				dst = append(append(comma(dst), f.key...), f.absent...)
			}
		default:
			dst, err = t.member(dst, f, c, depth)
		}
		if err != nil {
			return nil, fmt.Errorf("%s%s%w", m.name, keyPath(f.key), err)
		}
	}
	return dst, nil
}

func keyPath(key []byte) string {
	if len(key) < 3 {
		return ": "
	}
	return "." + string(key[1:len(key)-2]) + ": "
}

// comma appends a comma unless an object or array has just been opened.
func comma(dst []byte) []byte {
	if c := dst[len(dst)-1]; c == '{' || c == '[' {
		return dst
	}
	return append(dst, ',')
}

func (t *transcoder) typeMeta(dst []byte) []byte {
	if t.kind != "" {
		dst = appendString(append(comma(dst), `"kind":`...), []byte(t.kind))
	}
	if t.apiVersion != "" {
		dst = appendString(append(comma(dst), `"apiVersion":`...), []byte(t.apiVersion))
	}
	return dst
}

// fragments collects the spans of a chain on the stack of spans; the caller truncates it to the returned mark.
func (t *transcoder) fragments(c chain) (mark int, frags []span) {
	mark = len(t.spans)
	for n := c.head; n != 0; n = t.nodes[n-1].next {
		t.spans = append(t.spans, t.nodes[n-1].span())
	}
	return mark, t.spans[mark:]
}

func (t *transcoder) inline(dst []byte, f *field, c chain, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	nodes := len(t.nodes)
	mark, frags := t.fragments(c)
	base, err := t.open(f.value.msg, frags)
	if err == nil {
		dst, err = t.members(dst, f.value.msg, base, depth+1)
	}
	t.chains, t.nodes, t.spans = t.chains[:base], t.nodes[:nodes], t.spans[:mark]
	return dst, err
}

// member renders a field that occurs (or, for the root's metadata, one that gets a resourceVersion).
func (t *transcoder) member(dst []byte, f *field, c chain, depth int) ([]byte, error) {
	start := len(dst)
	dst = append(comma(dst), f.key...)
	switch f.card {
	case repeated:
		return t.array(dst, f, c, depth)
	case mapped:
		return t.object(dst, f, c, depth)
	}
	if f.value.op == opMessage {
		mark, frags := t.fragments(c)
		defer func() { t.spans = t.spans[:mark] }()
		if f.omitZero && !f.pointer && (depth > 0 || t.rv == "") {
			if zero, err := t.zero(f.value.msg, frags, depth+1); zero || err != nil {
				return dst[:start], err
			}
		}
		return t.message(dst, f.value.msg, frags, depth+1)
	}
	if f.value.op == opOther || f.value.op == opIntOrString || f.value.op == opDuration || f.value.op == opRawExtension ||
		f.value.op == opFieldsV1 || f.value.op == opStrings {
		mark, frags := t.fragments(c)
		defer func() { t.spans = t.spans[:mark] }()
		return t.merged(dst, start, f, frags, depth)
	}
	last := t.nodes[c.tail-1]
	if f.omitEmpty && !f.pointer && t.empty(f.value, last) || f.omitZero && !f.pointer && t.zeroValue(f.value, last) {
		return dst[:start], nil
	}
	return t.value(dst, f.value, last, depth)
}

// empty says whether encoding/json's omitempty leaves the value out.
func (t *transcoder) empty(v value, n node) bool {
	switch v.op {
	case opString, opBytes:
		s := n.span()
		return s.start == s.end
	case opBool, opInt64, opUint64, opFloat64:
		return n.val == 0 || v.op == opFloat64 && math.Float64frombits(n.val) == 0
	case opInt32, opUint32, opFloat32:
		return uint32(n.val) == 0 || v.op == opFloat32 && math.Float32frombits(uint32(n.val)) == 0
	}
	return false
}

func (t *transcoder) array(dst []byte, f *field, c chain, depth int) ([]byte, error) {
	var err error
	dst = append(dst, '[')
	for n := c.head; n != 0; n = t.nodes[n-1].next {
		if n != c.head {
			dst = append(dst, ',')
		}
		if dst, err = t.value(dst, f.value, t.nodes[n-1], depth); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// object renders a map: keys sorted, the last of equal keys winning.
func (t *transcoder) object(dst []byte, f *field, c chain, depth int) ([]byte, error) {
	mark := len(t.entries)
	for n := c.head; n != 0; n = t.nodes[n-1].next {
		e, err := t.entry(f.value, t.nodes[n-1].span())
		if err != nil {
			return nil, err
		}
		t.entries = append(t.entries, e)
	}
	pairs := t.entries[mark:]
	key := func(e entry) []byte { return t.b[e.key.start:e.key.end] }
	slices.SortStableFunc(pairs, func(a, b entry) int {
		return cmp.Or(bytes.Compare(key(a), key(b)), 0)
	})
	dst = append(dst, '{')
	for i, e := range pairs {
		if i+1 < len(pairs) && bytes.Equal(key(e), key(pairs[i+1])) {
			continue
		}
		dst = append(appendString(comma(dst), key(e)), ':')
		var err error
		if dst, err = t.mapValue(dst, f.value, e, depth); err != nil {
			return nil, err
		}
	}
	t.entries = t.entries[:mark]
	return append(dst, '}'), nil
}

func (t *transcoder) mapValue(dst []byte, v value, e entry, depth int) ([]byte, error) {
	n := e.val
	if !e.present && (v.op == opQuantity || v.op == opTime || v.op == opMicroTime) {
		return t.absentWellKnown(dst, v)
	}
	return t.value(dst, v, n, depth)
}

// entry reads one pair of a map. Like the generated decoders it trusts the field's type, not the wire type it reads.
func (t *transcoder) entry(v value, s span) (entry, error) {
	var e entry
	i, end := int(s.start), int(s.end)
	for i < end {
		num, wire, next, err := tag(t.b, i, end)
		if err != nil {
			return e, err
		}
		switch num {
		case 1:
			a, z, err := length(t.b, next, end)
			if err != nil {
				return e, err
			}
			e.key = span{int32(a), int32(z)}
			i = z
		case 2:
			if e.val.val, i, err = t.read(int(v.wire), next, end); err != nil {
				return e, err
			}
			e.present = true
		default:
			if i, err = skip(t.b, next, end, wire); err != nil {
				return e, err
			}
		}
	}
	return e, nil
}

// value renders one occurrence.
func (t *transcoder) value(dst []byte, v value, n node, depth int) ([]byte, error) {
	switch v.op {
	case opString:
		s := n.span()
		return appendString(dst, t.b[s.start:s.end]), nil
	case opBytes:
		s := n.span()
		return appendBase64(dst, t.b[s.start:s.end]), nil
	case opBool:
		return strconv.AppendBool(dst, n.val != 0), nil
	case opInt32:
		return strconv.AppendInt(dst, int64(int32(n.val)), 10), nil
	case opInt64:
		return strconv.AppendInt(dst, int64(n.val), 10), nil
	case opUint32:
		return strconv.AppendUint(dst, uint64(uint32(n.val)), 10), nil
	case opUint64:
		return strconv.AppendUint(dst, n.val, 10), nil
	case opFloat32:
		return appendFloat(dst, float64(math.Float32frombits(uint32(n.val))), 32)
	case opFloat64:
		return appendFloat(dst, math.Float64frombits(n.val), 64)
	case opMessage:
		one := [1]span{n.span()}
		return t.message(dst, v.msg, one[:], depth+1)
	}
	one := [1]span{n.span()}
	return t.wellKnown(dst, v, one[:])
}
