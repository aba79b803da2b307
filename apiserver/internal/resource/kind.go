package resource

import (
	"math"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/wire"
)

// Kind is one resource at one served version.
type Kind struct {
	schema.GroupVersionKind
	// Resource is the plural in paths, Singular the kind in lower case.
	Resource string
	Singular string
	// ListKind is the kind of a list, empty for the kind with List at its end.
	ListKind   string
	ShortNames []string
	Categories []string
	Namespaced bool
	// Prefix heads the keys below the store's prefix, such as "/pods/".
	Prefix string
	// Stored is the version that objects are stored in; zero means this one.
	Stored schema.GroupVersion
	// Verbs are what the resource allows, nil for all.
	Verbs []string
	// Subresources by name.
	Subresources map[string]Subresource
	// Deprecation is a warning that every request is answered with, empty for
	// none.
	Deprecation string
	// Closed is why no object is created any more, empty where they are.
	Closed   string
	Strategy Strategy
}

// Subresource is one path below an object.
type Subresource struct {
	// Kind is what it takes and gives, zero for the kind itself.
	schema.GroupVersionKind
	Verbs []string
}

// anyObject is an object of the kind's Go type.
type anyObject = runtime.Object

// Strategy is what distinguishes a kind from any other. A nil function does
// nothing. Functions get objects of the kind's Go type.
type Strategy struct {
	// Default fills in what the client left out; it is idempotent.
	Default func(obj runtime.Object)
	// PrepareCreate and PrepareUpdate drop what a client may not set.
	PrepareCreate func(obj runtime.Object)
	PrepareUpdate func(obj, old runtime.Object)
	// PrepareStatus does the same for the status subresource, after all but
	// the status was taken from old.
	PrepareStatus func(obj, old runtime.Object)
	// StatusAlone is whether the status subresource leaves all metadata as it
	// is, so that nobody owns any through it.
	StatusAlone    bool
	Validate       func(obj runtime.Object) field.ErrorList
	ValidateUpdate func(obj, old runtime.Object) field.ErrorList
	ValidateStatus func(obj, old runtime.Object) field.ErrorList
	// ValidatePart checks a change through any other subresource but scale,
	// which holds nothing that the subresource does not open.
	ValidatePart func(sub string, obj, old runtime.Object) field.ErrorList
	// PrepareDelete changes an object when its deletion begins, such as by a
	// finalizer of the server's own.
	PrepareDelete func(obj runtime.Object)
	// Canonicalize fills in, after validation of a new object, what follows from the rest.
	Canonicalize func(obj runtime.Object)
	// Warn returns warnings for the client; old is nil on a creation.
	Warn func(obj, old runtime.Object) []string
	// WarnStatus is Warn for updates of the status.
	WarnStatus func(obj, old runtime.Object) []string
	// ValidName returns what is wrong with a name, nil for a DNS subdomain.
	ValidName func(name string, prefix bool) []string
	// Generation is whether metadata.generation counts the changes of the spec
	// (of the whole object, where SpecIsWhole).
	Generation  bool
	SpecIsWhole bool
	// Unconditional is whether an update without a resourceVersion is allowed.
	Unconditional bool
	// CreateOnUpdate is whether an update creates an object that is not there.
	CreateOnUpdate bool
	// NoPropagation is whether a deletion says nothing of dependents, since there are none.
	NoPropagation bool
	// ReturnDeleted is whether a deletion is answered with the object, not a status.
	ReturnDeleted bool
	// Fields are the selectable fields besides metadata.name and .namespace.
	Fields func(obj runtime.Object) map[string]string
	// FieldNames are the keys of Fields, known without an object.
	FieldNames []string
	// Columns and Row are the table that kubectl shows; without them it has
	// names and ages only.
	Columns func() []v1.TableColumnDefinition
	Row     func(obj runtime.Object, wide bool) []any
	// RowFields are the fields that Row and RowConditions read, so that no more
	// is decoded; empty for all.
	RowFields []string
	// ListRows are a list's rows where they depend on each other.
	ListRows func(list []runtime.Object) []ListRow
	// RowConditions are what a row says of its object besides the cells.
	RowConditions func(obj runtime.Object) []v1.TableRowCondition
	// Embedded are the objects within an object that are shown with their kind.
	Embedded []wire.Embedded
	// Orphans is whether a deletion that does not say what is to become of the
	// dependents leaves them.
	Orphans bool
	// GraceSeconds is how long a deletion waits for the object's owner to end
	// it, given what the client asked for (nil where it did not). A negative
	// or nil answer deletes at once.
	GraceSeconds func(obj runtime.Object, asked *int64) *int64
	// Scale and SetReplicas are the scale subresource of a kind without a Go type, whose number is at ReplicasPath: NoReplicas where it is not there.
	Scale        func(obj runtime.Object) (*autoscalingv1.Scale, error)
	SetReplicas  func(obj runtime.Object, n int32) error
	ReplicasPath string
}

// NoReplicas is no number of replicas.
const NoReplicas = math.MinInt32

// GroupResource names the resource in errors.
func (k *Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.Resource}
}

// GVR is the group, version and resource.
func (k *Kind) GVR() schema.GroupVersionResource { return k.GroupVersion().WithResource(k.Resource) }

// StoredGVK is the kind that objects are stored as.
func (k *Kind) StoredGVK() schema.GroupVersionKind {
	if k.Stored.Empty() {
		return k.GroupVersionKind
	}
	return k.Stored.WithKind(k.Kind)
}

// ListName is the kind of a list.
func (k *Kind) ListName() string {
	if k.ListKind != "" {
		return k.ListKind
	}
	return k.Kind + "List"
}

// Allows says whether the resource has a verb.
func (k *Kind) Allows(verb string) bool { return contains(k.verbs(), verb) }

// AllVerbs are the verbs of an ordinary resource, in discovery's order.
var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

func (k *Kind) verbs() []string {
	if k.Verbs == nil {
		return allVerbs
	}
	return k.Verbs
}

// ServedVerbs lists the verbs in discovery's order.
func (k *Kind) ServedVerbs() []string { return k.verbs() }

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// typed adapts a function over a Go type to one over any object. The table
// pairs kinds with functions of their type, which a test checks.
func typed[T runtime.Object](f func(T)) func(runtime.Object) {
	return func(obj runtime.Object) { f(obj.(T)) }
}

func typed2[T runtime.Object](f func(T, T)) func(runtime.Object, runtime.Object) {
	return func(obj, old runtime.Object) { f(obj.(T), old.(T)) }
}

func checked[T runtime.Object](f func(T) field.ErrorList) func(runtime.Object) field.ErrorList {
	return func(obj runtime.Object) field.ErrorList { return f(obj.(T)) }
}

func checked2[T runtime.Object](f func(T, T) field.ErrorList) func(runtime.Object, runtime.Object) field.ErrorList {
	return func(obj, old runtime.Object) field.ErrorList { return f(obj.(T), old.(T)) }
}

func fielded[T runtime.Object](f func(T) map[string]string) func(runtime.Object) map[string]string {
	return func(obj runtime.Object) map[string]string { return f(obj.(T)) }
}
