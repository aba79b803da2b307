package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TaintNodes taints new nodes as not ready, so that nothing is scheduled there before a controller has seen them.
type TaintNodes struct{ operations }

// Mutate implements Mutator.
func (p *TaintNodes) Mutate(_ context.Context, a *Attributes) error {
	if !a.Is("", "nodes", "") {
		return nil
	}
	n, err := object[*corev1.Node](a)
	if err != nil {
		return err
	}
	taint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
		n.Spec.Taints = append(n.Spec.Taints, taint)
	}
	return nil
}

// TopologyLabels copies a node's zone and region to the pods bound to it.
type TopologyLabels struct {
	operations
	node func(ctx context.Context, name string) (*corev1.Node, error)
}

// Mutate implements Mutator.
func (p *TopologyLabels) Mutate(ctx context.Context, a *Attributes) error {
	if !a.Is("", "pods", "", "binding") {
		return nil
	}
	var labels *map[string]string
	name := ""
	switch o := a.Object.(type) {
	case *corev1.Pod:
		labels, name = &o.Labels, o.Spec.NodeName
	case *corev1.Binding:
		if labels = &o.Labels; o.Target.Kind == "Node" {
			name = o.Target.Name
		}
	}
	if name == "" {
		return nil
	}
	n, err := p.node(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, k := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		if v, ok := n.Labels[k]; ok {
			if *labels == nil {
				*labels = map[string]string{}
			}
			(*labels)[k] = v
		}
	}
	return nil
}
