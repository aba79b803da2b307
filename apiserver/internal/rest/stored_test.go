package rest

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"flagship/apiserver/internal/wire"
)

// TestStoredJSON reads what upstream stores as JSON, and writes it so.
func TestStoredJSON(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	s := StoredJSON(scheme, "/registry/")
	const config = `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"v"}}`
	const custom = `{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"a"}}`
	const crd = "/registry/apiextensions.k8s.io/customresourcedefinitions/foos.example.com"
	definition := &apiextensionsv1.CustomResourceDefinition{}
	definition.Name, definition.Spec.Group = "foos.example.com", "example.com"
	raw, err := definition.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	proto := string(wire.AppendEnvelope(nil, "apiextensions.k8s.io/v1", "CustomResourceDefinition", raw))
	const text = `{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1","metadata":{"name":"foos.example.com"},` +
		`"spec":{"group":"example.com","names":{"plural":"","kind":""},"scope":"","versions":null},` +
		`"status":{"conditions":null,"acceptedNames":{"plural":"","kind":""},"storedVersions":null}}` + "\n"

	stored, err := s.ToStorage(t.Context(), crd, []byte(proto))
	if err != nil || string(stored) != text {
		t.Errorf("a definition is stored as %q, %v; want %q", stored, err, text)
	}
	back, _, err := s.FromStorage(t.Context(), crd, stored)
	if err != nil || string(back) != proto {
		t.Errorf("a definition is read back as %q, %v; want %q", back, err, proto)
	}
	read, _, err := s.FromStorage(t.Context(), "/registry/configmaps/x/a", []byte(config))
	if err != nil || !wire.IsProtobuf(read) {
		t.Errorf("JSON of a kind with a Go type is read as %q, %v", read, err)
	}
	const beta = `{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","metadata":{"name":"foos.example.com"},"spec":{"group":"example.com","version":"v1",` +
		`"names":{"plural":"foos","kind":"Foo"},"scope":"Namespaced","validation":{"openAPIV3Schema":{"type":"object"}},"versions":[{"name":"v1","served":true,"storage":true}]}}`
	converted, _, err := s.FromStorage(t.Context(), crd, []byte(beta))
	if err != nil {
		t.Fatal(err)
	}
	version, _, body, _, err := wire.SplitEnvelope(converted)
	if err != nil || version != "apiextensions.k8s.io/v1" {
		t.Fatalf("a definition of v1beta1 is read as %q, %v", converted, err)
	}
	now := &apiextensionsv1.CustomResourceDefinition{}
	if err := now.Unmarshal(body); err != nil {
		t.Fatal(err)
	}
	if v := now.Spec.Versions; len(v) != 1 || v[0].Schema == nil || v[0].Schema.OpenAPIV3Schema.Type != "object" {
		t.Errorf("its versions: %+v", v)
	}
	for _, same := range []string{custom, "", "{", `{"kind":"ConfigMap","apiVersion":"v1","data":[]}`, string(read)} {
		if got, _, err := s.FromStorage(t.Context(), "/registry/x/y/a", []byte(same)); err != nil || string(got) != same {
			t.Errorf("%q is read as %q, %v", same, got, err)
		}
	}
	if got, err := s.ToStorage(t.Context(), "/registry/configmaps/x/a", read); err != nil || string(got) != string(read) {
		t.Errorf("a config map is stored as %q, %v", got, err)
	}
}
