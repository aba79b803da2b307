package volume

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/pod"
)

const (
	claimFinalizer  = "kubernetes.io/pvc-protection"
	volumeFinalizer = "kubernetes.io/pv-protection"
)

// claimsOf are the names of the claims that a pod uses, those of its ephemeral volumes too.
func claimsOf(p *corev1.Pod) []string {
	var out []string
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			out = append(out, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			out = append(out, p.Name+"-"+v.Name)
		}
	}
	return out
}

// NewClaimProtection returns the persistentvolumeclaim-protection-controller: a claim goes only when no pod that was
// scheduled uses it.
func NewClaimProtection(d loop.Deps) *loop.Controller {
	claims, pods := d.Sources.Claims(), d.Sources.Pods()
	inUse := func(c *corev1.PersistentVolumeClaim, all []*corev1.Pod) bool {
		return slices.ContainsFunc(all, func(p *corev1.Pod) bool {
			return p.Spec.NodeName != "" && !pod.Terminal(p) && slices.Contains(claimsOf(p), c.Name)
		})
	}
	ctl := d.Controller(5, func(ctx context.Context, key string) error {
		c := claims.Get(loop.Split(key))
		if c == nil {
			return nil
		}
		api := loop.Core[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](d, "persistentvolumeclaims", c.Namespace)
		has := slices.Contains(c.Finalizers, claimFinalizer)
		next := c.DeepCopy()
		switch {
		case c.DeletionTimestamp == nil && !has:
			next.Finalizers = append(next.Finalizers, claimFinalizer)
		case c.DeletionTimestamp != nil && has && !inUse(c, pods.In(c.Namespace)):
			// The cache may lag behind a pod that was just made.
			live, err := d.Pods(c.Namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			all := make([]*corev1.Pod, len(live.Items))
			for i := range live.Items {
				all[i] = &live.Items[i]
			}
			if inUse(c, all) {
				return nil
			}
			next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == claimFinalizer })
		default:
			return nil
		}
		_, err := api.Update(ctx, next, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	loop.Watch(ctl, claims, loop.Own[corev1.PersistentVolumeClaim])
	loop.Watch(ctl, pods, func(e loop.Event[corev1.Pod]) []string {
		if e.New != nil && !pod.Terminal(e.New) && e.New.Spec.NodeName != "" {
			return nil
		}
		var keys []string
		for _, name := range claimsOf(e.Now()) {
			keys = append(keys, e.Now().Namespace+"/"+name)
		}
		return keys
	})
	return ctl
}

// NewVolumeProtection returns the persistentvolume-protection-controller: a volume goes only when it is not bound.
func NewVolumeProtection(d loop.Deps) *loop.Controller {
	volumes := d.Sources.Volumes()
	ctl := d.Controller(5, func(ctx context.Context, name string) error {
		v := volumes.Get("", name)
		if v == nil {
			return nil
		}
		has := slices.Contains(v.Finalizers, volumeFinalizer)
		next := v.DeepCopy()
		switch {
		case v.DeletionTimestamp == nil && !has:
			next.Finalizers = append(next.Finalizers, volumeFinalizer)
		case v.DeletionTimestamp != nil && has && v.Status.Phase != corev1.VolumeBound:
			next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == volumeFinalizer })
		default:
			return nil
		}
		_, err := loop.Core[corev1.PersistentVolume, corev1.PersistentVolumeList](d, "persistentvolumes", "").Update(ctx, next, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	loop.Watch(ctl, volumes, loop.Own[corev1.PersistentVolume])
	return ctl
}
