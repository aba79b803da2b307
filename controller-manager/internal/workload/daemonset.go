package workload

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/flowcontrol"

	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/podset"
)

type daemonSets struct {
	loop.Deps
	src       *loop.Source[appsv1.DaemonSet]
	revisions *loop.Source[appsv1.ControllerRevision]
	x         *loop.Expectations
	w         *loop.Written
	backoff   *flowcontrol.Backoff
}

// Bounds of the wait before a failed daemon pod is replaced, as upstream's.
const (
	failedFirst = time.Second
	failedMost  = 15 * time.Minute
)

// NewDaemonSet returns the daemonset-controller.
func NewDaemonSet(workers int, d loop.Deps) *loop.Controller {
	c := &daemonSets{
		Deps: d, src: d.Sources.DaemonSets(), revisions: d.Sources.Revisions(), x: loop.NewExpectations(), w: loop.NewWritten(),
		backoff: flowcontrol.NewBackOff(failedFirst, failedMost),
	}
	ctl := d.Controller(workers, c.sync)
	loop.Watch(ctl, c.src, loop.Own[appsv1.DaemonSet])
	loop.Watch(ctl, d.Sources.Pods(), podset.Observe(c.x, "DaemonSet", podset.OwnerKey(c.src),
		podset.Selecting(c.src, func(ds *appsv1.DaemonSet) *metav1.LabelSelector { return ds.Spec.Selector })))
	loop.Watch(ctl, d.Sources.Nodes(), func(e loop.Event[corev1.Node]) []string {
		var keys []string
		for _, ds := range c.src.All() {
			if e.Old != nil && e.New != nil {
				pl := newPlacement(ds)
				run1, stay1 := pl.on(e.Old)
				run2, stay2 := pl.on(e.New)
				if run1 == run2 && stay1 == stay2 {
					continue
				}
			}
			keys = append(keys, loop.Key(ds))
		}
		return keys
	})
	loop.Watch(ctl, c.revisions, func(e loop.Event[appsv1.ControllerRevision]) []string {
		ref := metav1.GetControllerOfNoCopy(e.Now())
		if ref == nil || ref.Kind != "DaemonSet" {
			return nil
		}
		return []string{e.Now().Namespace + "/" + ref.Name}
	})
	ctl.Every(failedMost, func(context.Context) error { c.backoff.GC(); return nil })
	return ctl
}

func (c *daemonSets) api(ns string) apiOf[*appsv1.DaemonSet] {
	return loop.Apps[appsv1.DaemonSet, appsv1.DaemonSetList](c.Deps, "daemonsets", ns)
}

func (c *daemonSets) revisionAPI(ns string) apiOf[*appsv1.ControllerRevision] {
	return loop.Apps[appsv1.ControllerRevision, appsv1.ControllerRevisionList](c.Deps, "controllerrevisions", ns)
}

func (c *daemonSets) sync(ctx context.Context, key string) error {
	if err := c.w.Wait(key); err != nil {
		return err
	}
	ns, name := loop.Split(key)
	ds := c.src.Get(ns, name)
	if ds == nil {
		c.x.Forget(key)
		return nil
	}
	sel, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return fmt.Errorf("selector of daemon set %s: %w", key, err)
	}
	if sel.Empty() {
		c.Events.Event(ds, corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return nil
	}
	if ds.DeletionTimestamp != nil {
		return nil
	}
	cur, old, err := c.history(ctx, key, ds, sel)
	if err != nil {
		return fmt.Errorf("failed to construct revisions of DaemonSet: %w", err)
	}
	live := func(ctx context.Context) (metav1.Object, error) { return c.api(ns).Get(ctx, name, metav1.GetOptions{}) }
	pods, err := podset.Claim(ctx, c.Deps, ds, daemonSetKind, sel, live)
	if err != nil {
		return err
	}
	in := daemonNow{
		ds: ds, nodes: c.Sources.Nodes().All(), pods: byNode(pods), hash: cur.Labels[appsv1.DefaultDaemonSetUniqueLabelKey], now: c.Now(),
		backoff: func(node string) time.Duration { return c.wait(ds, node) },
	}
	st := daemonStatus(in, ds.Status)
	var failed, again error
	if c.x.Met(key) {
		again, failed = c.act(ctx, key, in)
		if failed == nil {
			failed = c.cleanup(ctx, ds, old, pods)
		}
		st.ObservedGeneration = ds.Generation
	}
	if !equality.Semantic.DeepEqual(st, ds.Status) {
		next := ds.DeepCopy()
		next.Status = st
		got, err := c.api(ns).UpdateStatus(ctx, next, metav1.UpdateOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil && failed == nil:
			failed = fmt.Errorf("error storing status for daemon set: %w", err)
		case err == nil:
			c.w.Note(key, c.src, got)
		}
	}
	if failed != nil {
		return failed
	}
	if again == nil && ds.Spec.MinReadySeconds > 0 && st.NumberReady != st.NumberAvailable {
		return loop.In(time.Duration(ds.Spec.MinReadySeconds) * time.Second)
	}
	return again
}

