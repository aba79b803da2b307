package workload

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"flagship/controller-manager/internal/pod"
)

// replicaPlan is what brings the number of pods to what is wanted.
type replicaPlan struct {
	create int
	remove []*corev1.Pod
}

// planReplicas compares the active pods with the wanted number. related are the active pods of all sets with the same
// owner; a node that holds many of them loses one first.
func planReplicas(want int32, active, related []*corev1.Pod, now time.Time) replicaPlan {
	diff := len(active) - int(want)
	switch {
	case diff < 0:
		return replicaPlan{create: -diff}
	case diff == 0:
		return replicaPlan{}
	}
	victims := slices.Clone(active)
	if diff < len(active) {
		crowd := map[string]int{}
		for _, p := range related {
			if p.Spec.NodeName != "" {
				crowd[p.Spec.NodeName]++
			}
		}
		pod.SortForDeletion(victims, crowd, now)
	}
	return replicaPlan{remove: victims[:diff]}
}

// replicaStatus counts pods into a status. failed is why creating or deleting did not work, nil where it did.
func replicaStatus(old appsv1.ReplicaSetStatus, want, minReady int32, templateLabels map[string]string, active []*corev1.Pod, terminating int32, failed error, now time.Time) appsv1.ReplicaSetStatus {
	st := *old.DeepCopy()
	st.Replicas, st.FullyLabeledReplicas, st.ReadyReplicas, st.AvailableReplicas = int32(len(active)), 0, 0, 0
	st.TerminatingReplicas = &terminating
	sel := labels.SelectorFromSet(templateLabels)
	for _, p := range active {
		if sel.Matches(labels.Set(p.Labels)) {
			st.FullyLabeledReplicas++
		}
		if pod.Ready(p) {
			st.ReadyReplicas++
		}
		if pod.Available(p, minReady, now) {
			st.AvailableReplicas++
		}
	}
	at := slices.IndexFunc(st.Conditions, func(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure })
	switch {
	case failed != nil && at < 0:
		c := appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now), Message: failed.Error(),
		}
		if diff := len(active) - int(want); diff < 0 {
			c.Reason = "FailedCreate"
		} else if diff > 0 {
			c.Reason = "FailedDelete"
		}
		st.Conditions = append(st.Conditions, c)
	case failed == nil && at >= 0:
		st.Conditions = slices.Delete(st.Conditions, at, at+1)
	}
	return st
}

// nextAvailable is after what time the next ready pod becomes available, 0 where none will by waiting.
func nextAvailable(active []*corev1.Pod, minReady int32, now time.Time) time.Duration {
	var next time.Duration
	for _, p := range active {
		if minReady == 0 || !pod.Ready(p) || pod.Available(p, minReady, now) {
			continue
		}
		wait := pod.Condition(p, corev1.PodReady).LastTransitionTime.Add(time.Duration(minReady) * time.Second).Sub(now)
		if wait = max(wait, time.Millisecond); next == 0 || wait < next {
			next = wait
		}
	}
	return next
}
