package resource

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// warnPod warns of what a pod may have but should not.
func warnEndpointSlice(obj, _ anyObject) []string {
	if obj.(*discoveryv1.EndpointSlice).AddressType == discoveryv1.AddressTypeFQDN {
		return []string{"spec.addressType: FQDN endpoints are deprecated"}
	}
	return nil
}

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
