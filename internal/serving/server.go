package serving

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	authorizationv1 "k8s.io/api/authorization/v1"

	"flagship/internal/component"
	"flagship/internal/decision"
	"flagship/internal/kube"
	"flagship/internal/options"
	componentv1 "flagship/proto/component/v1"
	decisionv1 "flagship/proto/decision/v1"
)

// Deps is what a server stands on.
type Deps struct {
	Log      *zap.Logger
	Registry *prometheus.Registry
	Set      *options.Set
	// Decisions is the component's ring, nil for a component without one.
	Decisions *decision.Log
	// Config is what /configz shows.
	Config map[string]any
	// Identity and Leader describe the election, empty where there is none.
	Identity string
	Leader   func() string
	Features map[string]bool
	// Authenticators and Authorizer replace the delegated ones where set.
	Authenticators []Authenticator
	Authorizer     Authorizer
	// Anonymous admits requests without credentials to authorization.
	Anonymous bool
	// Attributes maps a request to what must all be allowed; nil means the
	// request's path and method. The kubelet maps to nodes/log and the like.
	Attributes func(r *http.Request) []authorizationv1.SubjectAccessReviewSpec
	Profiling  bool
}

// Server is a component's secure port.
type Server struct {
	name   string
	opts   Options
	deps   Deps
	mux    *http.ServeMux
	grpc   *grpc.Server
	checks *Checks

	authenticators []Authenticator
	authorizer     Authorizer
	clusterCA      *clusterCA
	getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// New wires a server. It reads the certificate and CA files, so that a wrong
// one is known at the start, and opens no connection.
func New(name string, o Options, d Deps) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{name: name, opts: o, deps: d, mux: http.NewServeMux(), grpc: grpc.NewServer(), checks: NewChecks()}
	start := time.Now()
	s.checks.Register(s.mux)
	Pages{Component: name, Registry: d.Registry, Options: d.Set, Config: d.Config, Start: start, Profiling: d.Profiling}.Register(s.mux)
	componentv1.RegisterComponentServer(s.grpc, &component.Server{
		Name: name, Start: start, Set: d.Set, Identity: d.Identity, Leader: d.Leader, Features: d.Features, Checks: s.checks.Results,
	})
	if d.Decisions != nil {
		decisionv1.RegisterDecisionsServer(s.grpc, d.Decisions.Server())
	}
	if err := s.wireCertificate(); err != nil {
		return nil, err
	}
	return s, s.wireAuth()
}

// Results runs every check, in the form of the Component service.
func (c *Checks) Results(ctx context.Context) []component.CheckResult {
	var out []component.CheckResult
	for _, r := range c.Run(ctx, all) {
		out = append(out, component.CheckResult(r))
	}
	return out
}

func (s *Server) wireCertificate() error {
	if s.opts.CertFile != "" {
		pair, err := NewKeyPair(s.opts.CertFile, s.opts.KeyFile)
		if err != nil {
			return err
		}
		s.getCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Get() }
		return nil
	}
	cert, err := selfSigned(s.name, s.opts.CertDir, s.opts.BindAddress)
	if err != nil {
		return err
	}
	s.getCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
	return nil
}

func (s *Server) wireAuth() error {
	s.authenticators, s.authorizer = s.deps.Authenticators, s.deps.Authorizer
	var pools []func() *x509.CertPool
	if s.opts.ClientCAFile != "" {
		ca, err := NewCAFile(s.opts.ClientCAFile)
		if err != nil {
			return err
		}
		pools = append(pools, ca.Pool)
	}
	if s.opts.AuthenticationKubeconfig != "" {
		c, err := reviewClient(s.opts.AuthenticationKubeconfig, s.name)
		if err != nil {
			return fmt.Errorf("--authentication-kubeconfig: %w", err)
		}
		if !s.opts.SkipLookup {
			s.clusterCA = &clusterCA{client: c}
			pools = append(pools, s.clusterCA.Pool)
		}
		s.authenticators = append(s.authenticators, NewTokenReviewer(c))
	}
	if len(pools) > 0 {
		s.authenticators = append([]Authenticator{x509Authenticator{pools}}, s.authenticators...)
	}
	if s.authorizer == nil && s.opts.AuthorizationKubeconfig != "" {
		c, err := reviewClient(s.opts.AuthorizationKubeconfig, s.name)
		if err != nil {
			return fmt.Errorf("--authorization-kubeconfig: %w", err)
		}
		s.authorizer = NewAccessReviewer(c)
	}
	return nil
}

func reviewClient(kubeconfig, name string) (*kube.Client, error) {
	rc, err := kube.Load(kube.Config{Kubeconfig: kubeconfig, UserAgent: name, QPS: 50, Burst: 100})
	if err != nil {
		return nil, err
	}
	rc.Timeout = 10 * time.Second
	c, err := kube.NewClient(rc, ReviewKinds)
	if err != nil {
		return nil, err
	}
	return c, c.Verify()
}

// Handle serves a path of the component's own, behind the same filters.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// GRPC is where the component registers services of its own.
func (s *Server) GRPC() *grpc.Server { return s.grpc }

// Checks is the component's health.
func (s *Server) Checks() *Checks { return s.checks }

// clusterCARefresh is how often the cluster's client CA is read again.
const clusterCARefresh = time.Minute

