package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Client reaches one cluster.
type Client struct {
	Config  *rest.Config
	Typed   kubernetes.Interface
	Dynamic dynamic.Interface
}

// New reads a kubeconfig; server, where it is set, replaces its address.
func New(kubeconfig, server string) (*Client, error) {
	cfg, err := clientcmd.BuildConfigFromFlags(server, kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	return FromConfig(cfg)
}

// FromConfig returns a client.
func FromConfig(cfg *rest.Config) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst, cfg.UserAgent = 50, 100, "ctl"
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	typed, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfig(cfg)
	return &Client{Config: cfg, Typed: typed, Dynamic: dyn}, err
}

// resources are the kinds that our manifests have.
func resources() map[string]schema.GroupVersionResource {
	rbac := schema.GroupVersion{Group: "rbac.authorization.k8s.io", Version: "v1"}
	apps, core := schema.GroupVersion{Group: "apps", Version: "v1"}, schema.GroupVersion{Version: "v1"}
	return map[string]schema.GroupVersionResource{
		"ClusterRole": rbac.WithResource("clusterroles"), "ClusterRoleBinding": rbac.WithResource("clusterrolebindings"),
		"Role": rbac.WithResource("roles"), "RoleBinding": rbac.WithResource("rolebindings"),
		"ConfigMap": core.WithResource("configmaps"), "Secret": core.WithResource("secrets"), "Service": core.WithResource("services"),
		"ServiceAccount": core.WithResource("serviceaccounts"),
		"Deployment":     apps.WithResource("deployments"), "DaemonSet": apps.WithResource("daemonsets"),
	}
}

// Apply creates or updates every object of YAML documents. A call that fails for a reason that goes by is made again
// until ctx ends.
func (c *Client) Apply(ctx context.Context, documents []byte) error {
	d := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(documents), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := d.Decode(o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if len(o.Object) == 0 {
			continue
		}
		if err := Retry(ctx, func() error { return c.apply(ctx, o) }); err != nil {
			return fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
}

func (c *Client) apply(ctx context.Context, o *unstructured.Unstructured) error {
	gvr, ok := resources()[o.GetKind()]
	if !ok {
		return fmt.Errorf("kind %s is not one of the bootstrapper's", o.GetKind())
	}
	var ri dynamic.ResourceInterface = c.Dynamic.Resource(gvr)
	if ns := o.GetNamespace(); ns != "" {
		ri = c.Dynamic.Resource(gvr).Namespace(ns)
	}
	_, err := ri.Create(ctx, o.DeepCopy(), metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	old, err := ri.Get(ctx, o.GetName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	next := o.DeepCopy()
	next.SetResourceVersion(old.GetResourceVersion())
	_, err = ri.Update(ctx, next, metav1.UpdateOptions{})
	return err
}

// Retry calls again, twice a second, while the failure may go by: the server starts, or its caches are behind.
func Retry(ctx context.Context, call func() error) error {
	for {
		err := call()
		if err == nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// passing are failures of an API server that is starting: its namespaces and roles come a moment after /readyz.
func passing(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return !errors.Is(err, context.Canceled)
	}
	return apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsConflict(err) || apierrors.IsForbidden(err) || apierrors.IsInternalError(err) || apierrors.IsNotFound(err)
}
