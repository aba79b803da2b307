package batch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/gentype"

	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/podset"
)

type jobs struct {
	loop.Deps
	src *loop.Source[batchv1.Job]
	x   *loop.Expectations
	w   *loop.Written
}

// lostKey marks the key of a pod whose job is gone: its tracking finalizer has to go.
const lostKey = "lost:"

// NewJob returns the job-controller.
func NewJob(workers int, d loop.Deps) *loop.Controller {
	c := &jobs{Deps: d, src: d.Sources.Jobs(), x: loop.NewExpectations(), w: loop.NewWritten()}
	ctl := d.Controller(workers, c.sync)
	loop.Watch(ctl, c.src, func(e loop.Event[batchv1.Job]) []string {
		keys := []string{loop.Key(e.Now())}
		if e.New == nil {
			for _, p := range d.Sources.Pods().By(loop.ByOwner, string(e.Old.UID)) {
				keys = append(keys, lostKey+loop.Key(p))
			}
		}
		return keys
	})
	observe := podset.Observe(c.x, "Job", podset.OwnerKey(c.src),
		podset.Selecting(c.src, func(j *batchv1.Job) *metav1.LabelSelector { return j.Spec.Selector }))
	loop.Watch(ctl, d.Sources.Pods(), func(e loop.Event[corev1.Pod]) []string {
		keys := observe(e)
		if e.New != nil && tracked(e.New) {
			if ref := metav1.GetControllerOfNoCopy(e.New); ref == nil || ref.Kind != "Job" || len(keys) == 0 {
				keys = append(keys, lostKey+loop.Key(e.New))
			}
		}
		return keys
	})
	return ctl
}

func (c *jobs) api(ns string) *gentype.ClientWithList[*batchv1.Job, *batchv1.JobList] {
	return loop.Batch[batchv1.Job, batchv1.JobList](c.Deps, "jobs", ns)
}

func (c *jobs) sync(ctx context.Context, key string) error {
	if name, ok := strings.CutPrefix(key, lostKey); ok {
		return c.lost(ctx, name)
	}
	if err := c.w.Wait(key); err != nil {
		return err
	}
	ns, name := loop.Split(key)
	j := c.src.Get(ns, name)
	if j == nil {
		c.x.Forget(key)
		return nil
	}
	if j.Spec.ManagedBy != nil && *j.Spec.ManagedBy != batchv1.JobControllerName {
		return nil
	}
	kind := batchv1.SchemeGroupVersion.WithKind("Job")
	sel, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil {
		return fmt.Errorf("selector of job %s: %w", key, err)
	}
	live := func(ctx context.Context) (metav1.Object, error) { return c.api(ns).Get(ctx, name, metav1.GetOptions{}) }
	pods, err := podset.Claim(ctx, c.Deps, j, kind, sel, live, batchv1.JobTrackingFinalizer)
	if err != nil {
		return err
	}
	if finished(j) != nil {
		return c.release(ctx, pods)
	}
	if !c.x.Met(key) {
		return nil
	}
	return c.apply(ctx, key, j, planJob(jobNow{job: j, pods: pods, now: c.Now()}))
}

