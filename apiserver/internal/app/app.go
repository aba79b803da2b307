// Package app wires kube-apiserver from top to bottom: store, watch cache,
// identity, admission, resources, server.
//
// Data in: the configuration. Data out: a running process. It owns the order
// in which the parts start, and stop in reverse.
package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base32"
	"fmt"
	"net"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	certutil "k8s.io/client-go/util/cert"
	podsecurityapi "k8s.io/pod-security-admission/api"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/aggregate"
	"flagship/apiserver/internal/allocate"
	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/authzconfig"
	"flagship/apiserver/internal/config"
	"flagship/apiserver/internal/connect"
	"flagship/apiserver/internal/discovery"
	"flagship/apiserver/internal/expression"
	"flagship/apiserver/internal/extend"
	"flagship/apiserver/internal/fairness"
	"flagship/apiserver/internal/hook"
	"flagship/apiserver/internal/match"
	"flagship/apiserver/internal/oidc"
	"flagship/apiserver/internal/policy"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
	"flagship/apiserver/internal/server"
	"flagship/apiserver/internal/static"
	"flagship/apiserver/internal/store"
	"flagship/apiserver/internal/tracing"
	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/webhook"
	"flagship/internal/decision"
	"flagship/internal/logging"
	"flagship/internal/metrics"
	"flagship/internal/options"
	"flagship/internal/process"
	"flagship/internal/serving"
)

// name is the binary's.
const name = "kube-apiserver"

// decisions bounds the ring of admission decisions.
const decisions = 1024

// apiserver is everything that the parts share.
type apiserver struct {
	cfg    *config.Config
	set    *options.Set
	log    *zap.Logger
	start  time.Time
	scheme *runtime.Scheme
	kinds  []*resource.Kind
	// off are the built-in resources that are not served.
	off   map[schema.GroupVersionResource]bool
	store *store.Store
	hub   *watchcache.Hub
	api   *rest.API
	local *local
	// custom serves custom resources.
	custom *extend.Definitions
	disc   *discovery.Discovery
	types  *kindTypes
	// remote are other API servers.
	remote *aggregate.Aggregator
	rbac   *authz.RBAC
	graph  *authz.Graph
	// authorizers are the list that is in force.
	authorizers *authzconfig.Authorizers
	// providers recognize tokens of others, nil for none.
	providers *oidc.Providers
	// audit tells of requests, nil for not at all.
	audit *audit.Audit
	// tracer makes spans, nil for none.
	tracer *tracing.Tracer
	// allocator gives services their addresses and ports.
	allocator *allocate.Hooks
	// self is asked where a webhook is this server.
	self hook.Self
	// manifests are the folders of admission's files.
	manifests []*static.Dir
	// fairness decides which requests are served, nil where they are bounded by number.
	fairness *fairness.Controller
	checks   *serving.Checks
	registry *prometheus.Registry
	// decisions are admission's refusals.
	decisions *decision.Log
	phases    server.Phases
	ready     chan struct{}
	// bootstrapped is set once the cluster's first objects are there.
	bootstrapped atomic.Bool
}

