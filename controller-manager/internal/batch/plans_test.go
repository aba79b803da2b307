package batch

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func at(seconds int) time.Time { return time.Unix(1_000_000+int64(seconds), 0).UTC() }

func ptr[T any](v T) *T { return &v }

func TestIndexes(t *testing.T) {
	for text, set := range map[string]map[int]bool{
		"": {}, "0": {0: true}, "0,1": {0: true, 1: true}, "0-2,5,7-9": {0: true, 1: true, 2: true, 5: true, 7: true, 8: true, 9: true},
	} {
		if got := formatIndexes(set); got != text {
			t.Errorf("format: got %q, want %q", got, text)
		}
		if diff := cmp.Diff(set, parseIndexes(text, 10)); diff != "" {
			t.Errorf("parse %q: %s", text, diff)
		}
	}
	if got := parseIndexes("1-4", 3); len(got) != 2 {
		t.Errorf("limit: got %v", got)
	}
}

func newPod(name string, phase corev1.PodPhase, ended int, index int) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Finalizers: []string{batchv1.JobTrackingFinalizer}, Annotations: map[string]string{}},
		Status:     corev1.PodStatus{Phase: phase},
	}
	if index >= 0 {
		p.Annotations[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(index)
	}
	if phase == corev1.PodFailed || phase == corev1.PodSucceeded {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, FinishedAt: metav1.NewTime(at(ended))}}}}
	}
	return p
}

func TestPlanJob(t *testing.T) {
	started := metav1.NewTime(at(-100))
	for name, tc := range map[string]struct {
		spec      batchv1.JobSpec
		status    batchv1.JobStatus
		pods      []*corev1.Pod
		create    int
		release   int
		remove    int
		condition string
		again     time.Duration
	}{
		"begins": {spec: batchv1.JobSpec{Parallelism: ptr(int32(2)), Completions: ptr(int32(3))}, create: 2},
		"fills up": {
			spec: batchv1.JobSpec{Parallelism: ptr(int32(2)), Completions: ptr(int32(3))},
			pods: []*corev1.Pod{newPod("a", corev1.PodRunning, 0, -1)}, create: 1,
		},
		"waits after a failure": {
			spec: batchv1.JobSpec{Parallelism: ptr(int32(1)), Completions: ptr(int32(1))},
			pods: []*corev1.Pod{newPod("a", corev1.PodFailed, -4, -1)}, release: 1, again: 6 * time.Second,
		},
		"too many failures": {
			spec: batchv1.JobSpec{Parallelism: ptr(int32(2)), Completions: ptr(int32(2)), BackoffLimit: ptr(int32(0))},
			pods: []*corev1.Pod{newPod("a", corev1.PodFailed, -4, -1), newPod("b", corev1.PodRunning, 0, -1)}, release: 1, remove: 1,
			condition: "FailureTarget BackoffLimitExceeded",
		},
		"past its deadline": {
			spec:   batchv1.JobSpec{Parallelism: ptr(int32(1)), Completions: ptr(int32(1)), ActiveDeadlineSeconds: ptr(int64(60))},
			status: batchv1.JobStatus{StartTime: &started}, pods: []*corev1.Pod{newPod("b", corev1.PodRunning, 0, -1)}, remove: 1,
			condition: "FailureTarget DeadlineExceeded",
		},
		"done, not yet counted": {
			spec: batchv1.JobSpec{Parallelism: ptr(int32(1)), Completions: ptr(int32(1))},
			pods: []*corev1.Pod{newPod("a", corev1.PodSucceeded, -1, -1)}, release: 1, condition: "SuccessCriteriaMet CompletionsReached",
		},
		"done": {
			spec:   batchv1.JobSpec{Parallelism: ptr(int32(1)), Completions: ptr(int32(1))},
			status: batchv1.JobStatus{Succeeded: 1}, condition: "Complete CompletionsReached",
		},
		"suspended": {
			spec: batchv1.JobSpec{Parallelism: ptr(int32(1)), Completions: ptr(int32(1)), Suspend: ptr(true)},
			pods: []*corev1.Pod{newPod("b", corev1.PodRunning, 0, -1)}, remove: 1, condition: "Suspended JobSuspended",
		},
		"indexed": {
			spec: batchv1.JobSpec{Parallelism: ptr(int32(3)), Completions: ptr(int32(3)), CompletionMode: ptr(batchv1.IndexedCompletion)},
			pods: []*corev1.Pod{newPod("a", corev1.PodSucceeded, -1, 0), newPod("b", corev1.PodRunning, 0, 2)}, create: 1, release: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planJob(jobNow{job: &batchv1.Job{Spec: tc.spec, Status: tc.status}, pods: tc.pods, now: at(0)})
			if plan.create != tc.create || len(plan.release) != tc.release || len(plan.remove) != tc.remove || plan.again != tc.again {
				t.Errorf("create %d release %d remove %d again %s", plan.create, len(plan.release), len(plan.remove), plan.again)
			}
			last := ""
			if n := len(plan.status.Conditions); n > 0 {
				last = string(plan.status.Conditions[n-1].Type) + " " + plan.status.Conditions[n-1].Reason
			}
			if last != tc.condition {
				t.Errorf("condition %q, want %q", last, tc.condition)
			}
			if name == "indexed" {
				if diff := cmp.Diff([]int{1}, plan.indexes); diff != "" || plan.status.CompletedIndexes != "0" {
					t.Errorf("indexes %s, completed %q", diff, plan.status.CompletedIndexes)
				}
			}
		})
	}
}

func TestDue(t *testing.T) {
	cj := &batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: "*/10 * * * *"}}
	base := time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC)
	cj.CreationTimestamp = metav1.NewTime(base)
	s, err := parseSchedule(cj, time.LoadLocation)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		now    time.Time
		want   time.Time
		missed int
	}{
		"not yet":          {base.Add(time.Minute), time.Time{}, 0},
		"just":             {base.Add(5 * time.Minute), base.Add(5 * time.Minute), 1},
		"some missed":      {base.Add(31 * time.Minute), base.Add(25 * time.Minute), 3},
		"very many missed": {base.Add(5 * 24 * time.Hour), base.Add(5*24*time.Hour - 5*time.Minute), 720},
	} {
		t.Run(name, func(t *testing.T) {
			got, missed := due(cj, s, tc.now)
			if (got == nil) != tc.want.IsZero() || (got != nil && !got.Equal(tc.want)) || missed != tc.missed {
				t.Errorf("got %v, %d; want %v, %d", got, missed, tc.want, tc.missed)
			}
		})
	}
}
