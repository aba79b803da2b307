package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
)

// Proxy knows whether rules are applied in time. It is safe for concurrent use.
type Proxy struct {
	// timeout is how long a change may wait; two sync periods, as upstream has it.
	timeout  time.Duration
	now      func() time.Time
	deleting func() bool

	mu      sync.Mutex // guards queued, updated
	queued  time.Time  // of the oldest change that is not applied, zero for none
	updated time.Time
}

// NewProxy returns a Proxy; deleting says whether the node is about to go.
func NewProxy(timeout time.Duration, now func() time.Time, deleting func() bool) *Proxy {
	return &Proxy{timeout: timeout, now: now, deleting: deleting}
}

// Queued notes that a change waits.
func (p *Proxy) Queued() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queued.IsZero() {
		p.queued = p.now()
	}
}

// Updated notes that everything queued before since is applied.
func (p *Proxy) Updated(since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.updated = p.now()
	if p.queued.Before(since) || p.queued.Equal(since) {
		p.queued = time.Time{}
	}
}

// Healthy says whether no change has waited for too long and the rules were written once.
func (p *Proxy) Healthy() (ok bool, updated time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.updated.IsZero() && (p.queued.IsZero() || p.now().Sub(p.queued) < p.timeout), p.updated
}

// Handler serves /healthz, which says no while the node is about to go, and /livez, which does not look at that.
func (p *Proxy) Handler() http.Handler {
	mux := http.NewServeMux()
	serve := func(look bool) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			ok, updated := p.Healthy()
			body := map[string]any{"lastUpdated": updated, "currentTime": p.now()}
			if look {
				eligible := !p.deleting()
				body["nodeEligible"] = eligible
				ok = ok && eligible
			}
			answer(w, ok, body)
		}
	}
	mux.HandleFunc("/healthz", serve(true))
	mux.HandleFunc("/livez", serve(false))
	return mux
}

func answer(w http.ResponseWriter, ok bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body)
}

// Services answers on the health check node ports of services with externalTrafficPolicy Local.
type Services struct {
	log   *zap.Logger
	proxy *Proxy

	mu      sync.Mutex // guards checks, servers, stopped, running
	checks  map[types.NamespacedName]Check
	servers map[types.NamespacedName]*server
	stopped bool
	running sync.WaitGroup
}

// Check is a service's health check node port.
type Check struct {
	Port int32
	// Local is how many local endpoints are ready.
	Local int
}

type server struct {
	port int32
	http *http.Server
}

// NewServices returns a Services that listens to nothing.
func NewServices(log *zap.Logger, proxy *Proxy) *Services {
	return &Services{log: log, proxy: proxy, checks: map[types.NamespacedName]Check{}, servers: map[types.NamespacedName]*server{}}
}

// Sync takes the checks that some services have, nil for all services: one of them without a check has none any more. It
// listens on their ports, and tries again those that could not be had. It is called by one goroutine at a time.
func (s *Services) Sync(ctx context.Context, only map[types.NamespacedName]struct{}, checks map[types.NamespacedName]Check) {
	var gone []types.NamespacedName
	listen := map[types.NamespacedName]int32{}
	s.mu.Lock()
	if only == nil {
		clear(s.checks)
	}
	for name := range only {
		delete(s.checks, name)
	}
	maps.Copy(s.checks, checks)
	for name, have := range s.servers {
		if s.checks[name].Port != have.port {
			gone = append(gone, name)
		}
	}
	for name, c := range s.checks {
		if have := s.servers[name]; have == nil || have.port != c.Port {
			listen[name] = c.Port
		}
	}
	s.mu.Unlock()
	for _, name := range gone {
		s.drop(name)
	}
	for name, port := range listen {
		if err := s.listen(ctx, name, port); err != nil {
			s.log.Warn("health check node port not served", zap.Stringer("service", name), zap.Int32("port", port), zap.Error(err))
		}
	}
}

func (s *Services) drop(name types.NamespacedName) {
	s.mu.Lock()
	srv := s.servers[name]
	delete(s.servers, name)
	s.mu.Unlock()
	if srv != nil {
		_ = srv.http.Close()
	}
}

func (s *Services) listen(ctx context.Context, name types.NamespacedName, port int32) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(int(port)))
	if err != nil {
		return err
	}
	srv := &server{port: port, http: &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.serve(w, name)
	})}}
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return l.Close()
	}
	s.servers[name] = srv
	s.running.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		if err := srv.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.log.Warn("health check node port stopped", zap.Stringer("service", name), zap.Error(err))
		}
	}()
	return nil
}

func (s *Services) serve(w http.ResponseWriter, name types.NamespacedName) {
	s.mu.Lock()
	n := s.checks[name].Local
	s.mu.Unlock()
	healthy, _ := s.proxy.Healthy()
	healthy = healthy && !s.proxy.deleting()
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(n))
	answer(w, n > 0 && healthy, map[string]any{
		"service":        map[string]string{"namespace": name.Namespace, "name": name.Name},
		"localEndpoints": n, "serviceProxyHealthy": healthy,
	})
}

// Run waits for ctx to end and then stops every listener.
func (s *Services) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.stopped = true
	for _, srv := range s.servers {
		_ = srv.http.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// ServeHTTP serves a handler on an address until ctx ends. hard makes an address that cannot be had an error; else it is
// tried again every five seconds.
func ServeHTTP(ctx context.Context, log *zap.Logger, what, address string, hard bool, h http.Handler) error {
	const retry = 5 * time.Second
	for {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			return serveOn(ctx, l, h)
		}
		if hard {
			return fmt.Errorf("listen for %s: %w", what, err)
		}
		log.Error("address not had, trying again", zap.String("for", what), zap.Error(err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
		}
	}
}

func serveOn(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
