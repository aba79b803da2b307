package snapshot

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func diffNode(old, now *v1.Node) NodeChange {
	return NodeChange{
		Allocatable:   !sameList(old.Status.Allocatable, now.Status.Allocatable),
		Labels:        !maps.Equal(old.Labels, now.Labels),
		Taints:        !slices.EqualFunc(old.Spec.Taints, now.Spec.Taints, sameTaint),
		Unschedulable: old.Spec.Unschedulable != now.Spec.Unschedulable,
		Condition:     !slices.EqualFunc(old.Status.Conditions, now.Status.Conditions, sameCondition),
		Features:      !slices.Equal(old.Status.DeclaredFeatures, now.Status.DeclaredFeatures),
	}
}

// Any says whether anything that scheduling reads changed.
func (n NodeChange) Any() bool { return n != NodeChange{} }

func sameTaint(a, b v1.Taint) bool {
	return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
}

func sameCondition(a, b v1.NodeCondition) bool { return a.Type == b.Type && a.Status == b.Status }

func sameList(a, b v1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}
