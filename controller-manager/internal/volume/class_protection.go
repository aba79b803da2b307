package volume

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/controller-manager/internal/loop"
)

const classFinalizer = "kubernetes.io/vac-protection"

// NewAttributesClassProtection returns the volumeattributesclass-protection-controller: a class goes only when no claim
// and no volume names it.
func NewAttributesClassProtection(d loop.Deps) *loop.Controller {
	classes, claims, volumes := d.Sources.AttributesClasses(), d.Sources.Claims(), d.Sources.Volumes()
	ctl := d.Controller(1, func(ctx context.Context, name string) error {
		c := classes.Get("", name)
		if c == nil {
			return nil
		}
		next := protectClass(c, func() bool { return named(name, claims.All(), volumes.All()) })
		if next == nil {
			return nil
		}
		api := loop.Storage[storagev1.VolumeAttributesClass, storagev1.VolumeAttributesClassList](d, "volumeattributesclasses", "")
		_, err := api.Update(ctx, next, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	loop.Watch(ctl, classes, loop.Own[storagev1.VolumeAttributesClass])
	loop.Watch(ctl, claims, func(e loop.Event[corev1.PersistentVolumeClaim]) []string { return freed(e.Old, e.New, claimClasses) })
	loop.Watch(ctl, volumes, func(e loop.Event[corev1.PersistentVolume]) []string { return freed(e.Old, e.New, volumeClasses) })
	return ctl
}

// protectClass is the class with the finalizer that it should have, nil where it has it.
func protectClass(c *storagev1.VolumeAttributesClass, inUse func() bool) *storagev1.VolumeAttributesClass {
	has := slices.Contains(c.Finalizers, classFinalizer)
	switch {
	case c.DeletionTimestamp == nil && !has:
		next := c.DeepCopy()
		next.Finalizers = append(next.Finalizers, classFinalizer)
		return next
	case c.DeletionTimestamp != nil && has && !inUse():
		next := c.DeepCopy()
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == classFinalizer })
		return next
	}
	return nil
}

// claimClasses are the classes that a claim has, wants, or is on the way to.
func claimClasses(c *corev1.PersistentVolumeClaim) []string {
	var out []string
	for _, name := range []*string{c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName} {
		if name != nil && *name != "" {
			out = append(out, *name)
		}
	}
	if m := c.Status.ModifyVolumeStatus; m != nil && m.TargetVolumeAttributesClassName != "" {
		out = append(out, m.TargetVolumeAttributesClassName)
	}
	return out
}

func volumeClasses(v *corev1.PersistentVolume) []string {
	if name := v.Spec.VolumeAttributesClassName; name != nil && *name != "" {
		return []string{*name}
	}
	return nil
}

// freed are the classes that an object named and names no more.
func freed[T any](old, now *T, classes func(*T) []string) []string {
	if old == nil {
		return nil
	}
	out := classes(old)
	if now != nil {
		still := classes(now)
		out = slices.DeleteFunc(out, func(name string) bool { return slices.Contains(still, name) })
	}
	return out
}

func named(class string, claims []*corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume) bool {
	return slices.ContainsFunc(claims, func(c *corev1.PersistentVolumeClaim) bool { return slices.Contains(claimClasses(c), class) }) ||
		slices.ContainsFunc(volumes, func(v *corev1.PersistentVolume) bool { return slices.Contains(volumeClasses(v), class) })
}
