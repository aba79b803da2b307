package rest

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/store"
	"flagship/apiserver/internal/watchcache"
)

// How often a generated name that is taken is generated anew, and how often an
// unconditional update is tried again.
const (
	maxNameTries   = 8
	maxUpdateTries = 16
)

func (a *API) attributes(q *request, op admission.Operation, sub string, obj, old runtime.Object, dry bool) *admission.Attributes {
	at := &admission.Attributes{
		Operation: op, Kind: q.res.GroupVersionKind, Resource: q.res.GVR(), Subresource: sub,
		Namespace: q.info.Namespace, Name: q.info.Name, Object: obj, OldObject: old, DryRun: dry, User: q.user,
	}
	if s := q.res.Subresources[sub]; s.Kind != "" {
		at.Kind = s.GroupVersionKind
	}
	at.Options = optionsOf(q.http, op)
	if m, ok := obj.(metav1.Object); ok && at.Name == "" {
		at.Name = m.GetName()
	}
	if q.res.Resource == "namespaces" && q.res.Group == "" {
		at.Namespace = at.Name
	}
	return at
}

func (a *API) admitMutate(q *request, at *admission.Attributes) error {
	if q.trusted {
		return nil
	}
	err := a.deps.Admission.Mutate(q.ctx(), at)
	q.takeNotes(at)
	return err
}

func (a *API) admitValidate(q *request, at *admission.Attributes) error {
	if q.trusted {
		return nil
	}
	err := a.deps.Admission.Validate(q.ctx(), at)
	q.takeNotes(at)
	return err
}

// takeNotes hands on what admission has to say besides yes and no.
func (q *request) takeNotes(at *admission.Attributes) {
	for _, text := range at.Warnings {
		q.warn(text)
	}
	audit.From(q.ctx()).AnnotateAll(at.Annotations)
	at.Warnings, at.Annotations = nil, nil
}

func (a *API) create(w http.ResponseWriter, q *request) error {
	dry := dryRun(q.http)
	body, err := a.readBody(q.http)
	if err != nil {
		return err
	}
	obj, err := a.decodeBody(q, q.res.GroupVersionKind, body)
	if err != nil {
		return err
	}
	e, err := a.createObject(q, obj, dry)
	if err != nil {
		return err
	}
	return a.writeEntry(w, q, http.StatusCreated, e)
}

// createObject runs a decoded object through the write path.
func (a *API) createObject(q *request, obj runtime.Object, dry bool) (*watchcache.Entry, error) {
	m := obj.(metav1.Object)
	if q.res.Closed != "" {
		return nil, apierrors.NewForbidden(q.res.GroupResource(), m.GetName(), errors.New(q.res.Closed))
	}
	if err := q.inNamespace(m); err != nil {
		return nil, err
	}
	if q.info.Name != "" && m.GetName() == "" {
		m.SetName(q.info.Name)
	}
	// What is no number is passed over, as upstream does.
	if version, err := strconv.ParseInt(m.GetResourceVersion(), 10, 64); err == nil {
		q.version = version
	}
	m.SetResourceVersion("")
	generated := m.GetName() == "" && m.GetGenerateName() != ""
	for try := 1; ; try++ {
		candidate := obj
		if generated {
			candidate = obj.DeepCopyObject()
			candidate.(metav1.Object).SetName(generateName(m.GetGenerateName()))
		}
		e, err := a.createOnce(q, candidate, dry)
		if generated && apierrors.IsAlreadyExists(err) && try < maxNameTries {
			continue
		}
		return e, err
	}
}

// generateName appends five random characters to a prefix, cut so that the
// name has at most 63.
func generateName(prefix string) string {
	const random, longest = 5, 63
	if len(prefix) > longest-random {
		prefix = prefix[:longest-random]
	}
	return prefix + utilrand.String(random)
}

func (q *request) inNamespace(m metav1.Object) error {
	if q.res.Namespaced {
		return q.inNamespaceOf(m)
	}
	m.SetNamespace("")
	return nil
}

// inNamespaceOf puts an object into the namespace of the request.
func (q *request) inNamespaceOf(m metav1.Object) error {
	if ns := m.GetNamespace(); ns != "" && ns != q.info.Namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	m.SetNamespace(q.info.Namespace)
	return nil
}

