package worker

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagship/kubelet/internal/cri"
)

// hookBodyLimit bounds what is read of a hook's answer, in bytes.
const hookBodyLimit = 10 << 10

// hook runs a lifecycle handler; the message is for the container's status, and holds no output of the hook in events.
func (w *worker) hook(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string, h *corev1.LifecycleHandler) (string, error) {
	d := &w.pool.deps
	switch {
	case h.Exec != nil:
		r, err := d.Runtime.ExecSync(ctx, id, h.Exec.Command, 0)
		if err == nil && r.ExitCode != 0 {
			err = fmt.Errorf("command '%s' exited with %d: %s", strings.Join(h.Exec.Command, " "), r.ExitCode, r.Stderr)
		}
		if err != nil {
			msg := fmt.Sprintf("Exec lifecycle hook (%v) for Container %q in Pod %q failed - error: %v, message: %q", h.Exec.Command, c.Name,
				pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", cri.Message(err), string(r.Stdout)+string(r.Stderr))
			return msg, err
		}
	case h.HTTPGet != nil:
		if err := w.hookHTTP(ctx, pod, c, h.HTTPGet); err != nil {
			return fmt.Sprintf("HTTP lifecycle hook (%s) for Container %q in Pod %q failed - error: %v", h.HTTPGet.Path, c.Name,
				pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", err), err
		}
	case h.Sleep != nil:
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
		}
	default:
		err := fmt.Errorf("invalid handler: %v", h)
		return err.Error(), err
	}
	return "", nil
}

func (w *worker) hookHTTP(ctx context.Context, pod *corev1.Pod, c *corev1.Container, g *corev1.HTTPGetAction) error {
	host := g.Host
	if host == "" {
		state, err := w.pool.deps.Runtime.Pod(ctx, pod.UID)
		if err != nil {
			return err
		}
		ips := state.IPs
		if pod.Spec.HostNetwork {
			ips = w.pool.deps.Node.HostIPs()
		}
		if len(ips) == 0 {
			return fmt.Errorf("failed to find networking container: pod has no IP address")
		}
		host = ips[0]
	}
	port, err := ResolvePort(g.Port, c)
	if err != nil {
		return err
	}
	scheme := strings.ToLower(string(g.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	url := fmt.Sprintf("%s://%s/%s", scheme, net.JoinHostPort(host, fmt.Sprint(port)), strings.TrimPrefix(g.Path, "/"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-lifecycle/1.37")
	for _, h := range g.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true} //nolint:gosec // documented: hooks do not verify
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, hookBodyLimit))
	return err
}

// ResolvePort finds the number of a port that may be given by name.
func ResolvePort(p intstr.IntOrString, c *corev1.Container) (int, error) {
	port := p.IntValue()
	if p.Type == intstr.String {
		for _, cp := range c.Ports {
			if cp.Name == p.StrVal {
				return int(cp.ContainerPort), nil
			}
		}
	}
	if port > 0 && port < 65536 {
		return port, nil
	}
	return 0, fmt.Errorf("invalid port: %v", p.String())
}
