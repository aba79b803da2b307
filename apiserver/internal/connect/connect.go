// Package connect carries the requests that a client sends through the API
// server to a kubelet, a pod or a service: log, exec, attach, portforward and
// proxy.
//
// Data in: authorized requests, and nodes, pods, services and endpoints from
// the cache. Data out: the bytes of the other side, upgraded connections
// (SPDY, WebSocket) included. Its goroutines are the reverse proxy's and end
// with the request.
package connect

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilproxy "k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"flagship/apiserver/internal/rest"
)

// Reader reads cached objects.
type Reader interface {
	Read(gvr schema.GroupVersionResource, namespace, name string) (runtime.Object, error)
	Each(gvr schema.GroupVersionResource, namespace string, visit func(runtime.Object) bool) error
}

// Config says how to reach kubelets.
type Config struct {
	// AddressTypes are the kinds of node address to use, the first that a node
	// has.
	AddressTypes []corev1.NodeAddressType
	// TLS is the client side of connections to kubelets.
	TLS *tls.Config
}

// Connector implements rest.Connector.
type Connector struct {
	cfg     Config
	reader  Reader
	log     *zap.Logger
	kubelet http.RoundTripper
	plain   http.RoundTripper
}

// New returns a connector; it opens no connection.
func New(cfg Config, reader Reader, log *zap.Logger) *Connector {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	transport := func(tc *tls.Config) http.RoundTripper {
		return &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: tc, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, DisableCompression: true,
			// Upgrades need HTTP/1.1.
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		}
	}
	return &Connector{
		cfg: cfg, reader: reader, log: log, kubelet: transport(cfg.TLS),
		// A pod's or service's certificate says nothing about who it is:
		// upstream does not check it either.
		plain: transport(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}), //nolint:gosec // see above
	}
}

var (
	pods     = corev1.SchemeGroupVersion.WithResource("pods")
	nodes    = corev1.SchemeGroupVersion.WithResource("nodes")
	services = corev1.SchemeGroupVersion.WithResource("services")
	slices   = discoveryv1.SchemeGroupVersion.WithResource("endpointslices")
)

// Connect serves one request.
func (c *Connector) Connect(w http.ResponseWriter, r *http.Request, info *rest.Info) error {
	if info.Subresource == "proxy" {
		return c.proxy(w, r, info)
	}
	obj, err := c.reader.Read(pods, info.Namespace, info.Name)
	if err != nil {
		return err
	}
	pod := obj.(*corev1.Pod)
	location, err := c.kubeletPath(r, pod, info.Subresource)
	if err != nil {
		return err
	}
	if info.Subresource == "log" && wsstream.IsWebSocketRequest(r) {
		return c.socketLog(w, r, location)
	}
	c.forward(w, r, location, c.kubelet)
	return nil
}

// kubeletPath is the kubelet's URL for a pod's subresource.
func (c *Connector) kubeletPath(r *http.Request, pod *corev1.Pod, sub string) (*url.URL, error) {
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	base, err := c.nodeURL(pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	in, out := r.URL.Query(), url.Values{}
	switch sub {
	case "portforward":
		for _, p := range in["ports"] {
			out.Add("port", p)
		}
		base.Path = "/portForward/" + pod.Namespace + "/" + pod.Name
		base.RawQuery = out.Encode()
		return base, nil
	case "log":
		container, err := containerOf(pod, in.Get("container"))
		if err != nil {
			return nil, err
		}
		if err := checkLog(in); err != nil {
			return nil, err
		}
		for _, k := range []string{"follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"} {
			if v, ok := in[k]; ok {
				out[k] = v
			}
		}
		base.Path = "/containerLogs/" + pod.Namespace + "/" + pod.Name + "/" + container
		base.RawQuery = out.Encode()
		return base, nil
	}
	container, err := containerOf(pod, in.Get("container"))
	if err != nil {
		return nil, err
	}
	for from, to := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if v := in.Get(from); v == "true" || v == "1" {
			out.Set(to, "1")
		}
	}
	for _, arg := range in["command"] {
		out.Add("command", arg)
	}
	base.Path = "/" + sub + "/" + pod.Namespace + "/" + pod.Name + "/" + container
	base.RawQuery = out.Encode()
	return base, nil
}

// checkLog refuses options that contradict each other.
func checkLog(q url.Values) error {
	if q.Get("sinceSeconds") != "" && q.Get("sinceTime") != "" {
		return apierrors.NewBadRequest("at most one of sinceTime or sinceSeconds may be specified")
	}
	for _, k := range []string{"sinceSeconds", "tailLines", "limitBytes"} {
		if s := q.Get(k); s != "" {
			least := int64(1)
			if k == "tailLines" {
				least = 0
			}
			if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < least {
				return apierrors.NewBadRequest(fmt.Sprintf("%s: Invalid value: %q: must be at least %d", k, s, least))
			}
		}
	}
	return nil
}

// containerOf finds the container that a request means.
func containerOf(pod *corev1.Pod, name string) (string, error) {
	if name == "" {
		if len(pod.Spec.Containers) == 1 {
			return pod.Spec.Containers[0].Name, nil
		}
		message := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, names(pod.Spec.Containers))
		if len(pod.Spec.InitContainers) > 0 {
			message += fmt.Sprintf(" or one of the init containers: [%s]", names(pod.Spec.InitContainers))
		}
		return "", apierrors.NewBadRequest(message)
	}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return name, nil
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return name, nil
		}
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

func names(containers []corev1.Container) string {
	out := make([]string, len(containers))
	for i := range containers {
		out[i] = containers[i].Name
	}
	return strings.Join(out, " ")
}

// defaultKubeletPort is where a kubelet serves that does not say.
const defaultKubeletPort = 10250

