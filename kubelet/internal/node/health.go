package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"flagship/kubelet/internal/cri"
)

// Health follows the runtime's conditions. It is safe for concurrent use.
type Health struct {
	log     *zap.Logger
	runtime *cri.Client
	changed func()

	mu     sync.Mutex // guards the rest
	status cri.RuntimeStatus
	err    error
	good   time.Time
}

// NewHealth returns a Health that calls changed when a condition changes.
func NewHealth(log *zap.Logger, rt *cri.Client, changed func()) *Health {
	return &Health{log: log, runtime: rt, changed: changed, err: errors.New("container runtime status check may not have completed yet")}
}

// Run asks every five seconds, more often while something is wrong, until ctx ends.
func (h *Health) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if h.check(ctx) {
			timer.Reset(5 * time.Second)
		} else {
			timer.Reset(500 * time.Millisecond)
		}
	}
}

func (h *Health) check(ctx context.Context) bool {
	_, verr := h.runtime.Version(ctx)
	s, err := h.runtime.Status(ctx)
	if err == nil {
		err = verr
	}
	h.mu.Lock()
	before := h.status
	had := h.err
	h.status, h.err = s, err
	if err == nil {
		h.good = time.Now()
	}
	h.mu.Unlock()
	if (had == nil) != (err == nil) || before.NetworkReady != s.NetworkReady || before.RuntimeReady != s.RuntimeReady {
		h.log.Info("container runtime status", zap.Bool("runtimeReady", s.RuntimeReady), zap.Bool("networkReady", s.NetworkReady), zap.NamedError("because", err))
		h.changed()
	}
	return err == nil && s.RuntimeReady && s.NetworkReady
}

// Status is the newest answer.
func (h *Health) Status() cri.RuntimeStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status
}

// Errors are why the node cannot run pods, in upstream's words.
func (h *Health) Errors() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []error
	switch {
	case h.err != nil && h.good.IsZero():
		out = append(out, errors.New("container runtime status check may not have completed yet"))
	case h.err != nil:
		out = append(out, errors.New("container runtime is down"))
	case !h.status.RuntimeReady:
		out = append(out, fmt.Errorf("container runtime not ready: %s", h.status.RuntimeMessage))
	case !h.status.NetworkReady:
		out = append(out, fmt.Errorf("container runtime network not ready: %s", h.status.NetworkMessage))
	}
	return out
}

// NetworkError is why pods with a network of their own cannot start.
func (h *Health) NetworkError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil && !h.status.NetworkReady {
		return fmt.Errorf("container runtime network not ready: %s", h.status.NetworkMessage)
	}
	return nil
}

// Addresses finds the node's addresses: those told, or that of the interface with the default route.
func Addresses(told, hostname string) ([]string, error) {
	var out []string
	for _, s := range strings.Split(told, ",") {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		ip := net.ParseIP(s)
		if ip == nil {
			return nil, fmt.Errorf("--node-ip: %q is not an IP address", s)
		}
		if !ip.IsUnspecified() {
			out = append(out, ip.String())
		}
	}
	if len(out) > 2 {
		return nil, fmt.Errorf("--node-ip: more than two addresses: %s", told)
	}
	if len(out) > 0 {
		return out, nil
	}
	if ip := net.ParseIP(hostname); ip != nil {
		return []string{ip.String()}, nil
	}
	ip, err := utilnet.ChooseHostInterface()
	if err == nil {
		return []string{ip.String()}, nil
	}
	addrs, aerr := net.InterfaceAddrs()
	if aerr != nil {
		return nil, fmt.Errorf("find the node's address: %w", errors.Join(err, aerr))
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return []string{n.IP.String()}, nil
		}
	}
	return []string{"127.0.0.1"}, nil
}
