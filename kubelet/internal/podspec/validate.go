package podspec

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ValidateStatic checks what a manifest needs before the kubelet can run it. It returns every fault found, joined.
func ValidateStatic(pod *corev1.Pod) error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	for _, m := range validation.IsDNS1123Subdomain(pod.Name) {
		fault("metadata.name", "Invalid value: %q: %s", pod.Name, m)
	}
	for _, m := range validation.IsDNS1123Label(pod.Namespace) {
		fault("metadata.namespace", "Invalid value: %q: %s", pod.Namespace, m)
	}
	if len(pod.Spec.Containers) == 0 {
		fault("spec.containers", "Required value")
	}
	if len(pod.Spec.EphemeralContainers) > 0 {
		fault("spec.ephemeralContainers", "Forbidden: static pods have none")
	}
	if pod.Spec.ServiceAccountName != "" {
		fault("spec.serviceAccountName", "Forbidden: a static pod may not reference service accounts")
	}
	volumes := map[string]bool{}
	for i, v := range pod.Spec.Volumes {
		path := fmt.Sprintf("spec.volumes[%d].name", i)
		for _, m := range validation.IsDNS1123Label(v.Name) {
			fault(path, "Invalid value: %q: %s", v.Name, m)
		}
		if volumes[v.Name] {
			fault(path, "Duplicate value: %q", v.Name)
		}
		volumes[v.Name] = true
		if v.Secret != nil || v.ConfigMap != nil {
			fault(fmt.Sprintf("spec.volumes[%d]", i), "Forbidden: a static pod may not reference secrets or configmaps")
		}
	}
	names := map[string]bool{}
	Visit(pod, func(c *corev1.Container, _ Kind) bool {
		path := "spec.containers{" + c.Name + "}"
		for _, m := range validation.IsDNS1123Label(c.Name) {
			fault(path+".name", "Invalid value: %q: %s", c.Name, m)
		}
		if names[c.Name] {
			fault(path+".name", "Duplicate value: %q", c.Name)
		}
		names[c.Name] = true
		if c.Image == "" {
			fault(path+".image", "Required value")
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				fault(path+".volumeMounts", "Not found: %q", m.Name)
			}
		}
		return true
	})
	return errors.Join(errs...)
}
