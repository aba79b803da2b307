package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/pod"
	"flagship/controller-manager/internal/podset"
)

type deployments struct {
	loop.Deps
	src  *loop.Source[appsv1.Deployment]
	sets *loop.Source[appsv1.ReplicaSet]
	w    *loop.Written
}

// NewDeployment returns the deployment-controller.
func NewDeployment(workers int, d loop.Deps) *loop.Controller {
	c := &deployments{Deps: d, src: d.Sources.Deployments(), sets: d.Sources.ReplicaSets(), w: loop.NewWritten()}
	ctl := d.Controller(workers, c.sync)
	loop.Watch(ctl, c.src, loop.Own[appsv1.Deployment])
	loop.Watch(ctl, c.sets, c.setChanged)
	loop.Watch(ctl, d.Sources.Pods(), func(e loop.Event[corev1.Pod]) []string {
		// Only Recreate waits for pods to go.
		if e.New != nil && !pod.Terminal(e.New) {
			return nil
		}
		ref := metav1.GetControllerOfNoCopy(e.Now())
		if ref == nil || ref.Kind != "ReplicaSet" {
			return nil
		}
		rs := c.sets.Get(e.Now().Namespace, ref.Name)
		if rs == nil || rs.UID != ref.UID {
			return nil
		}
		if dep := c.ownerOf(rs); dep != nil && dep.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
			return []string{loop.Key(dep)}
		}
		return nil
	})
	return ctl
}

func (c *deployments) api(ns string) apiOf[*appsv1.Deployment] {
	return loop.Apps[appsv1.Deployment, appsv1.DeploymentList](c.Deps, "deployments", ns)
}

func (c *deployments) setAPI(ns string) apiOf[*appsv1.ReplicaSet] {
	return loop.Apps[appsv1.ReplicaSet, appsv1.ReplicaSetList](c.Deps, "replicasets", ns)
}

func (c *deployments) ownerOf(rs *appsv1.ReplicaSet) *appsv1.Deployment {
	ref := metav1.GetControllerOfNoCopy(rs)
	if ref == nil || ref.Kind != "Deployment" {
		return nil
	}
	d := c.src.Get(rs.Namespace, ref.Name)
	if d == nil || d.UID != ref.UID {
		return nil
	}
	return d
}

func (c *deployments) setChanged(e loop.Event[appsv1.ReplicaSet]) []string {
	var keys []string
	for _, rs := range []*appsv1.ReplicaSet{e.Old, e.New} {
		if rs == nil {
			continue
		}
		if d := c.ownerOf(rs); d != nil {
			keys = append(keys, loop.Key(d))
		}
	}
	if e.New != nil && metav1.GetControllerOfNoCopy(e.New) == nil {
		for _, d := range c.src.In(e.New.Namespace) {
			sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
			if err == nil && !sel.Empty() && sel.Matches(labels.Set(e.New.Labels)) {
				keys = append(keys, loop.Key(d))
			}
		}
	}
	return keys
}

func (c *deployments) sync(ctx context.Context, key string) error {
	if err := c.w.Wait(key); err != nil {
		return err
	}
	ns, name := loop.Split(key)
	stored := c.src.Get(ns, name)
	if stored == nil {
		return nil
	}
	d := stored.DeepCopy()
	sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return fmt.Errorf("selector of deployment %s: %w", key, err)
	}
	if sel.Empty() {
		c.Events.Event(d, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		return nil
	}
	all, err := podset.Claimer[*appsv1.ReplicaSet]{
		Owner: d, Kind: deploymentKind, Selector: sel, API: c.setAPI(ns),
		Live: func(ctx context.Context) (metav1.Object, error) { return c.api(ns).Get(ctx, name, metav1.GetOptions{}) },
	}.Claim(ctx, c.sets.By(loop.ByOwner, string(d.UID)), c.sets.By(loop.ByOwner, loop.Orphans(ns)))
	if err != nil {
		return err
	}
	r := &rollout{deployments: c, key: key, d: d, before: stored, all: all}
	return r.run(ctx)
}

// rollout is one sync of one Deployment. d is a copy whose status and annotations are worked on and written at the end.
type rollout struct {
	*deployments
	key    string
	d      *appsv1.Deployment
	before *appsv1.Deployment
	all    []*appsv1.ReplicaSet
	newSet *appsv1.ReplicaSet
	old    []*appsv1.ReplicaSet
}

