// Package catalog lists what resources the API server has, by aggregated discovery.
//
// Data in: /api and /apis in the aggregated format of apidiscovery.k8s.io/v2. Data out: resources with their kinds and
// verbs, in the preferred version of each group. It owns no goroutine.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/internal/kube"
)

// Resource is a kind that the server serves.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
	Verbs      []string
}

// Can says whether the resource has all the verbs.
func (r *Resource) Can(verbs ...string) bool {
	for _, v := range verbs {
		if !slices.Contains(r.Verbs, v) {
			return false
		}
	}
	return true
}

// Catalog reads and remembers the resources.
type Catalog struct {
	client *kube.Client

	mu    sync.Mutex // guards kinds
	kinds map[schema.GroupKind]Resource
}

// New returns an empty catalog.
func New(c *kube.Client) *Catalog {
	return &Catalog{client: c, kinds: map[schema.GroupKind]Resource{}}
}

const accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// ErrStale means that some groups could not be discovered; the other resources are listed all the same.
var ErrStale = errors.New("discovery is stale")

// List reads the resources, each once, in its group's preferred version that serves it. With ErrStale the list is
// incomplete.
func (c *Catalog) List(ctx context.Context) ([]Resource, error) {
	r, err := c.client.REST(schema.GroupVersion{Version: "v1"})
	if err != nil {
		return nil, err
	}
	var out []Resource
	var stale []error
	kinds := map[schema.GroupKind]Resource{}
	for _, path := range []string{"/api", "/apis"} {
		data, err := r.Get().AbsPath(path).SetHeader("Accept", accept).DoRaw(ctx)
		if err != nil {
			return nil, fmt.Errorf("discover %s: %w", path, err)
		}
		var list apidiscoveryv2.APIGroupDiscoveryList
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, fmt.Errorf("discover %s: %w", path, err)
		}
		if list.Kind != "APIGroupDiscoveryList" {
			return nil, fmt.Errorf("discover %s: the server answers %q, aggregated discovery is needed", path, list.Kind)
		}
		for i := range list.Items {
			found, err := resourcesOf(&list.Items[i], kinds)
			out = append(out, found...)
			if err != nil {
				stale = append(stale, err)
			}
		}
	}
	c.mu.Lock()
	c.kinds = kinds
	c.mu.Unlock()
	if len(stale) > 0 {
		return out, fmt.Errorf("%w: %w", ErrStale, errors.Join(stale...))
	}
	return out, nil
}

func resourcesOf(g *apidiscoveryv2.APIGroupDiscovery, kinds map[schema.GroupKind]Resource) ([]Resource, error) {
	var out []Resource
	var stale error
	seen := map[string]bool{}
	for _, v := range g.Versions {
		if v.Freshness == apidiscoveryv2.DiscoveryFreshnessStale {
			stale = fmt.Errorf("group version %s/%s", g.Name, v.Version)
		}
		for _, r := range v.Resources {
			if seen[r.Resource] {
				continue
			}
			seen[r.Resource] = true
			res := Resource{
				GroupVersionResource: schema.GroupVersionResource{Group: g.Name, Version: v.Version, Resource: r.Resource},
				Namespaced:           r.Scope == apidiscoveryv2.ScopeNamespace, Verbs: r.Verbs,
			}
			if r.ResponseKind != nil {
				res.Kind = r.ResponseKind.Kind
			}
			gk := schema.GroupKind{Group: g.Name, Kind: res.Kind}
			if _, known := kinds[gk]; !known && res.Can("get") {
				kinds[gk] = res
			}
			out = append(out, res)
		}
	}
	return out, stale
}

// Find returns the resource of a kind as of the last List.
func (c *Catalog) Find(gk schema.GroupKind) (Resource, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.kinds[gk]
	return r, ok
}
