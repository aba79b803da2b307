package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubejson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/store"
	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

// deleteOptions reads DeleteOptions from the body and, where that has none,
// the query.
func (a *API) deleteOptions(q *request) (*metav1.DeleteOptions, error) {
	body, err := a.readBody(q.http)
	if err != nil {
		return nil, err
	}
	o := &metav1.DeleteOptions{}
	if len(body) > 0 {
		if err := a.decodeDeleteOptions(q, body, o); err != nil {
			return nil, err
		}
		o.TypeMeta = metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "meta.k8s.io/v1"}
		shown := o.DeepCopy()
		shown.APIVersion = "meta.k8s.io/__internal" // as upstream has it
		audit.From(q.ctx()).RequestObject(shown)
	} else if err := deleteQuery(q.http, o); err != nil {
		return nil, err
	}
	if q.res.Kind.Kind == "Job" && q.res.Strategy.Orphans && o.PropagationPolicy == nil && o.OrphanDependents == nil {
		q.warn("child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning")
	}
	return o, invalidOptions("DeleteOptions", metavalidation.ValidateDeleteOptions(o))
}

func (a *API) decodeDeleteOptions(q *request, body []byte, o *metav1.DeleteOptions) error {
	media, err := bodyMedia(q.http)
	if err != nil {
		return err
	}
	switch media {
	case mediaProtobuf:
		_, kind, raw, _, err := wire.SplitEnvelope(body)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		if kind != "" && kind != "DeleteOptions" {
			return apierrors.NewBadRequest("decoded object cannot be converted to DeleteOptions")
		}
		if err := o.Unmarshal(raw); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		return nil
	case mediaYAML:
		if body, err = a.yamlToJSON(body, metav1.FieldValidationIgnore); err != nil {
			return err
		}
	}
	if _, err := kubejson.DefaultMetaFactory.Interpret(body); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if err := json.Unmarshal(body, o); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if o.Kind != "" && o.Kind != "DeleteOptions" {
		return apierrors.NewBadRequest(fmt.Sprintf("no kind %q is registered for version %q in scheme %q", o.Kind, o.APIVersion, upstreamScheme))
	}
	return nil
}

func deleteQuery(r *http.Request, o *metav1.DeleteOptions) error {
	query := r.URL.Query()
	o.DryRun = query["dryRun"]
	if s := query.Get("gracePeriodSeconds"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		o.GracePeriodSeconds = &n
	}
	for name, into := range map[string]**bool{"orphanDependents": &o.OrphanDependents, "ignoreStoreReadErrorWithClusterBreakingPotential": &o.IgnoreStoreReadErrorWithClusterBreakingPotential} {
		if values := query[name]; len(values) > 0 {
			if err := runtime.Convert_Slice_string_To_Pointer_bool(&values, into, nil); err != nil {
				return apierrors.NewBadRequest(err.Error())
			}
		}
	}
	if s := query.Get("propagationPolicy"); s != "" {
		p := metav1.DeletionPropagation(s)
		o.PropagationPolicy = &p
	}
	return nil
}

func (a *API) delete(w http.ResponseWriter, q *request) error {
	o, err := a.deleteOptions(q)
	if err != nil {
		return err
	}
	if unread(o) {
		return a.deleteUnread(w, q, o)
	}
	e, gone, err := a.deleteObject(q, o)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if !gone && o.OrphanDependents != nil && !*o.OrphanDependents {
		code = http.StatusAccepted
	}
	if !gone {
		return a.writeEntry(w, q, code, e)
	}
	uid, err := uidOf(q.res, e)
	if err != nil {
		return err
	}
	if q.res.Strategy.ReturnDeleted {
		return a.writeEntry(w, q, code, e)
	}
	status := &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: q.info.Name, Group: q.res.Group, Kind: q.res.Resource, UID: types.UID(uid)},
	}
	f := q.form
	if f.as != "" {
		f = form{media: mediaJSON}
	}
	writeWarnings(w, q.warnings)
	audit.From(q.ctx()).Answer(status)
	writeStatus(w, f, code, status)
	return nil
}

// deleteObject deletes one object, or begins to; gone says whether it is away.
func (a *API) deleteObject(q *request, o *metav1.DeleteOptions) (e *watchcache.Entry, gone bool, err error) {
	key := q.key(q.info.Name)
	var current *watchcache.Entry
	for try := 1; ; try++ {
		if current == nil {
			current, err = a.fetch(q.ctx(), q.res, key, "")
			if errors.Is(err, store.ErrNotFound) {
				return nil, false, q.notFound()
			}
			if err != nil {
				return nil, false, err
			}
		}
		e, gone, err := a.deleteOnce(q, o, current)
		var conflict *store.Conflict
		if !errors.As(err, &conflict) {
			return e, gone, err
		}
		if conflict.Current == nil {
			return nil, false, q.notFound()
		}
		if try >= maxUpdateTries {
			return nil, false, q.conflict()
		}
		current = &watchcache.Entry{Key: key, Value: conflict.Current.Value, Rev: conflict.Current.Rev}
	}
}

