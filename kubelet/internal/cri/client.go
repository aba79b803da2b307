package cri

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxMessage bounds one CRI message, in bytes, as upstream does.
const maxMessage = 16 << 20

// Config says where the runtime listens.
type Config struct {
	RuntimeEndpoint string        // unix:///path, or a bare path
	ImageEndpoint   string        // empty means RuntimeEndpoint
	Timeout         time.Duration // of one ordinary call
	UserAgent       string
}

// Client is a connection to the runtime and image services. It is safe for concurrent use.
type Client struct {
	timeout time.Duration
	conns   []*grpc.ClientConn
	runtime runtimeapi.RuntimeServiceClient
	images  runtimeapi.ImageServiceClient
	name    atomic.Pointer[Version]
}

// Version is what the runtime says about itself.
type Version struct{ Name, Version, APIVersion string }

// New prepares the connection; nothing is dialled before the first call.
func New(cfg Config) (*Client, error) {
	c := &Client{timeout: cfg.Timeout}
	conn, err := connect(cfg.RuntimeEndpoint, cfg.UserAgent)
	if err != nil {
		return nil, fmt.Errorf("container runtime endpoint: %w", err)
	}
	c.conns, c.runtime = append(c.conns, conn), runtimeapi.NewRuntimeServiceClient(conn)
	if cfg.ImageEndpoint != "" && cfg.ImageEndpoint != cfg.RuntimeEndpoint {
		if conn, err = connect(cfg.ImageEndpoint, cfg.UserAgent); err != nil {
			return nil, fmt.Errorf("image service endpoint: %w", err)
		}
		c.conns = append(c.conns, conn)
	}
	c.images = runtimeapi.NewImageServiceClient(conn)
	return c, nil
}

func connect(endpoint, agent string) (*grpc.ClientConn, error) {
	target := endpoint
	if strings.HasPrefix(endpoint, "/") {
		target = "unix://" + endpoint
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("parse %q: %w", endpoint, err)
	}
	if u.Scheme != "unix" || u.Path == "" {
		return nil, fmt.Errorf("%q is not supported: only unix:///path sockets are", endpoint)
	}
	return grpc.NewClient("unix://"+u.Path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"), grpc.WithUserAgent(agent),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
}

// Close ends the connections.
func (c *Client) Close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout)
}

// Version asks the runtime for its name and version, and remembers the answer for RuntimeName.
func (c *Client) Version(ctx context.Context) (Version, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.Version(ctx, &runtimeapi.VersionRequest{Version: "0.1.0"})
	if err != nil {
		return Version{}, fmt.Errorf("get runtime version: %w", err)
	}
	v := Version{Name: r.RuntimeName, Version: r.RuntimeVersion, APIVersion: r.RuntimeApiVersion}
	c.name.Store(&v)
	return v, nil
}

// LastVersion is the last answer to Version, zero before the first.
func (c *Client) LastVersion() Version {
	if v := c.name.Load(); v != nil {
		return *v
	}
	return Version{Name: "containerd"}
}

// RuntimeName is the scheme of container IDs in the API, such as containerd.
func (c *Client) RuntimeName() string { return c.LastVersion().Name }

// RuntimeStatus is the runtime's own view of its health.
type RuntimeStatus struct {
	RuntimeReady, NetworkReady     bool
	RuntimeMessage, NetworkMessage string
	Handlers                       []*runtimeapi.RuntimeHandler
	Features                       *runtimeapi.RuntimeFeatures
}

// Status asks for the runtime's conditions.
func (c *Client) Status(ctx context.Context) (RuntimeStatus, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return RuntimeStatus{}, fmt.Errorf("get runtime status: %w", err)
	}
	var s RuntimeStatus
	for _, cond := range r.GetStatus().GetConditions() {
		text := fmt.Sprintf("%s=%t reason:%s message:%s", cond.Type, cond.Status, cond.Reason, cond.Message)
		switch cond.Type {
		case runtimeapi.RuntimeReady:
			s.RuntimeReady, s.RuntimeMessage = cond.Status, text
		case runtimeapi.NetworkReady:
			s.NetworkReady, s.NetworkMessage = cond.Status, text
		}
	}
	s.Handlers, s.Features = r.RuntimeHandlers, r.Features
	return s, nil
}

// CgroupDriver asks the runtime which driver it uses; it returns "" from runtimes that cannot say.
func (c *Client) CgroupDriver(ctx context.Context) (string, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.runtime.RuntimeConfig(ctx, &runtimeapi.RuntimeConfigRequest{})
	if grpcstatus.Code(err) == codes.Unimplemented {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("get runtime configuration: %w", err)
	}
	switch r.GetLinux().GetCgroupDriver() {
	case runtimeapi.CgroupDriver_SYSTEMD:
		return "systemd", nil
	case runtimeapi.CgroupDriver_CGROUPFS:
		return "cgroupfs", nil
	}
	return "", nil
}

// UpdatePodCIDR tells the runtime the node's pod range.
func (c *Client) UpdatePodCIDR(ctx context.Context, cidr string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.runtime.UpdateRuntimeConfig(ctx, &runtimeapi.UpdateRuntimeConfigRequest{
		RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: cidr}},
	})
	if err != nil {
		return fmt.Errorf("update pod CIDR: %w", err)
	}
	return nil
}

// IsNotFound reports the runtime's answer that an object is gone.
func IsNotFound(err error) bool {
	return grpcstatus.Code(errors.Unwrap(err)) == codes.NotFound || grpcstatus.Code(err) == codes.NotFound
}

// Message is the text of a gRPC error without its code.
func Message(err error) string {
	var s interface{ GRPCStatus() *grpcstatus.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Message()
	}
	return err.Error()
}
