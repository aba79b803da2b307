package allocate

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/resource"
)

// podSpecOf finds the pod spec in a pod or in what makes pods, with its path;
// nil where there is none.
func podSpecOf(obj runtime.Object) (*corev1.PodSpec, *field.Path, string) {
	template := field.NewPath("spec", "template", "spec")
	switch o := obj.(type) {
	case *corev1.Pod:
		return &o.Spec, field.NewPath("spec"), o.Name
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec, template, o.Name
	case *appsv1.ReplicaSet:
		return &o.Spec.Template.Spec, template, o.Name
	case *appsv1.StatefulSet:
		return &o.Spec.Template.Spec, template, o.Name
	case *appsv1.DaemonSet:
		return &o.Spec.Template.Spec, template, o.Name
	case *batchv1.Job:
		return &o.Spec.Template.Spec, template, o.Name
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template.Spec, field.NewPath("spec", "jobTemplate", "spec", "template", "spec"), o.Name
	case *corev1.ReplicationController:
		if o.Spec.Template != nil {
			return &o.Spec.Template.Spec, template, o.Name
		}
	}
	return nil, nil, ""
}

// checkPrivileged refuses privileged containers where --allow-privileged is
// false, upstream's default.
func checkPrivileged(k *resource.Kind, obj runtime.Object) error {
	spec, path, name := podSpecOf(obj)
	if spec == nil {
		return nil
	}
	var errs field.ErrorList
	check := func(list []corev1.Container, path *field.Path) {
		for i := range list {
			if sc := list[i].SecurityContext; sc != nil && sc.Privileged != nil && *sc.Privileged {
				errs = append(errs, field.Forbidden(path.Index(i).Child("securityContext", "privileged"), "disallowed by cluster policy"))
			}
		}
	}
	check(spec.InitContainers, path.Child("initContainers"))
	check(spec.Containers, path.Child("containers"))
	if len(errs) > 0 {
		return apierrors.NewInvalid(k.GroupVersionKind.GroupKind(), name, errs)
	}
	return nil
}
