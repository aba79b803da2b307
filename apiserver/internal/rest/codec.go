package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

// Codec is the encoding of a resource that has no Go type: its objects are
// unstructured, and stored as JSON.
type Codec interface {
	// Parse reads an object from JSON. Unknown are the fields that a strict
	// reader refuses; the object is without them.
	Parse(data []byte, strict bool) (obj *unstructured.Unstructured, unknown []error, err error)
	// Decode builds the served version of a stored object.
	Decode(value []byte) (*unstructured.Unstructured, error)
	// Encode renders an object as it is stored.
	Encode(obj *unstructured.Unstructured) ([]byte, error)
	// Render returns the JSON of the served version of an object stored at
	// revision rev, which is the stored bytes themselves where they are that.
	Render(value []byte, rev int64) ([]byte, error)
	// Manager records who owns the fields, per subresource ("" for none).
	Manager(sub string) (*managedfields.FieldManager, error)
}

// empty is a new object of the resource.
func (a *API) empty(res *Resource) (runtime.Object, error) {
	if res.codec != nil {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(res.GroupVersionKind)
		return u, nil
	}
	obj, err := a.deps.Scheme.New(res.GroupVersionKind)
	if err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(res.GroupVersionKind)
	return obj, nil
}

func (a *API) decodeUnstructured(res *Resource, e *watchcache.Entry) (runtime.Object, error) {
	u, err := res.codec.Decode(e.Value)
	if err != nil {
		return nil, undecodable(res, e, err)
	}
	u.SetResourceVersion(revision(e.Rev))
	return u, nil
}

func encodeUnstructured(res *Resource, obj runtime.Object) ([]byte, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("encode %s: %T is not unstructured", res.GroupVersionKind, obj)
	}
	return res.codec.Encode(u)
}

// appendUnstructured renders a stored object whose resource has no Go type.
func (a *API) appendUnstructured(dst []byte, res *Resource, f form, e *watchcache.Entry) ([]byte, error) {
	data, err := res.codec.Render(e.Value, e.Rev)
	if err != nil {
		return nil, undecodable(res, e, err)
	}
	rv := revision(e.Rev)
	if f.as == "" {
		if f.media == mediaProtobuf {
			return nil, notAcceptable()
		}
		return wire.AppendJSONResourceVersion(dst, data, rv)
	}
	head := `{"kind":"PartialObjectMetadata","apiVersion":"` + metav1.SchemeGroupVersion.String() + `","metadata":`
	partial := append([]byte(head), wire.ScanJSON(data, "metadata")...)
	partial = append(partial, '}')
	if f.media != mediaProtobuf {
		return wire.AppendJSONResourceVersion(dst, partial, rv)
	}
	m := &metav1.PartialObjectMetadata{}
	if err := json.Unmarshal(partial, m); err != nil {
		return nil, undecodable(res, e, err)
	}
	raw, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	return wire.AppendVersionedEnvelope(dst, metav1.SchemeGroupVersion.String(), "PartialObjectMetadata", raw, rv), nil
}

// uidOf is the UID of a stored object.
func uidOf(res *Resource, e *watchcache.Entry) (string, error) {
	if res.codec != nil {
		return wire.ScanJSONString(e.Value, "metadata", "uid"), nil
	}
	_, _, raw, _, err := wire.SplitEnvelope(e.Value)
	if err != nil {
		return "", undecodable(res, e, err)
	}
	return wire.ScanString(raw, uidPath[:]...), nil
}

// uidPath is metadata.uid in any object's message.
var uidPath = [...]int32{1, 5}

// labelsOf are the labels of a stored object, for a selector.
func labelsOf(res *Resource, e *watchcache.Entry) (labels.Labels, error) {
	if res.codec == nil {
		_, _, raw, _, err := wire.SplitEnvelope(e.Value)
		if err != nil {
			return nil, undecodable(res, e, err)
		}
		return wire.Labels(raw), nil
	}
	set := labels.Set{}
	if raw := wire.ScanJSON(e.Value, "metadata", "labels"); len(raw) > 0 {
		if err := json.Unmarshal(raw, &set); err != nil {
			return nil, fmt.Errorf("read labels of %s%s: %w", res.Prefix, e.Key, err)
		}
	}
	return set, nil
}

// copyStatus gives dst the status of src.
func copyStatus(dst, src runtime.Object) {
	if d, ok := dst.(*unstructured.Unstructured); ok {
		status, has := src.(*unstructured.Unstructured).Object["status"]
		if has {
			d.Object["status"] = status
		} else {
			delete(d.Object, "status")
		}
		return
	}
	copyField(dst, src, "Status")
}

// unstructuredChanged is whether anything but the metadata differs.
func unstructuredChanged(a, b *unstructured.Unstructured) bool {
	for key, v := range a.Object {
		if key == "metadata" {
			continue
		}
		if other, ok := b.Object[key]; !ok || !apiequality.Semantic.DeepEqual(v, other) {
			return true
		}
	}
	for key := range b.Object {
		if _, ok := a.Object[key]; !ok {
			return true
		}
	}
	return false
}

// AddUnstructured serves a kind without a Go type from a cache.
func (a *API) AddUnstructured(k *resource.Kind, cache *watchcache.Cache, codec Codec) {
	r := &Resource{Kind: k, Cache: cache, apiVersion: k.GroupVersion().String(), codec: codec, managers: map[string]*managedfields.FieldManager{}}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resources[k.GVR()] = r
}

// Remove ends the service of a kind that AddUnstructured added. The cache is
// the caller's.
func (a *API) Remove(k *resource.Kind) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.resources[k.GVR()]; ok && r.codec != nil {
		delete(a.resources, k.GVR())
	}
}

// Purge deletes all objects of a kind without admission, as the server itself,
// and returns how many are left: those that wait for finalizers.
func (a *API) Purge(ctx context.Context, k *resource.Kind, cache *watchcache.Cache, codec Codec) (int, error) {
	if err := a.deps.Hub.WaitCurrent(ctx); err != nil {
		return 0, err
	}
	res := &Resource{Kind: k, Cache: cache, apiVersion: k.GroupVersion().String(), codec: codec}
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, "/", http.NoBody)
	if err != nil {
		return 0, err
	}
	q := &request{http: r, info: &Info{Verb: "delete"}, res: res, trusted: true}
	left := 0
	var errs []error
	cache.Snapshot().Scan("", "", func(e *watchcache.Entry) bool {
		gone, err := a.deleteListed(ctx, q, &metav1.DeleteOptions{}, e)
		if !gone {
			left++
		}
		if err != nil {
			errs = append(errs, err)
		}
		return ctx.Err() == nil
	})
	return left, errors.Join(errs...)
}