// Run serves until ctx ends.
func Run(ctx context.Context, cfg *config.Config, set *options.Set) error {
	log, err := logging.New(cfg.Logging)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	set.WarnInert(log)
	client, closeStore, err := openStore(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer closeStore()
	s := &apiserver{
		cfg: cfg, set: set, log: log, start: time.Now(), rbac: &authz.RBAC{}, graph: &authz.Graph{},
		checks: serving.NewChecks(), registry: metrics.NewRegistry(name), decisions: decision.NewLog(name, decisions), phases: server.NewPhases(), ready: make(chan struct{}),
	}
	if s.scheme, err = resource.NewScheme(); err != nil {
		return err
	}
	missing, err := cfg.Surface.Check(resource.Kinds())
	if err != nil {
		return fmt.Errorf("--runtime-config: %w", err)
	}
	if len(missing) > 0 {
		log.Warn("resources are asked for that this version does not have", zap.Strings("runtimeConfig", missing))
	}
	if unmet := cfg.Features.Unmet(); len(unmet) > 0 {
		log.Warn("feature gates are set to what is not built: nothing is other than by default", zap.Strings("featureGates", unmet))
	}
	s.off = map[schema.GroupVersionResource]bool{}
	for _, k := range resource.Kinds() {
		if cfg.Surface.Serves(k.GVR(), k.Kind) {
			s.kinds = append(s.kinds, k)
		} else {
			s.off[k.GVR()] = true
		}
	}
	transformer, encryption, err := s.transformer(ctx)
	if err != nil {
		return err
	}
	s.store = store.New(store.Config{Prefix: cfg.Etcd.Prefix, Transformer: transformer, Metrics: store.NewMetrics(s.registry, resourceOf(resource.Kinds(), cfg.Etcd.Prefix))}, client)
	s.hub = watchcache.NewHub(s.store, log.Named("watchcache"))
	if cfg.TracingConfig != "" {
		c, err := tracing.Read(cfg.TracingConfig)
		if err != nil {
			return fmt.Errorf("--tracing-config-file %s: %w", cfg.TracingConfig, err)
		}
		if s.tracer, err = tracing.New(ctx, c, leaseName(cfg.ExternalHostname)); err != nil {
			return fmt.Errorf("--tracing-config-file %s: %w", cfg.TracingConfig, err)
		}
	}
	srv, err := s.wire(ctx)
	if err != nil {
		return err
	}
	boot := &bootstrapper{cfg: cfg, l: s.local, fairness: s.fairness, stopping: s.phases.Stopping, log: log.Named("bootstrap")}
	if cfg.EndpointReconciler == config.ReconcilerLease {
		boot.masters = &masters{client: client, prefix: s.store.Prefix() + "/masterleases/", address: cfg.AdvertiseAddress.String()}
	}
	parts := []process.Part{
		{Name: "watch cache", Run: s.hub.Run, Ready: closed(s.hub.Ready())},
		{Name: "custom resources", Run: s.custom.Run, Ready: closed(s.custom.Ready())},
		{Name: "followers", Run: s.follow, Ready: closed(s.ready)},
		{Name: "bootstrap", Run: func(ctx context.Context) error { return s.bootstrap(ctx, boot) }},
		{Name: "secure port", Run: srv.Run},
		{Name: "aggregation", Run: s.remote.Run},
		process.Trim(log),
	}
	if cfg.Etcd.CompactionInterval > 0 {
		parts = append(parts, process.Part{Name: "compaction", Run: func(ctx context.Context) error { return s.store.Compact(ctx, cfg.Etcd.CompactionInterval) }})
	}
	for _, d := range s.manifests {
		parts = append(parts, process.Part{Name: "admission manifests", Run: d.Run})
	}
	if s.fairness != nil {
		parts = append(parts, process.Part{Name: "priority and fairness", Run: s.fairness.Run})
	}
	if s.tracer != nil {
		// It ends after the port, whose last spans it sends.
		parts = slices.Insert(parts, 0, process.Part{Name: "tracing", Run: s.tracer.Run})
	}
	if cfg.EnableProfiling && cfg.ContentionProfiling {
		goruntime.SetBlockProfileRate(1)
	}
	if cfg.EnableProfiling && cfg.DebugSocket != "" {
		parts = append(parts, process.Part{Name: "debug socket", Run: func(ctx context.Context) error { return serving.DebugSocket(ctx, cfg.DebugSocket) }})
	}
	if s.audit != nil {
		// It ends after the port, whose last requests it still tells of.
		parts = slices.Insert(parts, 0, process.Part{Name: "audit", Run: s.audit.Run})
	}
	if cfg.Authorization.Path != "" {
		parts = append(parts, process.Part{Name: "authorizers", Run: s.authorizers.Run})
	}
	if s.providers != nil {
		parts = append(parts, process.Part{Name: "token providers", Run: s.providers.Run})
	}
	if encryption != nil {
		parts = append(parts, process.Part{Name: "encryption", Run: encryption.Run})
	}
	return process.Run(ctx, log, parts...)
}

func closed(ch <-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ch:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// openStore connects to etcd, or starts it in this process.
func openStore(ctx context.Context, cfg *config.Config, log *zap.Logger) (*clientv3.Client, func(), error) {
	e := cfg.Etcd
	if len(e.Servers) > 0 {
		client, err := store.Dial(store.ExternalConfig{Servers: e.Servers, CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile}, log)
		if err != nil {
			return nil, nil, err
		}
		return client, func() { _ = client.Close() }, nil
	}
	emb, err := store.StartEmbedded(ctx, store.EmbeddedConfig{
		DataDir: e.DataDir, Name: e.Name, ClientURL: e.ClientURL, PeerURL: e.PeerURL, PeerAdvertise: e.PeerURL,
		ClientCA: e.ServerCA, ClientCert: e.ServerCert, ClientKey: e.ServerKey,
		PeerCA: e.PeerCA, PeerCert: e.PeerCert, PeerKey: e.PeerKey,
		InitialCluster: e.InitialCluster, Joining: e.ClusterState == "existing", Unsafe: e.UnsafeNoFsync,
	}, log)
	if err != nil {
		return nil, nil, err
	}
	return emb.Client, emb.Close, nil
}

// wire builds everything and starts nothing.
func (s *apiserver) wire(ctx context.Context) (*server.Server, error) {
	s.local = &local{scheme: s.scheme, kinds: map[schema.GroupVersionKind]schema.GroupVersionResource{}}
	for _, k := range s.kinds {
		s.local.kinds[k.GroupVersionKind] = k.GVR()
	}
	authorizer, err := authzconfig.New(s.cfg.Authorization, authzconfig.BuiltIn{Node: authz.NewNode(s.graph), RBAC: s.rbac}, s.registry, leaseName(s.cfg.ExternalHostname), s.log.Named("authorization"))
	if err != nil {
		return nil, err
	}
	s.authorizers = authorizer
	id, err := s.identity(ctx)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := s.kubeletTLS()
	if err != nil {
		return nil, err
	}
	types := make([]corev1.NodeAddressType, len(s.cfg.KubeletAddressTypes))
	for i, t := range s.cfg.KubeletAddressTypes {
		types[i] = corev1.NodeAddressType(t)
	}
	lazy := &lazyAPI{decisions: s.decisions}
	s.types = newTypes(s.scheme)
	s.allocator = allocate.New(allocate.Config{Ranges: s.cfg.ServiceRanges, FirstPort: s.cfg.FirstNodePort, LastPort: s.cfg.LastNodePort, Privileged: s.cfg.AllowPrivileged}, s.local,
		func(ctx context.Context, obj runtime.Object) error {
			return s.rbac.CheckEscalation(ctx, authorizer, rest.UserFrom(ctx), obj)
		}, allocate.NewMetrics(s.registry))
	s.api, err = rest.New(rest.Config{
		MaxBody: maxBody, WatchGrace: s.cfg.WatchGrace, MinRequestTimeout: time.Duration(s.cfg.MinRequestTimeout) * time.Second, EventTTL: s.cfg.EventTTL,
		Off: s.off,
	}, rest.Deps{
		Log: s.log.Named("rest"), Scheme: s.scheme, Types: s.types, Store: s.store, Hub: s.hub,
		Admission: lazy, Reviewer: &reviewer{tokens: id.tokens, authorizer: authorizer}, Hooks: hooks{s.allocator, authorizer, s.local.namespace},
		Connect: connect.New(connect.Config{AddressTypes: types, TLS: tlsConfig, Family: discoveryv1.AddressType(allocate.Family(s.cfg.ServiceRanges[0].Addr()))}, lazy, s.log.Named("connect")),
		Tokens:  &tokenIssuer{issuer: id.issuer, getter: &lateGetter{id: id}}, Stopping: s.phases.Draining,
	})
	if err != nil {
		return nil, err
	}
	s.registry.MustRegister(s.api)
	s.local.api, lazy.API, id.getter.api = s.api, s.api, s.api
	if err := s.addKinds(ctx); err != nil {
		return nil, err
	}
	if s.disc, err = discovery.New(s.kinds, s.address()); err != nil {
		return nil, err
	}
	services := &resolver{api: s.api, endpoints: s.cfg.AggregatorRouting, self: s.address()}
	hooks := hook.New(services, &s.self, nil, s.tracer)
	if s.remote, err = s.aggregator(services); err != nil {
		return nil, err
	}
	s.custom = extend.New(extend.Deps{Log: s.log.Named("extend"), API: s.api, Caches: s.hub, Client: s.local, Publish: s.extended, BuiltIn: s.kinds, Hooks: hooks})
	readers := admissionReaders(s.api, s.hub, s.local)
	observed := admission.NewMetrics(s.registry)
	asked := &webhook.Deps{
		Metrics: observed, API: s.api, Caller: hooks, Matcher: &match.Matcher{API: s.api, Namespace: readers.Namespace}, Expressions: &expression.Compiler{}, Authorizer: authorizer,
	}
	expression.Forward(s.registry)
	ruled := &policy.Deps{
		API: s.api, Matcher: asked.Matcher, Namespace: readers.Namespace, Expressions: asked.Expressions, Authorizer: authorizer, Types: s.typesOf, Metrics: policy.NewMetrics(s.registry),
	}
	files, err := admission.ReadFiles(s.cfg.AdmissionConfig)
	if err != nil {
		return nil, fmt.Errorf("--admission-control-config-file %s: %w", s.cfg.AdmissionConfig, err)
	}
	extra, err := s.configured(files, services, asked, ruled)
	if err != nil {
		return nil, fmt.Errorf("--admission-control-config-file %s: %w", s.cfg.AdmissionConfig, err)
	}
	lazy.chain, err = admission.New(admission.Config{
		Metrics: observed, Files: files, Enable: s.cfg.EnableAdmission, Disable: s.cfg.DisableAdmission,
		DefaultNotReadyTolerationSeconds: s.cfg.NotReadyToleration, DefaultUnreachableTolerationSeconds: s.cfg.UnreachableTolerance,
	}, admission.Deps{
		Readers: readers, Authorizer: authorizer, Extra: extra, CreateNamespace: func(ctx context.Context, ns *corev1.Namespace) error { return s.local.Create(ctx, ns) }, ResourceOf: s.api.ResourceOf,
		QOS: resource.QOS, Now: time.Now, Suffix: utilrand.String,
	})
	if err != nil {
		return nil, err
	}
	release, err := podsecurityapi.ParseVersion("v" + s.cfg.Version.Major + "." + s.cfg.Version.Minor)
	if err != nil {
		return nil, fmt.Errorf("version of the binary: %w", err)
	}
	lazy.chain.CountPodSecurity(s.registry, release)
	return s.server(id, authorizer)
}

// address is where this server is reached in the cluster.
func (s *apiserver) address() string {
	return net.JoinHostPort(s.cfg.AdvertiseAddress.String(), fmt.Sprint(s.cfg.SecurePort))
}

// maxBody bounds a request's body, upstream's limit.
const maxBody = 3 << 20

// lazyAPI breaks the circle between the API and what reads through it.
type lazyAPI struct {
	*rest.API
	chain     admission.Chain
	decisions *decision.Log
}

func (l *lazyAPI) Mutate(ctx context.Context, a *admission.Attributes) error {
	err := l.chain.Mutate(ctx, a)
	l.record(a, err)
	return err
}

func (l *lazyAPI) Validate(ctx context.Context, a *admission.Attributes) error {
	err := l.chain.Validate(ctx, a)
	l.record(a, err)
	return err
}

// record notes a refusal, so that `ctl why` can tell it to others than who was refused.
func (l *lazyAPI) record(a *admission.Attributes, err error) {
	if err == nil || a.DryRun {
		return
	}
	e := decision.Entry{
		Actor: "admission", Time: time.Now(), Kind: a.Kind.Kind, Namespace: a.Namespace, Name: a.Name, Verdict: "refused",
		Reasons: []decision.Reason{{Subject: strings.ToLower(string(a.Operation)) + " by " + a.User.Name, Code: a.RefusedBy, Message: err.Error()}},
	}
	for _, obj := range []runtime.Object{a.OldObject, a.Object} {
		if m, metaErr := meta.Accessor(obj); metaErr == nil && m.GetUID() != "" {
			e.UID, e.Name, e.Generation = m.GetUID(), m.GetName(), m.GetGeneration()
			break
		} else if metaErr == nil && e.Name == "" {
			e.Name = cmp.Or(m.GetName(), m.GetGenerateName())
		}
	}
	l.decisions.Record(e)
}

// addKinds gives each storage one cache and each kind its resource.
func (s *apiserver) addKinds(ctx context.Context) error {
	caches := map[string]*watchcache.Cache{}
	for _, k := range s.kinds {
		c := caches[k.Prefix]
		if c == nil {
			cc := watchcache.Config{Prefix: k.Prefix}
			if k.Resource == "pods" && k.Group == "" {
				cc.Index = rest.PodNode
			}
			var err error
			if c, err = s.hub.Add(ctx, cc); err != nil {
				return err
			}
			caches[k.Prefix] = c
		}
		if err := s.api.Add(k, c); err != nil {
			return err
		}
	}
	return nil
}

// reviewer answers the review kinds.
type reviewer struct {
	tokens     authn.TokenAuthenticator
	authorizer *authzconfig.Authorizers
}

func (r *reviewer) ReviewToken(ctx context.Context, token string, audiences []string) (*authn.Identity, bool, error) {
	if len(audiences) > 0 {
		ctx = authn.WithAudiences(ctx, audiences)
	}
	return r.tokens.AuthenticateToken(ctx, token)
}

func (r *reviewer) Authorize(ctx context.Context, a authz.Attributes) (authz.Decision, string, error) {
	return r.authorizer.Authorize(ctx, a)
}

func (r *reviewer) RulesFor(u *authn.Identity, namespace string) (authz.Rules, error) {
	return r.authorizer.RulesFor(u, namespace)
}

// kubeletTLS is the client side of connections to kubelets.
func (s *apiserver) kubeletTLS() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.cfg.KubeletCA == "" {
		// Upstream's default too: kubelets serve self-signed certificates
		// unless an operator gives them others and names their CA here.
		c.InsecureSkipVerify = true
	} else {
		pool, err := certutil.NewPool(s.cfg.KubeletCA)
		if err != nil {
			return nil, fmt.Errorf("--kubelet-certificate-authority: %w", err)
		}
		c.RootCAs = pool
	}
	if s.cfg.KubeletClientCert != "" {
		pair, err := serving.NewKeyPair(s.cfg.KubeletClientCert, s.cfg.KubeletClientKey)
		if err != nil {
			return nil, fmt.Errorf("--kubelet-client-certificate: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.Get() }
	}
	return c, nil
}

// bootstrap creates the cluster's first objects and looks after the kubernetes
// service.
func (s *apiserver) bootstrap(ctx context.Context, b *bootstrapper) error {
	for {
		err := b.once(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // an ordinary stop
		}
		s.log.Warn("cannot create the bootstrap objects, trying again", zap.Error(err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
	s.bootstrapped.Store(true)
	var repair sync.WaitGroup
	defer repair.Wait()
	repair.Go(func() {
		s.allocator.Repair(ctx, func(err error) { s.log.Warn("service addresses", zap.Error(err)) })
	})
	if s.fairness != nil {
		repair.Go(func() { s.keepFairness(ctx) })
	}
	return b.keep(ctx)
}

func hashName(s string) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}
