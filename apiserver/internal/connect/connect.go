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
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	utilproxy "k8s.io/apimachinery/pkg/util/proxy"

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
	// Family is that of the endpoints which are taken first.
	Family discoveryv1.AddressType
}

// Connector implements rest.Connector.
type Connector struct {
	cfg     Config
	reader  Reader
	log     *zap.Logger
	kubelet http.RoundTripper
	// unchecked reaches kubelets whatever certificate they show.
	unchecked http.RoundTripper
	plain     http.RoundTripper
	// allowed is whether an address may be a pod's or a node's. This host and what is local to it are not, for whoever may write a status.
	allowed func(net.IP) bool
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
	unchecked := cfg.TLS.Clone()
	if unchecked != nil {
		unchecked.RootCAs, unchecked.InsecureSkipVerify = nil, true // as a request for a log may ask
	}
	return &Connector{
		cfg: cfg, reader: reader, log: log, kubelet: transport(cfg.TLS), unchecked: transport(unchecked), allowed: net.IP.IsGlobalUnicast,
		// A pod's or service's certificate says nothing about who it is:
		// upstream does not check it either.
		plain: transport(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}), //nolint:gosec // see above
	}
}

var (
	pods     = corev1.SchemeGroupVersion.WithResource("pods")
	nodes    = corev1.SchemeGroupVersion.WithResource("nodes")
	services = corev1.SchemeGroupVersion.WithResource("services")

	endpointSlices = discoveryv1.SchemeGroupVersion.WithResource("endpointslices")
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
	if info.Subresource == "log" {
		return c.containerLog(w, r, pod)
	}
	location, err := c.kubeletPath(r, pod, info.Subresource)
	if err != nil {
		return err
	}
	c.forward(w, r, location, c.kubelet)
	return nil
}

// kubeletPath is the kubelet's URL for a stream to a pod.
func (c *Connector) kubeletPath(r *http.Request, pod *corev1.Pod, sub string) (*url.URL, error) {
	in, out := r.URL.Query(), url.Values{}
	path := pod.Namespace + "/" + pod.Name
	if sub == "portforward" {
		sub = "portForward"
		for _, p := range in["ports"] {
			out.Add("port", p)
		}
	} else {
		container, err := containerOf(pod, in.Get("container"))
		if err != nil {
			return nil, err
		}
		path += "/" + container
		for from, to := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
			if v := in.Get(from); v == "true" || v == "1" {
				out.Set(to, "1")
			}
		}
		for _, arg := range in["command"] {
			out.Add("command", arg)
		}
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	base, err := c.hostURL(pod)
	if err != nil {
		return nil, err
	}
	base.Path, base.RawQuery = "/"+sub+"/"+path, out.Encode()
	return base, nil
}

