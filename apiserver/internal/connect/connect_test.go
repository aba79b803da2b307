package connect

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"flagship/apiserver/internal/rest"
)

// onePod is a Reader with one pod.
type onePod struct{ pod *corev1.Pod }

func (o onePod) Read(schema.GroupVersionResource, string, string) (runtime.Object, error) {
	return o.pod, nil
}

func (o onePod) Each(schema.GroupVersionResource, string, func(runtime.Object) bool) error {
	return nil
}

func TestProxyRewrites(t *testing.T) {
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/there/", http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<a href="/x">%s</a>`, r.Method)
	}))
	defer behind.Close()
	at, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Status: corev1.PodStatus{PodIP: at.Hostname()}}
	c := New(Config{}, onePod{pod}, zap.NewNop())
	c.allowed = func(net.IP) bool { return true } // this host's loopback, for the test
	info := &rest.Info{Namespace: "ns", Resource: "pods", Name: "web:" + at.Port(), Subresource: "proxy"}
	base := "/api/v1/namespaces/ns/pods/" + info.Name + "/proxy"
	for scenario, tc := range map[string]struct {
		method, path   string
		code           int
		location, body string
	}{
		"page":         {http.MethodGet, "/", 200, "", `<a href="` + base + `/x">GET</a>`},
		"options":      {http.MethodOptions, "", 200, "", `<a href="` + base + `/x">OPTIONS</a>`},
		"redirect":     {http.MethodGet, "/moved", 302, base + "/there/", ""},
		"slash is due": {http.MethodGet, "", 301, base + "/", ""},
	} {
		t.Run(scenario, func(t *testing.T) {
			w := httptest.NewRecorder()
			if err := c.Connect(w, httptest.NewRequest(tc.method, base+tc.path, nil), info); err != nil {
				t.Fatal(err)
			}
			resp := w.Result()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.code || resp.Header.Get("Location") != tc.location {
				t.Errorf("got %d, location %q", resp.StatusCode, resp.Header.Get("Location"))
			}
			if tc.body != "" && string(body) != tc.body {
				t.Errorf("got %s, want %s", body, tc.body)
			}
		})
	}
}

// objects is a Reader by resource and name.
type objects map[string]runtime.Object

