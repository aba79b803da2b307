package workload

import (
	"context"
	"errors"
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
	"flagship/controller-manager/internal/podset"
)

type statefulSets struct {
	loop.Deps
	src       *loop.Source[appsv1.StatefulSet]
	revisions *loop.Source[appsv1.ControllerRevision]
	claims    *loop.Source[corev1.PersistentVolumeClaim]
	x         *loop.Expectations
	w         *loop.Written
}

// NewStatefulSet returns the statefulset-controller.
func NewStatefulSet(workers int, d loop.Deps) *loop.Controller {
	c := &statefulSets{
		Deps: d, src: d.Sources.StatefulSets(), revisions: d.Sources.Revisions(), claims: d.Sources.Claims(),
		x: loop.NewExpectations(), w: loop.NewWritten(),
	}
	ctl := d.Controller(workers, c.sync)
	loop.Watch(ctl, c.src, loop.Own[appsv1.StatefulSet])
	loop.Watch(ctl, d.Sources.Pods(), podset.Observe(c.x, "StatefulSet", podset.OwnerKey(c.src),
		podset.Selecting(c.src, func(s *appsv1.StatefulSet) *metav1.LabelSelector { return s.Spec.Selector })))
	loop.Need(ctl, c.revisions)
	loop.Need(ctl, c.claims)
	return ctl
}

func (c *statefulSets) api(ns string) apiOf[*appsv1.StatefulSet] {
	return loop.Apps[appsv1.StatefulSet, appsv1.StatefulSetList](c.Deps, "statefulsets", ns)
}

func (c *statefulSets) sync(ctx context.Context, key string) error {
	if err := c.w.Wait(key); err != nil {
		return err
	}
	ns, name := loop.Split(key)
	set := c.src.Get(ns, name)
	if set == nil {
		c.x.Forget(key)
		return nil
	}
	sel, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return fmt.Errorf("selector of stateful set %s: %w", key, err)
	}
	revs, update, collisions, err := c.history(ctx, key, set, sel)
	if err != nil {
		return err
	}
	current := update
	for _, r := range revs {
		if r.Name == set.Status.CurrentRevision {
			current = r
		}
	}
	live := func(ctx context.Context) (metav1.Object, error) { return c.api(ns).Get(ctx, name, metav1.GetOptions{}) }
	pods, err := podset.Claim(ctx, c.Deps, set, statefulSetKind, sel, live)
	if err != nil {
		return err
	}
	in := statefulNow{set: set, pods: pods, current: current.Name, update: update.Name, now: c.Now()}
	st := statefulStatus(in, collisions)
	var failed error
	if c.x.Met(key) {
		failed = c.act(ctx, key, in, current)
	}
	if !equality.Semantic.DeepEqual(st, set.Status) {
		next := set.DeepCopy()
		next.Status = st
		got, err := c.api(ns).UpdateStatus(ctx, next, metav1.UpdateOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil && failed == nil:
			failed = err
		case err == nil:
			c.w.Note(key, c.src, got)
		}
	}
	if failed == nil {
		failed = c.cleanup(ctx, set, revs, in)
	}
	if failed == nil && set.Spec.MinReadySeconds > 0 && st.AvailableReplicas != st.ReadyReplicas {
		return loop.In(time.Duration(set.Spec.MinReadySeconds) * time.Second)
	}
	return failed
}