// containerOf finds the container that a request means.
func containerOf(pod *corev1.Pod, name string) (string, error) {
	if name == "" {
		if len(pod.Spec.Containers) == 1 {
			return pod.Spec.Containers[0].Name, nil
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, names(pod)))
	}
	if slices.Contains(names(pod), name) {
		return name, nil
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

// names are those of all containers, in the order in which they start.
func names(pod *corev1.Pod) []string {
	var out []string
	for i := range pod.Spec.InitContainers {
		out = append(out, pod.Spec.InitContainers[i].Name)
	}
	for i := range pod.Spec.Containers {
		out = append(out, pod.Spec.Containers[i].Name)
	}
	for i := range pod.Spec.EphemeralContainers {
		out = append(out, pod.Spec.EphemeralContainers[i].Name)
	}
	return out
}

// defaultKubeletPort is where a kubelet serves that does not say.
const defaultKubeletPort = 10250

// hostURL is the URL of the kubelet that runs a pod.
func (c *Connector) hostURL(pod *corev1.Pod) (*url.URL, error) {
	base, err := c.nodeURL(pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		// Upstream says it so: what is asked for is a pod.
		err = apierrors.NewNotFound(pods.GroupResource(), pod.Spec.NodeName)
	}
	return base, err
}

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

func (c *Connector) proxy(w http.ResponseWriter, r *http.Request, info *rest.Info) error {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(info.Name)
	_, tail, _ := strings.Cut(r.URL.Path, "/"+info.Resource+"/"+info.Name+"/proxy")
	if tail == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		to := *r.URL
		to.Path += "/"
		http.Redirect(w, r, to.String(), http.StatusMovedPermanently)
		return nil
	}
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid %s request %q", strings.TrimSuffix(info.Resource, "s"), info.Name))
	}
	var target *url.URL
	var err error
	via := c.plain
	switch info.Resource {
	case "nodes":
		target, via, err = c.nodeTarget(r, scheme, name, port)
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

// nodeTarget is a node's kubelet, which is told who this server is, or another port of the node, which is not.
func (c *Connector) nodeTarget(r *http.Request, scheme, name, port string) (*url.URL, http.RoundTripper, error) {
	target, err := c.nodeURL(name)
	if err != nil {
		return nil, nil, err
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(r.Context(), target.Hostname())
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	for _, a := range addresses {
		if !c.allowed(a.IP) {
			return nil, nil, errNotAllowed()
		}
	}
	if port == "" || port == target.Port() {
		return target, c.kubelet, nil
	}
	return endpointURL(scheme, target.Hostname(), port), c.plain, nil
}

func errNotAllowed() error { return apierrors.NewBadRequest("address not allowed") }

func (c *Connector) podURL(namespace, scheme, name, port string) (*url.URL, error) {
	obj, err := c.reader.Read(pods, namespace, name)
	if err != nil {
		return nil, err
	}
	pod := obj.(*corev1.Pod)
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; port == "" && len(ports) > 0 {
			port = strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	if ip := net.ParseIP(pod.Status.PodIP); ip == nil || !c.allowed(ip) {
		return nil, errNotAllowed()
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

// serviceURL picks one of a service's ready endpoints, of those that are pods of its namespace: what else an endpoint names is not for the server to reach.
func (c *Connector) serviceURL(namespace, scheme, name, port string) (*url.URL, error) {
	if number, err := strconv.ParseInt(port, 10, 64); err == nil {
		obj, err := c.reader.Read(services, namespace, name)
		if err != nil {
			return nil, err
		}
		ports := obj.(*corev1.Service).Spec.Ports
		i := slices.IndexFunc(ports, func(p corev1.ServicePort) bool { return int64(p.Port) == number })
		if i < 0 {
			return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, name))
		}
		port = ports[i].Name
	}
	var preferred, other []string
	err := c.reader.Each(endpointSlices, namespace, func(o runtime.Object) bool {
		s := o.(*discoveryv1.EndpointSlice)
		switch {
		case s.Labels[discoveryv1.LabelServiceName] != name:
		case s.AddressType == c.cfg.Family:
			preferred = append(preferred, c.ready(s, port)...)
		default:
			other = append(other, c.ready(s, port)...)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, hosts := range [][]string{preferred, other} {
		if len(hosts) > 0 {
			host := hosts[rand.IntN(len(hosts))] //nolint:gosec // a choice of endpoint is no secret
			if scheme == "" {
				scheme = "http"
			}
			return &url.URL{Scheme: scheme, Host: host}, nil
		}
	}
	return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
}

// ready are the endpoints of a slice with a port that may be reached, as HOST:PORT.
func (c *Connector) ready(s *discoveryv1.EndpointSlice, port string) []string {
	var out []string
	for _, p := range s.Ports {
		if p.Port == nil || p.Name == nil || *p.Name != port {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if (e.Conditions.Ready == nil || *e.Conditions.Ready) && len(e.Addresses) > 0 && c.isPod(s.Namespace, e) {
				out = append(out, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
			}
		}
	}
	return out
}

// isPod is whether an endpoint is what it says, a pod of the namespace.
func (c *Connector) isPod(namespace string, e *discoveryv1.Endpoint) bool {
	if e.TargetRef == nil || e.TargetRef.Namespace != namespace {
		return false
	}
	obj, err := c.reader.Read(pods, namespace, e.TargetRef.Name)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(obj.(*corev1.Pod).Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == e.Addresses[0] })
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