func (a *API) createOnce(q *request, obj runtime.Object, dry bool) (*watchcache.Entry, error) {
	k := q.res.Kind
	m := obj.(metav1.Object)
	m.SetDeletionTimestamp(nil)
	m.SetDeletionGracePeriodSeconds(nil)
	m.SetCreationTimestamp(now())
	m.SetUID(types.UID(uuid.NewString()))
	m.SetSelfLink("")
	setDefaults(k, obj)
	q.dedupOwners(m, "")
	if err := a.track(q, "", nil, &obj); err != nil {
		return nil, err
	}
	at := a.attributes(q, admission.Create, "", obj, nil, dry)
	if err := a.admitMutate(q, at); err != nil {
		return nil, err
	}
	setDefaults(k, obj)
	q.dedupOwners(m, " after mutating admission happens")
	m.SetGeneration(0)
	if k.Strategy.Generation {
		m.SetGeneration(1)
	}
	if k.Strategy.PrepareCreate != nil {
		k.Strategy.PrepareCreate(obj)
	}
	done, err := a.deps.Hooks.BeforeCreate(q.ctx(), k, obj, dry)
	if err != nil {
		return nil, err
	}
	e, err := a.commitCreate(q, at, obj, dry)
	if done != nil {
		done(err == nil && !dry)
	}
	return e, err
}

