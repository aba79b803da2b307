package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
)

// Plugins that are off unless --enable-admission-plugins names them.

// AlwaysAdmit does nothing.
type AlwaysAdmit struct{ operations }

// Mutate implements Mutator.
func (AlwaysAdmit) Mutate(context.Context, *Attributes) error { return nil }

// AlwaysDeny refuses everything.
type AlwaysDeny struct{ operations }

// Mutate implements Mutator.
func (AlwaysDeny) Mutate(_ context.Context, a *Attributes) error {
	return forbid(a, "admission control is denying all modifications")
}

// NamespaceExists refuses requests about a namespace that does not exist.
type NamespaceExists struct {
	operations
	get func(ctx context.Context, name string) (*corev1.Namespace, error)
}

// Validate implements Validator.
func (p *NamespaceExists) Validate(ctx context.Context, a *Attributes) error {
	if a.Namespace == "" || a.isNamespace() {
		return nil
	}
	_, err := p.get(ctx, a.Namespace)
	if err == nil || apierrors.IsNotFound(err) {
		return err
	}
	return apierrors.NewInternalError(err)
}

// isNamespace is whether the request is about a namespace itself, whose name stands for its namespace too.
func (a *Attributes) isNamespace() bool { return a.Kind.Group == "" && a.Kind.Kind == "Namespace" }

// NamespaceProvision creates the namespace of an object that is created in one that does not exist.
type NamespaceProvision struct {
	operations
	get    func(ctx context.Context, name string) (*corev1.Namespace, error)
	create func(ctx context.Context, ns *corev1.Namespace) error
}

// Mutate implements Mutator.
func (p *NamespaceProvision) Mutate(ctx context.Context, a *Attributes) error {
	if a.DryRun || a.Namespace == "" || a.isNamespace() {
		return nil
	}
	_, err := p.get(ctx, a.Namespace)
	if err == nil {
		return nil
	}
	if apierrors.IsNotFound(err) {
		err = p.create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.Namespace}})
	}
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return Forbidden(a, err)
}

// HardAntiAffinity refuses pods that are to keep away from others by anything but the node.
type HardAntiAffinity struct{ operations }

// Validate implements Validator.
func (p *HardAntiAffinity) Validate(_ context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !a.Is("", "pods", "") || pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, t := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if t.TopologyKey != corev1.LabelHostname {
			return apierrors.NewForbidden(a.Resource.GroupResource(), pod.Name,
				fmt.Errorf("affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey %v but only key %v is allowed", t.TopologyKey, corev1.LabelHostname))
		}
	}
	return nil
}

// PodNodeSelector gives pods the node selector of their namespace, and holds them to what the cluster allows it.
type PodNodeSelector struct {
	operations
	get func(ctx context.Context, name string) (*corev1.Namespace, error)
	// allowed are the labels that a namespace's pods may select by, and under clusterDefault those of a namespace that says nothing.
	allowed map[string]labels.Set
}

const (
	nodeSelectorAnnotation = "scheduler.alpha.kubernetes.io/node-selector"
	clusterDefault         = "clusterDefaultNodeSelector"
)

func (p *PodNodeSelector) selector(ctx context.Context, a *Attributes) (labels.Set, error) {
	ns, err := p.get(ctx, a.Namespace)
	if apierrors.IsNotFound(err) {
		return nil, err
	}
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if text, ok := ns.Annotations[nodeSelectorAnnotation]; ok {
		return labels.ConvertSelectorToLabelsMap(text)
	}
	return p.allowed[clusterDefault], nil
}

// Mutate implements Mutator.
func (p *PodNodeSelector) Mutate(ctx context.Context, a *Attributes) error {
	if err := p.check(ctx, a, true); err != nil {
		return err
	}
	return p.Validate(ctx, a)
}

// Validate implements Validator.
func (p *PodNodeSelector) Validate(ctx context.Context, a *Attributes) error {
	return p.check(ctx, a, false)
}

