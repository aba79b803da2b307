package wire

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestCheck(t *testing.T) {
	crds, err := Compile(reflect.TypeFor[apiextensionsv1.CustomResourceDefinition]())
	if err != nil {
		t.Fatal(err)
	}
	pods, err := Compile(reflect.TypeFor[corev1.Pod]())
	if err != nil {
		t.Fatal(err)
	}
	if pods.nests || !crds.nests {
		t.Error("a schema may be within a schema, and nothing of a pod within itself")
	}
	definition := func(levels int, wrap func(inner apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps) []byte {
		s := apiextensionsv1.JSONSchemaProps{}
		for range levels {
			s = wrap(s)
		}
		d := &apiextensionsv1.CustomResourceDefinition{Spec: apiextensionsv1.CustomResourceDefinitionSpec{Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &s}}}}}
		raw, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, wrap := range map[string]func(apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps{
		"not": func(s apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
			return apiextensionsv1.JSONSchemaProps{Not: &s}
		},
		"properties": func(s apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
			return apiextensionsv1.JSONSchemaProps{Properties: map[string]apiextensionsv1.JSONSchemaProps{"a": s}}
		},
	} {
		if err := crds.Check(definition(300, wrap)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Made by hand: to marshal a deep one takes the square of its depth.
	if err := crds.Check(nestedNot(maxDepth + 1)); !errors.Is(err, errDepth) {
		t.Error("a deep schema:", err)
	}
}

// nestedNot is a definition of a schema that negates one, n times, made from within.
func nestedNot(n int) []byte {
	heads := make([][]byte, 0, n)
	size := 0
	for range n {
		head := appendUvarint(appendUvarint(nil, 28<<3|wireBytes), uint64(size))
		heads = append(heads, head)
		size += len(head)
	}
	var schema strings.Builder
	for i := len(heads) - 1; i >= 0; i-- {
		schema.Write(heads[i])
	}
	version := appendField(nil, 4, string(appendField(nil, 1, schema.String())))
	return appendField(nil, 2, string(appendField(nil, 7, string(version))))
}

func TestCheckQuantities(t *testing.T) {
	pods, err := Compile(reflect.TypeFor[corev1.Pod]())
	if err != nil {
		t.Fatal(err)
	}
	pod := corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("123456789")}}}}}}
	pod.Annotations = map[string]string{"n": "1e999999999"}
	raw, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := pods.Check(raw); err != nil {
		t.Error("an annotation is no quantity:", err)
	}
	// Of the same length, so that the lengths around it hold.
	bad := []byte(strings.Replace(string(raw), "123456789", "1e9999999", 1))
	if err := pods.Check(bad); !errors.Is(err, ErrCostly) {
		t.Error("a quantity with a large exponent:", err)
	}
}

func TestMayBeCostly(t *testing.T) {
	for text, want := range map[string]bool{
		`"1e100000"`: true, `"1E+00100000"`: true, `"1e-99999"`: true, `\u0031`: true, strings.Repeat("1", 101): true, strings.Repeat("1.", 60): true,
		`"1e9999"`: false, `"2024-01-01T00:00:00Z"`: false, "f1a2e4b5": false, "": false, strings.Repeat("1", 50): false,
	} {
		if got := MayBeCostly([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