func (c *statefulSets) act(ctx context.Context, key string, in statefulNow, current *appsv1.ControllerRevision) error {
	for _, p := range in.pods {
		if err := c.identify(ctx, in.set, p); err != nil {
			return err
		}
	}
	plan := planStateful(in)
	for _, p := range plan.condemned {
		if err := c.own(ctx, in.set, p, true); err != nil {
			return err
		}
	}
	for _, p := range in.pods {
		if n := ordinal(in.set, p); n >= 0 && !slices.Contains(plan.condemned, p) {
			if err := c.own(ctx, in.set, p, false); err != nil {
				return err
			}
		}
	}
	for _, p := range plan.ended {
		reason := "RecreatingFailedPod"
		if p.Status.Phase == corev1.PodSucceeded {
			reason = "RecreatingTerminatedPod"
		}
		c.Events.Eventf(in.set, corev1.EventTypeWarning, reason, "StatefulSet %s/%s is recreating %s Pod %s", in.set.Namespace, in.set.Name, phaseWord(p), p.Name)
	}
	if len(plan.create)+len(plan.remove) == 0 {
		return nil
	}
	uids := make([]string, len(plan.remove))
	for i, p := range plan.remove {
		uids[i] = string(p.UID)
	}
	c.x.Expect(key, len(plan.create), uids...)
	c.Decide("StatefulSet", in.set.Namespace, in.set.Name, in.set.UID, in.set.Generation,
		fmt.Sprintf("create ordinals %v, delete %d pods", plan.create, len(plan.remove)))
	var errs []error
	for _, n := range plan.create {
		if err := c.create(ctx, in, current, n); err != nil {
			c.x.Created(key)
			errs = append(errs, err)
		}
	}
	for _, p := range plan.remove {
		err := c.Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
		if err != nil {
			c.x.Gone(key, string(p.UID))
		}
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue
		}
		c.tell(in.set, "delete", p.Name, err)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func phaseWord(p *corev1.Pod) string {
	if p.Status.Phase == corev1.PodSucceeded {
		return "terminated"
	}
	return "failed"
}

func (c *statefulSets) tell(set *appsv1.StatefulSet, verb, name string, err error) {
	title := map[string]string{"create": "Create", "delete": "Delete", "update": "Update"}[verb]
	if err != nil {
		c.Events.Eventf(set, corev1.EventTypeWarning, "Failed"+title, "%s Pod %s in StatefulSet %s failed error: %s", verb, name, set.Name, err)
		return
	}
	c.Events.Eventf(set, corev1.EventTypeNormal, "Successful"+title, "%s Pod %s in StatefulSet %s successful", verb, name, set.Name)
}

// create makes the claims and the pod of an ordinal.
func (c *statefulSets) create(ctx context.Context, in statefulNow, current *appsv1.ControllerRevision, n int) error {
	set := in.set
	template, revision := &set.Spec.Template, in.update
	if !in.usesUpdate(n) && current.Name != in.update {
		old, err := templateOf(current)
		if err != nil {
			return err
		}
		template, revision = old, current.Name
	}
	p := podset.FromTemplate(template, set, statefulSetKind)
	p.GenerateName, p.Name = "", fmt.Sprintf("%s-%d", set.Name, n)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[appsv1.StatefulSetPodNameLabel], p.Labels[appsv1.PodIndexLabel] = p.Name, strconv.Itoa(n)
	p.Labels[appsv1.StatefulSetRevisionLabel] = revision
	p.Spec.Hostname, p.Spec.Subdomain = p.Name, set.Spec.ServiceName
	var volumes []corev1.Volume
	for i := range set.Spec.VolumeClaimTemplates {
		t := &set.Spec.VolumeClaimTemplates[i]
		if err := c.createClaim(ctx, set, t, p.Name, n); err != nil {
			c.tell(set, "create", p.Name, err)
			return err
		}
		p.Spec.Volumes = slices.DeleteFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == t.Name })
		volumes = append(volumes, corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, t.Name, n)},
		}})
	}
	p.Spec.Volumes = append(volumes, p.Spec.Volumes...)
	_, err := c.Pods(set.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return err
	}
	c.tell(set, "create", p.Name, err)
	return err
}

func (c *statefulSets) createClaim(ctx context.Context, set *appsv1.StatefulSet, t *corev1.PersistentVolumeClaim, podName string, n int) error {
	name := claimName(set, t.Name, n)
	if have := c.claims.Get(set.Namespace, name); have != nil {
		if have.DeletionTimestamp != nil {
			return fmt.Errorf("pvc %s is being deleted", name)
		}
		return nil
	}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: set.Namespace, Name: name, Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations)},
		Spec:       *t.Spec.DeepCopy(),
	}
	if claim.Labels == nil {
		claim.Labels = map[string]string{}
	}
	maps.Copy(claim.Labels, set.Spec.Selector.MatchLabels)
	if bySet, _ := wantedOwner(set, false); bySet {
		claim.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, statefulSetKind)}
	}
	_, err := loop.Core[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](c.Deps, "persistentvolumeclaims", set.Namespace).Create(ctx, claim, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		c.Events.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Claim %s for Pod %s in StatefulSet %s failed error: %s", name, podName, set.Name, err)
		return err
	}
	c.Events.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "create Claim %s Pod %s in StatefulSet %s success", name, podName, set.Name)
	return nil
}

// identify restores the labels by which a pod is known.
func (c *statefulSets) identify(ctx context.Context, set *appsv1.StatefulSet, p *corev1.Pod) error {
	n := ordinal(set, p)
	if n < 0 || p.DeletionTimestamp != nil || (p.Labels[appsv1.StatefulSetPodNameLabel] == p.Name && p.Labels[appsv1.PodIndexLabel] == strconv.Itoa(n)) {
		return nil
	}
	live, err := c.Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	if err != nil || live.UID != p.UID {
		return err
	}
	if live.Labels == nil {
		live.Labels = map[string]string{}
	}
	live.Labels[appsv1.StatefulSetPodNameLabel], live.Labels[appsv1.PodIndexLabel] = p.Name, strconv.Itoa(n)
	_, err = c.Pods(p.Namespace).Update(ctx, live, metav1.UpdateOptions{})
	c.tell(set, "update", p.Name, err)
	return err
}

