package extend

import (
	"fmt"
	"math"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/resource"
)

// steps are the members that a path such as .spec.replicas leads through.
func steps(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }

// scaler reads and writes the replicas of a custom resource.
func scaler(s *apiextensionsv1.CustomResourceSubresourceScale) (func(runtime.Object) (*autoscalingv1.Scale, error), func(runtime.Object, int32) error) {
	read := func(obj runtime.Object) (*autoscalingv1.Scale, error) {
		u := obj.(*unstructured.Unstructured)
		want, found, err := unstructured.NestedInt64(u.Object, steps(s.SpecReplicasPath)...)
		if err != nil {
			return nil, err
		}
		if !found {
			want = resource.NoReplicas
		}
		have, _, err := unstructured.NestedInt64(u.Object, steps(s.StatusReplicasPath)...)
		if err != nil {
			return nil, err
		}
		selector := ""
		if p := s.LabelSelectorPath; p != nil && *p != "" {
			if selector, _, err = unstructured.NestedString(u.Object, steps(*p)...); err != nil {
				return nil, err
			}
		}
		return &autoscalingv1.Scale{
			TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "Scale"},
			ObjectMeta: metav1.ObjectMeta{
				Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(), CreationTimestamp: u.GetCreationTimestamp(),
			},
			Spec:   autoscalingv1.ScaleSpec{Replicas: int32(want)},                       //nolint:gosec // validated
			Status: autoscalingv1.ScaleStatus{Replicas: int32(have), Selector: selector}, //nolint:gosec // validated
		}, nil
	}
	write := func(obj runtime.Object, n int32) error {
		return unstructured.SetNestedField(obj.(*unstructured.Unstructured).Object, int64(n), steps(s.SpecReplicasPath)...)
	}
	return read, write
}

func (c *checker) scaleSpec(u *unstructured.Unstructured) field.ErrorList {
	if c.scale == nil {
		return nil
	}
	return replicas(u, c.scale.SpecReplicasPath)
}

func (c *checker) scaleStatus(u *unstructured.Unstructured) field.ErrorList {
	if c.scale == nil {
		return nil
	}
	errs := replicas(u, c.scale.StatusReplicasPath)
	if p := c.scale.LabelSelectorPath; p != nil {
		if text, _, err := unstructured.NestedString(u.Object, steps(*p)...); err != nil {
			errs = append(errs, field.Invalid(field.NewPath(*p), text, err.Error()))
		}
	}
	return errs
}

func replicas(u *unstructured.Unstructured, path string) field.ErrorList {
	n, _, err := unstructured.NestedInt64(u.Object, steps(path)...)
	at := field.NewPath(path)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(at, n, err.Error())}
	case n < 0:
		return field.ErrorList{field.Invalid(at, n, "should be a non-negative integer")}
	case n > math.MaxInt32:
		return field.ErrorList{field.Invalid(at, n, fmt.Sprintf("should be less than or equal to %v", math.MaxInt32))}
	}
	return nil
}
