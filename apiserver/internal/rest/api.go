package rest

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/store"
	"flagship/apiserver/internal/timing"
	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

// Storage is what writes go to.
type Storage interface {
	// Prefix heads the keys in the store.
	Prefix() string
	Get(ctx context.Context, key string) (store.Item, int64, error)
	List(ctx context.Context, prefix, start string, limit, rev int64) (store.Page, error)
	Create(ctx context.Context, key string, value []byte, ttl time.Duration) (int64, error)
	Update(ctx context.Context, key string, value []byte, rev int64, ttl time.Duration) (int64, error)
	Delete(ctx context.Context, key string, rev int64) (int64, error)
}

// Known is whether a resource is served, with a subresource where one is named.
func (a *API) Known(group, version, resource, subresource string) bool {
	gvr := schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
	if res := a.Lookup(gvr); res != nil {
		_, ok := res.Subresources[subresource]
		return ok || subresource == ""
	}
	return subresource == "" && a.virtual(gvr) != nil
}

// Admission changes and checks writes. An error is answered as it is.
type Admission interface {
	Mutate(ctx context.Context, a *admission.Attributes) error
	Validate(ctx context.Context, a *admission.Attributes) error
}

// Reviewer answers the review kinds, which are not stored.
type Reviewer interface {
	// ReviewToken authenticates a bearer token for any of the audiences.
	ReviewToken(ctx context.Context, token string, audiences []string) (*authn.Identity, bool, error)
	Authorize(ctx context.Context, a authz.Attributes) (authz.Decision, string, error)
	authz.RuleResolver
}

