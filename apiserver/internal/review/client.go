package review

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// DefaultTimeout bounds one request to a server.
const DefaultTimeout = 30 * time.Second

// Client posts reviews to the server of a kubeconfig, at that very URL.
type Client struct {
	server  *rest.RESTClient
	backoff wait.Backoff
}

// NewClient reads a kubeconfig: its cluster is the server, its user is who asks.
//
// Errors: it cannot be read, or is incomplete.
func NewClient(path string, timeout time.Duration) (*Client, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, err
	}
	cfg.Timeout, cfg.QPS = timeout, -1
	cfg.ContentType = runtime.ContentTypeJSON
	// Reviews are encoded here; of what comes back only a Status is the client's.
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	server, err := rest.UnversionedRESTClientFor(cfg)
	if err != nil {
		return nil, err
	}
	return &Client{server: server, backoff: wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 5}}, nil
}

// Backoff returns the client with another time until its first retry, half a second without it.
func (c *Client) Backoff(first time.Duration) *Client {
	out := *c
	out.backoff.Duration = first
	return &out
}

// Post asks until there is an answer, or an error that does not pass. each is told of every attempt; it may be nil.
func (c *Client) Post(ctx context.Context, in, out any, want metav1.TypeMeta, each func(status int, took time.Duration, err error)) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	var last error
	err = wait.ExponentialBackoffWithContext(ctx, c.backoff, func(ctx context.Context) (bool, error) {
		start, status := time.Now(), 0
		res := c.server.Post().SetHeader("Content-Type", runtime.ContentTypeJSON).Body(body).Do(ctx).StatusCode(&status)
		if last = res.Error(); last == nil {
			last = decode(res, out, want)
		}
		if each != nil {
			each(status, time.Since(start), last)
		}
		if passes(last) {
			return false, nil
		}
		return last == nil, last
	})
	if last != nil {
		return last
	}
	if err != nil {
		return fmt.Errorf("webhook call failed: %w", err)
	}
	return nil
}

// decode reads an answer, which is of the kind that was asked for where it says one.
func decode(res rest.Result, out any, want metav1.TypeMeta) error {
	data, err := res.Raw()
	if err != nil {
		return err
	}
	var have metav1.TypeMeta
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	if have.Kind != "" && have.Kind != want.Kind || have.APIVersion != "" && have.APIVersion != want.APIVersion {
		return fmt.Errorf("the answer is a %s of %s, not a %s of %s", have.Kind, have.APIVersion, want.Kind, want.APIVersion)
	}
	return json.Unmarshal(data, out)
}

// passes is whether an error may be gone the next time.
func passes(err error) bool {
	if err == nil {
		return false
	}
	_, delay := apierrors.SuggestsClientDelay(err)
	return delay || utilnet.IsConnectionReset(err) || utilnet.IsHTTP2ConnectionLost(err) || apierrors.IsInternalError(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err)
}

// Versions are those of the reviews that can be sent.
var Versions = []string{"v1", "v1beta1"}

func checkVersion(version string) error {
	if !slices.Contains(Versions, version) {
		return fmt.Errorf("unsupported webhook version %q, supported versions are %q, %q", version, Versions[0], Versions[1])
	}
	return nil
}
