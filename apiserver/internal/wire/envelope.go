package wire

import (
	"bytes"
	"errors"
	"fmt"
)

// Magic starts every protobuf object that Kubernetes stores or sends.
const Magic = "k8s\x00"

// ErrNotProtobuf is returned for data without the magic.
var ErrNotProtobuf = errors.New("provided data does not appear to be a protobuf message")

// IsProtobuf says whether data starts with the magic.
func IsProtobuf(data []byte) bool { return bytes.HasPrefix(data, []byte(Magic)) }

// SplitEnvelope takes a stored or received protobuf object apart. All that it returns aliases data; contentType is empty for a
// protobuf message and names the format of raw otherwise. Data without the magic gives ErrNotProtobuf.
func SplitEnvelope(data []byte) (apiVersion, kind string, raw []byte, contentType string, err error) {
	if !IsProtobuf(data) {
		return "", "", nil, "", ErrNotProtobuf
	}
	err = eachBytes(data[len(Magic):], func(num int32, v []byte) error {
		switch num {
		case 1:
			return eachBytes(v, func(num int32, v []byte) error {
				switch num {
				case 1:
					apiVersion = alias(v)
				case 2:
					kind = alias(v)
				}
				return nil
			})
		case 2:
			raw = v
		case 3:
			if len(v) > 0 {
				return fmt.Errorf("content encoding %q is not supported", v)
			}
		case 4:
			contentType = alias(v)
		}
		return nil
	})
	if err != nil {
		return "", "", nil, "", fmt.Errorf("read protobuf envelope: %w", err)
	}
	return apiVersion, kind, raw, contentType, nil
}

// eachBytes calls f for each length-delimited field of a message, skipping the others.
func eachBytes(b []byte, f func(num int32, v []byte) error) error {
	for i := 0; i < len(b); {
		num, wire, next, err := tag(b, i, len(b))
		if err != nil {
			return err
		}
		if wire != wireBytes {
			if i, err = skip(b, next, len(b), wire); err != nil {
				return err
			}
			continue
		}
		start, end, err := length(b, next, len(b))
		if err != nil {
			return err
		}
		if err := f(num, b[start:end]); err != nil {
			return err
		}
		i = end
	}
	return nil
}

// envelopeHead appends what precedes the raw bytes, n of them.
func envelopeHead(dst []byte, apiVersion, kind string, n int) []byte {
	dst = append(dst, Magic...)
	dst = append(dst, 1<<3|wireBytes)
	dst = appendUvarint(dst, uint64(fieldSize(len(apiVersion))+fieldSize(len(kind))))
	dst = appendField(dst, 1, apiVersion)
	dst = appendField(dst, 2, kind)
	dst = append(dst, 2<<3|wireBytes)
	return appendUvarint(dst, uint64(n))
}

// envelopeTail is the envelope's empty contentEncoding and contentType, which upstream always writes.
const envelopeTail = "\x1a\x00\x22\x00"

// EnvelopeSize returns the number of bytes AppendEnvelope appends for a message of n bytes.
func EnvelopeSize(apiVersion, kind string, n int) int {
	meta := fieldSize(len(apiVersion)) + fieldSize(len(kind))
	return len(Magic) + fieldSize(meta) + fieldSize(n) + len(envelopeTail)
}

// AppendEnvelope appends the magic and the envelope around raw, byte for byte as upstream's serializer does.
func AppendEnvelope(dst []byte, apiVersion, kind string, raw []byte) []byte {
	dst = envelopeHead(dst, apiVersion, kind, len(raw))
	dst = append(dst, raw...)
	return append(dst, envelopeTail...)
}

// AppendVersionedEnvelope is AppendEnvelope of raw with its resourceVersion set (see AppendResourceVersion).
func AppendVersionedEnvelope(dst []byte, apiVersion, kind string, raw []byte, resourceVersion string) []byte {
	dst = envelopeHead(dst, apiVersion, kind, len(raw)+resourceVersionSize(resourceVersion))
	dst = append(dst, raw...)
	dst = AppendResourceVersion(dst, resourceVersion)
	return append(dst, envelopeTail...)
}

// objectMetaResourceVersion is the field number of ObjectMeta.resourceVersion.
const objectMetaResourceVersion = 6

// AppendResourceVersion appends to the bytes of a message, whose field 1 is an ObjectMeta, a fragment of metadata that
// carries resourceVersion; decoders merge it into the metadata before it. Nothing is appended for an empty one.
func AppendResourceVersion(dst []byte, resourceVersion string) []byte {
	if resourceVersion == "" {
		return dst
	}
	dst = append(dst, 1<<3|wireBytes)
	dst = appendUvarint(dst, uint64(fieldSize(len(resourceVersion))))
	return appendField(dst, objectMetaResourceVersion, resourceVersion)
}

func resourceVersionSize(resourceVersion string) int {
	if resourceVersion == "" {
		return 0
	}
	return fieldSize(fieldSize(len(resourceVersion)))
}

// AppendMetadataOnly appends the metadata of a message (its field 1, in all its fragments) and nothing else: the
// message of a PartialObjectMetadata.
func AppendMetadataOnly(dst, raw []byte) ([]byte, error) {
	err := eachBytes(raw, func(num int32, v []byte) error {
		if num == 1 {
			dst = append(dst, 1<<3|wireBytes)
			dst = appendUvarint(dst, uint64(len(v)))
			dst = append(dst, v...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	return dst, nil
}