// own makes the owners of a pod's claims those that the retention policy asks for.
func (c *statefulSets) own(ctx context.Context, set *appsv1.StatefulSet, p *corev1.Pod, condemned bool) error {
	bySet, byPod := wantedOwner(set, condemned)
	for i := range set.Spec.VolumeClaimTemplates {
		have := c.claims.Get(set.Namespace, claimName(set, set.Spec.VolumeClaimTemplates[i].Name, ordinal(set, p)))
		if have == nil {
			continue
		}
		refs := slices.DeleteFunc(slices.Clone(have.OwnerReferences), func(r metav1.OwnerReference) bool {
			return (r.Kind == "StatefulSet" && r.Name == set.Name) || (r.Kind == "Pod" && r.Name == p.Name)
		})
		if foreign := metav1.GetControllerOfNoCopy(&metav1.ObjectMeta{OwnerReferences: refs}); foreign == nil {
			if bySet {
				refs = append(refs, *metav1.NewControllerRef(set, statefulSetKind))
			}
			if byPod {
				refs = append(refs, *metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod")))
			}
		}
		if equality.Semantic.DeepEqual(refs, have.OwnerReferences) || (len(refs) == 0 && len(have.OwnerReferences) == 0) {
			continue
		}
		next := have.DeepCopy()
		next.OwnerReferences = refs
		if _, err := loop.Core[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](c.Deps, "persistentvolumeclaims", set.Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("could not update claim %s for delete policy ownerRefs: %w", have.Name, err)
		}
	}
	return nil
}

// history finds or makes the revision of the template.
func (c *statefulSets) history(ctx context.Context, key string, set *appsv1.StatefulSet, sel labels.Selector) (all []*appsv1.ControllerRevision, update *appsv1.ControllerRevision, collisions int32, err error) {
	api := loop.Apps[appsv1.ControllerRevision, appsv1.ControllerRevisionList](c.Deps, "controllerrevisions", set.Namespace)
	all, err = podset.Claimer[*appsv1.ControllerRevision]{
		Owner: set, Kind: statefulSetKind, Selector: sel, API: api,
		Live: func(ctx context.Context) (metav1.Object, error) {
			return c.api(set.Namespace).Get(ctx, set.Name, metav1.GetOptions{})
		},
	}.Claim(ctx, c.revisions.By(loop.ByOwner, string(set.UID)), c.revisions.By(loop.ByOwner, loop.Orphans(set.Namespace)))
	if err != nil {
		return nil, nil, 0, err
	}
	data, err := revisionData(&set.Spec.Template)
	if err != nil {
		return nil, nil, 0, err
	}
	sortRevisions(all)
	next := int64(1)
	if len(all) > 0 {
		next = all[len(all)-1].Revision + 1
	}
	collisions = deref(set.Status.CollisionCount, 0)
	for i := len(all) - 1; i >= 0 && update == nil; i-- {
		if sameRevision(data, all[i]) {
			update = all[i]
		}
	}
	switch {
	case update != nil && update == all[len(all)-1]:
		return all, update, collisions, nil
	case update != nil:
		up := update.DeepCopy()
		up.Revision = next
		update, err = api.Update(ctx, up, metav1.UpdateOptions{})
	default:
		for {
			hash := revisionHash(data, collisions)
			name := set.Name[:min(len(set.Name), 223)] + "-" + hash
			update, err = api.Create(ctx, newRevision(set, statefulSetKind, name, hash, set.Spec.Template.Labels, data, next), metav1.CreateOptions{})
			if !apierrors.IsAlreadyExists(err) {
				break
			}
			have, gerr := api.Get(ctx, name, metav1.GetOptions{})
			if gerr != nil {
				return nil, nil, 0, gerr
			}
			if sameRevision(data, have) && metav1.IsControlledBy(have, set) {
				update, err = have, nil
				break
			}
			collisions++
		}
		if err == nil {
			all = append(all, update)
		}
	}
	if err == nil {
		c.w.Note(key, c.revisions, update)
	}
	return all, update, collisions, err
}

func (c *statefulSets) cleanup(ctx context.Context, set *appsv1.StatefulSet, revs []*appsv1.ControllerRevision, in statefulNow) error {
	live := map[string]bool{in.current: true, in.update: true}
	for _, p := range in.pods {
		live[podRevision(p)] = true
	}
	old := slices.DeleteFunc(slices.Clone(revs), func(r *appsv1.ControllerRevision) bool { return live[r.Name] })
	for _, r := range planHistory(old, int(deref(set.Spec.RevisionHistoryLimit, 10)), func(*appsv1.ControllerRevision) bool { return false }) {
		err := loop.Apps[appsv1.ControllerRevision, appsv1.ControllerRevisionList](c.Deps, "controllerrevisions", set.Namespace).
			Delete(ctx, r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
