package discovery

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/resource"
)

func TestStorageHashIsUpstreams(t *testing.T) {
	for kind, want := range map[string]string{"ConfigMap": "qFsyl6wFWjQ=", "Endpoints": "fWeeMqaN/OA="} {
		k := &resource.Kind{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: kind}}
		if got := storageHash(k); got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
}
