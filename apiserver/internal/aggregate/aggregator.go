package aggregate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// API is where the objects are.
type API interface {
	Follow(ctx context.Context, gvr schema.GroupVersionResource, set, gone func(runtime.Object), started func()) error
	Read(gvr schema.GroupVersionResource, namespace, name string) (runtime.Object, error)
	Each(gvr schema.GroupVersionResource, namespace string, visit func(runtime.Object) bool) error
}

// Client writes what the server decides.
type Client interface {
	Create(ctx context.Context, obj runtime.Object) error
	UpdateStatus(ctx context.Context, obj runtime.Object) error
	Delete(ctx context.Context, obj runtime.Object) error
}

// Resolver finds the address, with its port, at which a service answers.
type Resolver interface {
	Resolve(ctx context.Context, namespace, name string, port int32) (string, error)
}

// Remote is a version that another server serves.
type Remote struct {
	schema.GroupVersion
	GroupPriority, VersionPriority int32
	// Resources are what it said last; Stale says that it does not answer now.
	Resources []metav1.APIResource
	Stale     bool
}

// Deps is what an aggregator stands on.
type Deps struct {
	Log      *zap.Logger
	API      API
	Client   Client
	Resolver Resolver
	// Certificate identifies this server to the others, nil for none.
	Certificate func() (*tls.Certificate, error)
	// Publish is told what the other servers serve whenever that changes.
	Publish func([]Remote)
	// Local lists the versions that this server serves itself, and whether each
	// is made of custom resources.
	Local func() map[schema.GroupVersion]bool
}

// Aggregator is safe for concurrent use.
type Aggregator struct {
	deps Deps
	wake chan struct{}
	// downs counts the checks by which a server was not available, by why.
	downs *prometheus.CounterVec

	mu       sync.RWMutex // guards what follows
	remotes  map[schema.GroupVersion]*remote
	localDue bool
	// specifications are of the services that Specifications was asked for.
	specifications map[apiregistrationv1.ServiceReference]specification
}

// remote is an APIService that another server is behind.
type remote struct {
	name      string
	spec      apiregistrationv1.APIServiceSpec
	transport *http.Transport
	available bool
	checked   time.Time
	resources []metav1.APIResource
}

// New returns an aggregator without other servers.
func New(deps Deps) *Aggregator {
	return &Aggregator{deps: deps, downs: newDowns(), wake: make(chan struct{}, 1), remotes: map[schema.GroupVersion]*remote{}, localDue: true, specifications: map[apiregistrationv1.ServiceReference]specification{}}
}

func gvrAPIServices() schema.GroupVersionResource {
	return apiregistrationv1.SchemeGroupVersion.WithResource("apiservices")
}

// How often another server is asked whether it is there: while it is, and while
// it is not.
const (
	checkInterval = 30 * time.Second
	retryInterval = time.Second
	// checks is how many are asked at one time.
	checks = 8
)

// Run follows the APIServices until ctx ends.
func (a *Aggregator) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return a.deps.API.Follow(ctx, gvrAPIServices(), a.set, a.gone, nil)
	})
	g.Go(func() error {
		for ctx.Err() == nil {
			a.pause(ctx, a.work(ctx))
		}
		return nil
	})
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// pause waits until something happens, or for d where that is not 0.
func (a *Aggregator) pause(ctx context.Context, d time.Duration) {
	var tick <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		tick = t.C
	}
	select {
	case <-ctx.Done():
	case <-a.wake:
	case <-tick:
	}
}

func (a *Aggregator) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// LocalChanged says that this server serves other versions than before.
func (a *Aggregator) LocalChanged() {
	a.mu.Lock()
	a.localDue = true
	a.mu.Unlock()
	a.signal()
}

func gvOf(s *apiregistrationv1.APIService) schema.GroupVersion {
	return schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}
}

func (a *Aggregator) set(obj runtime.Object) {
	s, ok := obj.(*apiregistrationv1.APIService)
	if !ok {
		return
	}
	if s.Spec.Service == nil {
		a.drop(s)
		if len(s.Status.Conditions) == 0 {
			a.LocalChanged()
		}
		return
	}
	a.mu.Lock()
	have := a.remotes[gvOf(s)]
	changed := have == nil || !reflect.DeepEqual(have.spec, s.Spec)
	if changed {
		n := &remote{name: s.Name, spec: s.Spec}
		n.transport = a.transportTo(&n.spec)
		if have != nil {
			// It counts as what it was until it is asked anew, which is due: a change of its priority makes no gap.
			n.available, n.resources = have.available, have.resources
			have.transport.CloseIdleConnections()
		}
		a.remotes[gvOf(s)] = n
	}
	a.mu.Unlock()
	if changed {
		a.publish()
	}
	a.signal()
}

