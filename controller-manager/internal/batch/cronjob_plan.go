package batch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// parseSchedule reads a cron job's schedule in its time zone. location finds a zone by name.
func parseSchedule(cj *batchv1.CronJob, location func(string) (*time.Location, error)) (cron.Schedule, error) {
	text := cj.Spec.Schedule
	if cj.Spec.TimeZone != nil && !strings.Contains(text, "TZ") {
		if _, err := location(*cj.Spec.TimeZone); err != nil {
			return nil, fmt.Errorf("invalid timeZone: %q: %w", *cj.Spec.TimeZone, err)
		}
		text = "TZ=" + *cj.Spec.TimeZone + " " + text
	}
	return cron.ParseStandard(text)
}

// manyMissed is from how many missed times on a warning is given.
const manyMissed = 100

// due returns the latest time at which the cron job should have run since it last did, nil where there is none, and how
// many were missed.
func due(cj *batchv1.CronJob, s cron.Schedule, now time.Time) (*time.Time, int) {
	earliest := cj.CreationTimestamp.Time
	if cj.Status.LastScheduleTime != nil {
		earliest = cj.Status.LastScheduleTime.Time
	}
	if cj.Spec.StartingDeadlineSeconds != nil {
		if limit := now.Add(-time.Duration(*cj.Spec.StartingDeadlineSeconds) * time.Second); limit.After(earliest) {
			earliest = limit
		}
	}
	t1 := s.Next(earliest)
	if t1.IsZero() || now.Before(t1) {
		return nil, 0
	}
	t2 := s.Next(t1)
	if t2.IsZero() || now.Before(t2) {
		return &t1, 1
	}
	step := t2.Sub(t1)
	missed := int(now.Sub(t1)/step) + 1
	// Jump close to now, and then step: times need not be evenly apart.
	at := t1
	if from := now.Add(-2 * step); from.After(at) {
		at = s.Next(from)
	}
	if at.IsZero() || at.After(now) {
		at = t1
	}
	for next := s.Next(at); !next.IsZero() && !next.After(now); next = s.Next(next) {
		at = next
	}
	return &at, missed
}

func jobName(cj *batchv1.CronJob, at time.Time) string {
	return fmt.Sprintf("%s-%d", cj.Name, at.Unix()/60)
}

// newJob makes the job of a scheduled time.
func newJob(cj *batchv1.CronJob, at time.Time, local func(time.Time) time.Time) *batchv1.Job {
	annotations := maps.Clone(cj.Spec.JobTemplate.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = local(at).Format(time.RFC3339)
	created := metav1.NewTime(at)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cj.Namespace, Name: jobName(cj, at), CreationTimestamp: created, Labels: maps.Clone(cj.Spec.JobTemplate.Labels), Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cj, batchv1.SchemeGroupVersion.WithKind("CronJob"))},
		},
		Spec: *cj.Spec.JobTemplate.Spec.DeepCopy(),
	}
}

// planHistory lists finished jobs beyond the limits, the oldest first.
func planHistory(cj *batchv1.CronJob, jobs []*batchv1.Job) []*batchv1.Job {
	var ok, bad []*batchv1.Job
	for _, j := range jobs {
		switch c := finished(j); {
		case c == nil:
		case c.Type == batchv1.JobComplete:
			ok = append(ok, j)
		default:
			bad = append(bad, j)
		}
	}
	oldest := func(list []*batchv1.Job, limit *int32) []*batchv1.Job {
		if limit == nil || len(list) <= int(*limit) {
			return nil
		}
		slices.SortFunc(list, func(a, b *batchv1.Job) int {
			started := func(j *batchv1.Job) time.Time {
				if j.Status.StartTime == nil {
					return time.Time{}
				}
				return j.Status.StartTime.Time
			}
			return cmp.Or(started(a).Compare(started(b)), cmp.Compare(a.Name, b.Name))
		})
		return list[:len(list)-int(*limit)]
	}
	return append(oldest(ok, cj.Spec.SuccessfulJobsHistoryLimit), oldest(bad, cj.Spec.FailedJobsHistoryLimit)...)
}

// note is an event to record.
type note struct{ kind, reason, message string }

// settleActive brings the list of active jobs and the last success up to date with the jobs that there are.
func settleActive(cj *batchv1.CronJob, jobs []*batchv1.Job) []note {
	var notes []note
	byUID := map[types.UID]*batchv1.Job{}
	for _, j := range jobs {
		byUID[j.UID] = j
		if c := finished(j); c != nil && c.Type == batchv1.JobComplete && j.Status.CompletionTime != nil &&
			(cj.Status.LastSuccessfulTime == nil || j.Status.CompletionTime.After(cj.Status.LastSuccessfulTime.Time)) {
			cj.Status.LastSuccessfulTime = j.Status.CompletionTime
		}
		listed := false
		for _, ref := range cj.Status.Active {
			listed = listed || ref.UID == j.UID
		}
		if !listed && finished(j) == nil {
			notes = append(notes, note{"Warning", "UnexpectedJob", "Saw a job that the controller did not create or forgot: " + j.Name})
		}
	}
	var left []int
	for i, ref := range cj.Status.Active {
		switch j := byUID[ref.UID]; {
		case j == nil:
			notes = append(notes, note{"Normal", "MissingJob", "Active job went missing: " + ref.Name})
		case finished(j) != nil:
			notes = append(notes, note{"Normal", "SawCompletedJob", fmt.Sprintf("Saw completed job: %s, condition: %v", j.Name, finished(j).Type)})
		default:
			left = append(left, i)
		}
	}
	active := cj.Status.Active
	cj.Status.Active = nil
	for _, i := range left {
		cj.Status.Active = append(cj.Status.Active, active[i])
	}
	return notes
}
