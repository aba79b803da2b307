package app

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/resource"
)

func TestResourceOf(t *testing.T) {
	of := resourceOf(resource.Kinds(), "/registry/")
	for key, want := range map[string]schema.GroupResource{
		"/registry/pods/ns/a":                 {Resource: "pods"},
		"/registry/services/specs/ns/a":       {Resource: "services"},
		"/registry/services/endpoints/ns/a":   {Resource: "endpoints"},
		"/registry/deployments/":              {Group: "apps", Resource: "deployments"},
		"/registry/widgets.example.com/ws/ns": {Group: "widgets.example.com", Resource: "ws"},
		"/registry/masterleases/10.0.0.1":     {Resource: "masterleases"},
	} {
		if got := of(key); got != want {
			t.Errorf("%s is of %v, want %v", key, got, want)
		}
	}
}

func BenchmarkResourceOf(b *testing.B) {
	of := resourceOf(resource.Kinds(), "/registry")
	b.ReportAllocs()
	for b.Loop() {
		of("/registry/services/specs/ns/a")
	}
}
