package cri

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// Annotations on containers, upstream's names, by which a restarted kubelet knows what it made.
const (
	AnnotationHash              = "io.kubernetes.container.hash"
	AnnotationRestartCount      = "io.kubernetes.container.restartCount"
	AnnotationTerminationPath   = "io.kubernetes.container.terminationMessagePath"
	AnnotationTerminationPolicy = "io.kubernetes.container.terminationMessagePolicy"
	AnnotationPreStop           = "io.kubernetes.container.preStopHandler"
	AnnotationPorts             = "io.kubernetes.container.ports"
	AnnotationDeletionGrace     = "io.kubernetes.pod.deletionGracePeriod"
	AnnotationTerminationGrace  = "io.kubernetes.pod.terminationGracePeriod"
)

// Bounds of a termination message, in bytes and lines, as the API documents them.
const (
	maxMessageBytes    = 4096
	maxLogMessageBytes = 2048
	maxLogMessageLines = 80
)

// CreateContainer makes a container in the sandbox and returns its ID.
func (c *Client) CreateContainer(ctx context.Context, sandbox string, cfg *runtimeapi.ContainerConfig, sc *runtimeapi.PodSandboxConfig) (string, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox, Config: cfg, SandboxConfig: sc})
	if err != nil {
		return "", err
	}
	return r.ContainerId, nil
}

// StartContainer starts a created container.
func (c *Client) StartContainer(ctx context.Context, id string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id})
	return err
}

// StopContainer sends the stop signal and kills after grace. Stopping one that is gone is no error.
func (c *Client) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout+grace)
	defer cancel()
	_, err := c.runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: int64(grace / time.Second)})
	if err != nil && !IsNotFound(err) {
		return fmt.Errorf("stop container %s: %w", id, err)
	}
	return nil
}

// RemoveContainer removes a container that is not running.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id})
	if err != nil && !IsNotFound(err) {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// UpdateContainer changes the resources of a running container.
func (c *Client) UpdateContainer(ctx context.Context, id string, r *runtimeapi.LinuxContainerResources) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.runtime.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: r})
	return err
}

// ReopenLog makes the runtime open the container's log file anew, after rotation.
func (c *Client) ReopenLog(ctx context.Context, id string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.runtime.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
	return err
}

// ContainerInfo is a container as a list shows it.
type ContainerInfo struct {
	ID, SandboxID, Name, PodUID, PodName, PodNamespace string
	Image, ImageRef, ImageID                           string
	State                                              podstate.State
	CreatedAt                                          time.Time
}

// Containers lists every Kubernetes container, newest first, or those of one pod when uid is not empty.
func (c *Client) Containers(ctx context.Context, uid string) ([]ContainerInfo, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	filter := &runtimeapi.ContainerFilter{}
	if uid != "" {
		filter.LabelSelector = map[string]string{podspec.LabelPodUID: uid}
	}
	r, err := c.runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	out := make([]ContainerInfo, 0, len(r.Containers))
	for _, k := range r.Containers {
		if k.Labels[podspec.LabelPodUID] == "" {
			continue
		}
		out = append(out, ContainerInfo{
			ID: k.Id, SandboxID: k.PodSandboxId, Name: k.GetMetadata().GetName(), PodUID: k.Labels[podspec.LabelPodUID],
			PodName: k.Labels[podspec.LabelPodName], PodNamespace: k.Labels[podspec.LabelPodNamespace],
			Image: k.GetImage().GetImage(), ImageRef: k.ImageRef, ImageID: k.ImageId,
			State: stateOf(k.State), CreatedAt: time.Unix(0, k.CreatedAt),
		})
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].CreatedAt.After(out[j].CreatedAt) })
	return out, nil
}

// Pod reads everything about one pod from the runtime.
func (c *Client) Pod(ctx context.Context, uid types.UID) (*podstate.Pod, error) {
	sandboxes, err := c.Sandboxes(ctx, string(uid))
	if err != nil {
		return nil, err
	}
	containers, err := c.Containers(ctx, string(uid))
	if err != nil {
		return nil, err
	}
	p := &podstate.Pod{UID: uid}
	for i, s := range sandboxes {
		p.Name, p.Namespace = s.Name, s.Namespace
		sb, err := c.sandboxStatus(ctx, s.ID)
		if IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if i == 0 && sb.Ready {
			p.IPs = sb.IPs
		}
		p.Sandboxes = append(p.Sandboxes, *sb)
	}
	for _, info := range containers {
		k, err := c.Container(ctx, info.ID)
		if IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		k.SandboxID = info.SandboxID
		p.Name, p.Namespace = info.PodName, info.PodNamespace
		p.Containers = append(p.Containers, *k)
	}
	return p, nil
}

