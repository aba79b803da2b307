package wire

import (
	"errors"
	"fmt"
	"io"
)

// Wire types of the protobuf encoding.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireStart   = 3
	wireEnd     = 4
	wireFixed32 = 5
)

var (
	errOverflow = errors.New("proto: integer overflow")
	errLength   = errors.New("proto: negative length found during unmarshaling")
	errDepth    = errors.New("proto: message nested too deeply")
)

// uvarint reads a varint of b[i:end] and returns it with the index after it.
func uvarint(b []byte, i, end int) (uint64, int, error) {
	if i < end && b[i] < 0x80 {
		return uint64(b[i]), i + 1, nil
	}
	var v uint64
	for shift := uint(0); ; shift += 7 {
		if shift >= 64 {
			return 0, 0, errOverflow
		}
		if i >= end {
			return 0, 0, io.ErrUnexpectedEOF
		}
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, i, nil
		}
	}
}

// length reads a length prefix of b[i:end] and returns the start and the end of what it covers.
func length(b []byte, i, end int) (int, int, error) {
	n, i, err := uvarint(b, i, end)
	if err != nil {
		return 0, 0, err
	}
	if int(n) < 0 {
		return 0, 0, errLength
	}
	if int(n) > end-i {
		return 0, 0, io.ErrUnexpectedEOF
	}
	return i, i + int(n), nil
}

// tag reads a field's number and wire type.
func tag(b []byte, i, end int) (num int32, wire int, next int, err error) {
	v, next, err := uvarint(b, i, end)
	if err != nil {
		return 0, 0, 0, err
	}
	num, wire = int32(v>>3), int(v&7)
	if wire == wireEnd {
		return 0, 0, 0, errors.New("proto: wiretype end group for non-group")
	}
	if num <= 0 {
		return 0, 0, 0, fmt.Errorf("proto: illegal tag %d (wire type %d)", num, wire)
	}
	return num, wire, next, nil
}

// skip returns the index after the value of the given wire type that starts at i. Groups nest at most maxDepth deep.
func skip(b []byte, i, end, wire int) (int, error) {
	depth := 0
	for {
		var err error
		switch wire {
		case wireVarint:
			for n := 0; ; n++ {
				if n >= 10 {
					return 0, errOverflow
				}
				if i >= end {
					return 0, io.ErrUnexpectedEOF
				}
				i++
				if b[i-1] < 0x80 {
					break
				}
			}
		case wireFixed64:
			i += 8
		case wireFixed32:
			i += 4
		case wireBytes:
			if _, i, err = length(b, i, end); err != nil {
				return 0, err
			}
		case wireStart:
			if depth++; depth > maxDepth {
				return 0, errDepth
			}
		case wireEnd:
			if depth == 0 {
				return 0, errors.New("proto: unexpected end of group")
			}
			depth--
		default:
			return 0, fmt.Errorf("proto: illegal wireType %d", wire)
		}
		if i > end {
			return 0, io.ErrUnexpectedEOF
		}
		if depth == 0 {
			return i, nil
		}
		var v uint64
		if v, i, err = uvarint(b, i, end); err != nil {
			return 0, err
		}
		wire = int(v & 7)
	}
}

// appendUvarint appends v as a varint.
func appendUvarint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// uvarintSize returns the number of bytes appendUvarint appends.
func uvarintSize(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

// appendField appends a length-delimited field.
func appendField(dst []byte, num int, value string) []byte {
	dst = appendUvarint(dst, uint64(num)<<3|wireBytes)
	dst = appendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// fieldSize returns the number of bytes of a length-delimited field of n bytes whose number is at most 15.
func fieldSize(n int) int { return 1 + uvarintSize(uint64(n)) + n }