func (r *rollout) run(ctx context.Context) error {
	now := r.Now()
	r.newSet = findNew(r.d, r.all)
	r.old = without(r.all, r.newSet)
	var err error
	track := false
	if r.d.DeletionTimestamp == nil {
		pauseCondition(r.d, &r.d.Status, now)
		switch {
		case r.d.Spec.Paused || scaling(r.d, r.all):
			err = r.rescale(ctx)
		case r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
			track, err = true, r.recreate(ctx)
		case r.d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType:
			track, err = true, r.rolling(ctx)
		default:
			return fmt.Errorf("deployment %s: unexpected strategy %q", r.key, r.d.Spec.Strategy.Type)
		}
	}
	st := countDeployment(r.d, &r.d.Status, r.all, r.newSet, now)
	if track && err == nil {
		progress(r.d, &r.before.Status, &st, r.all, r.newSet, now)
	}
	r.d.Status = st
	if werr := r.write(ctx); werr != nil {
		if apierrors.IsNotFound(werr) {
			return nil
		}
		if err == nil {
			err = werr
		}
	}
	if err != nil {
		return err
	}
	if track {
		if wait := checkAgain(r.d, &r.d.Status, now); wait > 0 {
			return loop.In(wait)
		}
	}
	return nil
}

// write stores the annotations and the status, each where it changed.
func (r *rollout) write(ctx context.Context) error {
	if !maps.Equal(r.d.Annotations, r.before.Annotations) {
		st := r.d.Status
		got, err := r.api(r.d.Namespace).Update(ctx, r.d, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		r.w.Note(r.key, r.src, got)
		r.d.ResourceVersion, r.d.Status = got.ResourceVersion, st
	}
	if equality.Semantic.DeepEqual(r.d.Status, r.before.Status) {
		return nil
	}
	got, err := r.api(r.d.Namespace).UpdateStatus(ctx, r.d, metav1.UpdateOptions{})
	if err == nil {
		r.w.Note(r.key, r.src, got)
	}
	return err
}

func (r *rollout) setRevision(rev string) {
	if r.d.Annotations[revisionAnnotation] != rev {
		if r.d.Annotations == nil {
			r.d.Annotations = map[string]string{}
		}
		r.d.Annotations[revisionAnnotation] = rev
	}
}

// adoptNew brings the annotations of the new ReplicaSet up to date, where there is one.
func (r *rollout) adoptNew(ctx context.Context) error {
	if r.newSet == nil {
		return nil
	}
	next := r.newSet.DeepCopy()
	changed := annotateNew(r.d, next, maxRevision(r.old)+1, true)
	if changed || next.Spec.MinReadySeconds != r.d.Spec.MinReadySeconds {
		next.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
		if err := r.updateSet(ctx, next); err != nil {
			return err
		}
	}
	r.setRevision(r.newSet.Annotations[revisionAnnotation])
	if hasDeadline(r.d) && deploymentCondition(&r.d.Status, appsv1.DeploymentProgressing) == nil {
		setDeploymentCondition(&r.d.Status, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonFoundSet, fmt.Sprintf("Found new replica set %q", r.newSet.Name), r.Now())
	}
	return nil
}

// updateSet writes a ReplicaSet and puts the answer in its place.
func (r *rollout) updateSet(ctx context.Context, next *appsv1.ReplicaSet) error {
	got, err := r.setAPI(next.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	r.w.Note(r.key, r.sets, got)
	for _, list := range [][]*appsv1.ReplicaSet{r.all, r.old} {
		for i := range list {
			if list[i].UID == got.UID {
				list[i] = got
			}
		}
	}
	if r.newSet != nil && r.newSet.UID == got.UID {
		r.newSet = got
	}
	return nil
}

// ensureNew finds or creates the ReplicaSet of the Deployment's template.
func (r *rollout) ensureNew(ctx context.Context) error {
	if r.newSet != nil {
		return r.adoptNew(ctx)
	}
	hash := podset.Hash(&r.d.Spec.Template, r.d.Status.CollisionCount)
	rs := newReplicaSet(r.d, hash)
	n := newSetSize(r.d, r.all, 0)
	rs.Spec.Replicas = &n
	rev := maxRevision(r.old) + 1
	annotateNew(r.d, rs, rev, false)
	got, err := r.setAPI(r.d.Namespace).Create(ctx, rs, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		return r.collided(ctx, rs.Name, err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return err
	case err != nil:
		msg := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, err)
		if hasDeadline(r.d) {
			setDeploymentCondition(&r.d.Status, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonCreateError, msg, r.Now())
		}
		r.Events.Event(r.d, corev1.EventTypeWarning, reasonCreateError, msg)
		return err
	}
	r.w.Note(r.key, r.sets, got)
	if n > 0 {
		r.Events.Eventf(r.d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", got.Name, n)
	}
	r.Decide("Deployment", r.d.Namespace, r.d.Name, r.d.UID, r.d.Generation, fmt.Sprintf("created replica set %s with %d replicas, revision %d", got.Name, n, rev))
	r.newSet, r.all = got, append(r.all, got)
	r.setRevision(strconv.FormatInt(rev, 10))
	if hasDeadline(r.d) {
		setDeploymentCondition(&r.d.Status, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonNewSet, fmt.Sprintf("Created new replica set %q", got.Name), r.Now())
	}
	return nil
}

// collided handles a ReplicaSet of the same name: ours with the same template is taken, any other means that the hash
// needs another collision count.
func (r *rollout) collided(ctx context.Context, name string, cause error) error {
	rs, err := r.setAPI(r.d.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil && ref.UID == r.d.UID && sameTemplate(&r.d.Spec.Template, &rs.Spec.Template) {
		r.newSet, r.all = rs, append(r.all, rs)
		r.setRevision(rs.Annotations[revisionAnnotation])
		return nil
	}
	n := deref(r.d.Status.CollisionCount, 0) + 1
	r.d.Status.CollisionCount = &n
	return cause
}

func newReplicaSet(d *appsv1.Deployment, hash string) *appsv1.ReplicaSet {
	t := *d.Spec.Template.DeepCopy()
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	t.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	sel := d.Spec.Selector.DeepCopy()
	if sel.MatchLabels == nil {
		sel.MatchLabels = map[string]string{}
	}
	sel.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	const maxName = 253
	base := d.Name[:min(len(d.Name), maxName-1-len(hash))]
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: base + "-" + hash, Namespace: d.Namespace, Labels: maps.Clone(t.Labels),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, deploymentKind)},
		},
		Spec: appsv1.ReplicaSetSpec{MinReadySeconds: d.Spec.MinReadySeconds, Selector: sel, Template: t},
	}
}