// act places and removes pods and, where nothing is awaited after that, goes on with a rolling update.
func (c *daemonSets) act(ctx context.Context, key string, in daemonNow) (again, failed error) {
	plan := planDaemons(in)
	for _, p := range plan.failed {
		c.backoff.Next(backoffKey(in.ds, targetNode(p)), c.backoff.Clock.Now())
		c.Events.Eventf(in.ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", p.Namespace, p.Name, targetNode(p))
	}
	for _, p := range plan.succeeded {
		c.Events.Eventf(in.ds, corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod %s/%s on node %s, will try to delete it", p.Namespace, p.Name, targetNode(p))
	}
	if plan.again > 0 {
		again = loop.In(plan.again)
	}
	if err := c.apply(ctx, key, in, plan); err != nil {
		return again, err
	}
	if len(plan.create)+len(plan.remove) > 0 || in.ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return again, nil
	}
	return again, c.apply(ctx, key, in, planRolling(in))
}

func (c *daemonSets) apply(ctx context.Context, key string, in daemonNow, plan daemonPlan) error {
	if len(plan.create)+len(plan.remove) == 0 {
		return nil
	}
	create := make([]*corev1.Pod, len(plan.create))
	for i, node := range plan.create {
		create[i] = podset.FromTemplate(daemonTemplate(in.ds, in.hash, node), in.ds, daemonSetKind)
	}
	c.Decide("DaemonSet", in.ds.Namespace, in.ds.Name, in.ds.UID, in.ds.Generation,
		fmt.Sprintf("create pods on %d nodes, delete %d pods", len(create), len(plan.remove)))
	return podset.Scale(ctx, c.Deps, c.x, key, in.ds, create, plan.remove)
}

func backoffKey(ds *appsv1.DaemonSet, node string) string {
	return fmt.Sprintf("%s/%d/%s", ds.UID, ds.Status.ObservedGeneration, node)
}

func (c *daemonSets) wait(ds *appsv1.DaemonSet, node string) time.Duration {
	key := backoffKey(ds, node)
	if !c.backoff.IsInBackOffSinceUpdate(key, c.backoff.Clock.Now()) {
		return 0
	}
	return max(c.backoff.Get(key), time.Millisecond)
}

// history finds or makes the revision of the template, and returns the others.
func (c *daemonSets) history(ctx context.Context, key string, ds *appsv1.DaemonSet, sel labels.Selector) (cur *appsv1.ControllerRevision, old []*appsv1.ControllerRevision, err error) {
	api := c.revisionAPI(ds.Namespace)
	all, err := podset.Claimer[*appsv1.ControllerRevision]{
		Owner: ds, Kind: daemonSetKind, Selector: sel, API: api,
		Live: func(ctx context.Context) (metav1.Object, error) {
			return c.api(ds.Namespace).Get(ctx, ds.Name, metav1.GetOptions{})
		},
	}.Claim(ctx, c.revisions.By(loop.ByOwner, string(ds.UID)), c.revisions.By(loop.ByOwner, loop.Orphans(ds.Namespace)))
	if err != nil {
		return nil, nil, err
	}
	data, err := revisionData(&ds.Spec.Template)
	if err != nil {
		return nil, nil, err
	}
	sortRevisions(all)
	next := int64(1)
	for _, r := range all {
		if sameRevision(data, r) {
			if cur != nil {
				old = append(old, cur)
			}
			cur = r
			continue
		}
		old = append(old, r)
		next = max(next, r.Revision+1)
	}
	switch {
	case cur == nil:
		cur, err = c.snapshot(ctx, ds, data, next)
	case cur.Revision < next:
		up := cur.DeepCopy()
		up.Revision = next
		cur, err = api.Update(ctx, up, metav1.UpdateOptions{})
	default:
		return cur, old, nil
	}
	if err == nil {
		c.w.Note(key, c.revisions, cur)
	}
	return cur, old, err
}

// snapshot stores the template as a new revision. A foreign one of the same name means that the hash needs another
// collision count.
func (c *daemonSets) snapshot(ctx context.Context, ds *appsv1.DaemonSet, data []byte, number int64) (*appsv1.ControllerRevision, error) {
	hash := podset.Hash(&ds.Spec.Template, ds.Status.CollisionCount)
	r := newRevision(ds, daemonSetKind, ds.Name+"-"+hash, hash, ds.Spec.Template.Labels, data, number)
	api := c.revisionAPI(ds.Namespace)
	got, err := api.Create(ctx, r, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return got, err
	}
	have, gerr := api.Get(ctx, r.Name, metav1.GetOptions{})
	if gerr != nil {
		return nil, gerr
	}
	if sameRevision(data, have) && metav1.IsControlledBy(have, ds) {
		return have, nil
	}
	live, gerr := c.api(ds.Namespace).Get(ctx, ds.Name, metav1.GetOptions{})
	if gerr != nil {
		return nil, gerr
	}
	n := deref(live.Status.CollisionCount, 0) + 1
	live.Status.CollisionCount = &n
	if _, uerr := c.api(ds.Namespace).UpdateStatus(ctx, live, metav1.UpdateOptions{}); uerr != nil {
		return nil, uerr
	}
	return nil, fmt.Errorf("found a stale collision count (%d) of DaemonSet %q while processing; will retry until it is updated", n-1, ds.Name)
}

func (c *daemonSets) cleanup(ctx context.Context, ds *appsv1.DaemonSet, old []*appsv1.ControllerRevision, pods []*corev1.Pod) error {
	live := map[string]bool{}
	for _, p := range pods {
		live[p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
	}
	for _, r := range planHistory(old, int(deref(ds.Spec.RevisionHistoryLimit, 10)), func(r *appsv1.ControllerRevision) bool {
		return live[r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]]
	}) {
		err := c.revisionAPI(ds.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("failed to clean up revisions of DaemonSet: %w", err)
		}
	}
	return nil
}
