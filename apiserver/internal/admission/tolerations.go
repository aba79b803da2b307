package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TolerationRestriction gives pods the tolerations of their namespace, and holds them to those that it allows. What a
// namespace does not say, the cluster's configuration does. It is off unless --enable-admission-plugins names it.
type TolerationRestriction struct {
	operations
	get     func(ctx context.Context, name string) (*corev1.Namespace, error)
	qos     func(*corev1.Pod) corev1.PodQOSClass
	cluster tolerationConfig
}

// tolerationConfig is a Configuration of podtolerationrestriction.admission.k8s.io/v1alpha1.
type tolerationConfig struct {
	Default   []corev1.Toleration `json:"default"`
	Whitelist []corev1.Toleration `json:"whitelist"`
}

// The annotations of a namespace: JSON lists of tolerations; an empty text is an empty list.
const (
	defaultTolerationsAnnotation = "scheduler.alpha.kubernetes.io/defaultTolerations"
	allowedTolerationsAnnotation = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
)

// said is what the namespace says; ok is false where that is nothing.
func (p *TolerationRestriction) said(ctx context.Context, namespace, annotation string) (list []corev1.Toleration, ok bool, err error) {
	ns, err := p.get(ctx, namespace)
	if err != nil {
		if !apierrors.IsNotFound(err) {
			err = apierrors.NewInternalError(err)
		}
		return nil, false, err
	}
	text, ok := ns.Annotations[annotation]
	if !ok || text == "" {
		return nil, ok, nil
	}
	return list, true, json.Unmarshal([]byte(text), &list)
}

// Mutate implements Mutator.
func (p *TolerationRestriction) Mutate(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !a.Is("", "pods", "") {
		return nil
	}
	var more []corev1.Toleration
	if a.Operation == Create {
		list, said, err := p.said(ctx, a.Namespace, defaultTolerationsAnnotation)
		if err != nil {
			return err
		}
		if !said {
			list = p.cluster.Default
		}
		more = slices.Clone(list)
	}
	if p.qos(pod) != corev1.PodQOSBestEffort {
		more = append(more, corev1.Toleration{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	if len(more) > 0 {
		pod.Spec.Tolerations = mergeTolerations(pod.Spec.Tolerations, more)
	}
	return p.Validate(ctx, a)
}

// Validate implements Validator.
func (p *TolerationRestriction) Validate(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !a.Is("", "pods", "") || len(pod.Spec.Tolerations) == 0 {
		return nil
	}
	scope := "namespace"
	allowed, said, err := p.said(ctx, a.Namespace, allowedTolerationsAnnotation)
	if err != nil {
		return err
	}
	if !said {
		allowed, scope = p.cluster.Whitelist, "cluster"
	}
	if len(allowed) == 0 {
		return nil
	}
	for i := range pod.Spec.Tolerations {
		if !slices.ContainsFunc(allowed, func(o corev1.Toleration) bool { return covers(&o, &pod.Spec.Tolerations[i]) }) {
			return fmt.Errorf("pod tolerations (possibly merged with namespace default tolerations) conflict with its %s whitelist", scope)
		}
	}
	return nil
}

func (f Files) tolerations() (c tolerationConfig, err error) {
	if err = f.decode("PodTolerationRestriction", "podtolerationrestriction.admission.k8s.io/v1alpha1", &c); err != nil {
		return c, err
	}
	for _, t := range slices.Concat(c.Default, c.Whitelist) {
		if t.Key == "" && t.Operator != corev1.TolerationOpExists {
			return c, errors.New("PodTolerationRestriction: operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
		}
	}
	return c, nil
}
