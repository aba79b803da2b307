package queue

import (
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"

	"flagship/scheduler/internal/snapshot"
)

// relevant says whether an update of a pending pod can change what a cycle decides: labels, tolerations, gates, requests,
// or the node it is nominated to, but not conditions that the scheduler itself writes.
func relevant(old, now *snapshot.Pod) bool {
	return !maps.Equal(old.Labels, now.Labels) ||
		!equality.Semantic.DeepEqual(old.Spec, now.Spec) ||
		len(old.OwnerReferences) != len(now.OwnerReferences)
}
