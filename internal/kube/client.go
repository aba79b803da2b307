// Package kube is the small client of the components: typed access and
// informers over a scheme of just the kinds a component uses, protobuf on the
// wire. client-go's clientset is not used, since it registers every API group
// in every process (DESIGN §3).
//
// Data in: a kubeconfig or the in-cluster account. Data out: typed clients,
// informers and event recorders. Informers run in the goroutines of whoever
// calls their Run.
package kube

import (
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"flagship/internal/version"
)

// protobufType is what the components speak with the API server.
const protobufType = "application/vnd.kubernetes.protobuf"

// Config says how to reach the API server.
type Config struct {
	// Kubeconfig is a file's path; empty means the in-cluster account.
	Kubeconfig string
	// Master overrides the server's address, empty where it does not.
	Master string
	// UserAgent is the component's name.
	UserAgent string
	// QPS and Burst bound the requests per second; a negative QPS is no bound.
	QPS   float32
	Burst int
	// ContentType is the media type on the wire; empty means protobuf.
	ContentType string
}

// Load reads how to reach the API server.
func Load(c Config) (*rest.Config, error) {
	rc, err := load(c)
	if err != nil {
		return nil, err
	}
	rc.UserAgent = fmt.Sprintf("%s/%s", c.UserAgent, version.Get().GitVersion)
	rc.QPS, rc.Burst = c.QPS, c.Burst
	rc.ContentType = c.ContentType
	if rc.ContentType == "" {
		rc.ContentType = protobufType
	}
	rc.AcceptContentTypes = rc.ContentType + ",application/json"
	return rc, nil
}

func load(c Config) (*rest.Config, error) {
	if c.Kubeconfig == "" && c.Master == "" {
		rc, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("no --kubeconfig given, and %w", err)
		}
		return rc, nil
	}
	rc, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: c.Kubeconfig},
		&clientcmd.ConfigOverrides{ClusterInfo: clientcmdCluster(c.Master)},
	).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("load kubeconfig %s: %w", c.Kubeconfig, err)
	}
	return rc, nil
}

// Client makes typed clients that share a connection and a scheme.
type Client struct {
	cfg    *rest.Config
	scheme *runtime.Scheme
	codecs serializer.CodecFactory

	mu    sync.Mutex // guards rests
	rests map[schema.GroupVersion]rest.Interface
}

// NewClient returns a client whose scheme holds what install registers, such
// as corev1.AddToScheme. It does no I/O.
func NewClient(cfg *rest.Config, install ...func(*runtime.Scheme) error) (*Client, error) {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	if err := metav1.AddMetaToScheme(s); err != nil {
		return nil, fmt.Errorf("register meta kinds: %w", err)
	}
	for _, add := range install {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	return &Client{
		cfg: cfg, scheme: s, codecs: serializer.NewCodecFactory(s),
		rests: map[schema.GroupVersion]rest.Interface{},
	}, nil
}

// Scheme is what the client can encode and decode.
func (c *Client) Scheme() *runtime.Scheme { return c.scheme }

// Config is how the client reaches the server; the caller must not change it.
func (c *Client) Config() *rest.Config { return c.cfg }

// REST returns the raw client of a group and version.
func (c *Client) REST(gv schema.GroupVersion) (rest.Interface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.rests[gv]; ok {
		return r, nil
	}
	cfg := rest.CopyConfig(c.cfg)
	cfg.GroupVersion = &gv
	cfg.APIPath = "/apis"
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	cfg.NegotiatedSerializer = c.codecs.WithoutConversion()
	r, err := rest.RESTClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", gv, err)
	}
	c.rests[gv] = r
	return r, nil
}

// Object is a typed API object.
type Object[T any] interface {
	*T
	metav1.Object
	runtime.Object
}

// List is a typed list of API objects.
type List[L any] interface {
	*L
	runtime.Object
	metav1.ListInterface
}

// For returns typed access to a resource, in one namespace or, where it is
// empty, in all or for a cluster-scoped resource. It panics when the client's
// configuration cannot make a connection, which NewClient's caller has proven
// by Verify.
func For[T, L any, PT Object[T], PL List[L]](c *Client, gvr schema.GroupVersionResource, namespace string) *gentype.ClientWithList[PT, PL] {
	r, err := c.REST(gvr.GroupVersion())
	if err != nil {
		panic(err)
	}
	return gentype.NewClientWithList[PT, PL](gvr.Resource, r, runtime.NewParameterCodec(c.scheme), namespace,
		func() PT { return PT(new(T)) }, func() PL { return PL(new(L)) },
		gentype.PrefersProtobuf[PT]())
}

// Verify checks the configuration once, so that For cannot fail afterwards.
func (c *Client) Verify() error {
	_, err := c.REST(schema.GroupVersion{Version: "v1"})
	return err
}
