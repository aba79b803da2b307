package cri

import (
	"context"
	"fmt"
	"sort"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// sandboxTimeout bounds the making of a sandbox, CNI included, as upstream's 4 minutes.
const sandboxTimeout = 4 * time.Minute

// RunSandbox makes and starts a pod sandbox and returns its ID.
func (c *Client) RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sandboxTimeout)
	defer cancel()
	r, err := c.runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg, RuntimeHandler: handler})
	if err != nil {
		return "", err
	}
	return r.PodSandboxId, nil
}

// StopSandbox stops a sandbox and frees its network. Stopping one that is gone is no error.
func (c *Client) StopSandbox(ctx context.Context, id string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id})
	if err != nil && !IsNotFound(err) {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	return nil
}

// RemoveSandbox removes a stopped sandbox.
func (c *Client) RemoveSandbox(ctx context.Context, id string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
	if err != nil && !IsNotFound(err) {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	return nil
}

// SandboxInfo is a sandbox as a list shows it.
type SandboxInfo struct {
	ID, Name, Namespace, UID string
	Ready                    bool
	Attempt                  uint32
	CreatedAt                time.Time
}

// Sandboxes lists every pod sandbox, or those of one pod when uid is not empty.
func (c *Client) Sandboxes(ctx context.Context, uid string) ([]SandboxInfo, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	filter := &runtimeapi.PodSandboxFilter{}
	if uid != "" {
		filter.LabelSelector = map[string]string{podspec.LabelPodUID: uid}
	}
	r, err := c.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	out := make([]SandboxInfo, 0, len(r.Items))
	for _, s := range r.Items {
		if s.Labels[podspec.LabelPodUID] == "" {
			continue // not a Kubernetes pod
		}
		out = append(out, SandboxInfo{
			ID: s.Id, UID: s.Labels[podspec.LabelPodUID], Name: s.Labels[podspec.LabelPodName],
			Namespace: s.Labels[podspec.LabelPodNamespace], Ready: s.State == runtimeapi.PodSandboxState_SANDBOX_READY,
			Attempt: s.GetMetadata().GetAttempt(), CreatedAt: time.Unix(0, s.CreatedAt),
		})
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].CreatedAt.Equal(out[j].CreatedAt) {
			return out[i].ID < out[j].ID
		}
		return out[i].CreatedAt.After(out[j].CreatedAt)
	})
	return out, nil
}

func (c *Client) sandboxStatus(ctx context.Context, id string) (*podstate.Sandbox, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return nil, fmt.Errorf("get status of sandbox %s: %w", id, err)
	}
	s := r.GetStatus()
	out := &podstate.Sandbox{
		ID: id, Attempt: s.GetMetadata().GetAttempt(), CreatedAt: time.Unix(0, s.GetCreatedAt()),
		Ready:       s.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY,
		HostNetwork: s.GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE,
	}
	if ip := s.GetNetwork().GetIp(); ip != "" {
		out.IPs = append(out.IPs, ip)
	}
	for _, ip := range s.GetNetwork().GetAdditionalIps() {
		out.IPs = append(out.IPs, ip.Ip)
	}
	return out, nil
}
