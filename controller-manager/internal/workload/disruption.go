package workload

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/controller-manager/internal/catalog"
	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/pod"
	"flagship/internal/kube"
)

type disruptions struct {
	loop.Deps
	src *loop.Source[policyv1.PodDisruptionBudget]
	cat *catalog.Catalog
}

// NewDisruption returns the disruption-controller.
func NewDisruption(workers int, d loop.Deps) *loop.Controller {
	c := &disruptions{Deps: d, src: d.Sources.Budgets(), cat: catalog.New(d.Client)}
	ctl := d.Controller(workers, c.sync)
	loop.Watch(ctl, c.src, loop.Own[policyv1.PodDisruptionBudget])
	loop.Watch(ctl, d.Sources.Pods(), func(e loop.Event[corev1.Pod]) []string {
		var keys []string
		for _, b := range c.src.In(e.Now().Namespace) {
			sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil {
				continue
			}
			if sel.Matches(labels.Set(e.Now().Labels)) || (e.Old != nil && sel.Matches(labels.Set(e.Old.Labels))) {
				keys = append(keys, loop.Key(b))
			}
		}
		return keys
	})
	loop.Need(ctl, d.Sources.ReplicaSets())
	loop.Need(ctl, d.Sources.Deployments())
	loop.Need(ctl, d.Sources.StatefulSets())
	loop.Need(ctl, d.Sources.ReplicationControllers())
	return ctl
}

func (c *disruptions) sync(ctx context.Context, key string) error {
	b := c.src.Get(loop.Split(key))
	if b == nil {
		return nil
	}
	sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return fmt.Errorf("selector of disruption budget %s: %w", key, err)
	}
	var pods []*corev1.Pod
	for _, p := range loop.Select(c.Sources.Pods().In(b.Namespace), sel) {
		if !pod.Terminal(p) {
			pods = append(pods, p)
		}
	}
	if len(pods) == 0 {
		c.Events.Event(b, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	now := c.Now()
	scale, err := c.scale(ctx, b, pods)
	var expected, desired int32
	if err == nil {
		expected, desired, err = expectedPods(b, int32(len(pods)), scale)
	}
	if err != nil {
		c.Events.Eventf(b, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		// Nothing may be evicted while the size is not known.
		st := *b.Status.DeepCopy()
		st.DisruptionsAllowed, st.ObservedGeneration = 0, b.Generation
		setBudgetCondition(&st, b.Generation, metav1.ConditionFalse, policyv1.SyncFailedReason, err.Error(), now)
		return c.write(ctx, b, st)
	}
	disrupted, next := liveDisruptions(b, pods, now)
	st := budgetStatus(b, expected, desired, countHealthy(pods, disrupted), disrupted, now)
	if err := c.write(ctx, b, st); err != nil {
		return err
	}
	if next > 0 {
		return loop.In(next)
	}
	return nil
}

func (c *disruptions) write(ctx context.Context, b *policyv1.PodDisruptionBudget, st policyv1.PodDisruptionBudgetStatus) error {
	if equality.Semantic.DeepEqual(st, b.Status) {
		return nil
	}
	next := b.DeepCopy()
	next.Status = st
	_, err := kube.For[policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetList](c.Client, policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets"), b.Namespace).
		UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

// scale sums the wanted sizes of the pods' controllers. Budgets by absolute minimum do not need it.
func (c *disruptions) scale(ctx context.Context, b *policyv1.PodDisruptionBudget, pods []*corev1.Pod) (int32, error) {
	if b.Spec.MaxUnavailable == nil && (b.Spec.MinAvailable == nil || b.Spec.MinAvailable.Type == 0) {
		return 0, nil
	}
	seen := map[string]bool{}
	var sum int32
	for _, p := range pods {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref == nil {
			continue
		}
		owner, n, err := c.ownerScale(ctx, p.Namespace, ref)
		if err != nil {
			return 0, err
		}
		if !seen[owner] {
			seen[owner] = true
			sum += n
		}
	}
	return sum, nil
}

func (c *disruptions) ownerScale(ctx context.Context, ns string, ref *metav1.OwnerReference) (string, int32, error) {
	switch ref.Kind {
	case "ReplicaSet":
		if rs := c.Sources.ReplicaSets().Get(ns, ref.Name); rs != nil && rs.UID == ref.UID {
			if up := metav1.GetControllerOfNoCopy(rs); up != nil && up.Kind == "Deployment" {
				if d := c.Sources.Deployments().Get(ns, up.Name); d != nil && d.UID == up.UID {
					return string(d.UID), deref(d.Spec.Replicas, 1), nil
				}
			}
			return string(rs.UID), deref(rs.Spec.Replicas, 1), nil
		}
	case "StatefulSet":
		if s := c.Sources.StatefulSets().Get(ns, ref.Name); s != nil && s.UID == ref.UID {
			return string(s.UID), deref(s.Spec.Replicas, 1), nil
		}
	case "ReplicationController":
		if rc := c.Sources.ReplicationControllers().Get(ns, ref.Name); rc != nil && rc.UID == ref.UID {
			return string(rc.UID), deref(rc.Spec.Replicas, 1), nil
		}
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", 0, err
	}
	gk := schema.GroupKind{Group: gv.Group, Kind: ref.Kind}
	r, ok := c.cat.Find(gk)
	if !ok {
		if _, err := c.cat.List(ctx); err != nil {
			return "", 0, err
		}
		if r, ok = c.cat.Find(gk); !ok {
			return "", 0, fmt.Errorf("%s %s is not known to the server", ref.APIVersion, ref.Kind)
		}
	}
	raw, err := c.Client.REST(r.GroupVersion())
	if err != nil {
		return "", 0, err
	}
	s := &autoscalingv1.Scale{}
	if err := raw.Get().Namespace(ns).Resource(r.Resource).Name(ref.Name).SubResource("scale").Do(ctx).Into(s); err != nil {
		return "", 0, fmt.Errorf("%s does not implement the scale subresource: %w", gk, err)
	}
	return string(ref.UID), s.Spec.Replicas, nil
}
