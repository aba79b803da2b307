package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	"flagship/apiserver/internal/store"
	"flagship/apiserver/internal/wire"
)

// storedJSON is the store.Transformer by which kinds with a Go type are protobuf
// in this process whatever they are in etcd: upstream reads both, stores these
// groups as JSON, and every kind under --storage-media-type=application/json.
type storedJSON struct {
	scheme *runtime.Scheme
	prefix string
	// as lists the resources, "/GROUP/RESOURCE/" under the store's prefix, that
	// are written as JSON.
	as []string
}

// StoredJSON returns the transformer for the kinds of a scheme and a store's prefix.
func StoredJSON(scheme *runtime.Scheme, prefix string) store.Transformer {
	prefix = strings.TrimSuffix(prefix, "/")
	return &storedJSON{scheme: scheme, prefix: prefix, as: []string{prefix + "/apiregistration.k8s.io/", prefix + "/apiextensions.k8s.io/"}}
}

// FromStorage implements store.Transformer. What is no JSON of a known kind,
// such as an object of a definition, stays as it is, and so does what cannot be
// read: who asks for the object is told, and the others are served.
func (s *storedJSON) FromStorage(_ context.Context, key string, data []byte) ([]byte, bool, error) {
	data, err := s.protobuf(key, data)
	return data, false, err
}

func (s *storedJSON) protobuf(key string, data []byte) ([]byte, error) {
	if wire.IsProtobuf(data) {
		return s.promoted(key, data), nil
	}
	if len(data) == 0 || data[0] != '{' {
		return data, nil
	}
	var t metav1.TypeMeta
	if err := json.Unmarshal(data, &t); err != nil {
		return data, nil //nolint:nilerr // see above
	}
	gvk := schema.FromAPIVersionAndKind(t.APIVersion, t.Kind)
	if gvk == definitionV1beta1 {
		return fromV1beta1(data), nil
	}
	if !s.scheme.Recognizes(gvk) {
		return data, nil
	}
	obj, err := s.scheme.New(gvk)
	if err != nil {
		return nil, err
	}
	p, ok := obj.(protoObject)
	if !ok {
		return data, nil
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, p); err != nil {
		return data, nil //nolint:nilerr // see above
	}
	raw, err := p.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	return wire.AppendEnvelope(nil, t.APIVersion, t.Kind, raw), nil
}

// betas are the versions, by group, in which upstream's server stores kinds that
// it serves as v1 with the same messages.
var betas = map[string]schema.GroupVersion{
	"/devicetaintrules/":         {Group: "resource.k8s.io", Version: "v1beta2"},
	"/storageversionmigrations/": {Group: "storagemigration.k8s.io", Version: "v1beta1"},
}

// promoted is an object of one of the betas as v1.
func (s *storedJSON) promoted(key string, data []byte) []byte {
	segment := key[min(len(s.prefix), len(key)):]
	if i := strings.IndexByte(strings.TrimPrefix(segment, "/"), '/'); i >= 0 {
		segment = segment[:i+2]
	}
	beta, ok := betas[segment]
	if !ok {
		return data
	}
	version, kind, raw, _, err := wire.SplitEnvelope(data)
	if err != nil || version != beta.String() {
		return data
	}
	return wire.AppendEnvelope(nil, schema.GroupVersion{Group: beta.Group, Version: "v1"}.String(), kind, raw)
}

// definitionV1beta1 is how upstream's server stores definitions. It is not served any more.
var definitionV1beta1 = apiextensionsv1beta1.SchemeGroupVersion.WithKind("CustomResourceDefinition")

// definitionScheme converts between the versions of definitions.
var definitionScheme = sync.OnceValue(func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return scheme
})

// fromV1beta1 is a definition as v1, or the data where it cannot be.
func fromV1beta1(data []byte) []byte {
	old, hub, now := &apiextensionsv1beta1.CustomResourceDefinition{}, &apiextensions.CustomResourceDefinition{}, &apiextensionsv1.CustomResourceDefinition{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, old); err != nil {
		return data
	}
	scheme := definitionScheme()
	scheme.Default(old)
	if scheme.Convert(old, hub, nil) != nil || scheme.Convert(hub, now, nil) != nil {
		return data
	}
	raw, err := now.Marshal()
	if err != nil {
		return data
	}
	return wire.AppendEnvelope(nil, apiextensionsv1.SchemeGroupVersion.String(), definitionV1beta1.Kind, raw)
}

// ToStorage implements store.Transformer.
func (s *storedJSON) ToStorage(_ context.Context, key string, data []byte) ([]byte, error) {
	if !s.isJSON(key) || !wire.IsProtobuf(data) {
		return data, nil
	}
	apiVersion, kind, raw, _, err := wire.SplitEnvelope(data)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	obj, err := s.scheme.New(gvk)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	p, ok := obj.(protoObject)
	if !ok {
		return nil, fmt.Errorf("encode %s: %T has no protobuf encoding", key, obj)
	}
	if err := p.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	p.GetObjectKind().SetGroupVersionKind(gvk)
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(p); err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	return out.Bytes(), nil
}

func (s *storedJSON) isJSON(key string) bool {
	for _, prefix := range s.as {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}