func (a *API) deleteOnce(q *request, o *metav1.DeleteOptions, current *watchcache.Entry) (*watchcache.Entry, bool, error) {
	obj, err := a.decodeStored(q.res, current)
	if err != nil {
		return nil, false, err
	}
	m := obj.(metav1.Object)
	if err := q.deletePreconditions(o, m); err != nil {
		return nil, false, err
	}
	at := a.attributes(q, admission.Delete, "", nil, obj, len(o.DryRun) > 0)
	if q.info.Verb == "deletecollection" {
		at.Name = ""
	}
	o.TypeMeta = metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "DeleteOptions"}
	at.Options = o
	if err := a.admitMutate(q, at); err != nil {
		return nil, false, err
	}
	if err := a.admitValidate(q, at); err != nil {
		return nil, false, err
	}
	before := obj.DeepCopyObject()
	keep := q.planDeletion(obj, o)
	if len(o.DryRun) > 0 {
		// It is shown as it would be.
		if !keep && q.res.Strategy.GraceSeconds != nil {
			obj = ended(obj)
		}
		value, err := a.encodeStored(q.res, obj)
		return &watchcache.Entry{Key: current.Key, Value: value, Rev: current.Rev}, !keep, err
	}
	if !keep {
		rev, err := a.deps.Store.Delete(q.ctx(), q.res.Prefix+current.Key, current.Rev)
		if err != nil {
			return nil, false, err
		}
		a.deps.Hooks.AfterDelete(q.ctx(), q.res.Kind, obj)
		value := current.Value
		if q.res.Strategy.GraceSeconds != nil {
			// A kind that ends gracefully is answered as it ended.
			if value, err = a.encodeStored(q.res, ended(obj)); err != nil {
				return nil, false, err
			}
		}
		return &watchcache.Entry{Key: current.Key, Value: value, Rev: rev}, true, nil
	}
	value, err := a.encodeStored(q.res, obj)
	if err != nil {
		return nil, false, err
	}
	if string(value) == string(current.Value) || sameDeletion(before.(metav1.Object), m) {
		return current, false, nil
	}
	rev, err := a.deps.Store.Update(q.ctx(), q.res.Prefix+current.Key, value, current.Rev, a.ttl(q.res.Kind))
	return &watchcache.Entry{Key: current.Key, Value: value, Rev: rev}, false, err
}

// ended marks an object that was deleted at once.
func ended(obj runtime.Object) runtime.Object {
	m := obj.(metav1.Object)
	if m.GetDeletionTimestamp() == nil {
		at, none := now(), int64(0)
		m.SetDeletionTimestamp(&at)
		m.SetDeletionGracePeriodSeconds(&none)
		if m.GetGeneration() > 0 {
			m.SetGeneration(m.GetGeneration() + 1)
		}
	}
	return obj
}

// sameDeletion is whether a repeated deletion changes nothing.
func sameDeletion(before, after metav1.Object) bool {
	if before.GetDeletionTimestamp() == nil {
		return false
	}
	g1, g2 := before.GetDeletionGracePeriodSeconds(), after.GetDeletionGracePeriodSeconds()
	return before.GetDeletionTimestamp().Equal(after.GetDeletionTimestamp()) &&
		(g1 == nil) == (g2 == nil) && (g1 == nil || *g1 == *g2) && slices.Equal(before.GetFinalizers(), after.GetFinalizers())
}

func (q *request) deletePreconditions(o *metav1.DeleteOptions, m metav1.Object) error {
	p := o.Preconditions
	if p == nil {
		return nil
	}
	if ns, ok := m.(*corev1.Namespace); ok {
		return namespacePreconditions(p, ns)
	}
	// Upstream names the kind here, not the resource.
	gr := schema.GroupResource{Group: q.res.GroupVersionKind.Group, Resource: q.res.GroupVersionKind.Kind}
	if p.UID != nil && *p.UID != m.GetUID() {
		return apierrors.NewConflict(gr, q.info.Name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, m.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != m.GetResourceVersion() {
		return apierrors.NewConflict(gr, q.info.Name, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, m.GetResourceVersion()))
	}
	return nil
}

// namespacePreconditions is upstream's own check for namespaces.
func namespacePreconditions(p *metav1.Preconditions, ns *corev1.Namespace) error {
	gr := corev1.Resource("namespaces")
	if p.UID != nil && *p.UID != ns.UID {
		return apierrors.NewConflict(gr, ns.Name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, ns.UID)) //nolint:staticcheck // upstream's words
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != ns.ResourceVersion {
		return apierrors.NewConflict(gr, ns.Name, fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *p.ResourceVersion, ns.ResourceVersion)) //nolint:staticcheck // upstream's words
	}
	return nil
}

