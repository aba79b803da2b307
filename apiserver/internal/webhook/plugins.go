package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/match"
	"flagship/apiserver/internal/timing"
)

// Mutating asks the mutating webhooks.
type Mutating struct {
	deps   *Deps
	source *source
}

// Validating asks the validating webhooks.
type Validating struct {
	deps   *Deps
	source *source
}

// NewMutating returns the plugin MutatingAdmissionWebhook.
func NewMutating(d *Deps) *Mutating {
	return &Mutating{d, &source{deps: d, gvr: admissionregistrationv1.SchemeGroupVersion.WithResource("mutatingwebhookconfigurations")}}
}

// NewValidating returns the plugin ValidatingAdmissionWebhook.
func NewValidating(d *Deps) *Validating {
	return &Validating{d, &source{deps: d, gvr: admissionregistrationv1.SchemeGroupVersion.WithResource("validatingwebhookconfigurations")}}
}

// Name implements admission.Plugin.
func (*Mutating) Name() string { return "MutatingAdmissionWebhook" }

// Name implements admission.Plugin.
func (*Validating) Name() string { return "ValidatingAdmissionWebhook" }

// Handles implements admission.Plugin.
func (*Mutating) Handles(admission.Operation) bool { return true }

// Handles implements admission.Plugin.
func (*Validating) Handles(admission.Operation) bool { return true }

// round is what the mutating webhooks keep for the second round.
type round struct {
	last runtime.Object
	// invoked are the reinvocable webhooks since the last change, and again
	// those that a later change makes necessary once more.
	invoked, again map[string]bool
}

func (r *round) changed() {
	for name := range r.invoked {
		r.again[name] = true
	}
	clear(r.invoked)
}

// Mutate implements admission.Mutator.
func (m *Mutating) Mutate(ctx context.Context, a *admission.Attributes) error {
	hooks, err := m.source.list()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	hooks = match.InForce(hooks, a, (*webhook).isStatic)
	if len(hooks) == 0 {
		return nil
	}
	defer timing.From(ctx).Since(timing.MutatingWebhook, time.Now())
	if a.Reinvocation.State == nil {
		a.Reinvocation.State = map[string]any{}
	}
	r, ok := a.Reinvocation.State[m.Name()].(*round)
	if !ok {
		r = &round{invoked: map[string]bool{}, again: map[string]bool{}}
		a.Reinvocation.State[m.Name()] = r
	}
	if a.Reinvocation.Again && !apiequality.Semantic.DeepEqual(r.last, a.Object) {
		r.changed()
	}
	n := 0
	if a.Reinvocation.Again {
		n = 1
	}
	for i, w := range hooks {
		if err := m.one(ctx, w, a, r, fmt.Sprintf("/round_%d_index_%d", n, i)); err != nil {
			return err
		}
	}
	if a.Object != nil {
		r.last = a.Object.DeepCopyObject()
	}
	return nil
}

// one asks one webhook if it is concerned. place is where it stands among them, for the audit event.
func (m *Mutating) one(ctx context.Context, w *webhook, a *admission.Attributes, r *round, place string) error {
	c, err := m.deps.relevant(ctx, w, a)
	if err != nil || c == nil {
		return err
	}
	if a.Reinvocation.Again && !r.again[w.uid()] {
		return nil
	}
	start := time.Now()
	changed, patch, err := m.call(ctx, c, a)
	m.deps.observe(c, "admit", a.Operation, start, err)
	if changed {
		r.changed()
		a.Reinvocation.Wanted = true
	}
	if w.reinvoke {
		r.invoked[w.uid()] = true
	}
	if err == nil {
		noteMutation(a, w, place, changed, patch)
		return nil
	}
	over, err := passOver(ctx, w, err)
	if over {
		m.deps.Metrics.PassedOver(w.name, "admit")
		a.Annotate("failed-open.mutating.webhook.admission.k8s.io"+place, w.name)
		return nil
	}
	return err
}

// noteMutation says in the audit event what a webhook did to the object, KEP-1102.
func noteMutation(a *admission.Attributes, w *webhook, place string, changed bool, patch []byte) {
	did := struct {
		Configuration string `json:"configuration"`
		Webhook       string `json:"webhook"`
		Mutated       bool   `json:"mutated"`
	}{w.configuration, w.name, changed}
	if data, err := json.Marshal(did); err == nil {
		a.Annotate("mutation.webhook.admission.k8s.io"+place, string(data))
	}
	if len(patch) == 0 {
		return
	}
	by := struct {
		Configuration string          `json:"configuration"`
		Webhook       string          `json:"webhook"`
		Patch         json.RawMessage `json:"patch,omitempty"`
		PatchType     string          `json:"patchType,omitempty"`
	}{w.configuration, w.name, patch, string(admissionv1.PatchTypeJSONPatch)}
	if data, err := json.Marshal(by); err == nil {
		a.Annotate(admission.PatchAnnotation+place, string(data))
	}
}

