package workload

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagship/controller-manager/internal/pod"
)

// ordinal is the number in a pod's name, -1 where the pod is not one of the set's.
func ordinal(set *appsv1.StatefulSet, p *corev1.Pod) int {
	text, ok := strings.CutPrefix(p.Name, set.Name+"-")
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 0 || strconv.Itoa(n) != text {
		return -1
	}
	return n
}

func firstOrdinal(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals != nil {
		return int(set.Spec.Ordinals.Start)
	}
	return 0
}

func podRevision(p *corev1.Pod) string { return p.Labels[appsv1.StatefulSetRevisionLabel] }

// statefulNow is what a plan for a StatefulSet looks at.
type statefulNow struct {
	set             *appsv1.StatefulSet
	pods            []*corev1.Pod
	current, update string // revisions by name
	now             time.Time
}

// statefulPlan is what to do now.
type statefulPlan struct {
	// create are ordinals; updated says whether each gets the new revision.
	create []int
	remove []*corev1.Pod
	// ended are those among remove that failed or succeeded, for the events.
	ended []*corev1.Pod
	// condemned are the pods beyond the wanted number, whose claims may have to go with them.
	condemned []*corev1.Pod
}

func (in *statefulNow) available(p *corev1.Pod) bool {
	return pod.Available(p, in.set.Spec.MinReadySeconds, in.now) && p.DeletionTimestamp == nil
}

func (in *statefulNow) partition() int {
	if ru := in.set.Spec.UpdateStrategy.RollingUpdate; ru != nil {
		return int(deref(ru.Partition, 0))
	}
	return 0
}

// usesUpdate says whether a pod made now at an ordinal gets the new revision.
func (in *statefulNow) usesUpdate(n int) bool {
	set := in.set
	if set.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return true
	}
	if set.Spec.UpdateStrategy.RollingUpdate == nil {
		return n >= firstOrdinal(set)+int(set.Status.CurrentReplicas)
	}
	return n >= firstOrdinal(set)+in.partition()
}

// planStateful makes, removes and replaces pods: one at a time and each only when all before it are available, or, with
// the policy Parallel, all at once.
func planStateful(in statefulNow) statefulPlan {
	var plan statefulPlan
	set := in.set
	if set.DeletionTimestamp != nil {
		return plan
	}
	ordered := set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	start, want := firstOrdinal(set), int(deref(set.Spec.Replicas, 1))
	replicas := make([]*corev1.Pod, want)
	for _, p := range in.pods {
		switch n := ordinal(set, p); {
		case n >= start && n < start+want:
			replicas[n-start] = p
		case n >= 0:
			plan.condemned = append(plan.condemned, p)
		}
	}
	slices.SortFunc(plan.condemned, func(a, b *corev1.Pod) int { return ordinal(set, b) - ordinal(set, a) })
	if in.fill(replicas, ordered, &plan) && ordered {
		return plan
	}
	if in.condemn(replicas, ordered, &plan) && ordered {
		return plan
	}
	if set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && len(plan.create)+len(plan.remove) == 0 {
		plan.remove = in.replace(replicas, ordered)
	}
	return plan
}

// fill makes missing pods and removes ended ones; true means that an ordered set waits here.
func (in *statefulNow) fill(replicas []*corev1.Pod, ordered bool, plan *statefulPlan) bool {
	for i, p := range replicas {
		switch {
		case p == nil:
			plan.create = append(plan.create, firstOrdinal(in.set)+i)
		case pod.Terminal(p):
			if p.DeletionTimestamp == nil {
				plan.remove, plan.ended = append(plan.remove, p), append(plan.ended, p)
			}
		case in.available(p) && p.Status.Phase == corev1.PodRunning:
			continue
		}
		if ordered {
			return true
		}
	}
	return false
}

