package rest

import (
	"bytes"
	"encoding/json"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// merged is a document changed by a merge patch, RFC 7396. What the patch does not touch stays as it is written.
func merged(document, patch []byte) ([]byte, error) {
	if !json.Valid(document) || firstByte(document) != '{' {
		return nil, jsonpatch.ErrBadJSONDoc
	}
	change, err := readMerge(patch)
	if err != nil {
		return nil, jsonpatch.ErrBadJSONPatch
	}
	var result any
	switch c := change.(type) {
	case map[string]any:
		if result, err = mergeInto(document, c, 0); err != nil {
			return nil, err
		}
	case []any:
		result = merge(nil, c)
	default:
		return nil, jsonpatch.ErrBadJSONPatch
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(result); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// maxRawMerge is how deep an object is read level by level, each of them whole. Below it is read once, so that a deep one does not take the square of its depth.
const maxRawMerge = 32

// mergeInto is an object, written in JSON, changed by a patch; what is none is as an empty one.
func mergeInto(document []byte, patch map[string]any, depth int) (any, error) {
	if depth >= maxRawMerge {
		var v any
		if len(document) > 0 {
			var err error
			if v, err = readMerge(document); err != nil {
				return nil, err
			}
		}
		return merge(v, patch), nil
	}
	var fields map[string]json.RawMessage
	if firstByte(document) == '{' {
		if err := json.Unmarshal(document, &fields); err != nil {
			return nil, err
		}
	}
	out := make(map[string]any, len(fields))
	for k, raw := range fields {
		out[k] = raw
	}
	for k, change := range patch {
		switch c := change.(type) {
		case nil:
			delete(out, k)
		case map[string]any:
			v, err := mergeInto(fields[k], c, depth+1)
			if err != nil {
				return nil, err
			}
			out[k] = v
		default:
			var was any
			if firstByte(fields[k]) == '{' {
				was = map[string]any{}
			}
			out[k] = merge(was, change)
		}
	}
	return out, nil
}

func firstByte(data []byte) byte {
	if data = bytes.TrimLeft(data, " \t\r\n"); len(data) > 0 {
		return data[0]
	}
	return 0
}

func readMerge(data []byte) (v any, err error) {
	if !json.Valid(data) {
		return nil, jsonpatch.ErrBadJSONDoc
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return v, d.Decode(&v)
}

// merge changes a value by a patch and returns it. Nulls of the patch remove, and in a value that is new they are left out.
func merge(v, patch any) any {
	switch p := patch.(type) {
	case map[string]any:
		m, ok := v.(map[string]any)
		if !ok {
			m = map[string]any{}
		}
		for k, change := range p {
			if change == nil {
				delete(m, k)
			} else {
				m[k] = merge(m[k], change)
			}
		}
		return m
	case []any:
		// As upstream's library has it, a null in a list stays, and what is null in its objects goes, but where the list takes an object's place.
		if _, ok := v.(map[string]any); ok {
			return patch
		}
		for i, e := range p {
			if e != nil {
				p[i] = merge(nil, e)
			}
		}
	}
	return patch
}
