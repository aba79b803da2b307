package admission

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"

	"flagship/internal/version"
)

// NodeFeatures refuses updates of bound pods that need a feature which their node does not declare. Upstream's plugin looks at
// ResourceSlices too where the gate DRANodeAllocatableResources is on; it is off in v1.37, and so here.
type NodeFeatures struct {
	operations
	node func(ctx context.Context, name string) (*corev1.Node, error)
}

// Validate implements Validator.
func (p *NodeFeatures) Validate(ctx context.Context, a *Attributes) error {
	if !a.Is("", "pods", "", "resize") {
		return nil
	}
	pod, old, err := boundUpdate(a)
	if err != nil || pod == nil {
		return err
	}
	target, err := utilversion.Parse(version.Get().GitVersion)
	if err != nil {
		return err
	}
	features := nodedeclaredfeatures.DefaultFramework
	of := func(p *corev1.Pod) *nodedeclaredfeatures.PodInfo {
		return &nodedeclaredfeatures.PodInfo{Spec: &p.Spec, Status: &p.Status}
	}
	needs, err := features.InferForPodUpdate(of(old), of(pod), target)
	if err != nil {
		return forbid(a, "failed to infer pod capability requirements: %w", err)
	}
	if needs.IsEmpty() {
		return nil
	}
	node, err := nodeOf(ctx, a, p.node, pod)
	if err != nil {
		return err
	}
	match, err := features.MatchNode(needs, node)
	if err != nil {
		return forbid(a, "failed to match pod requirements against node %q: %w", node.Name, err)
	}
	if !match.IsMatch {
		return forbid(a, "pod update requires features %s which are not available on node %q", strings.Join(match.UnsatisfiedRequirements, ", "), node.Name)
	}
	return nil
}

// boundUpdate is a pod that is bound to a node and whose spec changes, with what it was; else nil.
func boundUpdate(a *Attributes) (pod, old *corev1.Pod, err error) {
	if pod, err = object[*corev1.Pod](a); err != nil {
		return nil, nil, err
	}
	if old, err = oldObject[*corev1.Pod](a); err != nil {
		return nil, nil, err
	}
	// The generation counts changes of the spec.
	if pod.Spec.NodeName == "" || pod.Generation == old.Generation {
		return nil, nil, nil
	}
	return pod, old, nil
}

func nodeOf(ctx context.Context, a *Attributes, get func(ctx context.Context, name string) (*corev1.Node, error), pod *corev1.Pod) (*corev1.Node, error) {
	node, err := get(ctx, pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return nil, forbid(a, "node %q not found", pod.Spec.NodeName)
	}
	if err != nil {
		return nil, forbid(a, "failed to get node %q: %w", pod.Spec.NodeName, err)
	}
	return node, nil
}
