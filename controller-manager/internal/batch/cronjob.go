package batch

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/gentype"

	"flagship/controller-manager/internal/loop"
)

type cronJobs struct {
	loop.Deps
	src  *loop.Source[batchv1.CronJob]
	jobs *loop.Source[batchv1.Job]
	w    *loop.Written
}

// NewCronJob returns the cronjob-controller.
func NewCronJob(workers int, d loop.Deps) *loop.Controller {
	c := &cronJobs{Deps: d, src: d.Sources.CronJobs(), jobs: d.Sources.Jobs(), w: loop.NewWritten()}
	ctl := d.Controller(workers, c.sync)
	loop.Watch(ctl, c.src, loop.Own[batchv1.CronJob])
	loop.Watch(ctl, c.jobs, func(e loop.Event[batchv1.Job]) []string {
		ref := metav1.GetControllerOfNoCopy(e.Now())
		if ref == nil || ref.Kind != "CronJob" {
			return nil
		}
		return []string{e.Now().Namespace + "/" + ref.Name}
	})
	return ctl
}

func (c *cronJobs) api(ns string) *gentype.ClientWithList[*batchv1.Job, *batchv1.JobList] {
	return loop.Batch[batchv1.Job, batchv1.JobList](c.Deps, "jobs", ns)
}

func (c *cronJobs) sync(ctx context.Context, key string) error {
	if err := c.w.Wait(key); err != nil {
		return err
	}
	stored := c.src.Get(loop.Split(key))
	if stored == nil {
		return nil
	}
	cj := stored.DeepCopy()
	jobs := c.jobs.By(loop.ByOwner, string(cj.UID))
	for _, n := range settleActive(cj, jobs) {
		c.Events.Event(cj, n.kind, n.reason, n.message)
	}
	for _, j := range planHistory(cj, jobs) {
		if err := c.remove(ctx, cj, j); err != nil {
			return err
		}
	}
	wait, failed := c.run(ctx, key, cj)
	if !equality.Semantic.DeepEqual(cj.Status, stored.Status) {
		got, err := loop.Batch[batchv1.CronJob, batchv1.CronJobList](c.Deps, "cronjobs", cj.Namespace).UpdateStatus(ctx, cj, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("unable to update status for %s: %w", key, err)
		}
		c.w.Note(key, c.src, got)
	}
	if failed != nil {
		return failed
	}
	if wait > 0 {
		return loop.In(wait)
	}
	return nil
}

func (c *cronJobs) remove(ctx context.Context, cj *batchv1.CronJob, j *batchv1.Job) error {
	background := metav1.DeletePropagationBackground
	err := c.api(j.Namespace).Delete(ctx, j.Name, metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &j.UID}})
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		return nil
	case err != nil:
		c.Events.Eventf(cj, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return err
	}
	c.Events.Eventf(cj, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", j.Name)
	return nil
}

// run starts the job that is due, and returns after what time to look again.
func (c *cronJobs) run(ctx context.Context, key string, cj *batchv1.CronJob) (time.Duration, error) {
	if cj.DeletionTimestamp != nil || deref(cj.Spec.Suspend, false) {
		return 0, nil
	}
	s, err := parseSchedule(cj, time.LoadLocation)
	if err != nil {
		c.Events.Eventf(cj, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", cj.Spec.Schedule, err)
		return 0, nil
	}
	now := c.Now()
	next := func() time.Duration {
		at := s.Next(now)
		if at.IsZero() {
			return 0
		}
		return at.Sub(now) + 100*time.Millisecond
	}
	at, missed := due(cj, s, now)
	if at == nil {
		return next(), nil
	}
	if missed > manyMissed {
		c.Events.Event(cj, corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	if cj.Spec.StartingDeadlineSeconds != nil && at.Add(time.Duration(*cj.Spec.StartingDeadlineSeconds)*time.Second).Before(now) {
		c.Events.Eventf(cj, corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", at.UTC().Format(time.RFC1123Z))
		return next(), nil
	}
	if cj.Status.LastScheduleTime.Equal(&metav1.Time{Time: *at}) {
		return next(), nil
	}
	switch {
	case cj.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(cj.Status.Active) > 0:
		c.Events.Event(cj, corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return next(), nil
	case cj.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent:
		for _, ref := range cj.Status.Active {
			if j := c.jobs.Get(cj.Namespace, ref.Name); j != nil && j.UID == ref.UID {
				if err := c.remove(ctx, cj, j); err != nil {
					return 0, err
				}
			}
		}
		cj.Status.Active = nil
	}
	return next(), c.start(ctx, key, cj, *at)
}

func (c *cronJobs) start(ctx context.Context, key string, cj *batchv1.CronJob, at time.Time) error {
	local := func(t time.Time) time.Time {
		if cj.Spec.TimeZone != nil {
			if l, err := time.LoadLocation(*cj.Spec.TimeZone); err == nil {
				return t.In(l)
			}
		}
		return t
	}
	got, err := c.api(cj.Namespace).Create(ctx, newJob(cj, at, local), metav1.CreateOptions{})
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return err
	case apierrors.IsAlreadyExists(err):
		got, err = c.api(cj.Namespace).Get(ctx, jobName(cj, at), metav1.GetOptions{})
		if err != nil || !metav1.IsControlledBy(got, cj) {
			return err
		}
		for _, ref := range cj.Status.Active {
			if ref.UID == got.UID {
				return nil
			}
		}
	case err != nil:
		c.Events.Eventf(cj, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return err
	default:
		c.Events.Eventf(cj, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", got.Name)
		c.Decide("CronJob", cj.Namespace, cj.Name, cj.UID, cj.Generation, "created job "+got.Name)
	}
	c.w.Note(key, c.jobs, got)
	cj.Status.Active = append(cj.Status.Active, corev1.ObjectReference{
		APIVersion: "batch/v1", Kind: "Job", Namespace: got.Namespace, Name: got.Name, UID: got.UID, ResourceVersion: got.ResourceVersion,
	})
	cj.Status.LastScheduleTime = &metav1.Time{Time: at}
	return nil
}

// NewTTLAfterFinished returns the ttl-after-finished-controller: it deletes jobs a time after their end.
func NewTTLAfterFinished(workers int, d loop.Deps) *loop.Controller {
	src := d.Sources.Jobs()
	ctl := d.Controller(workers, func(ctx context.Context, key string) error {
		j := src.Get(loop.Split(key))
		if j == nil || j.DeletionTimestamp != nil || j.Spec.TTLSecondsAfterFinished == nil {
			return nil
		}
		end := finished(j)
		if end == nil {
			return nil
		}
		if left := end.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second).Sub(d.Now()); left > 0 {
			return loop.In(left)
		}
		foreground := metav1.DeletePropagationForeground
		err := loop.Batch[batchv1.Job, batchv1.JobList](d, "jobs", j.Namespace).Delete(ctx, j.Name, metav1.DeleteOptions{
			PropagationPolicy: &foreground, Preconditions: &metav1.Preconditions{UID: &j.UID, ResourceVersion: &j.ResourceVersion},
		})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	loop.Watch(ctl, src, loop.Own[batchv1.Job])
	return ctl
}
