package workload

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The annotations by which a Deployment and its ReplicaSets remember a rollout.
const (
	revisionAnnotation        = "deployment.kubernetes.io/revision"
	revisionHistoryAnnotation = "deployment.kubernetes.io/revision-history"
	desiredAnnotation         = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation             = "deployment.kubernetes.io/max-replicas"
	// maxRevisionHistory bounds the history annotation, in bytes.
	maxRevisionHistory = 2000
)

// sameTemplate compares templates without the label that names their hash.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	x, y := *a, *b
	x.Labels, y.Labels = withoutHash(a.Labels), withoutHash(b.Labels)
	return equality.Semantic.DeepEqual(&x, &y)
}

func withoutHash(in map[string]string) map[string]string {
	out := maps.Clone(in)
	delete(out, appsv1.DefaultDeploymentUniqueLabelKey)
	return out
}

func byAge(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// findNew returns the oldest ReplicaSet with the Deployment's template, nil where there is none.
func findNew(d *appsv1.Deployment, all []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	sorted := slices.SortedFunc(slices.Values(all), byAge)
	for _, rs := range sorted {
		if sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			return rs
		}
	}
	return nil
}

func without(all []*appsv1.ReplicaSet, rs *appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, r := range all {
		if rs == nil || r.UID != rs.UID {
			out = append(out, r)
		}
	}
	return out
}

func size(rs *appsv1.ReplicaSet) int32 { return deref(rs.Spec.Replicas, 1) }

func total(all []*appsv1.ReplicaSet, f func(*appsv1.ReplicaSet) int32) (n int32) {
	for _, rs := range all {
		if rs != nil {
			n += f(rs)
		}
	}
	return n
}

func activeSets(all []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, rs := range all {
		if rs != nil && size(rs) > 0 {
			out = append(out, rs)
		}
	}
	return out
}

func isRolling(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType
}

// fenceposts resolves surge (rounded up) and unavailability (rounded down) to pods; one of them is at least 1.
func fenceposts(d *appsv1.Deployment) (surge, unavailable int32) {
	ru := d.Spec.Strategy.RollingUpdate
	if !isRolling(d) || ru == nil {
		return 0, 0
	}
	n := int(deref(d.Spec.Replicas, 1))
	s, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(ru.MaxSurge, intstr.FromInt32(0)), n, true)
	if err != nil {
		s = 0
	}
	u, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(ru.MaxUnavailable, intstr.FromInt32(0)), n, false)
	if err != nil {
		u = 0
	}
	if s == 0 && u == 0 {
		u = 1
	}
	return int32(s), int32(u)
}

func maxUnavailable(d *appsv1.Deployment) int32 {
	n := deref(d.Spec.Replicas, 1)
	if !isRolling(d) || n == 0 {
		return 0
	}
	_, u := fenceposts(d)
	return min(u, n)
}

func maxSurge(d *appsv1.Deployment) int32 {
	s, _ := fenceposts(d)
	return s
}

// newSetSize is how many replicas the new ReplicaSet may have now.
func newSetSize(d *appsv1.Deployment, all []*appsv1.ReplicaSet, have int32) int32 {
	want := deref(d.Spec.Replicas, 1)
	if !isRolling(d) {
		return want
	}
	room := want + maxSurge(d) - total(all, size)
	if room <= 0 {
		return have
	}
	return have + min(room, want-have)
}

// resize is a ReplicaSet and its new number of replicas.
type resize struct {
	set *appsv1.ReplicaSet
	to  int32
}

