package podspec

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// References names the ConfigMaps and Secrets of the pod's namespace that the pod refers to: its environment, volumes and
// pull secrets. Both lists are sorted.
func References(pod *corev1.Pod) (configMaps, secrets []string) {
	cm, sec := map[string]bool{}, map[string]bool{}
	add := func(set map[string]bool, name string) {
		if name != "" {
			set[name] = true
		}
	}
	for _, ref := range pod.Spec.ImagePullSecrets {
		add(sec, ref.Name)
	}
	Visit(pod, func(c *corev1.Container, _ Kind) bool {
		for _, f := range c.EnvFrom {
			if f.ConfigMapRef != nil {
				add(cm, f.ConfigMapRef.Name)
			}
			if f.SecretRef != nil {
				add(sec, f.SecretRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if ref := e.ValueFrom.ConfigMapKeyRef; ref != nil {
				add(cm, ref.Name)
			}
			if ref := e.ValueFrom.SecretKeyRef; ref != nil {
				add(sec, ref.Name)
			}
		}
		return true
	})
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.ConfigMap != nil {
			add(cm, v.ConfigMap.Name)
		}
		if v.Secret != nil {
			add(sec, v.Secret.SecretName)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				add(cm, s.ConfigMap.Name)
			}
			if s.Secret != nil {
				add(sec, s.Secret.Name)
			}
		}
	}
	return slices.Sorted(maps.Keys(cm)), slices.Sorted(maps.Keys(sec))
}
