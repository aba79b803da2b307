package batch

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/controller-manager/internal/pod"
)

// Back-off of failed pods, as upstream's.
const (
	failureBackoff = 10 * time.Second
	mostBackoff    = 10 * time.Minute
	// createMost bounds the pods that one sync creates; uncountedMost those that wait to be counted.
	createMost    = 500
	uncountedMost = 500
)

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func jobCondition(j *batchv1.Job, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range j.Status.Conditions {
		if c := &j.Status.Conditions[i]; c.Type == t && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// finished is the condition by which a job has ended, nil where it has not.
func finished(j *batchv1.Job) *batchv1.JobCondition {
	if c := jobCondition(j, batchv1.JobComplete); c != nil {
		return c
	}
	return jobCondition(j, batchv1.JobFailed)
}

func suspended(j *batchv1.Job) bool { return deref(j.Spec.Suspend, false) }

// replaceFailedOnly says that pods being deleted are replaced only when they have failed.
func replaceFailedOnly(j *batchv1.Job) bool {
	return deref(j.Spec.PodReplacementPolicy, batchv1.TerminatingOrFailed) == batchv1.Failed
}

func podFailed(p *corev1.Pod, j *batchv1.Job) bool {
	if p.Status.Phase == corev1.PodFailed {
		return true
	}
	return !replaceFailedOnly(j) && p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodSucceeded
}

func tracked(p *corev1.Pod) bool {
	return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer)
}

// jobNow is what a plan for a job looks at. uncounted are pods in the status that were not yet counted.
type jobNow struct {
	job  *batchv1.Job
	pods []*corev1.Pod
	now  time.Time
}

// jobPlan is what to do now, and the status that goes with it.
type jobPlan struct {
	status batchv1.JobStatus
	// release are pods that the status counts; their finalizer goes after the status is written.
	release []*corev1.Pod
	// remove are pods to delete; with drop, their finalizer goes first, so that they are not counted as failed.
	remove []*corev1.Pod
	drop   bool
	// create is the number of pods to create; for indexed jobs, indexes says which.
	create  int
	indexes []int
	// failures are the failure counts of new pods by index, for jobs with a limit per index.
	failures map[int]int
	again    time.Duration
	// done is the condition by which the job has now ended.
	done *batchv1.JobCondition
	// suspend is set to "Suspended" or "Resumed" where that changed.
	suspend string
}

// tally is how the job stands when the status and the pods are put together.
type tally struct {
	active                      []*corev1.Pod
	ready, terminating          int32
	succeeded, failed           int32
	succeededIndex, failedIndex map[int]bool
	failJob                     string
}

// count moves ended pods into the status: first by UID among the uncounted, then, when their finalizer is gone, by number.
func count(in jobNow, plan *jobPlan) tally {
	j, st := in.job, &plan.status
	t := tally{succeededIndex: map[int]bool{}, failedIndex: map[int]bool{}}
	completions := int(deref(j.Spec.Completions, 0))
	if indexed(j) {
		t.succeededIndex = parseIndexes(st.CompletedIndexes, completions)
	}
	if st.UncountedTerminatedPods == nil {
		st.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	un := st.UncountedTerminatedPods
	held := map[types.UID]bool{}
	for _, p := range in.pods {
		held[p.UID] = tracked(p)
	}
	settle := func(list []types.UID, n *int32) []types.UID {
		var left []types.UID
		for _, uid := range list {
			if held[uid] {
				left = append(left, uid)
			} else {
				*n++
			}
		}
		return left
	}
	un.Succeeded, un.Failed = settle(un.Succeeded, &st.Succeeded), settle(un.Failed, &st.Failed)
	for _, p := range in.pods {
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			countSucceeded(in, p, plan, &t, completions)
		case podFailed(p, j):
			countFailed(in, p, plan, &t, completions)
		}
		switch {
		case pod.Terminal(p):
		case p.DeletionTimestamp != nil:
			t.terminating++
		default:
			t.active = append(t.active, p)
			if pod.Ready(p) {
				t.ready++
			}
		}
	}
	t.succeeded = st.Succeeded + int32(len(un.Succeeded))
	t.failed = st.Failed + int32(len(un.Failed))
	if indexed(j) {
		st.CompletedIndexes = formatIndexes(t.succeededIndex)
		st.Succeeded = int32(len(t.succeededIndex))
		t.succeeded = st.Succeeded
		if j.Spec.BackoffLimitPerIndex != nil {
			for i := range parseIndexes(deref(st.FailedIndexes, ""), completions) {
				t.failedIndex[i] = true
			}
			text := formatIndexes(t.failedIndex)
			st.FailedIndexes = &text
		}
	}
	return t
}

func countSucceeded(in jobNow, p *corev1.Pod, plan *jobPlan, t *tally, completions int) {
	un := plan.status.UncountedTerminatedPods
	if indexed(in.job) {
		if i := indexOf(p); i >= 0 && i < completions {
			t.succeededIndex[i] = true
		}
	} else if tracked(p) && !slices.Contains(un.Succeeded, p.UID) {
		if len(un.Succeeded)+len(un.Failed) >= uncountedMost {
			return
		}
		un.Succeeded = append(un.Succeeded, p.UID)
	}
	if tracked(p) {
		plan.release = append(plan.release, p)
	}
}

func countFailed(in jobNow, p *corev1.Pod, plan *jobPlan, t *tally, completions int) {
	j, un := in.job, plan.status.UncountedTerminatedPods
	action, message := matchFailure(j.Spec.PodFailurePolicy, p)
	if action == batchv1.PodFailurePolicyActionFailJob && t.failJob == "" {
		t.failJob = message
	}
	if i := indexOf(p); indexed(j) && j.Spec.BackoffLimitPerIndex != nil && i >= 0 && i < completions {
		if action == batchv1.PodFailurePolicyActionFailIndex || (action != batchv1.PodFailurePolicyActionIgnore && failureCount(p) >= int(*j.Spec.BackoffLimitPerIndex)) {
			t.failedIndex[i] = true
		}
	}
	if !tracked(p) {
		return
	}
	if action != batchv1.PodFailurePolicyActionIgnore && !slices.Contains(un.Failed, p.UID) {
		if len(un.Succeeded)+len(un.Failed) >= uncountedMost {
			return
		}
		un.Failed = append(un.Failed, p.UID)
	}
	plan.release = append(plan.release, p)
}

func newCondition(t batchv1.JobConditionType, reason, message string, now time.Time) batchv1.JobCondition {
	at := metav1.NewTime(now)
	return batchv1.JobCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastProbeTime: at, LastTransitionTime: at}
}

