package pod

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SortForDeletion orders pods by how little it hurts to delete them, the least first, by upstream's rules: unassigned
// before assigned, Pending before Unknown before Running, not ready before ready, cheap before dear (the annotation
// controller.kubernetes.io/pod-deletion-cost), on crowded nodes before others, lately ready before long ready, restarted
// often before seldom, young before old. Ages count in powers of two, so that equals are chosen by UID.
// crowd is how many related pods run on each node.
func SortForDeletion(pods []*corev1.Pod, crowd map[string]int, now time.Time) {
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(
			boolFirst(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			cmp.Compare(phaseRank(a.Status.Phase), phaseRank(b.Status.Phase)),
			boolFirst(!Ready(a), !Ready(b)),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			cmp.Compare(crowd[b.Spec.NodeName], crowd[a.Spec.NodeName]),
			compareReadyTime(a, b, now),
			cmp.Compare(restarts(b), restarts(a)),
			compareAge(a, b, a.CreationTimestamp, b.CreationTimestamp, now),
		)
	})
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

func phaseRank(p corev1.PodPhase) int {
	switch p {
	case corev1.PodPending:
		return 0
	case corev1.PodUnknown:
		return 1
	default:
		return 2
	}
}

func deletionCost(p *corev1.Pod) int32 {
	v := p.Annotations[corev1.PodDeletionCost]
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || (len(v) > 1 && (v[0] == '0' || v[0] == '+')) {
		return 0
	}
	return int32(n)
}

func compareReadyTime(a, b *corev1.Pod, now time.Time) int {
	if !Ready(a) || !Ready(b) {
		return 0
	}
	return compareAge(a, b, Condition(a, corev1.PodReady).LastTransitionTime, Condition(b, corev1.PodReady).LastTransitionTime, now)
}

// compareAge puts the later time first; a zero time counts as latest.
func compareAge(a, b *corev1.Pod, ta, tb metav1.Time, now time.Time) int {
	if ta.Equal(&tb) {
		return 0
	}
	if ta.IsZero() || tb.IsZero() {
		return boolFirst(ta.IsZero(), tb.IsZero())
	}
	ra, rb := ageRank(ta, now), ageRank(tb, now)
	if ra == rb {
		return cmp.Compare(a.UID, b.UID)
	}
	return cmp.Compare(ra, rb)
}

func ageRank(t metav1.Time, now time.Time) int64 {
	d := now.Sub(t.Time)
	if d <= 0 {
		return -1
	}
	return int64(math.Log2(float64(d)))
}

func restarts(p *corev1.Pod) int32 {
	var regular, sidecar int32
	for _, c := range p.Status.ContainerStatuses {
		regular = max(regular, c.RestartCount)
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		for _, s := range p.Status.InitContainerStatuses {
			if s.Name == c.Name {
				sidecar = max(sidecar, s.RestartCount)
			}
		}
	}
	return max(regular, sidecar)
}
