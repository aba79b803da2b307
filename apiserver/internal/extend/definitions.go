package extend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"flagship/apiserver/internal/crd"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
	"flagship/apiserver/internal/watchcache"
)

// API is what serves the resources.
type API interface {
	Follow(ctx context.Context, gvr schema.GroupVersionResource, set, gone func(runtime.Object), started func()) error
	Read(gvr schema.GroupVersionResource, namespace, name string) (runtime.Object, error)
	AddUnstructured(k *resource.Kind, cache *watchcache.Cache, codec rest.Codec)
	Remove(k *resource.Kind)
	Purge(ctx context.Context, k *resource.Kind, cache *watchcache.Cache, codec rest.Codec) (left int, err error)
}

// Caches are made and dropped with the resources.
type Caches interface {
	Add(ctx context.Context, cfg watchcache.Config) (*watchcache.Cache, error)
	Remove(c *watchcache.Cache)
}

// Client writes what the server decides about a definition.
type Client interface {
	UpdateStatus(ctx context.Context, obj runtime.Object) error
}

// Deps is what definitions stand on.
type Deps struct {
	Log    *zap.Logger
	API    API
	Caches Caches
	Client Client
	// Publish is told the served kinds whenever they change.
	Publish func([]*resource.Kind)
	// BuiltIn are the kinds that a definition never takes the place of.
	BuiltIn []*resource.Kind
	// Hooks calls the webhooks that convert.
	Hooks Hooks
}

// Definitions serves custom resources. It is safe for concurrent use.
type Definitions struct {
	deps    Deps
	builtIn map[schema.GroupVersionResource]bool
	ready   chan struct{}
	wake    chan struct{}

	mu     sync.RWMutex // guards what follows
	served map[string]*definition
	dirty  map[string]bool
	// accepted are the names that each definition holds, by its name.
	accepted map[string]holder
	ending   map[types.UID]bool
}

// holder is a definition as far as names go.
type holder struct {
	group string
	names apiextensionsv1.CustomResourceDefinitionNames
}

// New returns definitions that serve nothing yet.
func New(deps Deps) *Definitions {
	d := &Definitions{
		deps: deps, builtIn: map[schema.GroupVersionResource]bool{}, ready: make(chan struct{}), wake: make(chan struct{}, 1),
		served: map[string]*definition{}, dirty: map[string]bool{}, accepted: map[string]holder{}, ending: map[types.UID]bool{},
	}
	for _, k := range deps.BuiltIn {
		d.builtIn[k.GVR()] = true
	}
	return d
}

// Ready is closed when the definitions that were there are served.
func (d *Definitions) Ready() <-chan struct{} { return d.ready }

// gvrDefinitions is the resource of definitions themselves.
func gvrDefinitions() schema.GroupVersionResource {
	return apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")
}

// Run follows the definitions until ctx ends.
func (d *Definitions) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	listed := make(chan struct{})
	touch := func(obj runtime.Object) { d.touch(obj.(metav1.Object).GetName()) }
	g.Go(func() error {
		return d.deps.API.Follow(ctx, gvrDefinitions(), touch, touch, func() { close(listed) })
	})
	g.Go(func() error {
		select {
		case <-listed:
		case <-ctx.Done():
			return nil
		}
		d.drain(ctx, g)
		close(d.ready)
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-d.wake:
				d.drain(ctx, g)
			}
		}
	})
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// touch asks for a definition to be looked at.
func (d *Definitions) touch(name string) {
	d.mu.Lock()
	d.dirty[name] = true
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// retryPause is the time after which a definition that failed is tried again.
const retryPause = time.Second

func (d *Definitions) drain(ctx context.Context, g *errgroup.Group) {
	changed := false
	for ctx.Err() == nil {
		d.mu.Lock()
		names := make([]string, 0, len(d.dirty))
		for name := range d.dirty {
			names = append(names, name)
		}
		clear(d.dirty)
		d.mu.Unlock()
		if len(names) == 0 {
			break
		}
		slices.Sort(names)
		for _, name := range names {
			did, err := d.reconcile(ctx, g, name)
			changed = changed || did
			if err != nil && ctx.Err() == nil {
				d.deps.Log.Warn("cannot reconcile a definition, trying again", zap.String("definition", name), zap.Error(err))
				time.AfterFunc(retryPause, func() { d.touch(name) })
			}
		}
	}
	if changed {
		d.publish()
	}
}

// reconcile brings one definition's resource and status in line with its
// specification, and says whether what is served changed.
func (d *Definitions) reconcile(ctx context.Context, g *errgroup.Group, name string) (bool, error) {
	def, err := d.read(name)
	if apierrors.IsNotFound(err) {
		return d.forget(name), nil
	}
	if err != nil {
		return false, err
	}
	status := crd.PlanStatus(def, d.taken(def.Spec.Group, name), now())
	d.hold(def, status.AcceptedNames)
	wasStatus := def.Status
	// From here on others share def: what the client writes, and decodes its
	// answer into, is a copy.
	def.Status = status
	var changed bool
	if crd.Served(&status) {
		if changed, err = d.install(ctx, def); err != nil {
			return false, err
		}
		if changed {
			// Whoever sees it established finds it in discovery.
			d.publish()
		}
	} else {
		changed = d.uninstall(name)
	}
	if def.DeletionTimestamp != nil && slices.Contains(def.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		d.finalize(ctx, g, def.DeepCopy())
		return changed, nil
	}
	if apiequality.Semantic.DeepEqual(wasStatus, status) {
		return changed, nil
	}
	err = d.deps.Client.UpdateStatus(ctx, def.DeepCopy())
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		// It changed meanwhile, and is looked at again.
		return changed, nil
	}
	return changed, err
}

