package resource

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func warnEndpointSlice(obj, _ anyObject) []string {
	if obj.(*discoveryv1.EndpointSlice).AddressType == discoveryv1.AddressTypeFQDN {
		return []string{"spec.addressType: FQDN endpoints are deprecated"}
	}
	return nil
}

func warnCSIDriver(obj, old anyObject) []string {
	d := obj.(*storagev1.CSIDriver)
	if o, ok := old.(*storagev1.CSIDriver); ok && o != nil && apiequality.Semantic.DeepEqual(o.Spec.TokenRequests, d.Spec.TokenRequests) {
		return nil
	}
	if len(d.Spec.TokenRequests) == 0 || d.Spec.ServiceAccountTokenInSecrets != nil {
		return nil
	}
	return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
}

func warnClaim(obj, _ anyObject) []string {
	c := obj.(*corev1.PersistentVolumeClaim)
	var out []string
	if _, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		out = append(out, fmt.Sprintf("%s: deprecated since v1.8; use \"storageClassName\" attribute instead", root("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation)))
	}
	for name, list := range map[string]corev1.ResourceList{"requests": c.Spec.Resources.Requests, "limits": c.Spec.Resources.Limits} {
		if q := list[corev1.ResourceStorage]; q.MilliValue()%1000 != 0 {
			out = append(out, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", root("spec", "resources", name).Key(string(corev1.ResourceStorage)), q.String()))
		}
	}
	return out
}

// warnPod warns of what a pod may have but should not.
func warnPod(obj, _ anyObject) []string {
	p := obj.(*corev1.Pod)
	out := podWarnings(&p.Spec, root("spec"))
	if msgs := validation.IsDNS1123Label(p.Name); len(msgs) > 0 {
		out = append(out, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return out
}

func podWarnings(s *corev1.PodSpec, p *field.Path) []string {
	var out []string
	for i, r := range s.ImagePullSecrets {
		if r.Name == "" {
			out = append(out, fmt.Sprintf("%s: invalid empty name %q", p.Child("imagePullSecrets").Index(i).Child("name"), r.Name))
		}
	}
	eachContainer(s, p, func(x *corev1.Container, at *field.Path) {
		for _, list := range []struct {
			name  string
			value corev1.ResourceList
		}{{"limits", x.Resources.Limits}, {"requests", x.Resources.Requests}} {
			for n, q := range list.value {
				if (n == corev1.ResourceMemory || n == corev1.ResourceEphemeralStorage) && q.MilliValue()%1000 != 0 {
					out = append(out, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", at.Child("resources", list.name).Key(string(n)), q.String()))
				}
			}
		}
		seen := map[string]bool{}
		for i, e := range x.Env {
			// A value that refers to the variable's earlier one is no mistake.
			if seen[e.Name] && !strings.Contains(e.Value, "$("+e.Name+")") {
				out = append(out, fmt.Sprintf("%s: hides previous definition of %q, which may be dropped when using apply", at.Child("env").Index(i), e.Name))
			}
			seen[e.Name] = true
		}
	})
	return out
}