// call asks one webhook and applies its patch, which it returns.
func (m *Mutating) call(ctx context.Context, c *call, a *admission.Attributes) (changed bool, by []byte, err error) {
	resp, err := m.deps.ask(ctx, c, a, true)
	if err != nil {
		return false, nil, err
	}
	for _, text := range resp.Warnings {
		a.Warn("%s", text)
	}
	name := c.webhook.name
	if !resp.Allowed {
		c.refused = true
		return false, nil, refusal(name, resp.Result)
	}
	if len(resp.Patch) == 0 {
		return false, nil, nil
	}
	patch, err := jsonpatch.DecodePatch(resp.Patch)
	if err != nil {
		return false, nil, &callError{name, fmt.Errorf("received undecodable patch in webhook response: %w", err)}
	}
	if len(patch) == 0 {
		return false, nil, nil
	}
	if c.object == nil {
		return false, nil, apierrors.NewInternalError(fmt.Errorf("admission webhook %q attempted to modify the object, which is not supported for this operation", name))
	}
	if resp.PatchType == nil || *resp.PatchType != admissionv1.PatchTypeJSONPatch {
		return false, nil, &callError{name, fmt.Errorf("unsupported patch type %q", *resp.PatchType)}
	}
	before, err := json.Marshal(c.object)
	if err != nil {
		return false, nil, apierrors.NewInternalError(err)
	}
	after, err := patch.Apply(before)
	if err != nil {
		return false, nil, apierrors.NewInternalError(err)
	}
	next, err := decode(c.object, after)
	if err != nil {
		return false, nil, apierrors.NewInternalError(err)
	}
	changed = !apiequality.Semantic.DeepEqual(c.object, next)
	back, err := m.deps.API.ConvertTo(next, c.target.Resource, a.Resource)
	if err != nil {
		return false, nil, apierrors.NewInternalError(err)
	}
	replace(a.Object, back)
	return changed, resp.Patch, nil
}

// decode reads an object of the same type as another.
func decode(like runtime.Object, data []byte) (runtime.Object, error) {
	if _, ok := like.(*unstructured.Unstructured); ok {
		u := &unstructured.Unstructured{}
		return u, utiljson.Unmarshal(data, &u.Object)
	}
	out, ok := reflect.New(reflect.TypeOf(like).Elem()).Interface().(runtime.Object)
	if !ok {
		return nil, fmt.Errorf("%T is no object", like)
	}
	return out, json.Unmarshal(data, out)
}

// replace gives an object the content of another of its type.
func replace(dst, src runtime.Object) {
	reflect.ValueOf(dst).Elem().Set(reflect.ValueOf(src).Elem())
}

// Validate implements admission.Validator. All webhooks are asked at once.
func (v *Validating) Validate(ctx context.Context, a *admission.Attributes) error {
	hooks, err := v.source.list()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	hooks = match.InForce(hooks, a, (*webhook).isStatic)
	if len(hooks) == 0 {
		return nil
	}
	defer timing.From(ctx).Since(timing.ValidatingWebhook, time.Now())
	var calls []*call
	for _, w := range hooks {
		c, err := v.deps.relevant(ctx, w, a)
		if err != nil {
			return err
		}
		if c != nil {
			calls = append(calls, c)
		}
	}
	errs := make([]error, len(calls))
	views := make([]*admission.Attributes, len(calls))
	var wg sync.WaitGroup
	for i, c := range calls {
		// Each has its own warnings and annotations until all are done.
		view := *a
		view.Warnings, view.Annotations = nil, nil
		views[i] = &view
		wg.Go(func() { errs[i] = v.one(ctx, c, &view, i) })
	}
	wg.Wait()
	for _, view := range views {
		a.Warnings = append(a.Warnings, view.Warnings...)
		for k, text := range view.Annotations {
			a.Annotate(k, text)
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// one asks one webhook, the one of that number of those that are asked.
func (v *Validating) one(ctx context.Context, c *call, a *admission.Attributes, number int) error {
	start := time.Now()
	err := v.call(ctx, c, a)
	v.deps.observe(c, "validating", a.Operation, start, err)
	if err == nil {
		return nil
	}
	over, err := passOver(ctx, c.webhook, err)
	if over {
		v.deps.Metrics.PassedOver(c.webhook.name, "validating")
		a.Annotate(fmt.Sprintf("failed-open.validating.webhook.admission.k8s.io/round_0_index_%d", number), c.webhook.name)
		return nil
	}
	return err
}

func (v *Validating) call(ctx context.Context, c *call, a *admission.Attributes) error {
	resp, err := v.deps.ask(ctx, c, a, false)
	if err != nil {
		return err
	}
	for _, text := range resp.Warnings {
		a.Warn("%s", text)
	}
	if !resp.Allowed {
		c.refused = true
		return refusal(c.webhook.name, resp.Result)
	}
	return nil
}

func (w *webhook) selectors(namespaces, objects *metav1.LabelSelector) {
	if w.selection.Namespaces, w.err = match.SelectorOf(namespaces); w.err == nil {
		w.selection.Objects, w.err = match.SelectorOf(objects)
	}
	if w.err != nil {
		w.err = apierrors.NewInternalError(w.err)
	}
}