// planDeletion marks the object as being deleted where something still has to
// happen first, and says whether it stays for now.
func (q *request) planDeletion(obj runtime.Object, o *metav1.DeleteOptions) (keep bool) {
	m := obj.(metav1.Object)
	if !q.res.Strategy.NoPropagation {
		setPropagation(m, o, q.res.Strategy.Orphans)
	}
	if q.res.Strategy.PrepareDelete != nil && m.GetDeletionTimestamp() == nil {
		q.res.Strategy.PrepareDelete(obj)
	}
	grace := q.grace(obj, o)
	waits := len(m.GetFinalizers()) > 0 || hasSpecFinalizers(obj) || grace > 0
	if !waits {
		return false
	}
	at := now()
	if already := m.GetDeletionTimestamp(); already != nil {
		old := m.GetDeletionGracePeriodSeconds()
		if old == nil || grace >= *old {
			// A deletion is made faster, never slower.
			markNamespace(obj)
			return true
		}
		at = metav1.NewTime(already.Add(-secondsOf(*old)))
	} else if m.GetGeneration() > 0 {
		m.SetGeneration(m.GetGeneration() + 1)
	}
	deletion := metav1.NewTime(at.Add(secondsOf(grace)))
	m.SetDeletionTimestamp(&deletion)
	if !markNamespace(obj) {
		m.SetDeletionGracePeriodSeconds(&grace)
	}
	return true
}

func (q *request) grace(obj runtime.Object, o *metav1.DeleteOptions) int64 {
	if q.res.Strategy.GraceSeconds == nil {
		return 0
	}
	g := q.res.Strategy.GraceSeconds(obj, o.GracePeriodSeconds)
	if g == nil || *g < 0 {
		return 0
	}
	return *g
}

// hasSpecFinalizers is whether a namespace still has content to remove.
func hasSpecFinalizers(obj runtime.Object) bool {
	ns, ok := obj.(*corev1.Namespace)
	return ok && len(ns.Spec.Finalizers) > 0
}

// markNamespace shows in a namespace's phase that it is being deleted; a
// namespace has no grace period.
func markNamespace(obj runtime.Object) bool {
	ns, ok := obj.(*corev1.Namespace)
	if ok {
		ns.Status.Phase = corev1.NamespaceTerminating
	}
	return ok
}

// setPropagation records in finalizers what is to become of the dependents,
// which are orphans by default where the kind has it so.
func setPropagation(m metav1.Object, o *metav1.DeleteOptions, orphans bool) {
	orphan, foreground := false, false
	switch {
	case o.OrphanDependents != nil:
		orphan = *o.OrphanDependents
	case o.PropagationPolicy != nil:
		orphan = *o.PropagationPolicy == metav1.DeletePropagationOrphan
		foreground = *o.PropagationPolicy == metav1.DeletePropagationForeground
	case orphans:
		orphan = !slices.Contains(m.GetFinalizers(), metav1.FinalizerDeleteDependents)
		foreground = !orphan
	default:
		return
	}
	finalizers := slices.DeleteFunc(slices.Clone(m.GetFinalizers()), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	if orphan {
		finalizers = append(finalizers, metav1.FinalizerOrphanDependents)
	}
	if foreground {
		finalizers = append(finalizers, metav1.FinalizerDeleteDependents)
	}
	if len(finalizers) == 0 {
		finalizers = nil
	}
	m.SetFinalizers(finalizers)
}

func (a *API) deleteCollection(w http.ResponseWriter, q *request) error {
	ns := q.info.Namespace
	if !q.res.Namespaced {
		ns = ""
	}
	lo, err := parseList(q.res, ns, q.http.URL.Query())
	if err != nil {
		return err
	}
	o, err := a.deleteOptions(q)
	if err != nil {
		return err
	}
	if unread(o) {
		return invalidOptions("DeleteOptions", field.ErrorList{field.Invalid(field.NewPath("ignoreStoreReadErrorWithClusterBreakingPotential"), true, "is not allowed with DELETECOLLECTION, try again after removing the option")})
	}
	entries, meta, err := a.collect(q.ctx(), q.res, &lo)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := a.deleteListed(q.ctx(), q, o, e); err != nil {
			return err
		}
	}
	return a.writeList(w, q, entries, meta)
}

func (a *API) deleteListed(ctx context.Context, q *request, o *metav1.DeleteOptions, e *watchcache.Entry) (gone bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	one := *q.info
	one.Name = nameOf(q.res, e.Key)
	if q.res.Namespaced {
		one.Namespace = e.Key[:len(e.Key)-len(one.Name)-1]
	}
	single := &request{http: q.http, info: &one, res: q.res, form: q.form, user: q.user, trusted: q.trusted}
	_, gone, err = a.deleteObject(single, o)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return gone, err
}

// secondsOf is a number of seconds as a duration.
func secondsOf(n int64) time.Duration { return time.Duration(n) * time.Second }
