package introspect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	componentv1 "flagship/proto/component/v1"
	decisionv1 "flagship/proto/decision/v1"
)

// askTimeout bounds one component's answer.
const askTimeout = 5 * time.Second

// Target is one process and where it serves.
type Target struct {
	// Component is the binary; Node, the machine that it runs on.
	Component, Node, Address string
	// Verified is whether its certificate is checked against the cluster's CA. The API server's is; the others' serving
	// certificates are self-signed, and the caller's client certificate proves nothing to an impostor but is not
	// given away either, so that they are not checked.
	Verified bool
}

// Asker asks the components of one cluster.
type Asker struct {
	cfg    *rest.Config
	typed  kubernetes.Interface
	locals map[string]bool
}

// New returns an asker with an admin's credentials.
func New(cfg *rest.Config) (*Asker, error) {
	typed, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	a := &Asker{cfg: cfg, typed: typed, locals: map[string]bool{}}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, x := range addrs {
		if n, ok := x.(*net.IPNet); ok {
			a.locals[n.IP.String()] = true
		}
	}
	return a, nil
}

// ports are the secure ports, in the order that components are shown in. Those of the control plane but the API server
// serve on the loopback address, as kubeadm sets them up.
func ports() []struct {
	component string
	port      string
	loopback  bool
} {
	return []struct {
		component string
		port      string
		loopback  bool
	}{
		{"kube-controller-manager", "10257", true},
		{"kube-scheduler", "10259", true},
		{"kubelet", "10250", false},
		{"kube-proxy", "10261", false},
	}
}

// Targets finds the components: the API server of the kubeconfig, the control-plane pods, and the node agents.
func (a *Asker) Targets(ctx context.Context) ([]Target, error) {
	u, err := url.Parse(a.cfg.Host)
	if err != nil {
		return nil, err
	}
	out := []Target{{Component: "kube-apiserver", Node: u.Hostname(), Address: u.Host, Verified: true}}
	nodes, err := a.typed.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return out, fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes.Items {
		addr := ""
		for _, x := range n.Status.Addresses {
			if x.Type == corev1.NodeInternalIP && addr == "" {
				addr = x.Address
			}
		}
		if addr == u.Hostname() {
			out[0].Node = n.Name
		}
		_, control := n.Labels["node-role.kubernetes.io/control-plane"]
		for _, p := range ports() {
			if p.loopback && !control {
				continue
			}
			t := Target{Component: p.component, Node: n.Name, Address: net.JoinHostPort(addr, p.port)}
			if p.loopback && a.locals[addr] {
				t.Address = net.JoinHostPort("127.0.0.1", p.port)
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// dial connects with the caller's credentials.
func (a *Asker) dial(t Target) (*grpc.ClientConn, error) {
	tc, err := rest.TLSConfigFor(a.cfg)
	if err != nil {
		return nil, err
	}
	if tc == nil {
		tc = &tls.Config{}
	}
	tc.NextProtos = []string{"h2"}
	opts := []grpc.DialOption{}
	if !t.Verified {
		tc.InsecureSkipVerify = true
	} else if a.cfg.BearerToken != "" {
		// A token is shown only to a server that is known to be the right one.
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(a.cfg.BearerToken)))
	}
	return grpc.NewClient(t.Address, append(opts, grpc.WithTransportCredentials(credentials.NewTLS(tc)))...)
}

type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool { return true }

// State is what one component says about itself.
type State struct {
	Target
	Info   *componentv1.InfoResponse
	Checks []*componentv1.Check
	Err    error
}

// Healthy says whether every check passes.
func (s State) Healthy() bool {
	return s.Err == nil && !slices.ContainsFunc(s.Checks, func(c *componentv1.Check) bool { return !c.Healthy })
}

// Components asks every component, in parallel.
func (a *Asker) Components(ctx context.Context) ([]State, error) {
	targets, err := a.Targets(ctx)
	out := make([]State, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() { out[i] = a.state(ctx, t) })
	}
	wg.Wait()
	return out, err
}

func (a *Asker) state(ctx context.Context, t Target) State {
	s := State{Target: t}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := a.dial(t)
	if err != nil {
		s.Err = err
		return s
	}
	defer func() { _ = conn.Close() }()
	c := componentv1.NewComponentClient(conn)
	if s.Info, s.Err = c.Info(ctx, &componentv1.InfoRequest{}); s.Err != nil {
		return s
	}
	stream, err := c.Health(ctx, &componentv1.HealthRequest{})
	if err != nil {
		s.Err = err
		return s
	}
	h, err := stream.Recv()
	s.Checks, s.Err = h.GetChecks(), err
	return s
}

// Options asks the components of a name for their options; node, where it is set, selects one.
func (a *Asker) Options(ctx context.Context, component, node string) ([]Target, [][]*componentv1.Option, error) {
	targets, err := a.Targets(ctx)
	if err != nil && component != "kube-apiserver" {
		return nil, nil, err
	}
	var known []string
	var found []Target
	var out [][]*componentv1.Option
	for _, t := range targets {
		if !slices.Contains(known, t.Component) {
			known = append(known, t.Component)
		}
		if t.Component != component || node != "" && t.Node != node {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		conn, err := a.dial(t)
		if err != nil {
			return nil, nil, err
		}
		defer func() { _ = conn.Close() }()
		resp, err := componentv1.NewComponentClient(conn).Options(ctx, &componentv1.OptionsRequest{})
		if err != nil {
			return nil, nil, fmt.Errorf("ask %s on %s at %s: %w", t.Component, t.Node, t.Address, err)
		}
		found, out = append(found, t), append(out, resp.Options)
	}
	if len(found) == 0 {
		return nil, nil, fmt.Errorf("no component %q%s is in this cluster; there are %s", component, onNode(node), strings.Join(known, ", "))
	}
	return found, out, nil
}

func onNode(node string) string {
	if node == "" {
		return ""
	}
	return " on node " + node
}

// Why asks every component for its decisions about an object, the oldest first. The error names the components that
// did not answer; the others' answers are returned all the same.
func (a *Asker) Why(ctx context.Context, q *decisionv1.ListRequest) ([]*decisionv1.Decision, error) {
	targets, err := a.Targets(ctx)
	errs := []error{err}
	var mu sync.Mutex // guards errs and out
	var out []*decisionv1.Decision
	var wg sync.WaitGroup
	for _, t := range targets {
		wg.Go(func() {
			found, err := a.decisions(ctx, t, q)
			mu.Lock()
			defer mu.Unlock()
			out = append(out, found...)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s on %s: %w", t.Component, t.Node, err))
			}
		})
	}
	wg.Wait()
	slices.SortStableFunc(out, func(x, y *decisionv1.Decision) int { return x.Time.AsTime().Compare(y.Time.AsTime()) })
	return out, errors.Join(errs...)
}

func (a *Asker) decisions(ctx context.Context, t Target, q *decisionv1.ListRequest) ([]*decisionv1.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := a.dial(t)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	resp, err := decisionv1.NewDecisionsClient(conn).List(ctx, q)
	if err != nil {
		return nil, err
	}
	return resp.Decisions, nil
}
