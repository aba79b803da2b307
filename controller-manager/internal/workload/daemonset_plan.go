package workload

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"flagship/controller-manager/internal/pod"
)

// daemonTolerations adds what every daemon pod tolerates: it runs on nodes that are not well, and not for lack of a
// network where it uses the host's.
func daemonTolerations(spec *corev1.PodSpec) []corev1.Toleration {
	out := slices.Clone(spec.Tolerations)
	add := func(key string, effect corev1.TaintEffect) {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		for i := range out {
			if out[i].MatchToleration(&t) {
				out[i] = t
				return
			}
		}
		out = append(out, t)
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
	return out
}

// daemonTemplate is the template of the daemon pods for one node: bound to it by affinity to its name.
func daemonTemplate(ds *appsv1.DaemonSet, hash, node string) *corev1.PodTemplateSpec {
	t := ds.Spec.Template.DeepCopy()
	t.Spec.Tolerations = daemonTolerations(&t.Spec)
	t.Labels = maps.Clone(t.Labels)
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	if generation := ds.Annotations[appsv1.DeprecatedTemplateGeneration]; generation != "" {
		t.Labels["pod-template-generation"] = generation
	}
	t.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	if t.Spec.Affinity == nil {
		t.Spec.Affinity = &corev1.Affinity{}
	}
	if t.Spec.Affinity.NodeAffinity == nil {
		t.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	// The node's name replaces the template's own terms: those were weighed when the node was chosen.
	t.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
	}}}
	return t
}

// targetNode is the node that a daemon pod is on or is meant for, empty where it cannot be told.
func targetNode(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil || p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, t := range p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range t.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

// placement judges nodes for one DaemonSet.
type placement struct {
	ds          *appsv1.DaemonSet
	tolerations []corev1.Toleration
	affinity    nodeaffinity.RequiredNodeAffinity
}

func newPlacement(ds *appsv1.DaemonSet) placement {
	return placement{ds, daemonTolerations(&ds.Spec.Template.Spec), nodeaffinity.NewRequiredNodeAffinity(ds.Spec.Template.Spec.NodeSelector, ds.Spec.Template.Spec.Affinity)}
}

// on says whether the daemon should run on a node, and whether it may go on running where it does already.
func (pl *placement) on(n *corev1.Node) (run, stay bool) {
	if name := pl.ds.Spec.Template.Spec.NodeName; name != "" && name != n.Name {
		return false, false
	}
	if ok, err := pl.affinity.Match(n); err != nil || !ok {
		return false, false
	}
	run, stay = true, true
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || toleratesTaint(pl.tolerations, t) {
			continue
		}
		run = false
		if t.Effect == corev1.TaintEffectNoExecute {
			stay = false
		}
	}
	return run, stay
}

func toleratesTaint(list []corev1.Toleration, taint *corev1.Taint) bool {
	return slices.ContainsFunc(list, func(t corev1.Toleration) bool {
		if (t.Effect != "" && t.Effect != taint.Effect) || (t.Key != "" && t.Key != taint.Key) {
			return false
		}
		switch t.Operator {
		case corev1.TolerationOpExists:
			return true
		case "", corev1.TolerationOpEqual:
			return t.Key != "" && t.Value == taint.Value
		}
		return false
	})
}

