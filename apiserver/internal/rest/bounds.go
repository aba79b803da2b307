package rest

import (
	"bytes"
	"fmt"
	"sync/atomic"

	yamlv2 "go.yaml.in/yaml/v2"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// boundCopies bounds what the copies of one JSON patch add to an object. The bound is the library's own, for the process.
func boundCopies(most int64) { atomic.StoreInt64(&jsonpatch.AccumulatedCopySizeLimit, most) }

// Bounds of the errors that an answer lists, in number and in bytes: the list is made into one text whose making takes the square of its length.
const (
	maxErrors     = 500
	maxErrorBytes = 256 << 10
)

// invalid is a 422 with the errors of fields.
func invalid(kind schema.GroupKind, name string, errs field.ErrorList) error {
	said, size := 0, 0
	for said < min(len(errs), maxErrors) && size < maxErrorBytes {
		size += len(errs[said].Error())
		said++
	}
	err := apierrors.NewInvalid(kind, name, errs[:said])
	if more := len(errs) - said; more > 0 {
		err.ErrStatus.Message += fmt.Sprintf(" and %d more errors", more)
	}
	return err
}

// boundAliases refuses YAML that is larger than a body may be once its aliases are followed. The reader bounds how many there are, but not
// how long a text is that each of them repeats.
func (a *API) boundAliases(data []byte) error {
	if bytes.IndexByte(data, '&') < 0 || bytes.IndexByte(data, '*') < 0 {
		return nil
	}
	var v any
	if err := yamlv2.Unmarshal(data, &v); err != nil {
		return nil //nolint:nilerr // who reads it next says what is wrong
	}
	if left := without(v, a.cfg.MaxBody); left < 0 {
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("with its aliases, limit is %d", a.cfg.MaxBody))
	}
	return nil
}

// without takes the length of a value's JSON, about, from what is left, and stops below 0.
func without(v any, left int64) int64 {
	left -= 2
	switch v := v.(type) {
	case string:
		left -= int64(len(v))
	case []any:
		for _, e := range v {
			if left = without(e, left); left < 0 {
				return left
			}
		}
	case map[any]any:
		for k, e := range v {
			if left = without(e, without(k, left)); left < 0 {
				return left
			}
		}
	}
	return left
}

// boundLists refuses a strategic merge patch with a list of too many objects: each of them is looked for among all that the object has.
func boundLists(patch any) error {
	switch p := patch.(type) {
	case map[string]any:
		for _, v := range p {
			if err := boundLists(v); err != nil {
				return err
			}
		}
	case []any:
		if len(p) > maxPatchOperations {
			return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum items of a list in a strategic merge patch is %d, got %d", maxPatchOperations, len(p)))
		}
		for _, v := range p {
			if err := boundLists(v); err != nil {
				return err
			}
		}
	}
	return nil
}