// condemn removes the pods beyond the wanted number, the highest first.
func (in *statefulNow) condemn(replicas []*corev1.Pod, ordered bool, plan *statefulPlan) bool {
	var firstUnavailable *corev1.Pod
	lowestFirst := slices.Clone(plan.condemned)
	slices.Reverse(lowestFirst)
	for _, p := range append(slices.Clone(replicas), lowestFirst...) {
		if p != nil && firstUnavailable == nil && !in.available(p) {
			firstUnavailable = p
		}
	}
	for _, p := range plan.condemned {
		if p.DeletionTimestamp != nil {
			if ordered {
				return true
			}
			continue
		}
		if ordered && !in.available(p) && p != firstUnavailable {
			return true
		}
		plan.remove = append(plan.remove, p)
		if ordered {
			return true
		}
	}
	return false
}

// replace removes pods of another revision, the highest first, within what may be unavailable.
func (in *statefulNow) replace(replicas []*corev1.Pod, ordered bool) []*corev1.Pod {
	allowed := 1
	if ru := in.set.Spec.UpdateStrategy.RollingUpdate; ru != nil && ru.MaxUnavailable != nil {
		n, err := intstr.GetScaledValueFromIntOrPercent(ru.MaxUnavailable, len(replicas), false)
		if err == nil {
			allowed = max(n, 1)
		}
	}
	down := 0
	for _, p := range replicas {
		if p == nil || !in.available(p) {
			down++
		}
	}
	var out []*corev1.Pod
	first := in.partition() // ordinals count from the first
	stale := func(p *corev1.Pod) bool {
		return p != nil && podRevision(p) != in.update && p.DeletionTimestamp == nil
	}
	if !ordered {
		for i := len(replicas) - 1; i >= first; i-- {
			if p := replicas[i]; stale(p) && !in.available(p) {
				out = append(out, p)
			}
		}
	}
	for i := len(replicas) - 1; i >= first && down < allowed; i-- {
		if p := replicas[i]; stale(p) && (ordered || in.available(p)) {
			out = append(out, p)
			down++
		}
	}
	return out
}

// statefulStatus counts a set's pods; with all of them at the new revision, it becomes the current one.
func statefulStatus(in statefulNow, collisions int32) appsv1.StatefulSetStatus {
	set := in.set
	st := appsv1.StatefulSetStatus{
		ObservedGeneration: set.Generation, CurrentRevision: in.current, UpdateRevision: in.update, CollisionCount: &collisions,
		Conditions: set.Status.Conditions,
	}
	for _, p := range in.pods {
		if ordinal(set, p) < 0 {
			continue
		}
		st.Replicas++
		if p.Status.Phase == corev1.PodRunning && pod.Ready(p) {
			st.ReadyReplicas++
			if pod.Available(p, set.Spec.MinReadySeconds, in.now) {
				st.AvailableReplicas++
			}
		}
		if p.DeletionTimestamp == nil {
			st.CurrentReplicas += int32(b2i(podRevision(p) == in.current))
			st.UpdatedReplicas += int32(b2i(podRevision(p) == in.update))
		}
	}
	want := deref(set.Spec.Replicas, 1)
	if set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && st.UpdatedReplicas == st.Replicas &&
		st.ReadyReplicas == st.Replicas && st.Replicas == want {
		st.CurrentReplicas, st.CurrentRevision = st.UpdatedReplicas, st.UpdateRevision
	}
	return st
}

func claimName(set *appsv1.StatefulSet, template string, n int) string {
	return fmt.Sprintf("%s-%s-%d", template, set.Name, n)
}

// wantedOwner is who a pod's claims should be owned by for the set's retention policy: the set, the pod that is on its way
// out, or nobody.
func wantedOwner(set *appsv1.StatefulSet, condemned bool) (bySet, byPod bool) {
	policy := set.Spec.PersistentVolumeClaimRetentionPolicy
	if policy == nil {
		return false, false
	}
	onDelete := policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	onScale := policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	switch {
	case onScale && condemned:
		return false, true
	default:
		return onDelete, false
	}
}
