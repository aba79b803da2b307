package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagship/kubelet/internal/cri"
)

// maxBody bounds what is read of an HTTP answer or a command's output, in bytes, as upstream does.
const maxBody = 10 << 10

// Execer runs a command in a container.
type Execer interface {
	ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error)
}

// Real probes real containers.
type Real struct {
	exec Execer
	http *http.Transport
}

// NewReal returns the prober of a node.
func NewReal(e Execer) *Real {
	return &Real{exec: e, http: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // documented: probes do not verify
		DisableKeepAlives: true, DisableCompression: true, Proxy: nil,
	}}
}

// Probe runs one probe once.
func (r *Real) Probe(ctx context.Context, pod *corev1.Pod, st *corev1.PodStatus, c *corev1.Container, id string, p *corev1.Probe) (Outcome, string, error) {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	switch {
	case p.Exec != nil:
		return r.probeExec(ctx, id, p.Exec.Command, timeout)
	case p.HTTPGet != nil:
		return r.probeHTTP(ctx, st.PodIP, c, p.HTTPGet, timeout)
	case p.TCPSocket != nil:
		port, err := portOf(p.TCPSocket.Port, c)
		if err != nil {
			return Unknown, "", err
		}
		host := p.TCPSocket.Host
		if host == "" {
			host = st.PodIP
		}
		d := net.Dialer{Timeout: timeout}
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return Failure, err.Error(), nil //nolint:nilerr // it is the probe's result
		}
		conn.Close()
		return Success, "", nil
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		return probeGRPC(ctx, net.JoinHostPort(st.PodIP, strconv.Itoa(int(p.GRPC.Port))), service, timeout)
	}
	return Unknown, "", fmt.Errorf("missing probe handler for %s:%s", pod.Name, c.Name)
}

func (r *Real) probeExec(ctx context.Context, id string, cmd []string, timeout time.Duration) (Outcome, string, error) {
	res, err := r.exec.ExecSync(ctx, id, cmd, timeout)
	var late cri.ErrExecTimeout
	if errors.As(err, &late) {
		return Failure, fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(cmd, " "), timeout), nil
	}
	if err != nil {
		return Unknown, "", err
	}
	out := append(res.Stdout, res.Stderr...)
	if len(out) > maxBody {
		out = out[:maxBody]
	}
	if res.ExitCode != 0 {
		return Failure, string(out), nil
	}
	return Success, string(out), nil
}

func (r *Real) probeHTTP(ctx context.Context, ip string, c *corev1.Container, g *corev1.HTTPGetAction, timeout time.Duration) (Outcome, string, error) {
	port, err := portOf(g.Port, c)
	if err != nil {
		return Unknown, "", err
	}
	host := g.Host
	if host == "" {
		host = ip
	}
	u, err := url.Parse(g.Path)
	if err != nil {
		u = &url.URL{Path: g.Path}
	}
	u.Scheme = strings.ToLower(string(g.Scheme))
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Failure, err.Error(), nil
	}
	req.Header.Set("User-Agent", "kube-probe/1.37")
	req.Header.Set("Accept", "*/*")
	for _, h := range g.HTTPHeaders {
		switch http.CanonicalHeaderKey(h.Name) {
		case "Host":
			req.Host = h.Value
		case "User-Agent", "Accept":
			if h.Value == "" {
				req.Header.Del(h.Name)
			} else {
				req.Header.Set(h.Name, h.Value)
			}
		default:
			req.Header.Add(h.Name, h.Value)
		}
	}
	client := &http.Client{Transport: r.http, CheckRedirect: sameHost(u.Hostname())}
	resp, err := client.Do(req)
	if err != nil {
		return Failure, err.Error(), nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return Failure, err.Error(), nil
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		if resp.StatusCode >= 300 {
			return Warning, fmt.Sprintf("Probe terminated redirects, Response body: %v", string(body)), nil
		}
		return Success, string(body), nil
	}
	return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode), nil
}

// sameHost follows redirects within a host only, as documented for probes.
func sameHost(host string) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if req.URL.Hostname() != host {
			return http.ErrUseLastResponse
		}
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}
}

func probeGRPC(ctx context.Context, addr, service string, timeout time.Duration) (Outcome, string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/1.37"))
	if err != nil {
		return Failure, err.Error(), nil
	}
	defer conn.Close()
	r, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	switch grpcstatus.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return Failure, fmt.Sprintf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", cri.Message(err)), nil
	case codes.DeadlineExceeded:
		return Failure, fmt.Sprintf("timeout: health rpc did not complete within %v", timeout), nil
	default:
		return Failure, fmt.Sprintf("error: health rpc probe failed: %v", err), nil
	}
	if r.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return Failure, fmt.Sprintf("service unhealthy (responded with %q)", r.Status.String()), nil
	}
	return Success, "service healthy", nil
}

func portOf(p intstr.IntOrString, c *corev1.Container) (int, error) {
	port := p.IntValue()
	if p.Type == intstr.String {
		for _, cp := range c.Ports {
			if cp.Name == p.StrVal {
				port = int(cp.ContainerPort)
			}
		}
	}
	if port > 0 && port < 65536 {
		return port, nil
	}
	return 0, fmt.Errorf("invalid port: %s", p.String())
}