// apply creates and deletes pods, then writes the status, then releases the pods that the status counts.
func (c *jobs) apply(ctx context.Context, key string, j *batchv1.Job, plan jobPlan) error {
	var failed error
	if plan.drop {
		failed = c.release(ctx, plan.remove)
	}
	if failed == nil && len(plan.remove)+plan.create > 0 {
		create := c.newPods(j, &plan)
		c.Decide("Job", j.Namespace, j.Name, j.UID, j.Generation, fmt.Sprintf("create %d pods, delete %d", len(create), len(plan.remove)))
		failed = podset.Scale(ctx, c.Deps, c.x, key, j, create, plan.remove)
		if failed != nil {
			// The next sync counts anew what was made and what was not.
			plan.status.Active, plan.status.Terminating, plan.status.Ready = j.Status.Active, j.Status.Terminating, j.Status.Ready
		}
	}
	switch plan.suspend {
	case "Suspended":
		c.Events.Event(j, corev1.EventTypeNormal, "Suspended", "Job suspended")
	case "Resumed":
		c.Events.Event(j, corev1.EventTypeNormal, "Resumed", "Job resumed")
	}
	if !equality.Semantic.DeepEqual(plan.status, j.Status) {
		next := j.DeepCopy()
		next.Status = plan.status
		got, err := c.api(j.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return errors.Join(failed, fmt.Errorf("tracking status: %w", err))
		}
		c.w.Note(key, c.src, got)
	}
	if d := plan.done; d != nil {
		if d.Type == batchv1.JobComplete {
			c.Events.Event(j, corev1.EventTypeNormal, "Completed", "Job completed")
		} else {
			c.Events.Event(j, corev1.EventTypeWarning, d.Reason, d.Message)
		}
		c.Decide("Job", j.Namespace, j.Name, j.UID, j.Generation, string(d.Type)+": "+d.Message)
	}
	if err := errors.Join(failed, c.release(ctx, plan.release)); err != nil {
		return err
	}
	if plan.again > 0 {
		return loop.In(plan.again)
	}
	return nil
}

// newPods makes the pods of a plan from the job's template.
func (c *jobs) newPods(j *batchv1.Job, plan *jobPlan) []*corev1.Pod {
	out := make([]*corev1.Pod, plan.create)
	for n := range out {
		p := podset.FromTemplate(&j.Spec.Template, j, batchv1.SchemeGroupVersion.WithKind("Job"))
		if !tracked(p) {
			p.Finalizers = append(p.Finalizers, batchv1.JobTrackingFinalizer)
		}
		if indexed(j) {
			indexPod(j, p, plan.indexes[n], plan.failures)
		}
		out[n] = p
	}
	return out
}

func indexPod(j *batchv1.Job, p *corev1.Pod, i int, failures map[int]int) {
	text := strconv.Itoa(i)
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Annotations[batchv1.JobCompletionIndexAnnotation], p.Labels[batchv1.JobCompletionIndexAnnotation] = text, text
	if j.Spec.BackoffLimitPerIndex != nil {
		p.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(failures[i])
	}
	p.Spec.Hostname = j.Name + "-" + text
	// Upstream's bound of a generated name's prefix, less the index.
	const mostPrefix = 57
	p.GenerateName = j.Name[:min(len(j.Name), mostPrefix-len(text))] + "-" + text + "-"
	env := corev1.EnvVar{Name: "JOB_COMPLETION_INDEX", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"},
	}}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for k := range list {
			has := false
			for _, e := range list[k].Env {
				has = has || e.Name == env.Name
			}
			if !has {
				list[k].Env = append(list[k].Env, env)
			}
		}
	}
}

// release takes the tracking finalizer off pods.
func (c *jobs) release(ctx context.Context, pods []*corev1.Pod) error {
	errs := make([]error, len(pods))
	var group sync.WaitGroup
	for i, p := range pods {
		if !tracked(p) {
			continue
		}
		group.Go(func() {
			patch := fmt.Sprintf(`{"metadata":{"uid":%q,"$deleteFromPrimitiveList/finalizers":[%q]}}`, p.UID, batchv1.JobTrackingFinalizer)
			_, err := c.Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				errs[i] = fmt.Errorf("removing tracking finalizer: %w", err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// lost releases a pod whose job is gone or is not its controller any more.
func (c *jobs) lost(ctx context.Context, key string) error {
	p := c.Sources.Pods().Get(loop.Split(key))
	if p == nil || !tracked(p) {
		return nil
	}
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil && ref.Kind == "Job" {
		live, err := c.api(p.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err == nil && live.UID == ref.UID && finished(live) == nil {
			return nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return c.release(ctx, []*corev1.Pod{p})
}
