package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podresource "k8s.io/component-helpers/resource"
)

// PodResize refuses to resize bound pods beyond what their node has, or where the node cannot.
type PodResize struct {
	operations
	node func(ctx context.Context, name string) (*corev1.Node, error)
}

// Validate implements Validator.
func (p *PodResize) Validate(ctx context.Context, a *Attributes) error {
	if !a.Is("", "pods", "resize") {
		return nil
	}
	pod, _, err := boundUpdate(a)
	if err != nil || pod == nil {
		return err
	}
	node, err := nodeOf(ctx, a, p.node, pod)
	if err != nil {
		return err
	}
	if os, ok := node.Labels[corev1.LabelOSStable]; ok && os != "linux" {
		return because(forbid(a, "pod resize is only supported on linux nodes, node %q is %q", node.Name, os), "UnsupportedPlatform")
	}
	if missing := beyond(pod, node.Status.Allocatable); len(missing) > 0 {
		return because(forbid(a, "node didn't have enough allocatable resources: %s", strings.Join(missing, "; ")), "NodeCapacity")
	}
	return nil
}

// beyond says which of a pod's requests are more than a node may give, whatever else runs there.
func beyond(pod *corev1.Pod, allocatable corev1.ResourceList) []string {
	requests := podresource.PodRequests(pod, podresource.PodResourcesOptions{})
	var out []string
	if want, has := requests.Cpu(), allocatable.Cpu(); want.Cmp(*has) > 0 {
		out = append(out, fmt.Sprintf("cpu, requested: %d, allocatable: %d", want.MilliValue(), has.MilliValue()))
	}
	if want, has := requests.Memory(), allocatable.Memory(); want.Cmp(*has) > 0 {
		out = append(out, fmt.Sprintf("memory, requested: %d, allocatable: %d", want.Value(), has.Value()))
	}
	return out
}

// because adds a cause to the details of a Status.
func because(err error, cause metav1.CauseType) error {
	var s *apierrors.StatusError
	if errors.As(err, &s) {
		s.ErrStatus.Details.Causes = append(s.ErrStatus.Details.Causes, metav1.StatusCause{Type: cause})
	}
	return err
}
