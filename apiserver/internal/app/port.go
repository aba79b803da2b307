package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	certutil "k8s.io/client-go/util/cert"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/config"
	"flagship/apiserver/internal/openapi"
	"flagship/apiserver/internal/rest"
	"flagship/apiserver/internal/server"
	"flagship/apiserver/internal/wire"
	"flagship/internal/component"
	"flagship/internal/serving"
	componentv1 "flagship/proto/component/v1"
	decisionv1 "flagship/proto/decision/v1"
)

// server builds the handlers and the chain around them.
func (s *apiserver) server(id *identity, authorizer authz.Authorizer) (*server.Server, error) {
	certificate, err := s.certificate()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	s.checks.Register(mux)
	serving.Pages{Component: name, Registry: s.registry, Options: s.set, Start: s.start, Profiling: s.cfg.EnableProfiling, Version: &s.cfg.Version}.Register(mux)
	if id.discovery != nil {
		mux.Handle("/.well-known/openid-configuration", fixed("application/json", id.discovery.Configuration))
		mux.Handle("/openid/v1/jwks", fixed("application/jwk-set+json", id.discovery.JWKS))
	}
	gs := grpc.NewServer()
	componentv1.RegisterComponentServer(gs, &component.Server{Name: name, Start: s.start, Set: s.set, Identity: s.cfg.ExternalHostname, Checks: s.checks.Results})
	decisionv1.RegisterDecisionsServer(gs, s.decisions.Server())
	api := openapi.New(s.scheme, s.kinds, extension{s.custom, s.remote})
	config.RegisterFeatures(s.registry)
	s.registry.MustRegister(s.remote, &storeSize{client: s.store.Client()})
	dispatch := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case server.IsGRPC(r):
			gs.ServeHTTP(w, r)
		case s.remote.Serves(r.URL.Path):
			s.remote.ServeHTTP(w, r)
		case openapi.Serves(r.URL.Path):
			api.ServeHTTP(w, r)
		case s.disc.Serves(r.URL.Path):
			s.disc.ServeHTTP(w, r)
		case rest.InfoFrom(r.Context()).IsResource:
			s.api.ServeHTTP(w, r)
		case r.URL.Path == "/":
			s.root(w, r)
		case strings.HasPrefix(r.URL.Path, "/api/"), strings.HasPrefix(r.URL.Path, "/apis/"):
			s.api.NotFound(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
	if s.audit, err = audit.New(&s.cfg.Audit, s.registry, s.shown, s.log.Named("audit")); err != nil {
		return nil, err
	}
	drain := server.NewDrain(s.phases.Draining, s.cfg.ShutdownRetryAfter)
	chain := &server.Chain{
		Log: s.log.Named("request"), Authenticator: id.authenticator, Authorizer: authz.NewMetrics(s.registry).Counted(authorizer), Impersonator: authz.NewImpersonator(authorizer, s.registry), Metrics: server.NewMetrics(s.registry, s.api.Known), Audit: s.audit,
		RequestTimeout: s.cfg.RequestTimeout, Limits: s.limits(mux),
		Tracer: s.tracer, Drain: drain, Origins: s.cfg.Origins, StrictTransport: s.cfg.StrictTransport, GoawayChance: s.cfg.GoawayChance,
	}
	own := *chain
	own.Authenticator = id.counted(newOneself())
	s.self.Handler = own.Wrap(dispatch)
	var curves []tls.CurveID
	for _, id := range s.cfg.TLSCurves {
		curves = append(curves, tls.CurveID(id)) //nolint:gosec // validated
	}
	srv := server.New(server.Config{
		Curves: curves, HTTP1: s.cfg.HTTP1,
		Address: s.cfg.BindAddress, Port: s.cfg.SecurePort, GetCertificate: certificate,
		MinVersion: minVersion(s.cfg.TLSMinVersion), MaxStreams: s.cfg.MaxHTTP2Streams, Delay: s.cfg.ShutdownDelay, Finish: s.cfg.RequestTimeout + s.cfg.WatchGrace, Drain: drain,
	}, chain.Wrap(dispatch), s.phases, s.log)
	s.addChecks(srv)
	return srv, nil
}

// shown is a protobuf answer as JSON.
func (s *apiserver) shown(data []byte) ([]byte, error) {
	apiVersion, kind, raw, _, err := wire.SplitEnvelope(data)
	if err != nil {
		return nil, err
	}
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	obj, err := s.scheme.New(gvk)
	if err != nil {
		return nil, err
	}
	message, ok := obj.(interface{ Unmarshal(data []byte) error })
	if !ok {
		return nil, fmt.Errorf("%s has no form in protobuf", gvk)
	}
	if err := message.Unmarshal(raw); err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return json.Marshal(obj)
}

func (s *apiserver) addChecks(srv *server.Server) {
	s.checks.Add(serving.Check{Name: "etcd", Live: true, Ready: true, Probe: func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := s.store.Revision(ctx)
		return err
	}})
	s.checks.Add(serving.Check{Name: "informer-sync", Ready: true, Probe: func(context.Context) error {
		select {
		case <-s.hub.Ready():
			return nil
		default:
			return errors.New("the watch cache is not loaded")
		}
	}})
	s.checks.Add(serving.Check{Name: "poststarthook/rbac/bootstrap-roles", Live: false, Ready: true, Probe: func(context.Context) error {
		if !s.bootstrapped.Load() {
			return errors.New("not finished")
		}
		return nil
	}})
	s.checks.Add(serving.Check{Name: "shutdown", Ready: true, Probe: srv.Ready})
}

