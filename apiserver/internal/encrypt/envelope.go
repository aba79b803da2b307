package encrypt

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// sourceType says what the key management service sealed: a key of AES-GCM, or the seed that keys are derived from.
type sourceType uint64

const (
	keySource  sourceType = 0 // as upstream before v1.29 wrote it
	seedSource sourceType = 1
)

// source is what a key management service sealed, and what it wants to see again to open it.
type source struct {
	keyID       string
	sealed      []byte
	annotations map[string][]byte
	kind        sourceType
}

// envelope is a value as it is stored: message EncryptedObject of KMS v2 (KEP-3299).
type envelope struct {
	source
	data []byte
}

// Bounds of what a service may ask to be stored, in bytes.
const (
	maxKeyID       = 1 << 10
	maxSealed      = 1 << 10
	maxAnnotations = 32 << 10
)

func (s *source) validate() error {
	if s.kind > seedSource {
		return fmt.Errorf("unknown encryptedDEKSourceType: %d", s.kind)
	}
	if len(s.sealed) == 0 {
		return errors.New("failed to validate encrypted DEK source: encrypted DEK source is empty")
	}
	if len(s.sealed) > maxSealed {
		return fmt.Errorf("failed to validate encrypted DEK source: encrypted DEK source is %d bytes, which exceeds the max size of %d", len(s.sealed), maxSealed)
	}
	if err := validateKeyID(s.keyID); err != nil {
		return fmt.Errorf("failed to validate key id: %w", err)
	}
	var errs []error
	size := 0
	for k, v := range s.annotations {
		if err := validation.IsFullyQualifiedDomainName(field.NewPath("annotations"), k).ToAggregate(); err != nil {
			errs = append(errs, err)
		}
		size += len(k) + len(v)
	}
	if size > maxAnnotations {
		errs = append(errs, fmt.Errorf("total size of annotations is %d, which exceeds the max size of %d", size, maxAnnotations))
	}
	if err := utilerrors.NewAggregate(errs); err != nil {
		return fmt.Errorf("failed to validate annotations: %w", err)
	}
	return nil
}

func validateKeyID(id string) error {
	switch {
	case id == "":
		return errors.New("keyID is empty")
	case len(id) > maxKeyID:
		return fmt.Errorf("keyID is %d bytes, which exceeds the max size of %d", len(id), maxKeyID)
	}
	return nil
}

// Fields of EncryptedObject, and of an entry of its map.
const (
	dataField        = 1
	keyIDField       = 2
	sealedField      = 3
	annotationsField = 4
	kindField        = 5

	entryKey, entryValue = 1, 2
)

func (e *envelope) marshal() []byte {
	out := appendBytes(nil, dataField, e.data)
	out = appendBytes(out, keyIDField, []byte(e.keyID))
	out = appendBytes(out, sealedField, e.sealed)
	for k, v := range e.annotations {
		out = appendBytes(out, annotationsField, appendBytes(appendBytes(nil, entryKey, []byte(k)), entryValue, v))
	}
	if e.kind != keySource {
		out = protowire.AppendVarint(protowire.AppendTag(out, kindField, protowire.VarintType), uint64(e.kind))
	}
	return out
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

// unmarshal reads an envelope; its parts are of b.
func (e *envelope) unmarshal(b []byte) error {
	err := fields(b, func(n protowire.Number, v []byte, x uint64) error {
		switch n {
		case dataField:
			e.data = v
		case keyIDField:
			e.keyID = string(v)
		case sealedField:
			e.sealed = v
		case annotationsField:
			var key string
			var value []byte
			if err := fields(v, func(n protowire.Number, v []byte, _ uint64) error {
				switch n {
				case entryKey:
					key = string(v)
				case entryValue:
					value = v
				}
				return nil
			}); err != nil {
				return err
			}
			if e.annotations == nil {
				e.annotations = map[string][]byte{}
			}
			e.annotations[key] = value
		case kindField:
			e.kind = sourceType(x)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the stored data is no EncryptedObject: %w", err)
	}
	if len(e.data) == 0 {
		return errors.New("encrypted data is empty")
	}
	return e.validate()
}

// fields visits the fields of a message that are bytes or a varint; others are left out.
func fields(b []byte, visit func(n protowire.Number, v []byte, x uint64) error) error {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var v []byte
		var x uint64
		switch typ {
		case protowire.BytesType:
			v, size = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			x, size = protowire.ConsumeVarint(b)
		default:
			size = protowire.ConsumeFieldValue(n, typ, b)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		if err := visit(n, v, x); err != nil {
			return err
		}
	}
	return nil
}

// seedBox is AES-GCM by a key of its own for each value: 32 random bytes, then what gcmBox makes by the key that HKDF
// expands from the seed and them. However many values one seed seals, no nonce comes twice under one key.
type seedBox struct{ seed []byte }

// Sizes in bytes: of a seed, of the random bytes before a value, and of the keys.
const (
	seedSize = 32
	infoSize = 32
	keySize  = 32
)

func newSeedBox(seed []byte) (*seedBox, error) {
	if len(seed) < seedSize {
		return nil, fmt.Errorf("invalid seed length %d used for key generation", len(seed))
	}
	return &seedBox{seed}, nil
}

func (b *seedBox) derive(info []byte) (box, error) {
	key, err := hkdf.Expand(sha256.New, b.seed, string(info), keySize)
	if err != nil {
		return nil, err
	}
	return newGCM(key)
}

func (b *seedBox) seal(key string, plain []byte) ([]byte, error) {
	info := make([]byte, infoSize)
	if _, err := rand.Read(info); err != nil {
		return nil, err
	}
	inner, err := b.derive(info)
	if err != nil {
		return nil, err
	}
	sealed, err := inner.seal(key, plain)
	return slices.Concat(info, sealed), err
}

func (b *seedBox) open(key string, sealed []byte) ([]byte, error) {
	if len(sealed) < infoSize {
		return nil, errShort
	}
	inner, err := b.derive(sealed[:infoSize])
	if err != nil {
		return nil, err
	}
	return inner.open(key, sealed[infoSize:])
}
