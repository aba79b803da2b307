package wire

import (
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
)

// ListMeta is the metadata of a list.
type ListMeta struct {
	ResourceVersion    string
	Continue           string
	RemainingItemCount *int64
}

// protoListMeta appends the message of upstream's ListMeta: selfLink, resourceVersion and continue are always there.
func protoListMeta(dst []byte, m ListMeta) []byte {
	dst = appendField(dst, 1, "")
	dst = appendField(dst, 2, m.ResourceVersion)
	dst = appendField(dst, 3, m.Continue)
	if m.RemainingItemCount != nil {
		dst = append(dst, 4<<3|wireVarint)
		dst = appendUvarint(dst, uint64(*m.RemainingItemCount))
	}
	return dst
}

// Item yields the i-th object of a list: the bytes of its message, and the resourceVersion to set ("" to keep).
type Item func(i int) (raw []byte, resourceVersion string)

// ProtoListSize returns the number of bytes WriteProtoList writes.
func ProtoListSize(apiVersion, kind string, meta ListMeta, n int, item Item) int {
	return EnvelopeSize(apiVersion, kind, protoListBody(meta, n, item))
}

func protoListBody(meta ListMeta, n int, item Item) int {
	size := fieldSize(len(protoListMeta(nil, meta)))
	for i := range n {
		raw, rv := item(i)
		size += fieldSize(len(raw) + resourceVersionSize(rv))
	}
	return size
}

// chunk is the size in bytes above which list writers hand on what they have gathered.
const chunk = 32 << 10

// WriteProtoList writes a list (kind is the list's, such as PodList) of n items in its envelope, in chunks. item is
// called twice for each index, in order, and must answer the same both times.
func WriteProtoList(w io.Writer, apiVersion, kind string, meta ListMeta, n int, item Item) error {
	buf := make([]byte, 0, 2*chunk)
	buf = envelopeHead(buf, apiVersion, kind, protoListBody(meta, n, item))
	m := protoListMeta(nil, meta)
	buf = append(buf, 1<<3|wireBytes)
	buf = appendUvarint(buf, uint64(len(m)))
	buf = append(buf, m...)
	for i := range n {
		raw, rv := item(i)
		buf = append(buf, 2<<3|wireBytes)
		buf = appendUvarint(buf, uint64(len(raw)+resourceVersionSize(rv)))
		buf = append(buf, raw...)
		buf = AppendResourceVersion(buf, rv)
		if len(buf) >= chunk {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	buf = append(buf, envelopeTail...)
	_, err := w.Write(buf)
	return err
}

// partialList is the kind of a list of metadata.
const partialList = "PartialObjectMetadataList"

// WriteJSONList writes a list of n items in chunks, ending in a newline; appendItem appends the JSON of one.
func WriteJSONList(w io.Writer, apiVersion, kind string, meta ListMeta, n int,
	appendItem func(dst []byte, i int) ([]byte, error),
) error {
	head := AppendJSONListHead(make([]byte, 0, 2*chunk), apiVersion, kind, meta)
	if n == 0 && kind == partialList {
		// Upstream's list of metadata has no items, not an empty list of them.
		_, err := w.Write(append(bytes.TrimSuffix(head, []byte("[")), "null}\n"...))
		return err
	}
	return WriteJSONItems(w, head, n, appendItem)
}

// WriteJSONItems writes in chunks an object whose last member is a list of n items: head up to and including the bracket that opens it, the items, and
// what closes both, with a newline.
func WriteJSONItems(w io.Writer, head []byte, n int, appendItem func(dst []byte, i int) ([]byte, error)) error {
	buf := head
	for i := range n {
		if i > 0 {
			buf = append(buf, ',')
		}
		var err error
		if buf, err = appendItem(buf, i); err != nil {
			return err
		}
		if len(buf) >= chunk {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	buf = append(buf, JSONListTail...)
	_, err := w.Write(buf)
	return err
}

// JSONListTail closes what AppendJSONListHead opens.
const JSONListTail = "]}\n"

// AppendJSONListHead appends a list up to and including the bracket that opens its items.
func AppendJSONListHead(dst []byte, apiVersion, kind string, meta ListMeta) []byte {
	dst = append(dst, `{"kind":`...)
	dst = appendString(dst, []byte(kind))
	dst = append(dst, `,"apiVersion":`...)
	dst = appendString(dst, []byte(apiVersion))
	dst = append(dst, `,"metadata":{`...)
	if meta.ResourceVersion != "" {
		dst = appendString(append(dst, `"resourceVersion":`...), []byte(meta.ResourceVersion))
	}
	if meta.Continue != "" {
		dst = appendString(append(comma(dst), `"continue":`...), []byte(meta.Continue))
	}
	if meta.RemainingItemCount != nil {
		dst = strconv.AppendInt(append(comma(dst), `"remainingItemCount":`...), *meta.RemainingItemCount, 10)
	}
	return append(dst, `},"items":[`...)
}

// AppendProtoWatchFrame appends one frame of a protobuf watch stream: four bytes of length (big endian) and a
// WatchEvent whose object is given with its envelope.
func AppendProtoWatchFrame(dst []byte, eventType string, object []byte) []byte {
	body := fieldSize(len(object))
	dst = binary.BigEndian.AppendUint32(dst, uint32(fieldSize(len(eventType))+fieldSize(body)))
	dst = appendField(dst, 1, eventType)
	dst = append(dst, 2<<3|wireBytes)
	dst = appendUvarint(dst, uint64(body))
	dst = append(dst, 1<<3|wireBytes)
	dst = appendUvarint(dst, uint64(len(object)))
	return append(dst, object...)
}

// AppendJSONWatchFrame appends one event of a JSON watch stream, a line; object is its JSON.
func AppendJSONWatchFrame(dst []byte, eventType string, object []byte) []byte {
	dst = AppendJSONWatchHead(dst, eventType)
	dst = append(dst, object...)
	return append(dst, JSONWatchTail...)
}

// JSONWatchTail closes what AppendJSONWatchHead opens.
const JSONWatchTail = "}\n"

// AppendJSONWatchHead appends an event up to its object, so that the object can be transcoded in place.
func AppendJSONWatchHead(dst []byte, eventType string) []byte {
	dst = appendString(append(dst, `{"type":`...), []byte(eventType))
	return append(dst, `,"object":`...)
}