func (c *Connector) nodeURL(name string) (*url.URL, error) {
	obj, err := c.reader.Read(nodes, "", name)
	if err != nil {
		return nil, err
	}
	node := obj.(*corev1.Node)
	port := int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if port == 0 {
		port = defaultKubeletPort
	}
	for _, t := range c.cfg.AddressTypes {
		for _, a := range node.Status.Addresses {
			if a.Type == t {
				return &url.URL{Scheme: "https", Host: net.JoinHostPort(a.Address, strconv.Itoa(port))}, nil
			}
		}
	}
	return nil, apierrors.NewInternalError(fmt.Errorf("no preferred addresses found; known addresses: %v", node.Status.Addresses))
}

// splitTarget reads "[scheme:]name[:port]".
func splitTarget(s string) (scheme, name, port string) {
	parts := strings.Split(s, ":")
	switch len(parts) {
	case 3:
		return parts[0], parts[1], parts[2]
	case 2:
		return "", parts[0], parts[1]
	}
	return "", s, ""
}

func (c *Connector) proxy(w http.ResponseWriter, r *http.Request, info *rest.Info) error {
	scheme, name, port := splitTarget(info.Name)
	_, tail, _ := strings.Cut(r.URL.Path, "/"+info.Resource+"/"+info.Name+"/proxy")
	if tail == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		to := *r.URL
		to.Path += "/"
		http.Redirect(w, r, to.String(), http.StatusMovedPermanently)
		return nil
	}
	var target *url.URL
	var err error
	via := c.plain
	switch info.Resource {
	case "nodes":
		if target, err = c.nodeURL(name); err == nil && port != "" {
			target.Host = net.JoinHostPort(target.Hostname(), port)
		}
		via = c.kubelet
	case "pods":
		target, err = c.podURL(info.Namespace, scheme, name, port)
	default:
		target, err = c.serviceURL(info.Namespace, scheme, name, port)
	}
	if err != nil {
		return err
	}
	target.Path, target.RawQuery = tail, r.URL.RawQuery
	// Links and redirects of what is behind the proxy lead through it.
	c.forward(w, r, target, &utilproxy.Transport{PathPrepend: strings.TrimSuffix(r.URL.Path, tail), RoundTripper: via})
	return nil
}

func (c *Connector) podURL(namespace, scheme, name, port string) (*url.URL, error) {
	obj, err := c.reader.Read(pods, namespace, name)
	if err != nil {
		return nil, err
	}
	pod := obj.(*corev1.Pod)
	if pod.Status.PodIP == "" {
		return nil, apierrors.NewBadRequest("address not allowed")
	}
	if port == "" && len(pod.Spec.Containers) > 0 && len(pod.Spec.Containers[0].Ports) > 0 {
		port = strconv.Itoa(int(pod.Spec.Containers[0].Ports[0].ContainerPort))
	}
	return endpointURL(scheme, pod.Status.PodIP, port), nil
}

func endpointURL(scheme, ip, port string) *url.URL {
	if scheme == "" {
		scheme = "http"
	}
	host := ip
	if port != "" {
		host = net.JoinHostPort(ip, port)
	} else if strings.Contains(ip, ":") {
		host = "[" + ip + "]"
	}
	return &url.URL{Scheme: scheme, Host: host}
}

// serviceURL picks one of a service's ready endpoints.
func (c *Connector) serviceURL(namespace, scheme, name, port string) (*url.URL, error) {
	obj, err := c.reader.Read(services, namespace, name)
	if err != nil {
		return nil, err
	}
	svc := obj.(*corev1.Service)
	portName, found := "", port == "" && len(svc.Spec.Ports) == 1
	if found {
		portName = svc.Spec.Ports[0].Name
	}
	for _, p := range svc.Spec.Ports {
		if port != "" && (p.Name == port || strconv.Itoa(int(p.Port)) == port) {
			portName, found = p.Name, true
		}
	}
	if !found {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, name))
	}
	var hosts []string
	err = c.reader.Each(slices, namespace, func(o runtime.Object) bool {
		s := o.(*discoveryv1.EndpointSlice)
		if s.Labels[discoveryv1.LabelServiceName] == name {
			hosts = append(hosts, ready(s, portName)...)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if len(hosts) == 0 {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	host, p, err := net.SplitHostPort(hosts[rand.IntN(len(hosts))]) //nolint:gosec // a choice of endpoint is no secret
	if err != nil {
		return nil, err
	}
	return endpointURL(scheme, host, p), nil
}

func ready(s *discoveryv1.EndpointSlice, portName string) []string {
	var out []string
	for _, p := range s.Ports {
		if p.Port == nil || p.Name != nil && *p.Name != portName {
			continue
		}
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			out = append(out, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
		}
	}
	return out
}

// forward sends the request on and copies the answer back, both ways for an
// upgraded connection.
func (c *Connector) forward(w http.ResponseWriter, r *http.Request, to *url.URL, via http.RoundTripper) {
	p := &httputil.ReverseProxy{
		Transport:     via,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = to
			pr.Out.Host = to.Host
			// The client's credentials are for this server alone.
			for _, h := range []string{"Authorization", "X-Remote-User", "X-Remote-Group", "X-Remote-Uid"} {
				pr.Out.Header.Del(h)
			}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return
			}
			c.log.Debug("cannot reach the other side", zap.String("host", to.Host), zap.Error(err))
			var status *apierrors.StatusError
			if errors.As(err, &status) {
				rest.WriteError(w, r, status)
				return
			}
			rest.WriteError(w, r, apierrors.NewServiceUnavailable("error trying to reach service: "+err.Error()))
		},
		ErrorLog: zap.NewStdLog(c.log.WithOptions(zap.IncreaseLevel(zap.FatalLevel))),
	}
	p.ServeHTTP(w, r)
}
