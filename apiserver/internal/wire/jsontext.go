package wire

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"
)

const hexDigits = "0123456789abcdef"

// plain says of each ASCII byte whether it stands for itself in a JSON string that is safe inside HTML.
var plain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return t
}()

// appendString appends s as a JSON string as encoding/json does with HTML escaping on.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			dst = append(dst, s[start:i]...)
			dst = appendEscape(dst, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, s[start:i]...)
			dst = append(dst, `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(dst, s[start:i]...)
			dst = append(dst, `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
			start = i + size
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// AppendJSONValue appends v as encoding/json does; strings and integers cost no allocation.
func AppendJSONValue(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case string:
		return appendString(dst, unsafe.Slice(unsafe.StringData(v), len(v))), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int32:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	}
	data, err := json.Marshal(v)
	return append(dst, data...), err
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '\\', '"':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendBase64 appends b as encoding/json renders a byte slice.
func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// appendFloat appends f as encoding/json does (the notation of ECMAScript).
func appendFloat(dst []byte, f float64, bits int) ([]byte, error) {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, fmt.Errorf("json: unsupported value: %s", strconv.FormatFloat(f, 'g', -1, bits))
	}
	abs := math.Abs(f)
	format := byte('f')
	if abs != 0 {
		if bits == 64 && (abs < 1e-6 || abs >= 1e21) || bits == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21) {
			format = 'e'
		}
	}
	dst = strconv.AppendFloat(dst, f, format, -1, bits)
	if n := len(dst); format == 'e' && n >= 4 && dst[n-4] == 'e' && (dst[n-3] == '-' || dst[n-3] == '+') && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst, nil
}

// zeroUnix is time.Time{}.Unix().
const zeroUnix = -62135596800

// appendTime appends the time as metav1.Time (layout time.RFC3339) or metav1.MicroTime renders it.
func appendTime(dst []byte, t time.Time, layout string) []byte {
	if t.IsZero() {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, layout)
	return append(dst, '"')
}

var errJSON = errors.New("json: invalid embedded value")

// appendCompact validates src as one JSON value and appends it without white space, escaping what HTML would read.
func appendCompact(dst, src []byte) ([]byte, error) {
	c := compactor{src: src, dst: dst}
	c.space()
	if !c.value(0) {
		return nil, fmt.Errorf("%w at offset %d", errJSON, c.i)
	}
	c.space()
	if c.i != len(src) {
		return nil, fmt.Errorf("%w: data after the top-level value at offset %d", errJSON, c.i)
	}
	return c.dst, nil
}

// maxJSONDepth is encoding/json's own limit.
const maxJSONDepth = 10000

type compactor struct {
	src, dst []byte
	i        int
}

func (c *compactor) space() {
	for c.i < len(c.src) {
		switch c.src[c.i] {
		case ' ', '\t', '\r', '\n':
			c.i++
		default:
			return
		}
	}
}

func (c *compactor) peek() byte {
	if c.i < len(c.src) {
		return c.src[c.i]
	}
	return 0
}

func (c *compactor) value(depth int) bool {
	if depth > maxJSONDepth {
		return false
	}
	switch ch := c.peek(); ch {
	case '{':
		return c.composite(depth, '}', true)
	case '[':
		return c.composite(depth, ']', false)
	case '"':
		return c.str()
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	default:
		return c.number()
	}
}

func (c *compactor) composite(depth int, end byte, object bool) bool {
	c.dst = append(c.dst, c.src[c.i])
	c.i++
	c.space()
	if c.peek() == end {
		c.i++
		c.dst = append(c.dst, end)
		return true
	}
	for {
		if object {
			if c.peek() != '"' || !c.str() {
				return false
			}
			c.space()
			if c.peek() != ':' {
				return false
			}
			c.i++
			c.dst = append(c.dst, ':')
			c.space()
		}
		if !c.value(depth + 1) {
			return false
		}
		c.space()
		ch := c.peek()
		if ch != ',' && ch != end {
			return false
		}
		c.i++
		c.dst = append(c.dst, ch)
		if ch == end {
			return true
		}
		c.space()
	}
}

func (c *compactor) literal(s string) bool {
	if len(c.src)-c.i < len(s) || string(c.src[c.i:c.i+len(s)]) != s {
		return false
	}
	c.i += len(s)
	c.dst = append(c.dst, s...)
	return true
}

func (c *compactor) digits() bool {
	start := c.i
	for c.i < len(c.src) && c.src[c.i]-'0' <= 9 {
		c.i++
	}
	return c.i > start
}

func (c *compactor) number() bool {
	start := c.i
	if c.peek() == '-' {
		c.i++
	}
	if c.peek() == '0' {
		c.i++
	} else if !c.digits() {
		return false
	}
	if c.peek() == '.' {
		c.i++
		if !c.digits() {
			return false
		}
	}
	if ch := c.peek(); ch == 'e' || ch == 'E' {
		c.i++
		if ch := c.peek(); ch == '+' || ch == '-' {
			c.i++
		}
		if !c.digits() {
			return false
		}
	}
	c.dst = append(c.dst, c.src[start:c.i]...)
	return true
}

func (c *compactor) str() bool {
	start := c.i
	c.i++
	for c.i < len(c.src) {
		ch := c.src[c.i]
		switch {
		case plain[ch]:
			c.i++
		case ch == '"':
			c.i++
			c.dst = append(c.dst, c.src[start:c.i]...)
			return true
		case ch == '\\':
			if !c.escape() {
				return false
			}
		case ch < 0x20:
			return false
		case ch == '<' || ch == '>' || ch == '&':
			c.dst = append(c.dst, c.src[start:c.i]...)
			c.dst = append(c.dst, '\\', 'u', '0', '0', hexDigits[ch>>4], hexDigits[ch&0xf])
			c.i++
			start = c.i
		case ch == 0xe2 && c.i+2 < len(c.src) && c.src[c.i+1] == 0x80 && c.src[c.i+2]&^1 == 0xa8:
			c.dst = append(c.dst, c.src[start:c.i]...)
			c.dst = append(c.dst, '\\', 'u', '2', '0', '2', hexDigits[c.src[c.i+2]&0xf])
			c.i += 3
			start = c.i
		default:
			c.i++
		}
	}
	return false
}

func (c *compactor) escape() bool {
	c.i++
	switch c.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		c.i++
		return true
	case 'u':
		if c.i+5 > len(c.src) {
			return false
		}
		for _, h := range c.src[c.i+1 : c.i+5] {
			if h-'0' > 9 && h-'a' > 5 && h-'A' > 5 {
				return false
			}
		}
		c.i += 5
		return true
	}
	return false
}