// Hooks change one kind's objects on their way to the store, with access to
// state that strategies do not have: IP allocation, escalation checks.
type Hooks interface {
	// BeforeCreate runs after admission and before validation. The returned
	// function, where not nil, is called with the outcome: what was taken for
	// a write that failed or was a dry run is given back, and after one that
	// was made what it gave up.
	BeforeCreate(ctx context.Context, k *resource.Kind, obj runtime.Object, dryRun bool) (done func(written bool), err error)
	BeforeUpdate(ctx context.Context, k *resource.Kind, obj, old runtime.Object, dryRun bool) (done func(written bool), err error)
	AfterDelete(ctx context.Context, k *resource.Kind, obj runtime.Object)
	// MayDeleteUnread is nil where who asks may delete an object that cannot be read, else why not.
	MayDeleteUnread(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error
	// Forbids is what of a write depends on who makes it and on other objects;
	// its errors come before those of the validation. old is nil on a creation.
	Forbids(ctx context.Context, verb, sub string, obj, old runtime.Object) field.ErrorList
}

// Config shapes an API.
type Config struct {
	// MaxBody bounds a request's body in bytes.
	MaxBody int64
	// MinRequestTimeout bounds how long a watch without timeoutSeconds lives:
	// a random time between this and twice this.
	MinRequestTimeout time.Duration
	// WatchGrace is over how long the watches end when the server stops; 0 ends them at once.
	WatchGrace time.Duration
	// EventTTL is how long events are kept.
	EventTTL time.Duration
	// Off are the built-in resources that are not served, since they are turned off: there is nothing of them.
	Off map[schema.GroupVersionResource]bool
}

// Deps is what an API stands on.
type Deps struct {
	Log       *zap.Logger
	Scheme    *runtime.Scheme
	Types     managedfields.TypeConverter
	Store     Storage
	Hub       *watchcache.Hub
	Admission Admission
	Reviewer  Reviewer
	Hooks     Hooks
	// Connect serves the subresources that reach a node or an address: log,
	// exec, attach, portforward, proxy.
	Connect Connector
	// Tokens issues service-account tokens.
	Tokens TokenIssuer
	// Stopping is closed when the server shuts down, so that watches end.
	Stopping <-chan struct{}
}

// API serves the built-in resources.
type API struct {
	cfg  Config
	deps Deps
	// partial transcodes an object's metadata alone.
	partial *wire.Program
	metrics *metrics

	mu        sync.RWMutex // guards resources
	resources map[schema.GroupVersionResource]*Resource
}

// Resource is one served resource.
type Resource struct {
	*resource.Kind
	Cache *watchcache.Cache
	// apiVersion is the served group and version.
	apiVersion string
	// program transcodes the stored protobuf to JSON, nil where the stored
	// version is not the served one.
	program *wire.Program
	// row is what a table's row reads of the stored protobuf, nil for all of it.
	row *wire.Keep
	// converts is whether the stored version differs from the served one.
	converts bool
	// codec is the encoding of a resource without a Go type, nil for one with.
	codec Codec

	mu       sync.Mutex // guards managers
	managers map[string]*managedfields.FieldManager
}

// New returns an API without resources.
func New(cfg Config, deps Deps) (*API, error) {
	partial, err := wire.Compile(reflect.TypeFor[metav1.PartialObjectMetadata]())
	if err != nil {
		return nil, fmt.Errorf("compile the transcoder of metadata: %w", err)
	}
	boundCopies(cfg.MaxBody)
	return &API{cfg: cfg, deps: deps, partial: partial, metrics: newMetrics(), resources: map[schema.GroupVersionResource]*Resource{}}, nil
}

// Add serves a kind from a cache; kinds with one storage share it.
func (a *API) Add(k *resource.Kind, cache *watchcache.Cache) error {
	r := &Resource{Kind: k, Cache: cache, apiVersion: k.GroupVersion().String(), converts: k.StoredGVK() != k.GroupVersionKind, managers: map[string]*managedfields.FieldManager{}}
	obj, err := a.deps.Scheme.New(k.StoredGVK())
	if err != nil {
		return fmt.Errorf("serve %s: %w", k.GroupVersionKind, err)
	}
	if !r.converts {
		if r.program, err = wire.Compile(reflect.TypeOf(obj).Elem(), k.Strategy.Embedded...); err != nil {
			return fmt.Errorf("serve %s: compile transcoder: %w", k.GroupVersionKind, err)
		}
		if len(k.Strategy.RowFields) > 0 {
			if r.row, err = wire.CompileKeep(reflect.TypeOf(obj), k.Strategy.RowFields...); err != nil {
				return fmt.Errorf("serve %s: fields of a row: %w", k.GroupVersionKind, err)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resources[k.GVR()] = r
	return nil
}

// Lookup returns a served resource, nil where there is none.
func (a *API) Lookup(gvr schema.GroupVersionResource) *Resource {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.resources[gvr]
}

// request is one request on its way through the API.
type request struct {
	http *http.Request
	info *Info
	res  *Resource
	form form
	user *authn.Identity
	// applied is whether a server-side apply has recorded the managed fields.
	applied bool
	// version is the resourceVersion of an object to be created, which it may have where nothing is written.
	version int64
	// trusted requests are the server's own, which admission does not see.
	trusted bool
	// warnings for the client, sent as headers before the answer.
	warnings []string
}

func (q *request) ctx() context.Context { return q.http.Context() }

func (q *request) warn(text string) {
	for _, w := range q.warnings {
		if w == text {
			return
		}
	}
	if len(q.warnings) < maxWarnings {
		q.warnings = append(q.warnings, text)
	}
}

// maxWarnings bounds the warnings of one answer.
const maxWarnings = 32

// ServeHTTP answers a request for a resource, of which the context holds the
// Info and the user.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info := InfoFrom(r.Context())
	if info == nil || !info.IsResource {
		a.NotFound(w, r)
		return
	}
	// What is behind a proxy answers for itself.
	if r.Method == http.MethodHead && info.Subresource != "proxy" {
		WriteError(w, r, notAllowed(info.Verb))
		return
	}
	gvr := schema.GroupVersionResource{Group: info.Group, Version: info.Version, Resource: info.Resource}
	if serve := a.virtual(gvr); serve != nil {
		if err := serve(w, &request{http: r, info: info, user: UserFrom(r.Context())}); err != nil {
			WriteError(w, r, err)
		}
		return
	}
	res := a.Lookup(gvr)
	if res == nil {
		a.NotFound(w, r)
		return
	}
	q := &request{http: r, info: info, res: res, user: UserFrom(r.Context())}
	if res.Deprecation != "" {
		q.warn(res.Deprecation)
		if t := timing.From(r.Context()); t != nil {
			t.Deprecated.Store(true)
		}
		audit.From(r.Context()).Annotate("k8s.io/deprecated", "true")
	}
	if err := a.serve(w, q); err != nil {
		writeWarnings(w, q.warnings)
		WriteError(w, r, err)
	}
}

// builtIn is whether resources with a Go type are served in a version.
func (a *API) builtIn(group string) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for gvr, r := range a.resources {
		if r.codec == nil && gvr.Group == group {
			return true
		}
	}
	return false
}

// NotFound answers a path that nothing is at: below a built-in group with a
// Status, and else as upstream's mux does.
func (a *API) NotFound(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if parts[0] == "api" && len(parts) > 1 || parts[0] == "apis" && len(parts) > 2 && a.builtIn(parts[1]) {
		WriteError(w, r, notServed("get"))
		return
	}
	notFoundPath(w, r)
}

// notServed answers a path that nothing is at.
func notServed(verb string) error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, verb, schema.GroupResource{}, "", "", 0, false)
}