// planOldDown says how the old ReplicaSets shrink in a rolling update: first what is unavailable in them goes, then as
// much as the new one's availability allows.
func planOldDown(d *appsv1.Deployment, all, old []*appsv1.ReplicaSet, newSet *appsv1.ReplicaSet) []resize {
	if total(old, size) == 0 {
		return nil
	}
	minAvailable := deref(d.Spec.Replicas, 1) - maxUnavailable(d)
	newUnavailable := size(newSet) - newSet.Status.AvailableReplicas
	allowed := total(all, size) - minAvailable - newUnavailable
	if allowed <= 0 {
		return nil
	}
	sorted := slices.SortedFunc(slices.Values(old), byAge)
	sizes := make([]int32, len(sorted))
	cleaned := int32(0)
	for i, rs := range sorted {
		sizes[i] = size(rs)
		if cleaned < allowed && sizes[i] > rs.Status.AvailableReplicas {
			n := min(allowed-cleaned, sizes[i]-rs.Status.AvailableReplicas)
			sizes[i] -= n
			cleaned += n
		}
	}
	available := total(all, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.AvailableReplicas })
	for i := range sorted {
		if n := min(sizes[i], available-minAvailable); n > 0 {
			sizes[i] -= n
			available -= n
		}
	}
	var out []resize
	for i, rs := range sorted {
		if sizes[i] != size(rs) {
			out = append(out, resize{rs, sizes[i]})
		}
	}
	return out
}

// planScale spreads a changed number of replicas: to the only active (or else latest) ReplicaSet, or, in the middle of a
// rolling update, to all in proportion to their sizes. Those that keep their size are listed too, for their annotations.
func planScale(d *appsv1.Deployment, newSet *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []resize {
	want := deref(d.Spec.Replicas, 1)
	if one := activeOrLatest(newSet, old); one != nil {
		if size(one) == want {
			return nil
		}
		return []resize{{one, want}}
	}
	if saturated(d, newSet) {
		var out []resize
		for _, rs := range activeSets(old) {
			out = append(out, resize{rs, 0})
		}
		return out
	}
	if !isRolling(d) {
		return nil
	}
	sets := activeSets(append(slices.Clone(old), newSet))
	allowed := int32(0)
	if want > 0 {
		allowed = want + maxSurge(d)
	}
	add := allowed - total(sets, size)
	slices.SortStableFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		if add >= 0 {
			return cmp.Or(cmp.Compare(size(b), size(a)), byAge(b, a))
		}
		return cmp.Or(cmp.Compare(size(b), size(a)), byAge(a, b))
	})
	out := make([]resize, len(sets))
	added := int32(0)
	for i, rs := range sets {
		n := proportion(rs, d, add, added)
		out[i] = resize{rs, size(rs) + n}
		added += n
	}
	if len(out) > 0 {
		out[0].to = max(out[0].to+add-added, 0)
	}
	return out
}

// proportion is a ReplicaSet's share of what is to be added, at most what is left of it.
func proportion(rs *appsv1.ReplicaSet, d *appsv1.Deployment, add, added int32) int32 {
	if size(rs) == 0 || add == 0 || add == added {
		return 0
	}
	base := d.Status.Replicas
	if v, err := strconv.ParseInt(rs.Annotations[maxAnnotation], 10, 32); err == nil {
		base = int32(v)
	}
	share := int32(0)
	if target := deref(d.Spec.Replicas, 1) + maxSurge(d); base != 0 && deref(d.Spec.Replicas, 1) != 0 {
		share = roundToInt(float64(size(rs)*target)/float64(base)) - size(rs)
	} else if deref(d.Spec.Replicas, 1) == 0 {
		share = -size(rs)
	}
	if add > 0 {
		return min(share, add-added)
	}
	return max(share, add-added)
}

func roundToInt(f float64) int32 {
	if f < 0 {
		return int32(f - 0.5)
	}
	return int32(f + 0.5)
}

// activeOrLatest is the only ReplicaSet with replicas, the new one (or the youngest old) where none has, nil where
// several have.
func activeOrLatest(newSet *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	all := slices.Clone(old)
	if newSet != nil {
		all = append(all, newSet)
	}
	switch act := activeSets(all); {
	case len(act) == 1:
		return act[0]
	case len(act) > 1 || len(all) == 0:
		return nil
	case newSet != nil:
		return newSet
	}
	return slices.MaxFunc(old, byAge)
}

