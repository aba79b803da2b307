package cri

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ExecResult is the outcome of a command that was run to its end.
type ExecResult struct {
	Stdout, Stderr []byte
	ExitCode       int32
}

// ErrExecTimeout tells that a command did not end in time.
type ErrExecTimeout struct{ Timeout time.Duration }

func (e ErrExecTimeout) Error() string { return fmt.Sprintf("command timed out after %s", e.Timeout) }

// ExecSync runs a command in a container; timeout 0 means none but ctx's.
func (c *Client) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (ExecResult, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout+timeout)
		defer cancel()
	}
	r, err := c.runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: cmd, Timeout: int64(timeout / time.Second)})
	if grpcstatus.Code(err) == codes.DeadlineExceeded {
		return ExecResult{}, ErrExecTimeout{Timeout: timeout}
	}
	if err != nil {
		return ExecResult{}, err
	}
	return ExecResult{Stdout: r.Stdout, Stderr: r.Stderr, ExitCode: r.ExitCode}, nil
}

// ExecURL asks where to stream an exec session.
func (c *Client) ExecURL(ctx context.Context, req *runtimeapi.ExecRequest) (string, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.Exec(ctx, req)
	return r.GetUrl(), err
}

// AttachURL asks where to stream an attach session.
func (c *Client) AttachURL(ctx context.Context, req *runtimeapi.AttachRequest) (string, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.Attach(ctx, req)
	return r.GetUrl(), err
}

// PortForwardURL asks where to stream forwarded ports.
func (c *Client) PortForwardURL(ctx context.Context, req *runtimeapi.PortForwardRequest) (string, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.PortForward(ctx, req)
	return r.GetUrl(), err
}

// Stats lists usage of every running container.
func (c *Client) Stats(ctx context.Context) ([]*runtimeapi.ContainerStats, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("list container stats: %w", err)
	}
	return r.Stats, nil
}

// MemoryUsage is how much memory a container uses now, in bytes.
func (c *Client) MemoryUsage(ctx context.Context, id string) (uint64, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.ContainerStats(ctx, &runtimeapi.ContainerStatsRequest{ContainerId: id})
	if err != nil {
		return 0, fmt.Errorf("get stats of container %s: %w", id, err)
	}
	used := r.GetStats().GetMemory().GetUsageBytes()
	if used == nil {
		return 0, fmt.Errorf("stats of container %s have no memory usage", id)
	}
	return used.Value, nil
}

// ErrNoEvents tells that the runtime has no event stream.
var ErrNoEvents = fmt.Errorf("the container runtime does not implement GetContainerEvents")

// Events calls f with the pod UID of every container event until ctx ends or the stream breaks.
func (c *Client) Events(ctx context.Context, opened func(), f func(podUID string)) error {
	stream, err := c.runtime.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		return eventsError(err)
	}
	first := true
	for {
		if first {
			// Unimplemented shows only at the first receive; a runtime that has events keeps the stream quiet until one happens.
			first = false
			timer := time.AfterFunc(time.Second, opened)
			defer timer.Stop()
		}
		ev, err := stream.Recv()
		if err != nil {
			return eventsError(err)
		}
		if uid := ev.GetPodSandboxStatus().GetMetadata().GetUid(); uid != "" { // the last event of a pod has no sandbox
			f(uid)
		}
	}
}

func eventsError(err error) error {
	if grpcstatus.Code(err) == codes.Unimplemented {
		return ErrNoEvents
	}
	return fmt.Errorf("container events: %w", err)
}