// notAllowed answers a method that a path does not have.
func notAllowed(verb string) error {
	return apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, verb, schema.GroupResource{}, "", "", 0, false)
}

// notFoundPath answers what upstream's mux does for an unknown path.
func notFoundPath(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte("404 page not found\n"))
}

func (a *API) serve(w http.ResponseWriter, q *request) error {
	i, k := q.info, q.res.Kind
	if k.Namespaced && i.Namespace == "" && (i.Name != "" && i.Verb != "list" && i.Verb != "watch" || i.Verb == "create") {
		a.NotFound(w, q.http)
		return nil
	}
	if !k.Namespaced && i.Namespace != "" && k.Resource != "namespaces" {
		a.NotFound(w, q.http)
		return nil
	}
	switch i.Verb {
	case "create", "update", "patch":
		if err := checkOptions(q.http); err != nil {
			return err
		}
	}
	if i.Subresource != "" {
		return a.serveSubresource(w, q)
	}
	// An update names its object, a creation does not.
	misplaced := i.Name == "" && (i.Verb == "update" || i.Verb == "patch") || i.Name != "" && i.Verb == "create"
	if !k.Allows(i.Verb) || misplaced {
		return notAllowed(i.Verb)
	}
	f, err := q.negotiate()
	if err != nil {
		return err
	}
	q.form = f
	switch i.Verb {
	case "get":
		return a.get(w, q)
	case "list":
		return a.list(w, q)
	case "watch":
		return a.watch(w, q)
	case "create":
		return a.create(w, q)
	case "update":
		return a.update(w, q, "")
	case "patch":
		return a.patch(w, q, "")
	case "delete":
		return a.delete(w, q)
	case "deletecollection":
		return a.deleteCollection(w, q)
	}
	return notAllowed(i.Verb)
}

type userKey struct{}

// WithUser adds the authenticated user to a request's context.
func WithUser(ctx context.Context, user *authn.Identity) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

// UserFrom returns the authenticated user.
func UserFrom(ctx context.Context) *authn.Identity {
	u, ok := ctx.Value(userKey{}).(*authn.Identity)
	if !ok {
		return &authn.Identity{Name: authn.Anonymous, Groups: []string{authn.AllUnauthenticated}}
	}
	return u
}

func (q *request) notFound() error {
	return apierrors.NewNotFound(q.res.GroupResource(), q.info.Name)
}

// key is the object's key in the cache.
func (q *request) key(name string) string {
	if q.res.Namespaced {
		return q.info.Namespace + "/" + name
	}
	return name
}

// timestamps are whole seconds on the wire.
func now() metav1.Time { return metav1.NewTime(time.Now().Truncate(time.Second)) }