func saturated(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	if rs == nil {
		return false
	}
	want := deref(d.Spec.Replicas, 1)
	v, err := strconv.ParseInt(rs.Annotations[desiredAnnotation], 10, 32)
	return err == nil && size(rs) == want && int32(v) == want && rs.Status.AvailableReplicas == want
}

// scaling says whether the Deployment's replicas were changed since its ReplicaSets were last sized.
func scaling(d *appsv1.Deployment, all []*appsv1.ReplicaSet) bool {
	for _, rs := range activeSets(all) {
		v, err := strconv.ParseInt(rs.Annotations[desiredAnnotation], 10, 32)
		if err == nil && int32(v) != deref(d.Spec.Replicas, 1) {
			return true
		}
	}
	return false
}

func revision(annotations map[string]string) int64 {
	v, err := strconv.ParseInt(annotations[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return v
}

func maxRevision(sets []*appsv1.ReplicaSet) (n int64) {
	for _, rs := range sets {
		n = max(n, revision(rs.Annotations))
	}
	return n
}

func skipAnnotation(key string) bool {
	switch key {
	case corev1.LastAppliedConfigAnnotation, revisionAnnotation, revisionHistoryAnnotation, desiredAnnotation, maxAnnotation, appsv1.DeprecatedRollbackTo:
		return true
	}
	return false
}

// annotateNew gives the new ReplicaSet the Deployment's annotations and its revision; the revisions it had before are
// remembered. It says whether something changed.
func annotateNew(d *appsv1.Deployment, rs *appsv1.ReplicaSet, newRevision int64, exists bool) bool {
	before := maps.Clone(rs.Annotations)
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	for k, v := range d.Annotations {
		if !skipAnnotation(k) {
			rs.Annotations[k] = v
		}
	}
	oldText, had := rs.Annotations[revisionAnnotation]
	if old := revision(rs.Annotations); old < newRevision && (oldText == "" || old > 0 || oldText == "0") {
		rs.Annotations[revisionAnnotation] = strconv.FormatInt(newRevision, 10)
		if had {
			rs.Annotations[revisionHistoryAnnotation] = appendHistory(rs.Annotations[revisionHistoryAnnotation], oldText)
		}
	}
	if !exists {
		annotateSize(d, rs)
	}
	return !maps.Equal(before, rs.Annotations)
}

func appendHistory(history, add string) string {
	if history == "" {
		return add
	}
	all := append(strings.Split(history, ","), add)
	for len(all) > 1 && len(strings.Join(all, ",")) > maxRevisionHistory {
		all = all[1:]
	}
	return strings.Join(all, ",")
}

// annotateSize notes the Deployment's size on a ReplicaSet and says whether it changed.
func annotateSize(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	want := deref(d.Spec.Replicas, 1)
	desired, most := strconv.Itoa(int(want)), strconv.Itoa(int(want+maxSurge(d)))
	if rs.Annotations[desiredAnnotation] == desired && rs.Annotations[maxAnnotation] == most {
		return false
	}
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[desiredAnnotation], rs.Annotations[maxAnnotation] = desired, most
	return true
}

// planCleanup lists the old ReplicaSets beyond the history limit that nothing needs, the lowest revisions first.
func planCleanup(d *appsv1.Deployment, old []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	if d.Spec.RevisionHistoryLimit == nil || *d.Spec.RevisionHistoryLimit == 1<<31-1 {
		return nil
	}
	alive := slices.DeleteFunc(slices.Clone(old), func(rs *appsv1.ReplicaSet) bool { return rs.DeletionTimestamp != nil })
	excess := len(alive) - int(*d.Spec.RevisionHistoryLimit)
	if excess <= 0 {
		return nil
	}
	slices.SortStableFunc(alive, func(a, b *appsv1.ReplicaSet) int {
		return cmp.Or(cmp.Compare(revision(a.Annotations), revision(b.Annotations)), byAge(a, b))
	})
	var out []*appsv1.ReplicaSet
	for _, rs := range alive[:excess] {
		if rs.Status.Replicas == 0 && size(rs) == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			out = append(out, rs)
		}
	}
	return out
}