func minVersion(text string) uint16 {
	if text == "VersionTLS13" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

func fixed(contentType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(body)
	})
}

// root lists what there is: fixed paths, and those of the versions that are served here and elsewhere.
func (s *apiserver) root(w http.ResponseWriter, _ *http.Request) {
	paths := map[string]bool{}
	for _, p := range strings.Fields("/.well-known/openid-configuration /api /apis /apis/ /configz /flagz /healthz /livez /metrics /metrics/slis /openapi/v2 /openapi/v3 /openapi/v3/ /openid/v1/jwks /readyz /statusz /version") {
		paths[p] = true
	}
	add := func(gv schema.GroupVersion) {
		if gv.Group == "" {
			paths["/api/"+gv.Version] = true
			return
		}
		paths["/apis/"+gv.Group] = true
		paths["/apis/"+gv.String()] = true
	}
	for gv := range s.versions() {
		add(gv)
	}
	for _, gv := range s.remote.Remotes() {
		add(gv)
	}
	data, err := json.Marshal(metav1.RootPaths{Paths: slices.Sorted(maps.Keys(paths))})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n'))
}

// certificate is the serving certificate: the files given, or a self-signed
// one.
func (s *apiserver) certificate() (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	certFile, keyFile := s.cfg.TLSCertFile, s.cfg.TLSKeyFile
	if certFile == "" {
		certFile, keyFile = s.cfg.CertFile("apiserver.crt"), s.cfg.CertFile("apiserver.key")
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			ips := []net.IP{s.cfg.AdvertiseAddress, net.IPv4(127, 0, 0, 1), s.cfg.ServiceRanges[0].Addr().Next().AsSlice()}
			cert, key, err := certutil.GenerateSelfSignedCertKey(s.cfg.AdvertiseAddress.String(), ips, []string{"kubernetes.default.svc", "kubernetes.default", "kubernetes", "localhost"})
			if err != nil {
				return nil, fmt.Errorf("make self-signed certificate: %w", err)
			}
			if err := os.MkdirAll(filepath.Dir(certFile), 0o755); err != nil {
				return nil, fmt.Errorf("write self-signed certificate: %w", err)
			}
			if err := errors.Join(os.WriteFile(certFile, cert, 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
				return nil, fmt.Errorf("write self-signed certificate: %w", err)
			}
		}
	}
	pair, err := serving.NewKeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	names, err := serving.NewNames(s.cfg.ServerNames)
	if err != nil {
		return nil, err
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if cert := names.Get(hello); cert != nil {
			return cert, nil
		}
		return pair.Get()
	}, nil
}
