package wire

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Keep is a choice of fields of a Go type's protobuf message, to decode no more of it than is read. It is immutable once compiled.
type Keep struct {
	// fields are the kept ones by number; one that is kept whole has nil.
	fields map[int32]*Keep
}

// CompileKeep makes a choice of the fields at paths of JSON names such as "spec.containers.name", which go through pointers, lists and the values of
// messages but not of maps. A path that the type does not have is an error.
func CompileKeep(t reflect.Type, paths ...string) (*Keep, error) {
	root := &Keep{fields: map[int32]*Keep{}}
	for _, path := range paths {
		if err := root.add(t, strings.Split(path, ".")); err != nil {
			return nil, fmt.Errorf("path %s of %s: %w", path, t, err)
		}
	}
	return root, nil
}

func (k *Keep) add(t reflect.Type, path []string) error {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	num, ft, err := numbered(t, path[0])
	if err != nil {
		return err
	}
	next, known := k.fields[num]
	if len(path) == 1 {
		k.fields[num] = nil
		return nil
	}
	if known && next == nil {
		return nil
	}
	if next == nil {
		next = &Keep{fields: map[int32]*Keep{}}
		k.fields[num] = next
	}
	return next.add(ft, path[1:])
}

// numbered finds the field of a JSON name and its number on the wire.
func numbered(t reflect.Type, name string) (int32, reflect.Type, error) {
	if t.Kind() != reflect.Struct {
		return 0, nil, fmt.Errorf("%s has no field %s", t, name)
	}
	for sf := range t.Fields() {
		if json, _, _ := strings.Cut(sf.Tag.Get("json"), ","); json != name {
			continue
		}
		parts := strings.SplitN(sf.Tag.Get("protobuf"), ",", 3)
		if len(parts) < 2 {
			break
		}
		n, err := strconv.ParseInt(parts[1], 10, 32)
		return int32(n), sf.Type, err
	}
	return 0, nil, fmt.Errorf("%s has no field %s", t, name)
}

// AppendKept appends the chosen fields of the message raw to dst, in raw's order.
func AppendKept(dst, raw []byte, k *Keep) ([]byte, error) {
	for i := 0; i < len(raw); {
		num, wire, next, err := tag(raw, i, len(raw))
		if err != nil {
			return nil, err
		}
		end, err := skip(raw, next, len(raw), wire)
		if err != nil {
			return nil, err
		}
		inner, kept := k.fields[num]
		switch {
		case !kept:
		case inner == nil || wire != wireBytes:
			dst = append(dst, raw[i:end]...)
		default:
			start, _, err := length(raw, next, len(raw))
			if err != nil {
				return nil, err
			}
			if dst, err = appendKeptMessage(dst, raw[i:next], raw[start:end], inner); err != nil {
				return nil, err
			}
		}
		i = end
	}
	return dst, nil
}

// appendKeptMessage appends a field that is a message: its tag, its length, which the message's own choice decides, and the message.
func appendKeptMessage(dst, tag, raw []byte, k *Keep) ([]byte, error) {
	dst = append(dst, tag...)
	at := len(dst)
	// The kept part is not longer, so that its length takes no more room.
	room := uvarintSize(uint64(len(raw)))
	for range room {
		dst = append(dst, 0)
	}
	dst, err := AppendKept(dst, raw, k)
	if err != nil {
		return nil, err
	}
	n := len(dst) - at - room
	for i := range room {
		b := byte(n>>(7*i)) & 0x7f
		if i < room-1 {
			b |= 0x80
		}
		dst[at+i] = b
	}
	return dst, nil
}