func (a *API) commitCreate(q *request, at *admission.Attributes, obj runtime.Object, dry bool) (*watchcache.Entry, error) {
	k := q.res.Kind
	m := obj.(metav1.Object)
	errs := append(a.deps.Hooks.Forbids(q.ctx(), q.info.Verb, "", obj, nil), validateMeta(k, m)...)
	if k.Strategy.Validate != nil {
		errs = append(errs, k.Strategy.Validate(obj)...)
	}
	if len(errs) > 0 {
		return nil, invalidObject(k, m.GetName(), errs)
	}
	if k.Strategy.Canonicalize != nil {
		k.Strategy.Canonicalize(obj)
	}
	if k.Strategy.Warn != nil {
		for _, text := range k.Strategy.Warn(obj, nil) {
			q.warn(text)
		}
	}
	if err := a.admitValidate(q, at); err != nil {
		return nil, err
	}
	value, err := a.encodeStored(q.res, obj)
	if err != nil {
		return nil, err
	}
	e := &watchcache.Entry{Key: q.key(m.GetName()), Value: value}
	if dry {
		if _, err := a.fetch(q.ctx(), q.res, e.Key, ""); err == nil {
			return nil, apierrors.NewAlreadyExists(k.GroupResource(), m.GetName())
		}
		e.Rev = q.version
		return e, nil
	}
	if q.version != 0 {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	e.Rev, err = a.deps.Store.Create(q.ctx(), k.Prefix+e.Key, value, a.ttl(k))
	if errors.Is(err, store.ErrExists) {
		return nil, apierrors.NewAlreadyExists(k.GroupResource(), m.GetName())
	}
	return e, err
}

// invalidObject is a 422 with each field's error. Events are named without
// their group, as upstream's shared strategy has it.
func invalidObject(k *resource.Kind, name string, errs field.ErrorList) error {
	gk := k.GroupVersionKind.GroupKind()
	if gk.Group == "events.k8s.io" {
		gk.Group = ""
	}
	// What two checks found is said once.
	said := sets.Set[string]{}
	errs = slices.DeleteFunc(errs, func(e *field.Error) bool {
		// What is not going to be said need not be worded.
		if len(said) > maxErrors {
			return false
		}
		text := e.Error()
		twice := said.Has(text)
		said.Insert(text)
		return twice
	})
	return invalid(gk, name, errs)
}

// ttl is how long objects of a kind live, 0 for ever.
func (a *API) ttl(k *resource.Kind) time.Duration {
	if k.Resource == "events" && (k.Group == "" || k.Group == "events.k8s.io") {
		return a.cfg.EventTTL
	}
	return 0
}

func setDefaults(k *resource.Kind, obj runtime.Object) {
	if k.Strategy.Default != nil {
		k.Strategy.Default(obj)
	}
}

func validateMeta(k *resource.Kind, m metav1.Object) field.ErrorList {
	return apivalidation.ValidateObjectMetaAccessor(m, k.Namespaced, nameValidator(k), field.NewPath("metadata"))
}

func nameValidator(k *resource.Kind) apivalidation.ValidateNameFunc {
	if k.Strategy.ValidName != nil {
		return k.Strategy.ValidName
	}
	return apivalidation.NameIsDNSSubdomain
}

// change makes the next object from the current one; it may be called more
// than once.
type change func(old runtime.Object) (runtime.Object, error)

// errNoObject is what a change answers to a nil object that it does not create.
var errNoObject = errors.New("no object to change")

func (a *API) update(w http.ResponseWriter, q *request, sub string) error {
	body, err := a.readBody(q.http)
	if err != nil {
		return err
	}
	obj, err := a.decodeBody(q, q.res.GroupVersionKind, body)
	if err != nil {
		return err
	}
	m := obj.(metav1.Object)
	if err := q.named(m); err != nil {
		return err
	}
	return a.applyChange(w, q, sub, func(old runtime.Object) (runtime.Object, error) {
		if old == nil && !q.res.Strategy.CreateOnUpdate {
			return nil, errNoObject
		}
		return obj.DeepCopyObject(), nil
	})
}

// applyChange runs a change through the write path and answers its outcome.
func (a *API) applyChange(w http.ResponseWriter, q *request, sub string, f change) error {
	dry := dryRun(q.http)
	e, created, err := a.guaranteed(q, sub, dry, f)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	return a.writeEntry(w, q, code, e)
}

// guaranteed changes the current object, from the cache at first and from the
// store after a conflict.
func (a *API) guaranteed(q *request, sub string, dry bool, f change) (e *watchcache.Entry, created bool, err error) {
	key := q.key(q.info.Name)
	current := q.res.Cache.Get(key)
	cached := current != nil
	for try := 1; ; try++ {
		if current == nil {
			current, err = a.fetch(q.ctx(), q.res, key, "")
			if errors.Is(err, store.ErrNotFound) {
				return a.createByChange(q, sub, dry, f)
			}
			if err != nil {
				return nil, false, err
			}
			cached = false
		}
		e, err := a.updateOnce(q, sub, dry, current, f)
		var conflict *store.Conflict
		if !errors.As(err, &conflict) {
			if err != nil && cached {
				// The cache may be behind: only the store's word is final.
				current = nil
				continue
			}
			return e, false, err
		}
		if conflict.Current == nil {
			current, cached = nil, false
		} else {
			current, cached = &watchcache.Entry{Key: key, Value: conflict.Current.Value, Rev: conflict.Current.Rev, Stale: conflict.Current.Stale}, false
		}
		if try >= maxUpdateTries {
			return nil, false, q.conflict()
		}
	}
}

func (q *request) conflict() error {
	return apierrors.NewConflict(q.res.GroupResource(), q.info.Name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
}

func (a *API) createByChange(q *request, sub string, dry bool, f change) (*watchcache.Entry, bool, error) {
	if sub != "" {
		return nil, false, q.notFound()
	}
	obj, err := f(nil)
	if errors.Is(err, errNoObject) {
		return nil, false, q.notFound()
	}
	if err != nil {
		return nil, false, err
	}
	m := obj.(metav1.Object)
	if m.GetUID() != "" {
		return nil, false, apierrors.NewConflict(q.res.GroupResource(), q.info.Name, q.otherUID(m.GetUID(), ""))
	}
	if givenVersion(m) != "" {
		return nil, false, q.notFound()
	}
	e, err := a.createObject(q, obj, dry)
	return e, true, err
}

func (a *API) updateOnce(q *request, sub string, dry bool, current *watchcache.Entry, f change) (*watchcache.Entry, error) {
	k := q.res.Kind
	old, err := a.decodeStored(q.res, current)
	if err != nil {
		return nil, err
	}
	obj, err := f(old.DeepCopyObject())
	if err != nil {
		return nil, err
	}
	if err := q.preconditions(obj.(metav1.Object), old.(metav1.Object)); err != nil {
		return nil, err
	}
	keepSystemMeta(obj.(metav1.Object), old.(metav1.Object))
	setDefaults(k, obj)
	if q.info.Verb == "update" {
		q.dedupOwners(obj.(metav1.Object), "")
	}
	if err := a.track(q, sub, old, &obj); err != nil {
		return nil, err
	}
	at := a.attributes(q, admission.Update, sub, obj, old, dry)
	// Admission has changed a Scale before the object was scaled by it.
	if sub != "scale" {
		if err := a.admitMutate(q, at); err != nil {
			return nil, err
		}
	}
	q.dedupOwners(obj.(metav1.Object), " after mutating admission happens")
	obj = prepareUpdate(k, sub, obj, old)
	at.Object = obj
	if sub == "scale" {
		if at.Object, at.OldObject, err = q.scales(obj, old); err != nil {
			return nil, err
		}
	}
	done, err := a.deps.Hooks.BeforeUpdate(q.ctx(), k, obj, old, dry)
	if err != nil {
		return nil, err
	}
	e, err := a.commitUpdate(q, sub, at, obj, old, current, dry)
	if done != nil {
		done(err == nil && !dry)
	}
	return e, err
}

func (a *API) commitUpdate(q *request, sub string, at *admission.Attributes, obj, old runtime.Object, current *watchcache.Entry, dry bool) (*watchcache.Entry, error) {
	k := q.res.Kind
	m := obj.(metav1.Object)
	errs := append(a.deps.Hooks.Forbids(q.ctx(), q.info.Verb, sub, obj, old), validateUpdate(k, sub, obj, old)...)
	if len(errs) > 0 {
		return nil, invalidObject(k, m.GetName(), errs)
	}
	warn := k.Strategy.Warn
	switch sub {
	case "":
	case "status":
		warn = k.Strategy.WarnStatus
	default:
		warn = nil
	}
	if warn != nil {
		for _, text := range warn(obj, old) {
			q.warn(text)
		}
	}
	if err := a.admitValidate(q, at); err != nil {
		return nil, err
	}
	value, err := a.encodeStored(q.res, obj)
	if err != nil {
		return nil, err
	}
	e := &watchcache.Entry{Key: current.Key, Value: value, Rev: current.Rev}
	switch {
	case dry:
		return e, nil
	case finished(obj):
		// The last finalizer is gone: the object goes with it.
		e.Rev, err = a.deps.Store.Delete(q.ctx(), k.Prefix+current.Key, current.Rev)
		if err == nil {
			a.deps.Hooks.AfterDelete(q.ctx(), k, obj)
		}
		return e, err
	case bytes.Equal(value, current.Value) && !current.Stale:
		return current, nil
	}
	e.Rev, err = a.deps.Store.Update(q.ctx(), k.Prefix+current.Key, value, current.Rev, a.ttl(k))
	return e, err
}

// finished is whether an object that is being deleted waits for nothing more.
func finished(obj runtime.Object) bool {
	m := obj.(metav1.Object)
	if m.GetDeletionTimestamp() == nil || len(m.GetFinalizers()) > 0 || hasSpecFinalizers(obj) {
		return false
	}
	grace := m.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}

func validateUpdate(k *resource.Kind, sub string, obj, old runtime.Object) field.ErrorList {
	m, om := obj.(metav1.Object), old.(metav1.Object)
	errs := apivalidation.ValidateObjectMetaAccessorUpdate(m, om, field.NewPath("metadata"))
	for _, e := range validateMeta(k, m) {
		// The two have much in common.
		if !slices.ContainsFunc(errs, func(x *field.Error) bool { return x.Error() == e.Error() }) {
			errs = append(errs, e)
		}
	}
	switch sub {
	case "status":
		if k.Strategy.ValidateStatus != nil {
			errs = append(errs, k.Strategy.ValidateStatus(obj, old)...)
		}
	case "", "scale":
		if k.Strategy.ValidateUpdate != nil {
			return append(errs, k.Strategy.ValidateUpdate(obj, old)...)
		}
		if k.Strategy.Validate != nil {
			errs = append(errs, k.Strategy.Validate(obj)...)
		}
	default:
		if k.Strategy.ValidatePart != nil {
			errs = append(errs, k.Strategy.ValidatePart(sub, obj, old)...)
		}
	}
	return errs
}

// fieldManagerName is who changes the fields: ?fieldManager, else the first
// part of the user agent.
func fieldManagerName(r *http.Request) string {
	if name := r.URL.Query().Get("fieldManager"); name != "" {
		return name
	}
	name, _, _ := strings.Cut(r.UserAgent(), "/")
	if len(name) > metav1FieldManagerMax {
		name = name[:metav1FieldManagerMax]
	}
	if name == "" {
		return "unknown"
	}
	return name
}

// metav1FieldManagerMax is the longest name of a field manager in bytes.
const metav1FieldManagerMax = 128

// groupKind names a kind in errors.