// verdict says by which condition the job is on its way to its end, nil where it goes on. again is when a deadline passes.
func verdict(in jobNow, t *tally, plan *jobPlan) *batchv1.JobCondition {
	j := in.job
	for _, c := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget} {
		if have := jobCondition(j, c); have != nil {
			return have
		}
	}
	fail := func(reason, message string) *batchv1.JobCondition {
		c := newCondition(batchv1.JobFailureTarget, reason, message, in.now)
		return &c
	}
	if t.failJob != "" {
		return fail(batchv1.JobReasonPodFailurePolicy, t.failJob)
	}
	limit := deref(j.Spec.BackoffLimit, 6)
	switch started := plan.status.StartTime; {
	case t.failed > limit || restartsBeyond(j, t.active):
		return fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case j.Spec.ActiveDeadlineSeconds != nil && started != nil && !suspended(j):
		left := started.Add(time.Duration(*j.Spec.ActiveDeadlineSeconds) * time.Second).Sub(in.now)
		if left <= 0 {
			return fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
		}
		plan.again = left
	}
	if indexed(j) {
		completions := int(deref(j.Spec.Completions, 0))
		if j.Spec.BackoffLimitPerIndex != nil {
			if j.Spec.MaxFailedIndexes != nil && len(t.failedIndex) > int(*j.Spec.MaxFailedIndexes) {
				return fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
			}
			if len(t.failedIndex) > 0 && len(t.failedIndex)+len(t.succeededIndex) >= completions {
				return fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
			}
		}
		if message, ok := successPolicy(j, t.succeededIndex, completions); ok {
			c := newCondition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, message, in.now)
			return &c
		}
	}
	complete := t.succeeded >= deref(j.Spec.Completions, 0)
	if j.Spec.Completions == nil {
		complete = t.succeeded > 0
	}
	if complete && len(t.active) == 0 {
		c := newCondition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods", in.now)
		return &c
	}
	return nil
}

// planJob decides what a job needs now.
func planJob(in jobNow) jobPlan {
	j := in.job
	plan := jobPlan{status: *j.Status.DeepCopy(), failures: map[int]int{}}
	st := &plan.status
	if st.StartTime == nil && !suspended(j) {
		at := metav1.NewTime(in.now)
		st.StartTime = &at
	}
	t := count(in, &plan)
	active := int32(len(t.active))
	if c := verdict(in, &t, &plan); c != nil {
		plan.remove = t.active
		setJobCondition(st, *c)
		active = 0
		t.terminating += int32(len(t.active))
		t.ready = 0
		un := st.UncountedTerminatedPods
		if t.terminating == 0 && len(un.Succeeded)+len(un.Failed) == 0 && len(plan.release) == 0 {
			end := newCondition(batchv1.JobFailed, c.Reason, c.Message, in.now)
			if c.Type == batchv1.JobSuccessCriteriaMet {
				end.Type = batchv1.JobComplete
				st.CompletionTime = &end.LastTransitionTime
			}
			setJobCondition(st, end)
			plan.done = &end
			plan.again = 0
		}
	} else if j.DeletionTimestamp == nil {
		active = manage(in, &t, &plan)
	}
	st.Active, st.Ready, st.Terminating = active, &t.ready, &t.terminating
	return plan
}

