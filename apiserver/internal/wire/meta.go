package wire

import (
	"fmt"
	"iter"
	"time"
	"unsafe"
)

// Meta is what selectors and keys need of an object's metadata. Its strings and spans alias the bytes it was scanned
// from, which must not change while it is in use.
type Meta struct {
	Name, GenerateName, Namespace string
	UID, ResourceVersion          string
	Generation                    int64
	CreationTimestamp             time.Time // zero if unset
	DeletionTimestamp             time.Time // zero unless Deleting
	Deleting                      bool
	GracePeriodSeconds            int64
	HasGracePeriod                bool

	labels, annotations, owners, finalizers [][]byte
}

// OwnerRef is one of an object's owner references.
type OwnerRef struct {
	APIVersion, Kind, Name, UID    string
	Controller, BlockOwnerDeletion bool
}

// ScanMeta reads the ObjectMeta in field 1 of a protobuf message (the bytes inside the envelope).
func ScanMeta(raw []byte) (Meta, error) {
	var m Meta
	err := eachBytes(raw, func(num int32, v []byte) error {
		if num != 1 {
			return nil
		}
		return m.scan(v)
	})
	if err != nil {
		return Meta{}, fmt.Errorf("scan metadata: %w", err)
	}
	return m, nil
}

// ScanObjectMeta is ScanMeta for the bytes of an ObjectMeta itself.
func ScanObjectMeta(raw []byte) (Meta, error) {
	var m Meta
	if err := m.scan(raw); err != nil {
		return Meta{}, fmt.Errorf("scan metadata: %w", err)
	}
	return m, nil
}

// Labels are the labels of a protobuf message (the bytes inside the envelope), which each look-up reads anew: cheaper than ScanMeta for a selector. What
// cannot be read has no labels.
type Labels []byte

// Lookup returns the value of a label and whether it is there.
func (l Labels) Lookup(key string) (string, bool) {
	var val string
	var found bool
	_ = eachBytes(l, func(num int32, meta []byte) error {
		if num != metadataField {
			return nil
		}
		return eachBytes(meta, func(num int32, pair []byte) error {
			if num == labelsField {
				if k, v := scanPair(pair); k == key {
					val, found = v, true
				}
			}
			return nil
		})
	})
	return val, found
}

// Has says whether a label is there.
func (l Labels) Has(key string) bool { _, ok := l.Lookup(key); return ok }

// Get returns the value of a label, empty where it is not there.
func (l Labels) Get(key string) string { v, _ := l.Lookup(key); return v }

// Numbers of the field ObjectMeta in every object, and of the labels in it.
const (
	metadataField = 1
	labelsField   = 11
)

func (m *Meta) scan(b []byte) error {
	for i := 0; i < len(b); {
		num, wire, next, err := tag(b, i, len(b))
		if err != nil {
			return err
		}
		switch wire {
		case wireVarint:
			v, after, err := uvarint(b, next, len(b))
			if err != nil {
				return err
			}
			switch num {
			case 7:
				m.Generation = int64(v)
			case 10:
				m.GracePeriodSeconds, m.HasGracePeriod = int64(v), true
			}
			i = after
		case wireBytes:
			start, end, err := length(b, next, len(b))
			if err != nil {
				return err
			}
			if err := m.set(num, b[start:end]); err != nil {
				return err
			}
			i = end
		default:
			if i, err = skip(b, next, len(b), wire); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Meta) set(num int32, v []byte) (err error) {
	switch num {
	case 1:
		m.Name = alias(v)
	case 2:
		m.GenerateName = alias(v)
	case 3:
		m.Namespace = alias(v)
	case 5:
		m.UID = alias(v)
	case 6:
		m.ResourceVersion = alias(v)
	case 8:
		m.CreationTimestamp, err = scanTime(v)
	case 9:
		m.Deleting = true
		m.DeletionTimestamp, err = scanTime(v)
	case 11:
		m.labels = append(m.labels, v)
	case 12:
		m.annotations = append(m.annotations, v)
	case 13:
		m.owners = append(m.owners, v)
	case 14:
		m.finalizers = append(m.finalizers, v)
	}
	return err
}

func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func scanTime(b []byte) (time.Time, error) {
	if len(b) == 0 {
		return time.Time{}, nil
	}
	t := transcoder{b: b}
	sec, _, _, err := t.timestamp(span{0, int32(len(b))})
	return time.Unix(sec, 0).UTC(), err
}

// scanPair reads one pair of a map of strings; a malformed pair reads as far as it goes.
func scanPair(b []byte) (key, val string) {
	_ = eachBytes(b, func(num int32, v []byte) error {
		switch num {
		case 1:
			key = alias(v)
		case 2:
			val = alias(v)
		}
		return nil
	})
	return key, val
}

// lookup finds the last pair with the key, which is the one a decoder keeps.
func lookup(pairs [][]byte, key string) (string, bool) {
	for i := len(pairs) - 1; i >= 0; i-- {
		if k, v := scanPair(pairs[i]); k == key {
			return v, true
		}
	}
	return "", false
}

func toMap(pairs [][]byte) map[string]string {
	if len(pairs) == 0 {
		return nil
	}
	out := make(map[string]string, len(pairs))
	for _, p := range pairs {
		k, v := scanPair(p)
		out[k] = v
	}
	return out
}

// Label returns the value of a label.
func (m *Meta) Label(key string) (string, bool) { return lookup(m.labels, key) }

// Has and Get make a Meta usable as a k8s.io/apimachinery/pkg/labels.Labels.
func (m *Meta) Has(key string) bool { _, ok := lookup(m.labels, key); return ok }

// Get returns the value of a label, or the empty string.
func (m *Meta) Get(key string) string { v, _ := lookup(m.labels, key); return v }

// Lookup returns the value of a label and whether it is set.
func (m *Meta) Lookup(key string) (string, bool) { return lookup(m.labels, key) }

// Labels returns the labels as a new map whose strings alias the input; nil if there are none.
func (m *Meta) Labels() map[string]string { return toMap(m.labels) }

// Annotation returns the value of an annotation.
func (m *Meta) Annotation(key string) (string, bool) { return lookup(m.annotations, key) }

// Annotations returns the annotations as Labels does the labels.
func (m *Meta) Annotations() map[string]string { return toMap(m.annotations) }

// Finalizers yields the finalizers in order.
func (m *Meta) Finalizers() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, f := range m.finalizers {
			if !yield(alias(f)) {
				return
			}
		}
	}
}

