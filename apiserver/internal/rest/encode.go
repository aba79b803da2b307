package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

// protoObject is an API object with Kubernetes' protobuf encoding.
type protoObject interface {
	runtime.Object
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// encodeStored renders an object as it is stored: the envelope of its storage
// version, without the resourceVersion, which is the store's.
func (a *API) encodeStored(res *Resource, obj runtime.Object) ([]byte, error) {
	if res.codec != nil {
		return encodeUnstructured(res, obj)
	}
	if res.converts {
		converted, err := a.convert(obj, res.StoredGVK())
		if err != nil {
			return nil, err
		}
		obj = converted
	}
	m, ok := obj.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("encode %T: it has no metadata", obj)
	}
	rv := m.GetResourceVersion()
	m.SetResourceVersion("")
	defer m.SetResourceVersion(rv)
	p, ok := obj.(protoObject)
	if !ok {
		return nil, fmt.Errorf("encode %T: it has no protobuf encoding", obj)
	}
	raw, err := p.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	gvk := res.StoredGVK()
	return wire.AppendEnvelope(nil, gvk.GroupVersion().String(), gvk.Kind, raw), nil
}

// decodeStored builds the served version of a stored object.
func (a *API) decodeStored(res *Resource, e *watchcache.Entry) (runtime.Object, error) {
	if res.codec != nil {
		return a.decodeUnstructured(res, e)
	}
	apiVersion, kind, raw, _, err := wire.SplitEnvelope(e.Value)
	if err != nil {
		return nil, undecodable(res, e, err)
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, undecodable(res, e, err)
	}
	obj, err := a.deps.Scheme.New(gv.WithKind(kind))
	if err != nil {
		return nil, undecodable(res, e, err)
	}
	p, ok := obj.(protoObject)
	if !ok {
		return nil, undecodable(res, e, fmt.Errorf("%T has no protobuf encoding", obj))
	}
	if err := p.Unmarshal(raw); err != nil {
		return nil, undecodable(res, e, err)
	}
	if gv.WithKind(kind) != res.GroupVersionKind {
		if obj, err = a.convert(obj, res.GroupVersionKind); err != nil {
			return nil, err
		}
	}
	// What was stored by an older version lacks newer defaults, and some
	// fields (the kinds of volume claim templates) have no protobuf encoding.
	setDefaults(res.Kind, obj)
	obj.(metav1.Object).SetResourceVersion(revision(e.Rev))
	obj.GetObjectKind().SetGroupVersionKind(res.GroupVersionKind)
	return obj, nil
}

// revision is the resourceVersion of a stored object, none for one that a dry run did not store.
func revision(rev int64) string {
	if rev == 0 {
		return ""
	}
	return strconv.FormatInt(rev, 10)
}

// appendEntry renders a stored object in a form that is not a table.
func (a *API) appendEntry(dst []byte, res *Resource, f form, e *watchcache.Entry) ([]byte, error) {
	rv := revision(e.Rev)
	if f.media == mediaYAML {
		data, err := a.appendEntry(nil, res, form{media: mediaJSON, as: f.as}, e)
		if err != nil {
			return nil, err
		}
		out, err := yaml.JSONToYAML(data)
		return append(dst, out...), err
	}
	if res.codec != nil {
		return a.appendUnstructured(dst, res, f, e)
	}
	version, kind, raw, _, err := wire.SplitEnvelope(e.Value)
	if err != nil {
		return nil, undecodable(res, e, err)
	}
	if f.as != "" {
		return a.appendPartial(dst, f, raw, rv)
	}
	if res.converts || version != res.apiVersion {
		obj, err := a.decodeStored(res, e)
		if err != nil {
			return nil, err
		}
		if f.bare {
			obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		}
		return appendTyped(dst, f, obj)
	}
	if f.bare {
		version, kind = "", ""
	}
	if f.media == mediaProtobuf {
		return wire.AppendVersionedEnvelope(dst, version, kind, raw, rv), nil
	}
	return res.program.AppendJSON(dst, version, kind, raw, rv)
}

// storedAs says whether the bytes are of the served version: an older API
// server may have written another.
func storedAs(value []byte, res *Resource) bool {
	apiVersion, _, _, _, err := wire.SplitEnvelope(value)
	return err == nil && apiVersion == res.apiVersion
}

func (a *API) appendPartial(dst []byte, f form, raw []byte, rv string) ([]byte, error) {
	const kind = "PartialObjectMetadata"
	if f.media != mediaProtobuf {
		return a.partial.AppendJSON(dst, metav1.SchemeGroupVersion.String(), kind, raw, rv)
	}
	body, err := wire.AppendMetadataOnly(nil, raw)
	if err != nil {
		return nil, err
	}
	return wire.AppendVersionedEnvelope(dst, metav1.SchemeGroupVersion.String(), kind, body, rv), nil
}

// appendTyped renders an object that is not stored, such as a review or a
// converted version.
func appendTyped(dst []byte, f form, obj runtime.Object) ([]byte, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if f.media == mediaProtobuf {
		p, ok := obj.(protoObject)
		if !ok {
			return nil, notAcceptable()
		}
		raw, err := p.Marshal()
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", obj, err)
		}
		return wire.AppendEnvelope(dst, gvk.GroupVersion().String(), gvk.Kind, raw), nil
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	if f.media == mediaYAML {
		data, err = yaml.JSONToYAML(data)
	}
	return append(dst, data...), err
}

// WriteObject answers with an object that is not stored.
func WriteObject(w http.ResponseWriter, r *http.Request, code int, obj runtime.Object) error {
	f, err := negotiate(r)
	if err != nil {
		return err
	}
	f.as = ""
	data, err := appendTyped(nil, f, obj)
	if err != nil {
		return err
	}
	respond(w, f, code, data)
	return nil
}

// respond sends a whole body.
func respond(w http.ResponseWriter, f form, code int, body []byte) {
	if f.pretty {
		var b bytes.Buffer
		if json.Indent(&b, bytes.TrimSpace(body), "", "  ") == nil {
			body = b.Bytes()
		}
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType())
	h.Set("Cache-Control", "no-cache, private")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// writeWarnings adds the warning headers, RFC 7234 section 5.5 code 299.
func writeWarnings(w http.ResponseWriter, warnings []string) {
	for _, text := range warnings {
		w.Header().Add("Warning", fmt.Sprintf("299 - %s", strconv.QuoteToASCII(text)))
	}
}