func now() metav1.Time { return metav1.NewTime(time.Now().Truncate(time.Second)) }

func (d *Definitions) read(name string) (*apiextensionsv1.CustomResourceDefinition, error) {
	obj, err := d.deps.API.Read(gvrDefinitions(), "", name)
	if err != nil {
		return nil, err
	}
	def, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
	if !ok {
		return nil, fmt.Errorf("definition %s: it is a %T", name, obj)
	}
	return def, nil
}

// taken are the names that others of a group hold.
func (d *Definitions) taken(group, but string) crd.Names {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var list []apiextensionsv1.CustomResourceDefinitionNames
	for name, h := range d.accepted {
		if h.group == group && name != but {
			list = append(list, h.names)
		}
	}
	return crd.NamesOf(list...)
}

// hold records a definition's names; others may have waited for those that it
// gave up.
func (d *Definitions) hold(def *apiextensionsv1.CustomResourceDefinition, names apiextensionsv1.CustomResourceDefinitionNames) {
	d.mu.Lock()
	was, ok := d.accepted[def.Name]
	d.accepted[def.Name] = holder{def.Spec.Group, names}
	if ok && !apiequality.Semantic.DeepEqual(was.names, names) {
		d.touchGroup(def.Spec.Group, def.Name)
	}
	d.mu.Unlock()
}

// touchGroup marks the other definitions of a group. The caller holds the lock.
func (d *Definitions) touchGroup(group, but string) {
	for name, h := range d.accepted {
		if h.group == group && name != but {
			d.dirty[name] = true
		}
	}
}

// forget drops a definition that is gone.
func (d *Definitions) forget(name string) bool {
	d.mu.Lock()
	if h, ok := d.accepted[name]; ok {
		delete(d.accepted, name)
		d.touchGroup(h.group, name)
	}
	d.mu.Unlock()
	return d.uninstall(name)
}

// Kinds are the served kinds, in the order of their groups and names.
func (d *Definitions) Kinds() []*resource.Kind {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var out []*resource.Kind
	for _, def := range d.served {
		out = append(out, def.kinds...)
	}
	slices.SortFunc(out, compareKinds)
	return out
}

// Types are a kind's fields as server-side apply knows them, nil for a kind that
// is not served.
func (d *Definitions) Types(gvk schema.GroupVersionKind) managedfields.TypeConverter {
	d.mu.RLock()
	var found *definition
	for _, def := range d.served {
		if def.group == gvk.Group && def.names.Kind == gvk.Kind && def.versions[gvk.Version] {
			found = def
		}
	}
	d.mu.RUnlock()
	if found == nil {
		return nil
	}
	types, err := found.typeConverter()
	if err != nil {
		return nil
	}
	return types
}

func (d *Definitions) publish() {
	if d.deps.Publish != nil {
		d.deps.Publish(d.Kinds())
	}
}