// Owners yields the owner references in order.
func (m *Meta) Owners() iter.Seq[OwnerRef] {
	return func(yield func(OwnerRef) bool) {
		for _, o := range m.owners {
			if !yield(scanOwner(o)) {
				return
			}
		}
	}
}

func scanOwner(b []byte) OwnerRef {
	var o OwnerRef
	for i := 0; i < len(b); {
		num, wire, next, err := tag(b, i, len(b))
		if err != nil {
			return o
		}
		if wire == wireVarint {
			v, after, err := uvarint(b, next, len(b))
			if err != nil {
				return o
			}
			o.Controller = o.Controller || num == 6 && v != 0
			o.BlockOwnerDeletion = o.BlockOwnerDeletion || num == 7 && v != 0
			i = after
			continue
		}
		after, err := skip(b, next, len(b), wire)
		if err != nil {
			return o
		}
		if wire == wireBytes {
			start, end, _ := length(b, next, len(b))
			v := alias(b[start:end])
			switch num {
			case 1:
				o.Kind = v
			case 3:
				o.Name = v
			case 4:
				o.UID = v
			case 5:
				o.APIVersion = v
			}
		}
		i = after
	}
	return o
}

// ScanString returns the string (or the raw message) at a path of field numbers of a protobuf message, for example
// 2, 10 for a pod's spec.nodeName. It is empty if the path is absent or the bytes are malformed. The last occurrence
// wins, as in a decoder. The result aliases raw.
func ScanString(raw []byte, path ...int32) string { return alias(ScanBytes(raw, path...)) }

// ScanBytes is ScanString without the conversion.
func ScanBytes(raw []byte, path ...int32) []byte {
	if len(path) == 0 {
		return raw
	}
	var found []byte
	_ = eachBytes(raw, func(num int32, v []byte) error {
		if num == path[0] {
			if len(path) == 1 {
				found = v
			} else if f := ScanBytes(v, path[1:]...); f != nil {
				found = f
			}
		}
		return nil
	})
	return found
}

// ScanUint returns the number at a path of field numbers, as ScanString does; ok is false if it is absent. A bool is
// 0 or 1, a negative number is its two's complement in 64 bits.
func ScanUint(raw []byte, path ...int32) (v uint64, ok bool) {
	for i := 0; i < len(raw); {
		num, wire, next, err := tag(raw, i, len(raw))
		if err != nil {
			return v, ok
		}
		after, err := skip(raw, next, len(raw), wire)
		if err != nil {
			return v, ok
		}
		if num == path[0] {
			if len(path) == 1 && wire == wireVarint {
				v, _, _ = uvarint(raw, next, len(raw))
				ok = true
			} else if len(path) > 1 && wire == wireBytes {
				start, end, _ := length(raw, next, len(raw))
				if n, found := ScanUint(raw[start:end], path[1:]...); found {
					v, ok = n, true
				}
			}
		}
		i = after
	}
	return v, ok
}