func (p *PodNodeSelector) check(ctx context.Context, a *Attributes, merge bool) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !a.Is("", "pods", "") {
		return nil
	}
	selector, err := p.selector(ctx, a)
	if err != nil {
		return err
	}
	refuse := func(text string) error {
		return apierrors.NewForbidden(a.Resource.GroupResource(), pod.Name, errors.New(text))
	}
	if labels.Conflicts(selector, pod.Spec.NodeSelector) {
		return refuse("pod node label selector conflicts with its namespace node label selector")
	}
	if merge {
		pod.Spec.NodeSelector = labels.Merge(selector, pod.Spec.NodeSelector)
		return nil
	}
	if allowed := p.allowed[a.Namespace]; len(allowed) > 0 {
		for k, v := range pod.Spec.NodeSelector {
			if have, ok := allowed[k]; !ok || have != v {
				return refuse("pod node label selector labels conflict with its namespace whitelist")
			}
		}
	}
	return nil
}

// OwnerPermissions lets only those change an object's owners who may delete it, and only those keep an owner from being
// deleted who may set its finalizers.
type OwnerPermissions struct {
	operations
	authorizer authz.Authorizer
	// resourceOf is a kind's resource, and whether it has namespaces.
	resourceOf func(gvk schema.GroupVersionKind) (gvr schema.GroupVersionResource, namespaced, ok bool)
}

// Validate implements Validator.
func (p *OwnerPermissions) Validate(ctx context.Context, a *Attributes) error {
	// A pod's status has no owners to change.
	if a.Is("", "pods", "status") {
		return nil
	}
	owners, old := ownersOf(a.Object), ownersOf(a.OldObject)
	if len(owners) == len(old) && (len(owners) == 0 || apiequality.Semantic.DeepEqual(owners, old)) {
		return nil
	}
	if a.Operation != Create {
		ask := authz.Attributes{
			User: a.User, Verb: "delete", ResourceRequest: true, Namespace: a.Namespace, Name: a.Name,
			APIGroup: a.Resource.Group, APIVersion: a.Resource.Version, Resource: a.Resource.Resource, Subresource: a.Subresource,
		}
		if d, reason, err := p.authorizer.Authorize(ctx, ask); d != authz.Allow {
			return forbid(a, "cannot set an ownerRef on a resource you can't delete: %v, %v", reason, err)
		}
	}
	blocking := newlyBlocking(owners, old)
	if len(blocking) == 0 || p.finalizes(ctx, a.User, authz.Attributes{APIGroup: "*", APIVersion: "*", Resource: "*", Name: "*"}) == nil {
		return nil
	}
	for _, ref := range blocking {
		gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
		r, namespaced, ok := p.resourceOf(gvk)
		if !ok {
			return forbid(a, "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion %s Kind %s: %w", ref.APIVersion, ref.Kind,
				&meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}})
		}
		ask := authz.Attributes{APIGroup: r.Group, APIVersion: r.Version, Resource: r.Resource, Name: ref.Name}
		if namespaced {
			ask.Namespace = a.Namespace
		}
		if err := p.finalizes(ctx, a.User, ask); err != nil {
			return Forbidden(a, err)
		}
	}
	return nil
}

// finalizes is whether the user may set finalizers.
func (p *OwnerPermissions) finalizes(ctx context.Context, user *authn.Identity, ask authz.Attributes) error {
	ask.User, ask.Verb, ask.Subresource, ask.ResourceRequest = user, "update", "finalizers", true
	d, reason, err := p.authorizer.Authorize(ctx, ask)
	if d == authz.Allow {
		return nil
	}
	return fmt.Errorf("cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: %v, %v", reason, err) //nolint:errorlint // upstream's words, of no error too
}

func ownersOf(obj runtime.Object) []metav1.OwnerReference {
	if m, err := meta.Accessor(obj); obj != nil && err == nil {
		return m.GetOwnerReferences()
	}
	return nil
}

// newlyBlocking are the owners that may not be deleted before the object, and could before.
func newlyBlocking(owners, old []metav1.OwnerReference) (out []metav1.OwnerReference) {
	blocks := func(r metav1.OwnerReference) bool { return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion }
	before := make(map[string]bool, len(old))
	for _, r := range old {
		before[string(r.UID)] = blocks(r)
	}
	for _, r := range owners {
		if blocks(r) && !before[string(r.UID)] {
			out = append(out, r)
		}
	}
	return out
}
