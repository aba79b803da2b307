package wire

import (
	"encoding/json"
	"fmt"
)

// jsonMembers calls f with the undecoded key (with its quotes) and value of each member of a JSON object; f returns
// false to stop. The offset of the value in data is given too.
func jsonMembers(data []byte, f func(key, value []byte, offset int) bool) error {
	i := jsonSpace(data, 0)
	if i >= len(data) || data[i] != '{' {
		return fmt.Errorf("%w: not an object", errJSON)
	}
	for i = jsonSpace(data, i+1); i < len(data) && data[i] != '}'; {
		keyEnd, ok := jsonSkip(data, i)
		if !ok || data[i] != '"' {
			return fmt.Errorf("%w: member name at offset %d", errJSON, i)
		}
		key := data[i:keyEnd]
		i = jsonSpace(data, keyEnd)
		if i >= len(data) || data[i] != ':' {
			return fmt.Errorf("%w: no colon at offset %d", errJSON, i)
		}
		i = jsonSpace(data, i+1)
		end, ok := jsonSkip(data, i)
		if !ok {
			return fmt.Errorf("%w: value at offset %d", errJSON, i)
		}
		if !f(key, data[i:end], i) {
			return nil
		}
		i = jsonSpace(data, end)
		if i < len(data) && data[i] == ',' {
			i = jsonSpace(data, i+1)
		} else if i >= len(data) || data[i] != '}' {
			return fmt.Errorf("%w: no comma at offset %d", errJSON, i)
		}
	}
	if i >= len(data) {
		return fmt.Errorf("%w: unexpected end", errJSON)
	}
	return nil
}

func jsonSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// jsonSkip returns the index after the value that starts at i. It matches brackets and strings only: what it passes
// over was valid when it was stored.
func jsonSkip(b []byte, i int) (int, bool) {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if i >= len(b) {
				return 0, false
			}
			i++
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
			if depth < 0 {
				return 0, false
			}
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return 0, false
			}
			i++
			continue
		default:
			for i < len(b) && !jsonDelimiter(b[i]) {
				i++
			}
		}
		if depth == 0 {
			return i, true
		}
	}
	return 0, false
}

func jsonDelimiter(c byte) bool {
	switch c {
	case ',', ':', ']', '}', '[', '{', '"', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

// AppendJSONResourceVersion appends a JSON object with its metadata.resourceVersion set, without decoding the rest. Nothing is set
// for an empty one.
func AppendJSONResourceVersion(dst, object []byte, resourceVersion string) ([]byte, error) {
	if resourceVersion == "" {
		return append(dst, object...), nil
	}
	var meta []byte
	at := -1
	err := jsonMembers(object, func(key, value []byte, offset int) bool {
		if string(key) == `"metadata"` {
			meta, at = value, offset
		}
		return at < 0
	})
	if err != nil {
		return nil, err
	}
	if at < 0 || meta[0] != '{' {
		return nil, fmt.Errorf("%w: no metadata", errJSON)
	}
	old, oldAt := []byte(nil), -1
	first := true
	err = jsonMembers(meta, func(key, value []byte, offset int) bool {
		first = false
		if string(key) == `"resourceVersion"` {
			old, oldAt = value, offset
		}
		return oldAt < 0
	})
	if err != nil {
		return nil, err
	}
	if oldAt >= 0 {
		dst = append(dst, object[:at+oldAt]...)
		dst = appendString(dst, []byte(resourceVersion))
		return append(dst, object[at+oldAt+len(old):]...), nil
	}
	dst = append(dst, object[:at+1]...)
	dst = append(dst, `"resourceVersion":`...)
	dst = appendString(dst, []byte(resourceVersion))
	if !first {
		dst = append(dst, ',')
	}
	return append(dst, object[at+1:]...), nil
}

// ScanJSON returns the undecoded value at a path of member names of a JSON object; nil if it is absent or the object
// is malformed. The result aliases data.
func ScanJSON(data []byte, path ...string) []byte {
	for _, name := range path {
		var found []byte
		err := jsonMembers(data, func(key, value []byte, _ int) bool {
			if len(key) == len(name)+2 && string(key[1:len(key)-1]) == name {
				found = value
			}
			return true
		})
		if err != nil || found == nil {
			return nil
		}
		data = found
	}
	return data
}

// ScanJSONString returns the string at a path, or the text of a number or bool; "" if there is none.
func ScanJSONString(data []byte, path ...string) string {
	v := ScanJSON(data, path...)
	if len(v) == 0 || string(v) == "null" {
		return ""
	}
	if v[0] != '"' {
		return string(v)
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}
