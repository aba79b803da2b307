package crd

import (
	"encoding/json"
	"testing"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func FuzzDefinition(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte(`{"metadata":{"name":"a.b.c"},"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"type":"array","items":{"items":{}},"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["x"]}}}]}}`))
	f.Add([]byte(`{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"type":"object","properties":{"a":{"type":"string","pattern":"(","default":7,"x-kubernetes-validations":[{"rule":"self == '"}]}}}}}]}}`))
	now := metav1.NewTime(time.Unix(1, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &apiextensionsv1.CustomResourceDefinition{}
		if json.Unmarshal(data, d) != nil {
			return
		}
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&d.Spec)
		errs := Validate(d)
		_ = Warn(d, nil)
		_ = ValidateUpdate(d, d.DeepCopy())
		d.Status = PlanStatus(d, Names{}, now)
		_ = ValidateStatus(d)
		if len(errs) > 0 {
			return
		}
		// What is valid is what upstream's library makes a structural schema of.
		for i := range d.Spec.Versions {
			v := d.Spec.Versions[i].Schema
			if v == nil || v.OpenAPIV3Schema == nil {
				continue
			}
			in := &apiextensions.JSONSchemaProps{}
			if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.OpenAPIV3Schema, in, nil); err != nil {
				t.Fatal(err)
			}
			s, err := schema.NewStructural(in)
			if err != nil {
				t.Fatalf("%s is valid, but %v", data, err)
			}
			if errs := schema.ValidateStructural(nil, s); len(errs) > 0 && !d.Spec.PreserveUnknownFields {
				t.Fatalf("%s is valid, but %v", data, errs)
			}
		}
	})
}