func (a *Aggregator) gone(obj runtime.Object) {
	if s, ok := obj.(*apiregistrationv1.APIService); ok {
		a.drop(s)
		a.LocalChanged()
	}
}

func (a *Aggregator) drop(s *apiregistrationv1.APIService) {
	a.mu.Lock()
	old := a.remotes[gvOf(s)]
	if old != nil && old.name == s.Name {
		delete(a.remotes, gvOf(s))
		delete(a.specifications, serviceOf(old))
	}
	a.mu.Unlock()
	if old != nil {
		old.transport.CloseIdleConnections()
		a.publish()
	}
}

// transportTo connects to the server behind an APIService, with this server's
// certificate.
func (a *Aggregator) transportTo(s *apiregistrationv1.APIServiceSpec) *http.Transport {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.Service.Name + "." + s.Service.Namespace + ".svc"}
	switch {
	case s.InsecureSkipTLSVerify:
		// What the APIService asks for.
		config.InsecureSkipVerify = true //nolint:gosec // see above
	case len(s.CABundle) > 0:
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(s.CABundle)
	}
	if a.deps.Certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return a.deps.Certificate() }
	}
	service, port := *s.Service, int32(443)
	if service.Port != nil {
		port = *service.Port
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		TLSClientConfig: config, MaxIdleConnsPerHost: 25, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			address, err := a.deps.Resolver.Resolve(ctx, service.Namespace, service.Name, port)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, address)
		},
	}
}

// work does what is due and says after how long to come again, 0 for not
// before something happens.
func (a *Aggregator) work(ctx context.Context) time.Duration {
	a.mu.Lock()
	local := a.localDue
	a.localDue = false
	due := make([]*remote, 0, len(a.remotes))
	for _, r := range a.remotes {
		due = append(due, r)
	}
	a.mu.Unlock()
	next := time.Duration(0)
	sooner := func(d time.Duration) {
		if next == 0 || d < next {
			next = d
		}
	}
	if local {
		if err := a.registerLocal(ctx); err != nil && ctx.Err() == nil {
			a.deps.Log.Debug("cannot register the local versions, trying again", zap.Error(err))
			a.mu.Lock()
			a.localDue = true
			a.mu.Unlock()
			sooner(retryInterval)
		}
	}
	var changed atomic.Bool
	g := errgroup.Group{}
	g.SetLimit(checks)
	var asked []*remote
	for _, r := range due {
		wait := retryInterval
		if r.available {
			wait = checkInterval
		}
		if left := wait - time.Since(r.checked); left > 0 {
			sooner(left)
			continue
		}
		asked = append(asked, r)
		g.Go(func() error {
			did, err := a.check(ctx, r)
			if did {
				changed.Store(true)
			}
			if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				a.deps.Log.Warn("cannot record whether an API service is available", zap.String("service", r.name), zap.Error(err))
			}
			return nil
		})
	}
	_ = g.Wait() // none fails
	for _, r := range asked {
		if r.available {
			sooner(checkInterval)
		} else {
			sooner(retryInterval)
		}
	}
	if changed.Load() {
		a.publish()
	}
	return next
}

func (a *Aggregator) publish() {
	if a.deps.Publish == nil {
		return
	}
	a.mu.RLock()
	var out []Remote
	for gv, r := range a.remotes {
		out = append(out, Remote{gv, r.spec.GroupPriorityMinimum, r.spec.VersionPriority, r.resources, !r.available})
	}
	a.mu.RUnlock()
	slices.SortFunc(out, func(x, y Remote) int { return strings.Compare(x.String(), y.String()) })
	a.deps.Publish(out)
}

// lookup is the server that serves a version, nil for this one.
func (a *Aggregator) lookup(gv schema.GroupVersion) *remote {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.remotes[gv]
}

// Remotes are the versions that other servers serve and that are available.
func (a *Aggregator) Remotes() []schema.GroupVersion {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var out []schema.GroupVersion
	for gv, r := range a.remotes {
		if r.available {
			out = append(out, gv)
		}
	}
	return out
}

var errUnavailable = errors.New("service unavailable")
