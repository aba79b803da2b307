package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"flagship/internal/kube"
	"flagship/internal/serving"
	"flagship/kubelet/internal/resource"
	"flagship/kubelet/internal/server"
)

// servers are the secure port and the read-only one.
type servers struct {
	k        *kubelet
	secure   *serving.Server
	readOnly http.Handler
}

// Run serves until ctx ends.
func (s *servers) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.secure.Run(ctx) })
	if s.readOnly != nil {
		g.Go(func() error {
			return s.k.serve(ctx, net.JoinHostPort(s.k.cfg.Address, fmt.Sprint(s.k.cfg.ReadOnlyPort)), s.readOnly)
		})
	}
	return g.Wait()
}

func (k *kubelet) server() (runner, error) {
	cfg := k.cfg
	if !*cfg.EnableServer {
		return nil, nil
	}
	o := serving.Options{
		BindAddress: net.ParseIP(cfg.Address), Port: int(cfg.Port), CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSPrivateKeyFile, CertDir: cfg.CertDir,
		ClientCAFile: cfg.Authentication.X509.ClientCAFile, SkipLookup: true, TolerateLookupFailure: true, TLSMinVersion: cfg.TLSMinVersion, CipherSuites: cfg.TLSCipherSuites,
	}
	if cfg.ServerTLSBootstrap && cfg.TLSCertFile == "" && !cfg.Standalone() {
		if err := k.placeholder(); err != nil {
			return nil, err
		}
		o.CertFile, o.KeyFile = k.servingStore().Current(), k.servingStore().Current()
	}
	d := serving.Deps{
		Log: k.log, Registry: k.metrics.registry, Set: cfg.Set, Decisions: k.decisions, Config: map[string]any{"kubeletconfig": cfg.Kubelet},
		Features: cfg.FeatureGates, Anonymous: *cfg.Authentication.Anonymous.Enabled, Attributes: server.Attributes(k.name), Profiling: *cfg.EnableProfilingHandler && *cfg.EnableDebuggingHandlers,
	}
	if k.client != nil && *cfg.Authentication.Webhook.Enabled {
		o.AuthenticationKubeconfig = cfg.Kubeconfig
	}
	switch {
	case cfg.Authorization.Mode == kubeletv1beta1.KubeletAuthorizationModeAlwaysAllow:
		d.Authorizer = allowAll{}
	case k.client != nil:
		c, err := k.reviews()
		if err != nil {
			return nil, err
		}
		d.Authorizer = fallback{serving.NewAccessReviewer(c)}
	}
	secure, err := serving.New("kubelet", o, d)
	if err != nil {
		return nil, err
	}
	api := server.New(server.Deps{
		Log: k.log, Runtime: k.runtime, Pods: k.pool.Pods, Status: k.statuses.Get, Static: func(uid types.UID) types.UID { return k.mirrors.Translate(uid) },
		Node: k.name, NodeFS: cfg.RootDir, PodsDir: filepath.Join(cfg.RootDir, "pods"), ImageFS: k.imageFS, Cgroup: k.cgroups.Path, V2: resource.IsV2(resource.Root),
		Machine: k.machine, Start: metav1.NewTime(k.started), LogsRoot: "/var/log", Debug: *cfg.EnableDebuggingHandlers,
		Prober: promhttp.HandlerFor(k.metrics.probes, promhttp.HandlerOpts{}),
	})
	api.Register(secure)
	secure.Checks().Add(serving.Check{Name: "syncloop", Live: true, Ready: true, Probe: func(context.Context) error { return k.live() }})
	out := &servers{k: k, secure: secure}
	if cfg.ReadOnlyPort > 0 {
		mux := http.NewServeMux()
		api.RegisterReadOnly(mux)
		mux.Handle("GET /metrics", promhttp.HandlerFor(k.metrics.registry, promhttp.HandlerOpts{}))
		mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
		out.readOnly = mux
	}
	return out, nil
}

// reviews is a client that asks whether an access is allowed, apart from the kubelet's own rate limit.
func (k *kubelet) reviews() (*kube.Client, error) {
	rc, err := k.load(k.cfg.Kubeconfig)
	if err != nil {
		return nil, err
	}
	rc.Timeout = 10 * time.Second
	c, err := kube.NewClient(rc, serving.ReviewKinds)
	if err != nil {
		return nil, err
	}
	return c, c.Verify()
}

// allowAll is authorization mode AlwaysAllow.
type allowAll struct{}

// Authorize allows.
func (allowAll) Authorize(context.Context, authorizationv1.SubjectAccessReviewSpec) (bool, string, error) {
	return true, "", nil
}

// fallback asks for nodes/proxy where the finer subresource is not granted, as upstream does.
type fallback struct{ serving.Authorizer }

// Authorize asks once or twice.
func (f fallback) Authorize(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (bool, string, error) {
	ok, reason, err := f.Authorizer.Authorize(ctx, spec)
	if ok || err != nil || spec.ResourceAttributes == nil {
		return ok, reason, err
	}
	switch spec.ResourceAttributes.Subresource {
	case "pods", "healthz", "configz", "statusz", "flagz":
		a := *spec.ResourceAttributes
		a.Subresource = "proxy"
		spec.ResourceAttributes = &a
		return f.Authorizer.Authorize(ctx, spec)
	}
	return ok, reason, err
}

// placeholder makes a certificate that is due for renewal at once, so that the port serves until the cluster has signed
// the real one.
func (k *kubelet) placeholder() error {
	if _, err := k.servingStore().Load(); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: k.name + "@placeholder"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(0, 0, 7), DNSNames: []string{k.name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})...)
	if err := os.MkdirAll(k.cfg.CertDir, 0o750); err != nil {
		return err
	}
	return k.servingStore().Save(data)
}
