package admission

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TolerationSeconds gives pods a bounded toleration of nodes that are not ready or unreachable.
type TolerationSeconds struct {
	operations
	notReady, unreachable int64
}

// Mutate implements Mutator.
func (p *TolerationSeconds) Mutate(_ context.Context, a *Attributes) error {
	if !a.Is("", "pods", "") {
		return nil
	}
	pod, err := object[*corev1.Pod](a)
	if err != nil {
		return err
	}
	for _, t := range []struct {
		key     string
		seconds int64
	}{{corev1.TaintNodeNotReady, p.notReady}, {corev1.TaintNodeUnreachable, p.unreachable}} {
		tolerated := slices.ContainsFunc(pod.Spec.Tolerations, func(o corev1.Toleration) bool {
			return (o.Key == t.key || o.Key == "") && (o.Effect == corev1.TaintEffectNoExecute || o.Effect == "")
		})
		if !tolerated {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
				Key: t.key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(t.seconds),
			})
		}
	}
	return nil
}

// AlwaysPullImages has every image pulled anew, so that nobody uses one that another's secret has fetched.
type AlwaysPullImages struct{ operations }

// Mutate implements Mutator.
func (p *AlwaysPullImages) Mutate(_ context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !a.Is("", "pods", "", "ephemeralcontainers") {
		return nil
	}
	for i := range pod.Spec.InitContainers {
		pod.Spec.InitContainers[i].ImagePullPolicy = corev1.PullAlways
	}
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].ImagePullPolicy = corev1.PullAlways
	}
	for i := range pod.Spec.EphemeralContainers {
		pod.Spec.EphemeralContainers[i].ImagePullPolicy = corev1.PullAlways
	}
	return nil
}

// ExtendedResourceToleration lets pods that ask for an extended resource onto the nodes tainted for it.
type ExtendedResourceToleration struct{ operations }

// Mutate implements Mutator.
func (p *ExtendedResourceToleration) Mutate(_ context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !a.Is("", "pods", "") {
		return nil
	}
	names := map[corev1.ResourceName]bool{}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for r := range c.Resources.Requests {
			if extendedResource(r) {
				names[r] = true
			}
		}
	}
	for _, r := range slices.Sorted(maps.Keys(names)) {
		t := corev1.Toleration{Key: string(r), Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}
		if !slices.Contains(pod.Spec.Tolerations, t) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
		}
	}
	return nil
}

// extendedResource says whether a resource is one that Kubernetes itself knows nothing of.
func extendedResource(name corev1.ResourceName) bool {
	s := string(name)
	return strings.Contains(s, "/") && !strings.Contains(s, "kubernetes.io/") && !strings.HasPrefix(s, corev1.DefaultResourceRequestsPrefix)
}

// RuntimeClass adds a runtime class's overhead and scheduling constraints to the pods that use it.
type RuntimeClass struct {
	operations
	get func(ctx context.Context, name string) (*nodev1.RuntimeClass, error)
}

func (p *RuntimeClass) class(ctx context.Context, a *Attributes) (*corev1.Pod, *nodev1.RuntimeClass, error) {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil, nil, apierrors.NewBadRequest("Resource was marked with kind Pod but was unable to be converted")
	}
	if pod.Spec.RuntimeClassName == nil {
		return pod, nil, nil
	}
	rc, err := p.get(ctx, *pod.Spec.RuntimeClassName)
	if apierrors.IsNotFound(err) {
		err = forbid(a, "pod rejected: RuntimeClass %q not found", *pod.Spec.RuntimeClassName)
	}
	return pod, rc, err
}

const overheadMismatch = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"

// Mutate implements Mutator.
func (p *RuntimeClass) Mutate(ctx context.Context, a *Attributes) error {
	if !a.Is("", "pods", "") {
		return nil
	}
	pod, rc, err := p.class(ctx, a)
	if err != nil || rc == nil {
		return err
	}
	if rc.Overhead != nil {
		if len(pod.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(rc.Overhead.PodFixed, pod.Spec.Overhead) {
			return forbid(a, overheadMismatch)
		}
		pod.Spec.Overhead = rc.Overhead.PodFixed.DeepCopy()
	}
	if rc.Scheduling == nil {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(rc.Scheduling.NodeSelector)) {
		want := rc.Scheduling.NodeSelector[k]
		if have, ok := pod.Spec.NodeSelector[k]; ok && have != want {
			return forbid(a, "conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", k, want, k, have)
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[k] = want
	}
	pod.Spec.Tolerations = mergeTolerations(pod.Spec.Tolerations, rc.Scheduling.Tolerations)
	return nil
}

// mergeTolerations joins two lists, leaving out what another toleration covers.
func mergeTolerations(first, second []corev1.Toleration) []corev1.Toleration {
	all := slices.Concat(first, second)
	var out []corev1.Toleration
	for i, t := range all {
		covered := false
		for j, o := range all {
			// Of two that cover each other, the first stays.
			if i != j && covers(&o, &t) && (j < i || !covers(&t, &o)) {
				covered = true
				break
			}
		}
		if !covered {
			out = append(out, t)
		}
	}
	return out
}

func covers(o, t *corev1.Toleration) bool {
	if equality.Semantic.DeepEqual(o, t) {
		return true
	}
	exists := o.Operator == corev1.TolerationOpExists
	switch {
	case o.Key != t.Key && !(o.Key == "" && exists):
		return false
	case o.Effect != t.Effect && o.Effect != "":
		return false
	case o.Effect == corev1.TaintEffectNoExecute && o.TolerationSeconds != nil &&
		(t.TolerationSeconds == nil || *t.TolerationSeconds > *o.TolerationSeconds):
		return false
	case exists:
		return true
	}
	return (o.Operator == "" || o.Operator == corev1.TolerationOpEqual) && (t.Operator == "" || t.Operator == corev1.TolerationOpEqual) &&
		o.Value == t.Value
}

// Validate implements Validator.
func (p *RuntimeClass) Validate(ctx context.Context, a *Attributes) error {
	if !a.Is("", "pods", "") {
		return nil
	}
	pod, rc, err := p.class(ctx, a)
	switch {
	case err != nil:
		return err
	case rc != nil && rc.Overhead != nil:
		if !equality.Semantic.DeepEqual(rc.Overhead.PodFixed, pod.Spec.Overhead) {
			return forbid(a, overheadMismatch)
		}
	case pod.Spec.Overhead != nil:
		return forbid(a, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	}
	return nil
}
