package workload

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The reasons of a Deployment's conditions.
const (
	reasonNewSet      = "NewReplicaSetCreated"
	reasonFoundSet    = "FoundNewReplicaSet"
	reasonUpdated     = "ReplicaSetUpdated"
	reasonCreateError = "ReplicaSetCreateError"
	reasonComplete    = "NewReplicaSetAvailable"
	reasonTimedOut    = "ProgressDeadlineExceeded"
	reasonPaused      = "DeploymentPaused"
	reasonResumed     = "DeploymentResumed"
)

func deploymentCondition(st *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == t {
			return &st.Conditions[i]
		}
	}
	return nil
}

// setDeploymentCondition replaces a condition unless it has the same status and reason; the time of transition changes
// with the status only.
func setDeploymentCondition(st *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) {
	c := appsv1.DeploymentCondition{
		Type: t, Status: status, Reason: reason, Message: message, LastUpdateTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
	}
	if old := deploymentCondition(st, t); old != nil {
		if old.Status == status && old.Reason == reason {
			return
		}
		if old.Status == status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	dropDeploymentCondition(st, t)
	st.Conditions = append(st.Conditions, c)
}

func dropDeploymentCondition(st *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) {
	st.Conditions = slices.DeleteFunc(slices.Clone(st.Conditions), func(c appsv1.DeploymentCondition) bool { return c.Type == t })
}

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != 1<<31-1
}

// countDeployment sums the ReplicaSets into a status; the conditions are those of old, with Available brought up to date.
func countDeployment(d *appsv1.Deployment, old *appsv1.DeploymentStatus, all []*appsv1.ReplicaSet, newSet *appsv1.ReplicaSet, now time.Time) appsv1.DeploymentStatus {
	available := total(all, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.AvailableReplicas })
	st := appsv1.DeploymentStatus{
		ObservedGeneration:  d.Generation,
		Replicas:            total(all, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.Replicas }),
		ReadyReplicas:       total(all, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.ReadyReplicas }),
		AvailableReplicas:   available,
		UnavailableReplicas: max(total(all, size)-available, 0),
		CollisionCount:      old.CollisionCount,
		Conditions:          slices.Clone(old.Conditions),
	}
	if newSet != nil {
		st.UpdatedReplicas = newSet.Status.Replicas
	}
	terminating, known := int32(0), true
	for _, rs := range all {
		if rs.Status.TerminatingReplicas == nil {
			known = false
			break
		}
		terminating += *rs.Status.TerminatingReplicas
	}
	if known {
		st.TerminatingReplicas = &terminating
	}
	if available >= deref(d.Spec.Replicas, 1)-maxUnavailable(d) {
		setDeploymentCondition(&st, appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
	} else {
		setDeploymentCondition(&st, appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", now)
	}
	return st
}

func complete(d *appsv1.Deployment, st *appsv1.DeploymentStatus) bool {
	want := deref(d.Spec.Replicas, 1)
	return st.UpdatedReplicas == want && st.Replicas == want && st.AvailableReplicas == want && st.ObservedGeneration >= d.Generation
}

func progressed(old, st *appsv1.DeploymentStatus) bool {
	return st.UpdatedReplicas > old.UpdatedReplicas || st.Replicas-st.UpdatedReplicas < old.Replicas-old.UpdatedReplicas ||
		st.ReadyReplicas > old.ReadyReplicas || st.AvailableReplicas > old.AvailableReplicas
}

// progress sets the conditions Progressing and ReplicaFailure. before is the status as it was stored, st the new count.
func progress(d *appsv1.Deployment, before, st *appsv1.DeploymentStatus, all []*appsv1.ReplicaSet, newSet *appsv1.ReplicaSet, now time.Time) {
	subject := fmt.Sprintf("Deployment %q", d.Name)
	if newSet != nil {
		subject = fmt.Sprintf("ReplicaSet %q", newSet.Name)
	}
	cond := deploymentCondition(st, appsv1.DeploymentProgressing)
	if !hasDeadline(d) {
		dropDeploymentCondition(st, appsv1.DeploymentProgressing)
	} else if done := st.Replicas == st.UpdatedReplicas && cond != nil && cond.Reason == reasonComplete; !done {
		switch {
		case complete(d, st):
			setDeploymentCondition(st, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonComplete, subject+" has successfully progressed.", now)
		case progressed(before, st):
			// Progress renews the time of update even where status and reason stay.
			renewed := appsv1.DeploymentCondition{
				Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: reasonUpdated, Message: subject + " is progressing.",
				LastUpdateTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
			}
			if cond != nil && cond.Status == corev1.ConditionTrue {
				renewed.LastTransitionTime = cond.LastTransitionTime
			}
			dropDeploymentCondition(st, appsv1.DeploymentProgressing)
			st.Conditions = append(st.Conditions, renewed)
		case timedOut(d, st, now):
			setDeploymentCondition(st, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, subject+" has timed out progressing.", now)
		}
	}
	dropDeploymentCondition(st, appsv1.DeploymentReplicaFailure)
	sets := all
	if newSet != nil {
		sets = append([]*appsv1.ReplicaSet{newSet}, all...)
	}
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				st.Conditions = append(st.Conditions, appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, LastTransitionTime: c.LastTransitionTime,
					LastUpdateTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
				})
				return
			}
		}
	}
}

func timedOut(d *appsv1.Deployment, st *appsv1.DeploymentStatus, now time.Time) bool {
	c := deploymentCondition(st, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonComplete {
		return false
	}
	if c.Reason == reasonTimedOut {
		return true
	}
	return c.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second).Before(now)
}

// checkAgain is after what time the deadline is to be looked at, 0 where nothing can time out.
func checkAgain(d *appsv1.Deployment, st *appsv1.DeploymentStatus, now time.Time) time.Duration {
	c := deploymentCondition(st, appsv1.DeploymentProgressing)
	if !hasDeadline(d) || c == nil || c.Reason == reasonTimedOut || c.Reason == reasonPaused || complete(d, st) {
		return 0
	}
	return max(c.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds)*time.Second).Sub(now), 0) + time.Second
}

// pauseCondition notes that a rollout was paused or resumed.
func pauseCondition(d *appsv1.Deployment, st *appsv1.DeploymentStatus, now time.Time) {
	c := deploymentCondition(st, appsv1.DeploymentProgressing)
	if !hasDeadline(d) || (c != nil && c.Reason == reasonTimedOut) {
		return
	}
	noted := c != nil && c.Reason == reasonPaused
	switch {
	case d.Spec.Paused && !noted:
		setDeploymentCondition(st, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused", now)
	case !d.Spec.Paused && noted:
		setDeploymentCondition(st, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed", now)
	}
}
