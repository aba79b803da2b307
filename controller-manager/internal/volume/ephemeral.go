package volume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/pod"
)

// NewEphemeral returns the ephemeral-volume-controller: it makes the claims of pods' generic ephemeral volumes, owned by
// their pods so that they go with them.
func NewEphemeral(workers int, d loop.Deps) *loop.Controller {
	pods, claims := d.Sources.Pods(), d.Sources.Claims()
	ctl := d.Controller(workers, func(ctx context.Context, key string) error {
		p := pods.Get(loop.Split(key))
		if p == nil || p.DeletionTimestamp != nil || pod.Terminal(p) {
			return nil
		}
		for i := range p.Spec.Volumes {
			v := &p.Spec.Volumes[i]
			if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
				continue
			}
			name := p.Name + "-" + v.Name
			if have := claims.Get(p.Namespace, name); have != nil {
				if !metav1.IsControlledBy(have, p) {
					return fmt.Errorf("PVC %q was not created for pod %s (pod is not owner)", name, key)
				}
				continue
			}
			if err := makeClaim(ctx, d, p, v, name); err != nil {
				return err
			}
		}
		return nil
	})
	loop.Watch(ctl, pods, func(e loop.Event[corev1.Pod]) []string {
		if e.New == nil || e.New.DeletionTimestamp != nil {
			return nil
		}
		for i := range e.New.Spec.Volumes {
			if e.New.Spec.Volumes[i].Ephemeral != nil {
				return []string{loop.Key(e.New)}
			}
		}
		return nil
	})
	loop.Watch(ctl, claims, func(e loop.Event[corev1.PersistentVolumeClaim]) []string {
		if ref := metav1.GetControllerOfNoCopy(e.Now()); e.New == nil && ref != nil && ref.Kind == "Pod" {
			return []string{e.Now().Namespace + "/" + ref.Name}
		}
		return nil
	})
	return ctl
}

func makeClaim(ctx context.Context, d loop.Deps, p *corev1.Pod, v *corev1.Volume, name string) error {
	t := v.Ephemeral.VolumeClaimTemplate
	_, err := loop.Core[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](d, "persistentvolumeclaims", p.Namespace).Create(ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: name, Labels: t.Labels, Annotations: t.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: t.Spec,
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	if err != nil {
		d.Events.Eventf(p, corev1.EventTypeWarning, "FailedCreate", "ephemeral volume: %v", err)
	}
	return err
}
