package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Priority turns a pod's priority class into its priority, and keeps the default class unique.
type Priority struct {
	operations
	r *Readers
}

// Mutate implements Mutator.
func (p *Priority) Mutate(ctx context.Context, a *Attributes) error {
	if !a.Is("", "pods", "") {
		return nil
	}
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest("resource was marked with kind Pod but was unable to be converted")
	}
	if a.Operation == Update {
		if old, ok := a.OldObject.(*corev1.Pod); ok {
			if pod.Spec.Priority == nil {
				pod.Spec.Priority = old.Spec.Priority
			}
			if pod.Spec.PreemptionPolicy == nil {
				pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
			}
		}
		return nil
	}
	name, value, policy, err := p.priority(ctx, a, pod.Spec.PriorityClassName)
	if err != nil {
		return err
	}
	pod.Spec.PriorityClassName = name
	if have := pod.Spec.Priority; have != nil && *have != value {
		return forbid(a, "the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *have, value)
	}
	pod.Spec.Priority = &value
	if policy != nil {
		if have := pod.Spec.PreemptionPolicy; have != nil && *have != *policy {
			return forbid(a, "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *have, *policy)
		}
		pod.Spec.PreemptionPolicy = new(*policy)
	}
	return nil
}

func (p *Priority) priority(ctx context.Context, a *Attributes, class string) (string, int32, *corev1.PreemptionPolicy, error) {
	if class != "" {
		pc, err := p.r.PriorityClass(ctx, class)
		if apierrors.IsNotFound(err) {
			return "", 0, nil, forbid(a, "no PriorityClass with name %v was found", class)
		}
		if err != nil {
			return "", 0, nil, fmt.Errorf("failed to get PriorityClass with name %s: %w", class, err)
		}
		return pc.Name, pc.Value, pc.PreemptionPolicy, nil
	}
	pc, err := p.defaultClass(ctx)
	if err != nil {
		return "", 0, nil, fmt.Errorf("error occurred while retrieving default priority class: %w", err)
	}
	if pc == nil {
		return "", 0, new(corev1.PreemptLowerPriority), nil
	}
	return pc.Name, pc.Value, pc.PreemptionPolicy, nil
}

// defaultClass returns the global default: if there are several, the one of the least value.
func (p *Priority) defaultClass(ctx context.Context) (*schedulingv1.PriorityClass, error) {
	list, err := p.r.PriorityClasses(ctx)
	var out *schedulingv1.PriorityClass
	for _, pc := range list {
		if pc.GlobalDefault && (out == nil || pc.Value < out.Value) {
			out = pc
		}
	}
	return out, err
}

// Validate implements Validator.
func (p *Priority) Validate(ctx context.Context, a *Attributes) error {
	if !a.Is("scheduling.k8s.io", "priorityclasses", "") {
		return nil
	}
	pc, ok := a.Object.(*schedulingv1.PriorityClass)
	if !ok {
		return apierrors.NewBadRequest("resource was marked with kind PriorityClass but was unable to be converted")
	}
	if !pc.GlobalDefault {
		return nil
	}
	have, err := p.defaultClass(ctx)
	if err != nil {
		return fmt.Errorf("failed to get default priority class: %w", err)
	}
	if have != nil && (a.Operation == Create || have.Name != pc.Name) {
		return forbid(a, "PriorityClass %v is already marked as default. Only one default can exist", have.Name)
	}
	return nil
}
