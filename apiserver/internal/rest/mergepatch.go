package rest

import (
	"bytes"
	"encoding/json"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// merged is a document changed by a merge patch, RFC 7396. Each of the two is read once, however deep it is; numbers stay as they are written.
func merged(document, patch []byte) ([]byte, error) {
	doc, err := readMerge(document)
	if _, ok := doc.(map[string]any); err != nil || !ok {
		return nil, jsonpatch.ErrBadJSONDoc
	}
	change, err := readMerge(patch)
	if err != nil {
		return nil, jsonpatch.ErrBadJSONPatch
	}
	switch change.(type) {
	case map[string]any:
	case []any:
		doc = nil
	default:
		return nil, jsonpatch.ErrBadJSONPatch
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(merge(doc, change)); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
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
