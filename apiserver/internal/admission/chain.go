package admission

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/authn"
)

// Operation is what a request does.
type Operation string

// The operations, as AdmissionReview names them.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attributes is one request on its way through the chain. It belongs to the goroutine that serves the request.
type Attributes struct {
	Operation   Operation
	Resource    schema.GroupVersionResource
	Kind        schema.GroupVersionKind
	Subresource string
	Namespace   string // empty for the cluster scope
	Name        string // empty on a create that leaves it to the server
	Object      runtime.Object
	OldObject   runtime.Object // nil on create and connect
	Options     runtime.Object // CreateOptions, UpdateOptions, DeleteOptions; may be nil
	User        *authn.Identity
	DryRun      bool
	// Reinvocation is what the mutating half does after a change.
	Reinvocation Reinvocation

	Warnings    []string          // for the response's Warning headers
	Annotations map[string]string // for the audit event
	RefusedBy   string            // the plugin that ended the chain
}

// Reinvocation lets the mutators run once more after one that looks at the
// object as a whole has changed it: webhooks and policies.
type Reinvocation struct {
	// Wanted is set by a plugin that changed the object, Again in the second
	// round.
	Wanted, Again bool
	// State is what a plugin keeps for the second round, by its name.
	State map[string]any
}

// Is says whether the request is about the resource, and about no subresource other than those given ("" is the
// resource itself).
func (a *Attributes) Is(group, resource string, subresources ...string) bool {
	return a.Resource.Group == group && a.Resource.Resource == resource && slices.Contains(subresources, a.Subresource)
}

// Warn adds a warning to the response.
func (a *Attributes) Warn(format string, args ...any) {
	a.Warnings = append(a.Warnings, fmt.Sprintf(format, args...))
}

// PatchAnnotation begins the annotations that hold the patches of webhooks, which are told where requests are.
const PatchAnnotation = "patch.webhook.admission.k8s.io"

// Annotate adds an annotation to the audit event.
func (a *Attributes) Annotate(key, value string) {
	if a.Annotations == nil {
		a.Annotations = map[string]string{}
	}
	a.Annotations[key] = value
}

// Forbidden is the 403 Status that refuses the request. An error that is one already stays as it is.
func Forbidden(a *Attributes, err error) error {
	if apierrors.IsForbidden(err) {
		return err
	}
	return apierrors.NewForbidden(a.Resource.GroupResource(), objectName(a), err)
}

func forbid(a *Attributes, format string, args ...any) error {
	return Forbidden(a, fmt.Errorf(format, args...))
}

func objectName(a *Attributes) string {
	if a.Name != "" {
		return a.Name
	}
	if a.Object != nil {
		m, err := meta.Accessor(a.Object)
		switch {
		case err != nil:
			return "Unknown/errorGettingName"
		case m.GetName() != "":
			return m.GetName()
		case m.GetGenerateName() != "":
			return m.GetGenerateName()
		}
	}
	return "Unknown"
}

// Plugin is one step of a chain. It is a Mutator, a Validator or both.
type Plugin interface {
	Name() string
	// Handles says whether the plugin has to do with the operation at all.
	Handles(op Operation) bool
}

// Mutator changes objects.
type Mutator interface {
	Plugin
	Mutate(ctx context.Context, a *Attributes) error
}

// Validator judges objects and must not change them.
type Validator interface {
	Plugin
	Validate(ctx context.Context, a *Attributes) error
}

// Chain is plugins in the order in which they run.
type Chain struct {
	Plugins []Plugin
	// Metrics observe them, nil for none.
	Metrics *Metrics
}

// Mutate runs the mutating half; the first error ends it. Where a plugin asks
// for it, the whole half runs once more.
func (c Chain) Mutate(ctx context.Context, a *Attributes) error {
	if err := c.mutate(ctx, a); err != nil || !a.Reinvocation.Wanted {
		return err
	}
	a.Reinvocation.Again = true
	return c.mutate(ctx, a)
}

func (c Chain) mutate(ctx context.Context, a *Attributes) (err error) {
	begin := time.Now()
	defer func() { c.Metrics.step(admitting, a.Operation, begin, err) }()
	for _, p := range c.Plugins {
		m, ok := p.(Mutator)
		if !ok || !p.Handles(a.Operation) {
			continue
		}
		start := time.Now()
		err := m.Mutate(ctx, a)
		c.Metrics.plugin(p.Name(), admitting, a.Operation, start, err)
		if err != nil {
			a.RefusedBy = p.Name()
			return err
		}
	}
	return nil
}

// Validate runs the validating half; the first error ends it.
func (c Chain) Validate(ctx context.Context, a *Attributes) (err error) {
	begin := time.Now()
	defer func() { c.Metrics.step(validating, a.Operation, begin, err) }()
	for _, p := range c.Plugins {
		v, ok := p.(Validator)
		if !ok || !p.Handles(a.Operation) {
			continue
		}
		start := time.Now()
		err := v.Validate(ctx, a)
		c.Metrics.plugin(p.Name(), validating, a.Operation, start, err)
		if err != nil {
			a.RefusedBy = p.Name()
			return err
		}
	}
	return nil
}

// Names returns the names of the plugins in order.
func (c Chain) Names() []string {
	out := make([]string, 0, len(c.Plugins))
	for _, p := range c.Plugins {
		out = append(out, p.Name())
	}
	return out
}

// operations names a plugin and lists what it handles.
type operations struct {
	name string
	ops  []Operation
}

// Name implements Plugin.
func (o operations) Name() string { return o.name }

// Handles implements Plugin.
func (o operations) Handles(op Operation) bool { return slices.Contains(o.ops, op) }

// object returns the request's object as the wanted type.
func object[T runtime.Object](a *Attributes) (T, error) {
	o, ok := a.Object.(T)
	if !ok {
		return o, forbid(a, "unexpected type %T", a.Object)
	}
	return o, nil
}

// oldObject returns the request's old object as the wanted type.
func oldObject[T runtime.Object](a *Attributes) (T, error) {
	o, ok := a.OldObject.(T)
	if !ok {
		return o, forbid(a, "unexpected type %T", a.OldObject)
	}
	return o, nil
}
