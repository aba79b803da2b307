package batch

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"flagship/controller-manager/internal/pod"
)

// matchFailure looks a failed pod up in the job's failure policy: what to do, and the message of FailJob.
func matchFailure(policy *batchv1.PodFailurePolicy, p *corev1.Pod) (batchv1.PodFailurePolicyAction, string) {
	if policy == nil {
		return batchv1.PodFailurePolicyActionCount, ""
	}
	for i := range policy.Rules {
		r := &policy.Rules[i]
		if x := r.OnExitCodes; x != nil {
			if name, code, ok := matchExit(x, p); ok {
				return r.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v matching %v rule at index %d", name, p.Namespace, p.Name, code, r.Action, i)
			}
			continue
		}
		for _, want := range r.OnPodConditions {
			if c := pod.Condition(p, want.Type); c != nil && c.Status == want.Status {
				return r.Action, fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d", p.Namespace, p.Name, want.Type, r.Action, i)
			}
		}
	}
	return batchv1.PodFailurePolicyActionCount, ""
}

func matchExit(x *batchv1.PodFailurePolicyOnExitCodesRequirement, p *corev1.Pod) (string, int32, bool) {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for _, s := range list {
			if s.State.Terminated == nil || s.State.Terminated.ExitCode == 0 || (x.ContainerName != nil && *x.ContainerName != s.Name) {
				continue
			}
			in := slices.Contains(x.Values, s.State.Terminated.ExitCode)
			if in == (x.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
				return s.Name, s.State.Terminated.ExitCode, true
			}
		}
	}
	return "", 0, false
}

func restartsBeyond(j *batchv1.Job, active []*corev1.Pod) bool {
	if j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var n int32
	for _, p := range active {
		for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
			for _, s := range list {
				n += s.RestartCount
			}
		}
	}
	limit := deref(j.Spec.BackoffLimit, 6)
	return n > 0 && n >= limit
}

func successPolicy(j *batchv1.Job, done map[int]bool, completions int) (string, bool) {
	if j.Spec.SuccessPolicy == nil {
		return "", false
	}
	for i, r := range j.Spec.SuccessPolicy.Rules {
		among := done
		if r.SucceededIndexes != nil {
			want := parseIndexes(*r.SucceededIndexes, completions)
			among = map[int]bool{}
			for n := range done {
				if want[n] {
					among[n] = true
				}
			}
			if r.SucceededCount == nil && len(among) < len(want) {
				continue
			}
		}
		if r.SucceededCount == nil || len(among) >= int(*r.SucceededCount) {
			return fmt.Sprintf("Matched rules at index %d", i), true
		}
	}
	return "", false
}

// backoff is how long a new pod has to wait after the failures since the last success.
func backoff(pods []*corev1.Pod, j *batchv1.Job, now time.Time) time.Duration {
	var lastOK, lastFailed time.Time
	for _, p := range pods {
		if p.Status.Phase == corev1.PodSucceeded && endOf(p).After(lastOK) {
			lastOK = endOf(p)
		}
	}
	n := 0
	for _, p := range pods {
		if p.Status.Phase == corev1.PodSucceeded || !podFailed(p, j) || !endOf(p).After(lastOK) {
			continue
		}
		n++
		if endOf(p).After(lastFailed) {
			lastFailed = endOf(p)
		}
	}
	if n == 0 {
		return 0
	}
	return max(lastFailed.Add(delay(n)).Sub(now), 0)
}

func delay(failures int) time.Duration {
	d := failureBackoff
	for i := 1; i < failures && d < mostBackoff; i++ {
		d *= 2
	}
	return min(d, mostBackoff)
}

// endOf is when a pod ended: its last container's end, else its deletion, else its last condition's change.
func endOf(p *corev1.Pod) time.Time {
	var at time.Time
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Terminated != nil && s.State.Terminated.FinishedAt.After(at) {
			at = s.State.Terminated.FinishedAt.Time
		}
	}
	if at.IsZero() && p.DeletionTimestamp != nil {
		at = p.DeletionTimestamp.Add(-time.Duration(deref(p.DeletionGracePeriodSeconds, 0)) * time.Second)
	}
	if at.IsZero() {
		if c := pod.Condition(p, corev1.PodReady); c != nil {
			at = c.LastTransitionTime.Time
		}
	}
	if at.IsZero() {
		at = p.CreationTimestamp.Time
	}
	return at
}