// byNode sorts daemon pods by the node that they are meant for. Pods at their end that are being deleted do not count.
func byNode(pods []*corev1.Pod) map[string][]*corev1.Pod {
	out := map[string][]*corev1.Pod{}
	for _, p := range pods {
		if node := targetNode(p); node != "" && (p.DeletionTimestamp == nil || !pod.Terminal(p)) {
			out[node] = append(out[node], p)
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b *corev1.Pod) int {
			return cmp.Or(cmp.Compare(b2i(a.Spec.NodeName == ""), b2i(b.Spec.NodeName == "")), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
	}
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func daemonCounts(ds *appsv1.DaemonSet, desired int) (surge, unavailable int) {
	ru := ds.Spec.UpdateStrategy.RollingUpdate
	if ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType || ru == nil {
		return 0, 0
	}
	if ru.MaxSurge != nil {
		surge, _ = intstr.GetScaledValueFromIntOrPercent(ru.MaxSurge, desired, true)
	}
	if ru.MaxUnavailable != nil {
		unavailable, _ = intstr.GetScaledValueFromIntOrPercent(ru.MaxUnavailable, desired, true)
	}
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

// daemonPlan is which nodes get a daemon pod and which pods go.
type daemonPlan struct {
	create []string
	remove []*corev1.Pod
	// failed and succeeded are those among remove that ended, for the events.
	failed, succeeded []*corev1.Pod
	// again is when a failed pod may be replaced that has to wait, 0 where none has.
	again time.Duration
}

// daemonNow is what a plan for a DaemonSet looks at.
type daemonNow struct {
	ds    *appsv1.DaemonSet
	nodes []*corev1.Node
	pods  map[string][]*corev1.Pod
	hash  string
	now   time.Time
	// backoff is how long a failed pod on a node has to wait yet.
	backoff func(node string) time.Duration
}

// planDaemons places missing pods and removes those that are too many, ended or misplaced.
func planDaemons(in daemonNow) daemonPlan {
	var plan daemonPlan
	pl := newPlacement(in.ds)
	exists := map[string]bool{}
	surge, _ := daemonCounts(in.ds, 1)
	for _, n := range in.nodes {
		exists[n.Name] = true
		run, stay := pl.on(n)
		pods, has := in.pods[n.Name]
		switch {
		case run && !has:
			plan.create = append(plan.create, n.Name)
		case stay:
			running := endedDaemons(in, n.Name, pods, &plan)
			if surge > 0 {
				surgedDaemons(in, n.Name, running, run, &plan)
			} else if len(running) > 1 {
				plan.remove = append(plan.remove, running[1:]...)
			}
		default:
			for _, p := range pods {
				if p.DeletionTimestamp == nil {
					plan.remove = append(plan.remove, p)
				}
			}
		}
	}
	for _, node := range slices.Sorted(maps.Keys(in.pods)) {
		for _, p := range in.pods[node] {
			// Meant for a node that is gone, and never bound; pods that were bound are left to pod garbage collection.
			if !exists[node] && p.Spec.NodeName == "" && p.DeletionTimestamp == nil {
				plan.remove = append(plan.remove, p)
			}
		}
	}
	return plan
}

func endedDaemons(in daemonNow, node string, pods []*corev1.Pod, plan *daemonPlan) (running []*corev1.Pod) {
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
		case p.Status.Phase == corev1.PodFailed:
			if wait := in.backoff(node); wait > 0 {
				if plan.again == 0 || wait < plan.again {
					plan.again = wait
				}
				continue
			}
			plan.remove, plan.failed = append(plan.remove, p), append(plan.failed, p)
		case p.Status.Phase == corev1.PodSucceeded:
			plan.remove, plan.succeeded = append(plan.remove, p), append(plan.succeeded, p)
		default:
			running = append(running, p)
		}
	}
	return running
}

// surgedDaemons allows one old and one new pod on a node; the old one goes when the new one is available, or when it is
// of no use.
func surgedDaemons(in daemonNow, node string, running []*corev1.Pod, run bool, plan *daemonPlan) {
	if len(running) == 0 {
		if run {
			plan.create = append(plan.create, node)
		}
		return
	}
	var newest, old *corev1.Pod
	for _, p := range running {
		switch {
		case p.Labels[appsv1.ControllerRevisionHashLabelKey] == in.hash && newest == nil:
			newest = p
		case p.Labels[appsv1.ControllerRevisionHashLabelKey] != in.hash && old == nil:
			old = p
		default:
			plan.remove = append(plan.remove, p)
		}
	}
	if newest != nil && old != nil && (!pod.Ready(old) || pod.Available(newest, in.ds.Spec.MinReadySeconds, in.now)) {
		plan.remove = append(plan.remove, old)
	}
}

func updated(ds *appsv1.DaemonSet, p *corev1.Pod, hash string) bool {
	generation, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	byGeneration := err == nil && p.Labels["pod-template-generation"] == strconv.FormatInt(generation, 10)
	return p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == hash || byGeneration
}

// oldAndNew finds the pods of a node's update; ok is false where there are too many of one sort.
func oldAndNew(in daemonNow, pods []*corev1.Pod) (newer, old *corev1.Pod, ok bool) {
	for _, p := range pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		at := &old
		if updated(in.ds, p, in.hash) {
			at = &newer
		}
		if *at != nil {
			return nil, nil, false
		}
		*at = p
	}
	return newer, old, true
}

// planRolling replaces old daemon pods within the allowed surge or unavailability.
func planRolling(in daemonNow) daemonPlan {
	pl := newPlacement(in.ds)
	desired := 0
	shouldRun := map[string]bool{}
	for _, n := range in.nodes {
		if run, _ := pl.on(n); run {
			desired++
			shouldRun[n.Name] = true
			if _, ok := in.pods[n.Name]; !ok {
				in.pods[n.Name] = nil
			}
		}
	}
	surge, unavailable := daemonCounts(in.ds, desired)
	if surge == 0 {
		return planReplace(in, unavailable)
	}
	return planSurge(in, surge, desired, shouldRun)
}

func planReplace(in daemonNow, allowed int) daemonPlan {
	var plan daemonPlan
	var candidates []*corev1.Pod
	down := 0
	for _, node := range slices.Sorted(maps.Keys(in.pods)) {
		newer, old, ok := oldAndNew(in, in.pods[node])
		switch {
		case !ok, (old == nil) == (newer == nil):
			down++
		case newer != nil:
			if !pod.Available(newer, in.ds.Spec.MinReadySeconds, in.now) {
				down++
			}
		case !pod.Available(old, in.ds.Spec.MinReadySeconds, in.now):
			plan.remove = append(plan.remove, old)
			down++
		default:
			candidates = append(candidates, old)
		}
	}
	plan.remove = append(plan.remove, candidates[:min(max(allowed-down, 0), len(candidates))]...)
	return plan
}

func planSurge(in daemonNow, surge, desired int, shouldRun map[string]bool) daemonPlan {
	var plan daemonPlan
	var candidates []string
	var misplaced []*corev1.Pod
	surging, available := 0, 0
	minReady := in.ds.Spec.MinReadySeconds
	for _, node := range slices.Sorted(maps.Keys(in.pods)) {
		newer, old, ok := oldAndNew(in, in.pods[node])
		if !ok {
			surging++
			continue
		}
		if seen := cmp.Or(old, newer); seen != nil && pod.Available(seen, minReady, in.now) {
			available++
		}
		switch {
		case old == nil:
		case newer != nil && !pod.Available(newer, minReady, in.now):
			surging++
		case newer != nil:
			plan.remove = append(plan.remove, old)
		case !pod.Available(old, minReady, in.now):
			if shouldRun[node] {
				plan.create = append(plan.create, node)
			} else {
				plan.remove = append(plan.remove, old)
			}
		case !shouldRun[node]:
			misplaced = append(misplaced, old)
		case surging < surge:
			candidates = append(candidates, node)
		}
	}
	plan.remove = append(plan.remove, misplaced[:min(max(available-desired, 0), len(misplaced))]...)
	plan.create = append(plan.create, candidates[:min(max(surge-surging, 0), len(candidates))]...)
	return plan
}

// daemonStatus counts a DaemonSet's pods.
func daemonStatus(in daemonNow, old appsv1.DaemonSetStatus) appsv1.DaemonSetStatus {
	st := *old.DeepCopy()
	st.DesiredNumberScheduled, st.CurrentNumberScheduled, st.NumberMisscheduled = 0, 0, 0
	st.NumberReady, st.UpdatedNumberScheduled, st.NumberAvailable = 0, 0, 0
	pl := newPlacement(in.ds)
	for _, n := range in.nodes {
		run, _ := pl.on(n)
		pods := in.pods[n.Name]
		if !run {
			st.NumberMisscheduled += int32(b2i(len(pods) > 0))
			continue
		}
		st.DesiredNumberScheduled++
		if len(pods) == 0 {
			continue
		}
		st.CurrentNumberScheduled++
		p := pods[0]
		st.NumberReady += int32(b2i(pod.Ready(p)))
		st.NumberAvailable += int32(b2i(pod.Available(p, in.ds.Spec.MinReadySeconds, in.now)))
		st.UpdatedNumberScheduled += int32(b2i(updated(in.ds, p, in.hash)))
	}
	st.NumberUnavailable = st.DesiredNumberScheduled - st.NumberAvailable
	return st
}