func setJobCondition(st *batchv1.JobStatus, c batchv1.JobCondition) {
	for i := range st.Conditions {
		if st.Conditions[i].Type == c.Type {
			if st.Conditions[i].Status != c.Status {
				st.Conditions[i] = c
			}
			return
		}
	}
	st.Conditions = append(st.Conditions, c)
}

// manage brings the number of active pods to what is wanted and returns it.
func manage(in jobNow, t *tally, plan *jobPlan) int32 {
	j, active := in.job, int32(len(t.active))
	if suspended(j) {
		suspend(in, plan, corev1.ConditionTrue, "JobSuspended", "Job suspended", "Suspended")
		plan.remove, plan.drop, plan.again = t.active, true, 0
		t.terminating += active
		t.ready = 0
		return 0
	}
	if slices.ContainsFunc(plan.status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == batchv1.JobSuspended }) {
		suspend(in, plan, corev1.ConditionFalse, "JobResumed", "Job resumed", "Resumed")
	}
	want := deref(j.Spec.Parallelism, 1)
	switch {
	case j.Spec.Completions == nil && t.succeeded > 0:
		want = active
	case j.Spec.Completions != nil:
		want = max(min(want, *j.Spec.Completions-t.succeeded), 0)
	}
	if duplicates := surplus(j, t); len(duplicates) > 0 || active > want {
		rest := slices.DeleteFunc(slices.Clone(t.active), func(p *corev1.Pod) bool { return slices.Contains(duplicates, p) })
		pod.SortForDeletion(rest, nil, in.now)
		plan.remove, plan.drop = duplicates, true
		if more := int(active-want) - len(duplicates); more > 0 {
			plan.remove = append(plan.remove, rest[:more]...)
		}
		t.terminating += int32(len(plan.remove))
		return active - int32(len(plan.remove))
	}
	diff := int(want - active)
	if replaceFailedOnly(j) {
		diff -= int(t.terminating)
	}
	if diff <= 0 {
		return active
	}
	if j.Spec.BackoffLimitPerIndex == nil {
		if wait := backoff(in.pods, j, in.now); wait > 0 {
			if plan.again == 0 || wait < plan.again {
				plan.again = wait
			}
			return active
		}
	}
	plan.create = min(diff, createMost)
	if indexed(j) {
		pickIndexes(in, t, plan)
	}
	return active + int32(plan.create)
}

func suspend(in jobNow, plan *jobPlan, status corev1.ConditionStatus, reason, message, event string) {
	for i := range plan.status.Conditions {
		if c := &plan.status.Conditions[i]; c.Type == batchv1.JobSuspended {
			if c.Status == status {
				return
			}
			*c = newCondition(batchv1.JobSuspended, reason, message, in.now)
			c.Status = status
			plan.suspend = event
			resetStart(in, plan, status)
			return
		}
	}
	c := newCondition(batchv1.JobSuspended, reason, message, in.now)
	c.Status = status
	plan.status.Conditions = append(plan.status.Conditions, c)
	plan.suspend = event
	resetStart(in, plan, status)
}

func resetStart(in jobNow, plan *jobPlan, status corev1.ConditionStatus) {
	plan.status.StartTime = nil
	if status == corev1.ConditionFalse {
		at := metav1.NewTime(in.now)
		plan.status.StartTime = &at
	}
}

// surplus are active pods of an indexed job with an index that is done, taken or out of range.
func surplus(j *batchv1.Job, t *tally) (out []*corev1.Pod) {
	if !indexed(j) {
		return nil
	}
	seen := map[int]bool{}
	for _, p := range t.active {
		i := indexOf(p)
		if i < 0 || i >= int(deref(j.Spec.Completions, 0)) || seen[i] || t.succeededIndex[i] || t.failedIndex[i] {
			out = append(out, p)
			continue
		}
		seen[i] = true
	}
	return out
}

// pickIndexes chooses the lowest indexes that nobody works on and that do not wait after a failure.
func pickIndexes(in jobNow, t *tally, plan *jobPlan) {
	j := in.job
	busy := map[int]bool{}
	for _, p := range t.active {
		busy[indexOf(p)] = true
	}
	last := map[int]*corev1.Pod{}
	for _, p := range in.pods {
		i := indexOf(p)
		if replaceFailedOnly(j) && p.DeletionTimestamp != nil && !pod.Terminal(p) {
			busy[i] = true
		}
		if j.Spec.BackoffLimitPerIndex == nil || !podFailed(p, j) {
			continue
		}
		if n := failureCount(p) + 1; n > plan.failures[i] {
			plan.failures[i], last[i] = n, p
		}
	}
	for i := 0; i < int(deref(j.Spec.Completions, 0)) && len(plan.indexes) < plan.create; i++ {
		if busy[i] || t.succeededIndex[i] || t.failedIndex[i] {
			continue
		}
		if p := last[i]; p != nil {
			if wait := endOf(p).Add(delay(plan.failures[i])).Sub(in.now); wait > 0 {
				if plan.again == 0 || wait < plan.again {
					plan.again = wait
				}
				continue
			}
		}
		plan.indexes = append(plan.indexes, i)
	}
	plan.create = len(plan.indexes)
}
