package extend

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubeversion "k8s.io/apimachinery/pkg/version"

	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/watchcache"
)

// compareKinds orders by group, then by version with the most stable first,
// then by resource.
func compareKinds(a, b *resource.Kind) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), -kubeversion.CompareKubeAwareVersionStrings(a.Version, b.Version), cmp.Compare(a.Resource, b.Resource))
}

// install serves a definition as it is now, and says whether that is a change.
func (d *Definitions) install(ctx context.Context, def *apiextensionsv1.CustomResourceDefinition) (bool, error) {
	d.mu.RLock()
	old := d.served[def.Name]
	d.mu.RUnlock()
	closed := def.DeletionTimestamp != nil
	if old != nil && old.uid == def.UID && old.generation == def.Generation && old.closed == closed && apiequality.Semantic.DeepEqual(old.names, def.Status.AcceptedNames) {
		return false, nil
	}
	n, err := d.describe(def)
	if err != nil {
		return false, err
	}
	n.closed = closed
	same := old != nil && old.uid == def.UID && old.generation == def.Generation
	if same {
		n.settled, n.cache = old.settled, old.cache
	} else if n.cache, err = d.deps.Caches.Add(ctx, watchcache.Config{Prefix: n.prefix()}); err != nil {
		return false, fmt.Errorf("serve %s: %w", def.Name, err)
	}
	n.kinds = n.build(def, d.builtIn)
	for _, k := range n.kinds {
		d.deps.API.AddUnstructured(k, n.cache, &codec{d: n, gvk: k.GroupVersionKind})
	}
	if old != nil {
		for _, k := range old.kinds {
			if !slices.ContainsFunc(n.kinds, func(x *resource.Kind) bool { return x.GVR() == k.GVR() }) {
				d.deps.API.Remove(k)
			}
		}
		if !same {
			// Watches follow the schema that they began with: a change ends
			// them.
			d.deps.Caches.Remove(old.cache)
		}
	}
	d.mu.Lock()
	d.served[def.Name] = n
	d.mu.Unlock()
	return true, nil
}

// uninstall ends the service of a definition.
func (d *Definitions) uninstall(name string) bool {
	d.mu.Lock()
	old := d.served[name]
	delete(d.served, name)
	d.mu.Unlock()
	if old == nil {
		return false
	}
	for _, k := range old.kinds {
		d.deps.API.Remove(k)
	}
	d.deps.Caches.Remove(old.cache)
	return true
}

// describe is a definition without its resource.
func (d *Definitions) describe(def *apiextensionsv1.CustomResourceDefinition) (*definition, error) {
	rev, err := strconv.ParseInt(def.ResourceVersion, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("serve %s: resource version: %w", def.Name, err)
	}
	n := &definition{
		name: def.Name, uid: def.UID, generation: def.Generation, group: def.Spec.Group, names: def.Status.AcceptedNames,
		versions: map[string]bool{}, settled: rev, read: d.read,
	}
	for _, v := range def.Spec.Versions {
		n.versions[v.Name] = v.Served
		if v.Storage {
			n.stored = n.gv(v.Name).WithKind(n.names.Kind)
		}
	}
	if c := def.Spec.Conversion; c != nil && c.Strategy == apiextensionsv1.WebhookConverter && c.Webhook != nil && c.Webhook.ClientConfig != nil {
		n.convert = webhookConverter(def, d.deps.Hooks)
	}
	return n, nil
}

// prefix heads the keys of the objects, where upstream has them.
func (d *definition) prefix() string { return "/" + d.group + "/" + d.names.Plural + "/" }

// build makes the kinds of the served versions.
func (d *definition) build(def *apiextensionsv1.CustomResourceDefinition, builtIn map[schema.GroupVersionResource]bool) []*resource.Kind {
	var out []*resource.Kind
	for i := range def.Spec.Versions {
		v := &def.Spec.Versions[i]
		if !v.Served || builtIn[d.gv(v.Name).WithResource(d.names.Plural)] {
			continue
		}
		out = append(out, d.kind(def, v))
	}
	return out
}

func (d *definition) kind(def *apiextensionsv1.CustomResourceDefinition, v *apiextensionsv1.CustomResourceDefinitionVersion) *resource.Kind {
	k := &resource.Kind{
		GroupVersionKind: d.gv(v.Name).WithKind(d.names.Kind), Resource: d.names.Plural, Singular: d.names.Singular, ListKind: d.names.ListKind,
		ShortNames: d.names.ShortNames, Categories: d.names.Categories, Namespaced: def.Spec.Scope == apiextensionsv1.NamespaceScoped,
		Prefix: d.prefix(), Stored: d.stored.GroupVersion(), Verbs: verbs(), Subresources: map[string]resource.Subresource{},
		Strategy: strategy(d, v),
	}
	if s := v.Subresources; s != nil {
		if s.Status != nil {
			k.Subresources["status"] = resource.Subresource{Verbs: []string{"get", "patch", "update"}}
		}
		if s.Scale != nil {
			k.Subresources["scale"] = resource.Subresource{
				GroupVersionKind: schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}, Verbs: []string{"get", "patch", "update"},
			}
		}
	}
	if d.closed {
		k.Closed = "create not allowed while custom resource definition is terminating"
	}
	if v.Deprecated {
		k.Deprecation = deprecation(&def.Spec, v)
	}
	return k
}

// verbs are those of a custom resource, in discovery's order.
func verbs() []string {
	return []string{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}
}

// deprecation is the warning of a deprecated version: the definition's, or one
// that names the best version after it.
func deprecation(s *apiextensionsv1.CustomResourceDefinitionSpec, v *apiextensionsv1.CustomResourceDefinitionVersion) string {
	if v.DeprecationWarning != nil {
		return *v.DeprecationWarning
	}
	best := ""
	for _, o := range s.Versions {
		if o.Served && !o.Deprecated && kubeversion.CompareKubeAwareVersionStrings(v.Name, o.Name) < 0 && (best == "" || kubeversion.CompareKubeAwareVersionStrings(o.Name, best) > 0) {
			best = o.Name
		}
	}
	text := fmt.Sprintf("%s/%s %s is deprecated", s.Group, v.Name, s.Names.Kind)
	if best != "" {
		text += fmt.Sprintf("; use %s/%s %s", s.Group, best, s.Names.Kind)
	}
	return text
}
