package tenancy

import (
	"iter"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	"flagship/internal/quota"
)

// group is objects of a kind.
type group struct {
	of      *quota.Evaluator
	objects iter.Seq[runtime.Object]
}

// usage is what the objects of a namespace use of what a quota is about. Names that no group counts are left out.
func usage(q *corev1.ResourceQuota, groups []group) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, g := range groups {
		names := g.of.Counted(q.Spec.Hard)
		if len(names) == 0 {
			continue
		}
		for _, n := range names {
			if _, begun := out[n]; !begun {
				out[n] = *resource.NewQuantity(0, resource.DecimalSI)
			}
		}
		for o := range g.objects {
			if !g.of.InScope(q, o) {
				continue
			}
			uses := g.of.Of(o)
			for _, n := range names {
				if v, ok := uses[n]; ok {
					total := out[n]
					total.Add(v)
					out[n] = total
				}
			}
		}
	}
	return out
}

// countedResource is the resource that a quota's name counts by number alone: "count/deployments.apps", "secrets".
func countedResource(name corev1.ResourceName) (resource, group string, ok bool) {
	switch name {
	case corev1.ResourceConfigMaps, corev1.ResourceSecrets, corev1.ResourceReplicationControllers, corev1.ResourceQuotas:
		return string(name), "", true
	}
	text, ok := strings.CutPrefix(string(name), "count/")
	if !ok || slices.Contains([]string{"pods", "services", "persistentvolumeclaims", "resourceclaims.resource.k8s.io"}, text) {
		return "", "", false
	}
	resource, group, _ = strings.Cut(text, ".")
	return resource, group, true
}

// recounts says whether a change of a quota asks for a count. Charges, which only change what is used, do not.
func recounts(old, now *corev1.ResourceQuota) bool {
	if old == nil || now == nil {
		return true
	}
	return !equality.Semantic.DeepEqual(old.Spec, now.Spec) || !equality.Semantic.DeepEqual(now.Status.Hard, now.Spec.Hard)
}