// Container reads one container's status. SandboxID is not part of the answer.
func (c *Client) Container(ctx context.Context, id string) (*podstate.Container, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return nil, fmt.Errorf("get status of container %s: %w", id, err)
	}
	return convertContainer(r.GetStatus()), nil
}

func convertContainer(s *runtimeapi.ContainerStatus) *podstate.Container {
	a := s.GetAnnotations()
	out := &podstate.Container{
		ID: s.GetId(), Name: s.GetMetadata().GetName(), Image: s.GetImage().GetImage(), ImageRef: s.GetImageRef(),
		LogPath: s.GetLogPath(), State: stateOf(s.GetState()), CreatedAt: unixNano(s.GetCreatedAt()),
		TerminationMessagePath: a[AnnotationTerminationPath], TerminationMessagePolicy: a[AnnotationTerminationPolicy],
		PreStop: a[AnnotationPreStop], RestartCount: int(s.GetMetadata().GetAttempt()),
	}
	out.Hash, _ = strconv.ParseUint(a[AnnotationHash], 16, 64)
	if n, err := strconv.Atoi(a[AnnotationRestartCount]); err == nil {
		out.RestartCount = n
	}
	for _, key := range []string{AnnotationTerminationGrace, AnnotationDeletionGrace} {
		if n, err := strconv.ParseInt(a[key], 10, 64); err == nil {
			out.TerminationGraceSeconds = &n
		}
	}
	if out.State != podstate.Created {
		out.StartedAt = unixNano(s.GetStartedAt())
	}
	if l := s.GetResources().GetLinux(); l != nil {
		out.Resources = &podstate.Resources{CPUShares: l.CpuShares, CPUQuota: l.CpuQuota, CPUPeriod: l.CpuPeriod, MemoryLimit: l.MemoryLimitInBytes}
	}
	if u := s.GetUser().GetLinux(); u != nil {
		out.UID, out.GID, out.SupplementalGroups = &u.Uid, &u.Gid, u.SupplementalGroups
	}
	if s.GetStopSignal() != runtimeapi.Signal(0) {
		out.StopSignal = strings.TrimPrefix(s.GetStopSignal().String(), "SIGNAL_")
	}
	if out.State == podstate.Exited {
		out.FinishedAt = unixNano(s.GetFinishedAt())
		out.ExitCode, out.Reason = s.GetExitCode(), s.GetReason()
		out.Message = terminationMessage(s, out)
	}
	return out
}

// terminationMessage reads what the container left at its termination message path, or the end of its log where the
// policy says so; the runtime's own message follows.
func terminationMessage(s *runtimeapi.ContainerStatus, k *podstate.Container) string {
	msg := ""
	for _, m := range s.GetMounts() {
		if k.TerminationMessagePath == "" || m.GetContainerPath() != k.TerminationMessagePath {
			continue
		}
		data, err := tail(m.GetHostPath(), maxMessageBytes)
		if err != nil {
			msg = fmt.Sprintf("Error on reading termination log %s: %v", m.GetHostPath(), err)
		} else {
			msg = string(data)
		}
		break
	}
	if msg == "" && k.TerminationMessagePolicy == "FallbackToLogsOnError" && k.ExitCode != 0 {
		msg = logTail(k.LogPath, maxLogMessageBytes, maxLogMessageLines)
	}
	if s.GetMessage() == "" {
		return msg
	}
	if msg == "" {
		return s.GetMessage()
	}
	return s.GetMessage() + ": " + msg
}

// tail reads at most max bytes from the end of a file.
func tail(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < limit {
		limit = info.Size()
	}
	buf := make([]byte, limit)
	n, err := f.ReadAt(buf, info.Size()-limit)
	if int64(n) == limit {
		err = nil
	}
	return buf[:n], err
}

func unixNano(n int64) time.Time {
	if n <= 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func stateOf(s runtimeapi.ContainerState) podstate.State {
	switch s {
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		return podstate.Created
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		return podstate.Running
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		return podstate.Exited
	}
	return podstate.Unknown
}