// resize applies one size, and says whether the number of replicas changed.
func (r *rollout) resize(ctx context.Context, s resize) (bool, error) {
	from := size(s.set)
	next := s.set.DeepCopy()
	noted := annotateSize(r.d, next)
	if from == s.to && !noted {
		return false, nil
	}
	next.Spec.Replicas = &s.to
	if err := r.updateSet(ctx, next); err != nil {
		return false, err
	}
	if from == s.to {
		return false, nil
	}
	direction := "down"
	if s.to > from {
		direction = "up"
	}
	r.Events.Eventf(r.d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, next.Name, from, s.to)
	r.Decide("Deployment", r.d.Namespace, r.d.Name, r.d.UID, r.d.Generation, fmt.Sprintf("scaled %s replica set %s from %d to %d", direction, next.Name, from, s.to))
	return true, nil
}

func (r *rollout) resizeAll(ctx context.Context, plan []resize) (bool, error) {
	resized := false
	for _, s := range plan {
		did, err := r.resize(ctx, s)
		if err != nil {
			return resized, err
		}
		resized = resized || did
	}
	return resized, nil
}

// rescale is the sync of a paused Deployment, or of one whose size changed.
func (r *rollout) rescale(ctx context.Context) error {
	if err := r.adoptNew(ctx); err != nil {
		return err
	}
	if _, err := r.resizeAll(ctx, planScale(r.d, r.newSet, r.old)); err != nil {
		return err
	}
	if r.d.Spec.Paused {
		return r.cleanup(ctx)
	}
	return nil
}

func (r *rollout) rolling(ctx context.Context) error {
	if err := r.ensureNew(ctx); err != nil {
		return err
	}
	want := deref(r.d.Spec.Replicas, 1)
	to := size(r.newSet)
	if to > want {
		to = want
	} else if to < want {
		to = newSetSize(r.d, r.all, to)
	}
	if to != size(r.newSet) {
		_, err := r.resize(ctx, resize{r.newSet, to})
		return err
	}
	did, err := r.resizeAll(ctx, planOldDown(r.d, r.all, r.old, r.newSet))
	if err != nil || did {
		return err
	}
	return r.cleanupIfComplete(ctx)
}

func (r *rollout) recreate(ctx context.Context) error {
	if err := r.adoptNew(ctx); err != nil {
		return err
	}
	var down []resize
	for _, rs := range activeSets(r.old) {
		down = append(down, resize{rs, 0})
	}
	if did, err := r.resizeAll(ctx, down); err != nil || did {
		return err
	}
	for _, rs := range r.all {
		if r.newSet != nil && rs.UID == r.newSet.UID {
			continue
		}
		for _, p := range r.Sources.Pods().By(loop.ByOwner, string(rs.UID)) {
			if !pod.Terminal(p) {
				return nil // its end will be seen
			}
		}
	}
	if err := r.ensureNew(ctx); err != nil {
		return err
	}
	if _, err := r.resize(ctx, resize{r.newSet, deref(r.d.Spec.Replicas, 1)}); err != nil {
		return err
	}
	return r.cleanupIfComplete(ctx)
}

func (r *rollout) cleanupIfComplete(ctx context.Context) error {
	st := countDeployment(r.d, &r.d.Status, r.all, r.newSet, time.Time{})
	if !complete(r.d, &st) {
		return nil
	}
	return r.cleanup(ctx)
}

func (r *rollout) cleanup(ctx context.Context) error {
	for _, rs := range planCleanup(r.d, r.old) {
		err := r.setAPI(rs.Namespace).Delete(ctx, rs.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &rs.UID, ResourceVersion: &rs.ResourceVersion},
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		r.all = slices.DeleteFunc(r.all, func(x *appsv1.ReplicaSet) bool { return x.UID == rs.UID })
	}
	return nil
}