func (o objects) Read(gvr schema.GroupVersionResource, _, name string) (runtime.Object, error) {
	if obj, ok := o[gvr.Resource+"/"+name]; ok {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(gvr.GroupResource(), name)
}

func (o objects) Each(gvr schema.GroupVersionResource, _ string, visit func(runtime.Object) bool) error {
	for key, obj := range o {
		if strings.HasPrefix(key, gvr.Resource+"/") && !visit(obj) {
			break
		}
	}
	return nil
}

// TestTargets checks where a proxy leads, and that what may write endpoints or a status cannot make the server call what is not a pod.
func TestTargets(t *testing.T) {
	name, number := "web", int32(8080)
	pod := func(name, ip string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Status: corev1.PodStatus{PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}}
	}
	slice := func(service string, family discoveryv1.AddressType, address, pod, namespace string) *discoveryv1.EndpointSlice {
		e := discoveryv1.Endpoint{Addresses: []string{address}}
		if pod != "" {
			e.TargetRef = &corev1.ObjectReference{Namespace: namespace, Name: pod}
		}
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Labels: map[string]string{discoveryv1.LabelServiceName: service}}, AddressType: family,
			Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &number}}, Endpoints: []discoveryv1.Endpoint{e},
		}
	}
	service := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: name, Port: 80}}}}
	node := func(address string) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}}}
	}
	c := New(Config{AddressTypes: []corev1.NodeAddressType{corev1.NodeInternalIP}, Family: discoveryv1.AddressTypeIPv4}, objects{
		"pods/good": pod("good", "10.0.0.1"), "pods/six": pod("six", "fd00::1"), "pods/loop": pod("loop", "127.0.0.1"), "pods/link": pod("link", "169.254.169.254"), "pods/new": pod("new", ""),
		"services/good": service, "endpointslices/good4": slice("good", discoveryv1.AddressTypeIPv4, "10.0.0.1", "good", "ns"), "endpointslices/good6": slice("good", discoveryv1.AddressTypeIPv6, "fd00::1", "six", "ns"),
		"endpointslices/free": slice("free", discoveryv1.AddressTypeIPv4, "169.254.169.254", "", ""), "endpointslices/false": slice("false", discoveryv1.AddressTypeIPv4, "169.254.169.254", "good", "ns"),
		"endpointslices/foreign": slice("foreign", discoveryv1.AddressTypeIPv4, "10.0.0.1", "good", "other"), "endpointslices/gone": slice("gone", discoveryv1.AddressTypeIPv4, "10.0.0.9", "gone", "ns"),
		"nodes/n": node("10.1.0.1"), "nodes/self": node("127.0.0.1"),
	}, zap.NewNop())
	for target, want := range map[string]string{
		"pods good":               "http://10.0.0.1",
		"pods https:six:8443":     "https://[fd00::1]:8443",
		"pods loop":               "address not allowed",
		"pods link:80":            "address not allowed",
		"pods new":                "address not allowed",
		"pods none":               `pods "none" not found`,
		"services good:web":       "http://10.0.0.1:8080",
		"services https:good:web": "https://10.0.0.1:8080",
		"services good:80":        "http://10.0.0.1:8080",
		"services good:81":        `no service port 81 found for service "good"`,
		"services good":           `no endpoints available for service "good"`, // its port has a name
		"services free:web":       `no endpoints available for service "free"`,
		"services false:web":      `no endpoints available for service "false"`,
		"services foreign:web":    `no endpoints available for service "foreign"`,
		"services gone:web":       `no endpoints available for service "gone"`,
		"nodes n":                 "https://10.1.0.1:10250",
		"nodes n:10250":           "https://10.1.0.1:10250",
		"nodes n:9100":            "http://10.1.0.1:9100",
		"nodes self":              "address not allowed",
	} {
		kind, id, _ := strings.Cut(target, " ")
		scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
		if !ok {
			t.Fatal(id)
		}
		var got *url.URL
		var via http.RoundTripper
		var err error
		switch kind {
		case "pods":
			got, err = c.podURL("ns", scheme, name, port)
		case "services":
			got, err = c.serviceURL("ns", scheme, name, port)
		default:
			got, via, err = c.nodeTarget(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody), scheme, name, port)
		}
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if text != want {
			t.Errorf("%s: %s, want %s", target, text, want)
		}
		if id == "n:9100" && via == c.kubelet {
			t.Error("a port of a node that is not the kubelet's is told who the server is")
		}
	}
}

// TestLogs checks what is said of a log without asking a kubelet.
func TestLogs(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}}}
	c := New(Config{}, onePod{pod}, zap.NewNop())
	for query, want := range map[string]string{
		"container=a":                   "204",
		"":                              "a container name must be specified for pod p, choose one of: [i a b]",
		"container=x":                   "container x is not valid for pod p",
		"container=a&sinceSeconds=0":    `PodLogOptions "p" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0`,
		"container=a&tailLines=-1":      `PodLogOptions "p" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0`,
		"container=a&limitBytes=many":   `strconv.ParseInt: parsing "many": invalid syntax`,
		"container=a&stream=Stdout":     `PodLogOptions "p" is invalid: stream: Forbidden: may not be specified`,
		"container=a&sinceTime=morning": `parsing time "morning" as "2006-01-02T15:04:05Z07:00": cannot parse "morning" as "2006"`,
	} {
		w := httptest.NewRecorder()
		err := c.Connect(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?"+query, http.NoBody), &rest.Info{Resource: "pods", Name: "p", Subresource: "log"})
		got := strconv.Itoa(w.Code)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}