// Run serves until ctx ends, then finishes what is in flight for at most ten
// seconds.
func (s *Server) Run(ctx context.Context) error {
	if s.opts.Port == 0 {
		<-ctx.Done()
		return nil
	}
	minVersion, err := tlsVersion(s.opts.TLSMinVersion)
	if err != nil {
		return err
	}
	suites, err := cipherSuites(s.opts.CipherSuites)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           s.route(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       90 * time.Second,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
		MaxHeaderBytes:    1 << 20,
		ErrorLog:          zap.NewStdLog(s.deps.Log.Named("http").WithOptions(zap.IncreaseLevel(zap.ErrorLevel))),
		TLSConfig: &tls.Config{
			MinVersion: minVersion, CipherSuites: suites, ClientAuth: tls.RequestClientCert,
			GetCertificate: s.getCertificate, NextProtos: []string{"h2", "http/1.1"},
		},
	}
	address := net.JoinHostPort(s.opts.BindAddress.String(), strconv.Itoa(s.opts.Port))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on the secure port: %w", err)
	}
	s.deps.Log.Info("serving securely", zap.String("address", address))
	return s.serve(ctx, srv, l)
}

func (s *Server) serve(ctx context.Context, srv *http.Server, l net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(l, "", "") }()
	refreshed := make(chan struct{})
	go func() {
		defer close(refreshed)
		s.keepClusterCA(ctx)
	}()
	defer func() { <-refreshed }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := srv.Shutdown(stop)
	_ = <-done // http.ErrServerClosed
	if errors.Is(err, context.DeadlineExceeded) {
		return srv.Close()
	}
	return err
}

// keepClusterCA reads the cluster's client CA until ctx ends, more often until
// it was first read.
func (s *Server) keepClusterCA(ctx context.Context) {
	if s.clusterCA == nil {
		return
	}
	wait := time.Second
	for {
		if err := s.clusterCA.refresh(ctx); err != nil {
			s.deps.Log.Debug("client CA of the cluster not read", zap.Error(err))
			wait = min(2*wait, clusterCARefresh)
		} else {
			wait = clusterCARefresh
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// route sends gRPC to its server and all else to the handlers, both after
// authentication and authorization.
func (s *Server) route() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isGRPC := r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
		if !s.admit(w, r, isGRPC) {
			return
		}
		if isGRPC {
			s.grpc.ServeHTTP(w, r)
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

type identityKey struct{}

// From returns who makes the request that ctx belongs to.
func From(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// admit authenticates and authorizes; where it refuses, it has answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, isGRPC bool) bool {
	if !isGRPC && allowed(s.opts.AlwaysAllowPaths, r.URL.Path) {
		return true
	}
	id, err := s.authenticate(r)
	if err != nil {
		s.deps.Log.Debug("request not authenticated", zap.String("path", r.URL.Path), zap.Error(err))
		refuse(w, isGRPC, http.StatusUnauthorized, "Unauthorized")
		return false
	}
	*r = *r.WithContext(context.WithValue(r.Context(), identityKey{}, id))
	for _, spec := range s.attributes(r, isGRPC) {
		spec.User, spec.UID, spec.Groups = id.Name, id.UID, id.Groups
		spec.Extra = make(map[string]authorizationv1.ExtraValue, len(id.Extra))
		for k, v := range id.Extra {
			spec.Extra[k] = v
		}
		ok, reason, err := s.authorize(r.Context(), spec)
		if err != nil {
			s.deps.Log.Warn("cannot authorize", zap.String("path", r.URL.Path), zap.Error(err))
			refuse(w, isGRPC, http.StatusInternalServerError, "Internal Server Error: authorization failed")
			return false
		}
		if !ok {
			refuse(w, isGRPC, http.StatusForbidden, describe(spec, reason))
			return false
		}
	}
	return true
}

// refuse answers a request that is not admitted, a gRPC one by a gRPC status
// without a body.
func refuse(w http.ResponseWriter, isGRPC bool, code int, message string) {
	if !isGRPC {
		http.Error(w, message, code)
		return
	}
	status := map[int]string{http.StatusUnauthorized: "16", http.StatusForbidden: "7"}[code]
	if status == "" {
		status = "14"
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", status)
	w.Header().Set("Grpc-Message", message)
	w.WriteHeader(http.StatusOK)
}

func describe(spec authorizationv1.SubjectAccessReviewSpec, reason string) string {
	what := ""
	switch {
	case spec.NonResourceAttributes != nil:
		what = fmt.Sprintf("verb=%s, path=%s", spec.NonResourceAttributes.Verb, spec.NonResourceAttributes.Path)
	case spec.ResourceAttributes != nil:
		a := spec.ResourceAttributes
		what = fmt.Sprintf("verb=%s, resource=%s, subresource=%s", a.Verb, a.Resource, a.Subresource)
	}
	return strings.TrimSpace(fmt.Sprintf("Forbidden (user=%s, %s) %s", spec.User, what, reason))
}

func (s *Server) authenticate(r *http.Request) (Identity, error) {
	var last error
	for _, a := range s.authenticators {
		id, ok, err := a.Authenticate(r)
		if ok {
			return id, nil
		}
		if err != nil {
			last = err
		}
	}
	if last != nil {
		return Identity{}, last
	}
	if r.Header.Get("Authorization") != "" || !s.deps.Anonymous {
		return Identity{}, errors.New("no credential that is known")
	}
	return anonymous, nil
}

func (s *Server) attributes(r *http.Request, isGRPC bool) []authorizationv1.SubjectAccessReviewSpec {
	if s.deps.Attributes != nil && !isGRPC {
		return s.deps.Attributes(r)
	}
	verb := strings.ToLower(r.Method)
	if isGRPC {
		verb = "get"
	}
	return []authorizationv1.SubjectAccessReviewSpec{{
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: r.URL.Path, Verb: verb},
	}}
}

func (s *Server) authorize(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (bool, string, error) {
	for _, g := range spec.Groups {
		if g == "system:masters" {
			return true, "", nil
		}
	}
	if s.authorizer == nil {
		return false, "no --authorization-kubeconfig is given, so that only the always allowed paths are served", nil
	}
	return s.authorizer.Authorize(ctx, spec)
}
