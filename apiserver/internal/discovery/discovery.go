// Package discovery tells clients what the server serves: /api, /apis and what
// is below them, in the aggregated form of KEP-3352 too.
//
// Data in: the table of kinds, and the custom ones as they come and go. Data
// out: discovery documents, made when they are first asked for after a change.
// It owns no goroutine.
package discovery

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/aggregate"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
	"flagship/apiserver/internal/wire"
)

// Discovery serves the documents. It is safe for concurrent use.
type Discovery struct {
	// Address is where clients outside the cluster reach the server.
	address string

	builtIn []*resource.Kind

	mu     sync.RWMutex // guards what follows
	custom []*resource.Kind
	remote []aggregate.Remote
	stale  bool
	groups []group
	docs   map[string][]byte
	// etags of the aggregated documents, by path.
	etags map[string]string
}

type group struct {
	name     string
	versions []version
}

type version struct {
	name      string
	resources []metav1.APIResource
	// stale says that the server that serves it does not answer.
	stale bool
}

// New returns the documents of the built-in kinds.
func New(kinds []*resource.Kind, address string) (*Discovery, error) {
	d := &Discovery{address: address, builtIn: kinds}
	return d, d.render()
}

// Extend tells which custom kinds are served besides the built-in ones.
func (d *Discovery) Extend(kinds []*resource.Kind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.custom, d.stale = kinds, true
}

// Aggregate tells what other servers serve.
func (d *Discovery) Aggregate(remotes []aggregate.Remote) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remote, d.stale = remotes, true
}

// refresh renders the documents anew where something changed.
func (d *Discovery) refresh() {
	d.mu.RLock()
	stale := d.stale
	d.mu.RUnlock()
	if !stale {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stale && d.render() == nil {
		d.stale = false
	}
}

// collect sorts the kinds into groups and versions.
func (d *Discovery) collect() {
	d.groups = nil
	add := func(gv schema.GroupVersion, list ...metav1.APIResource) {
		v := d.version(gv)
		v.resources = append(v.resources, list...)
	}
	for _, k := range d.builtIn {
		add(k.GroupVersion(), entries(k)...)
	}
	for _, v := range rest.Virtuals() {
		add(v.GroupVersion(), metav1.APIResource{
			Name: v.Resource, SingularName: strings.ToLower(v.Kind), Namespaced: v.Namespaced, Kind: v.Kind, Verbs: v.Verbs,
			ShortNames: map[string][]string{"componentstatuses": {"cs"}}[v.Resource],
		})
	}
	for _, k := range d.custom {
		add(k.GroupVersion(), entries(k)...)
	}
	for _, r := range d.remote {
		add(r.GroupVersion, r.Resources...)
		d.version(r.GroupVersion).stale = r.Stale
	}
	d.order()
}

// order is upstream's: groups by the priority of their APIServices, resources
// by name.
func (d *Discovery) order() {
	priority := map[string]int32{}
	for _, g := range d.groups {
		priority[g.name], _ = aggregate.Priority(schema.GroupVersion{Group: g.name, Version: g.versions[0].name})
	}
	for _, r := range d.remote {
		priority[r.GroupVersion.Group] = max(priority[r.GroupVersion.Group], r.GroupPriority)
	}
	slices.SortStableFunc(d.groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(priority[b.name], priority[a.name]), cmp.Compare(a.name, b.name))
	})
	for _, g := range d.groups {
		for _, v := range g.versions {
			slices.SortStableFunc(v.resources, func(a, b metav1.APIResource) int { return cmp.Compare(a.Name, b.Name) })
		}
	}
}

func (d *Discovery) version(gv schema.GroupVersion) *version {
	for i := range d.groups {
		if d.groups[i].name != gv.Group {
			continue
		}
		for j := range d.groups[i].versions {
			if d.groups[i].versions[j].name == gv.Version {
				return &d.groups[i].versions[j]
			}
		}
		d.groups[i].versions = append(d.groups[i].versions, version{name: gv.Version})
		return &d.groups[i].versions[len(d.groups[i].versions)-1]
	}
	d.groups = append(d.groups, group{name: gv.Group, versions: []version{{name: gv.Version}}})
	return &d.groups[len(d.groups)-1].versions[0]
}

func entries(k *resource.Kind) []metav1.APIResource {
	out := []metav1.APIResource{{
		Name: k.Resource, SingularName: k.Singular, Namespaced: k.Namespaced, Kind: k.GroupVersionKind.Kind, Verbs: k.ServedVerbs(),
		ShortNames: k.ShortNames, Categories: k.Categories, StorageVersionHash: storageHash(k),
	}}
	names := make([]string, 0, len(k.Subresources))
	for name := range k.Subresources {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		sub := k.Subresources[name]
		r := metav1.APIResource{Name: k.Resource + "/" + name, Namespaced: k.Namespaced, Kind: k.GroupVersionKind.Kind, Verbs: sub.Verbs}
		if sub.Kind != "" {
			r.Kind = sub.Kind
			if sub.GroupVersion() != k.GroupVersion() {
				r.Group, r.Version = sub.Group, sub.Version
			}
		}
		out = append(out, r)
	}
	return out
}

// storageHash tells clients when the storage version changed.
func storageHash(k *resource.Kind) string {
	gvk := k.StoredGVK()
	sum := sha256.Sum256([]byte(gvk.Group + "/" + gvk.Version + "/" + gvk.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

// render makes the documents. The caller holds the lock.
func (d *Discovery) render() error {
	d.collect()
	docs, etags := map[string][]byte{}, map[string]string{}
	put := func(path string, v any) error {
		data, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("render discovery %s: %w", path, err)
		}
		docs[path] = append(data, '\n')
		return nil
	}
	server := metav1.ServerAddressByClientCIDR{ClientCIDR: "0.0.0.0/0", ServerAddress: d.address}
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	versions := metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{server}}
	for _, g := range d.groups {
		ag := metav1.APIGroup{Name: g.name}
		for _, v := range g.versions {
			gv := schema.GroupVersion{Group: g.name, Version: v.name}
			if err := put(groupPath(gv), metav1.APIResourceList{
				TypeMeta: resourceListMeta(g.name), GroupVersion: gv.String(), APIResources: v.resources,
			}); err != nil {
				return err
			}
			ag.Versions = append(ag.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: v.name})
			if g.name == "" {
				versions.Versions = append(versions.Versions, v.name)
			}
		}
		ag.PreferredVersion = ag.Versions[0]
		if g.name == "" {
			continue
		}
		list.Groups = append(list.Groups, ag)
		ag.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		if err := put("/apis/"+g.name, ag); err != nil {
			return err
		}
	}
	if err := put("/api", versions); err != nil {
		return err
	}
	if err := put("/apis", list); err != nil {
		return err
	}
	for _, path := range []string{"/api", "/apis"} {
		if err := put(path+aggregated, d.aggregate(path == "/api")); err != nil {
			return err
		}
		sum := sha512.Sum512(docs[path+aggregated])
		etags[path] = strings.ToUpper(hex.EncodeToString(sum[:]))
	}
	d.docs, d.etags = docs, etags
	return nil
}

func resourceListMeta(group string) metav1.TypeMeta {
	if group == "" {
		return metav1.TypeMeta{Kind: "APIResourceList"}
	}
	return metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}
}

func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// aggregated marks the aggregated document of a path.
const aggregated = "#aggregated"

func (d *Discovery) aggregate(core bool) apidiscoveryv2.APIGroupDiscoveryList {
	out := apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"},
		Items:    []apidiscoveryv2.APIGroupDiscovery{},
	}
	for _, g := range d.groups {
		if (g.name == "") != core {
			continue
		}
		item := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.name}}
		for _, v := range g.versions {
			freshness := apidiscoveryv2.DiscoveryFreshnessCurrent
			if v.stale {
				freshness = apidiscoveryv2.DiscoveryFreshnessStale
			}
			item.Versions = append(item.Versions, apidiscoveryv2.APIVersionDiscovery{Version: v.name, Resources: aggregateResources(v), Freshness: freshness})
		}
		out.Items = append(out.Items, item)
	}
	return out
}

// aggregateResources are a version's in the form of aggregated discovery. A kind of the version itself has its name alone.
func aggregateResources(v version) []apidiscoveryv2.APIResourceDiscovery {
	var out []apidiscoveryv2.APIResourceDiscovery
	for _, r := range v.resources {
		kind := &metav1.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
		parent, sub, isSub := strings.Cut(r.Name, "/")
		if isSub {
			for i := range out {
				if out[i].Resource == parent {
					out[i].Subresources = append(out[i].Subresources, apidiscoveryv2.APISubresourceDiscovery{Subresource: sub, ResponseKind: kind, Verbs: r.Verbs})
				}
			}
			continue
		}
		scope := apidiscoveryv2.ScopeCluster
		if r.Namespaced {
			scope = apidiscoveryv2.ScopeNamespace
		}
		out = append(out, apidiscoveryv2.APIResourceDiscovery{
			Resource: r.Name, ResponseKind: kind, Scope: scope, SingularResource: r.SingularName,
			Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
		})
	}
	return out
}

// ServeHTTP answers a discovery path; Serves says which those are.
func (d *Discovery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	d.refresh()
	d.mu.RLock()
	plain, agg, etag := d.docs[path], d.docs[path+aggregated], d.etags[path]
	d.mu.RUnlock()
	w.Header().Set("Vary", "Accept")
	if agg != nil && wantsAggregated(r) {
		w.Header().Set("ETag", `"`+etag+`"`)
		w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		if match := strings.Trim(r.Header.Get("If-None-Match"), `"`); match == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(agg)
		return
	}
	if wantsProtobuf(r) {
		d.serveProtobuf(w, path, plain)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(plain)
}

// deepest is the number of slashes in /apis/GROUP/VERSION.
const deepest = 3

// Serves says whether a path is a discovery document.
func (d *Discovery) Serves(path string) bool {
	path = strings.TrimSuffix(path, "/")
	if !strings.HasPrefix(path, "/api") || strings.Count(path, "/") > deepest {
		return false
	}
	d.refresh()
	d.mu.RLock()
	defer d.mu.RUnlock()
	_, ok := d.docs[path]
	return ok
}

func wantsAggregated(r *http.Request) bool {
	for _, clause := range strings.Split(r.Header.Get("Accept"), ",") {
		mediaType, params, err := mime.ParseMediaType(strings.TrimSpace(clause))
		if err == nil && mediaType == "application/json" && params["as"] == "APIGroupDiscoveryList" && params["g"] == "apidiscovery.k8s.io" && params["v"] == "v2" {
			return true
		}
	}
	return false
}

func wantsProtobuf(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	return strings.HasPrefix(strings.TrimSpace(first), "application/vnd.kubernetes.protobuf") && !strings.Contains(first, "as=")
}

// serveProtobuf answers the plain documents in protobuf, made on demand: few
// clients ask for them.
func (d *Discovery) serveProtobuf(w http.ResponseWriter, path string, plain []byte) {
	var obj runtime.Object
	kind := ""
	switch {
	case path == "/api":
		obj, kind = &metav1.APIVersions{}, "APIVersions"
	case path == "/apis":
		obj, kind = &metav1.APIGroupList{}, "APIGroupList"
	case strings.HasPrefix(path, "/apis/") && strings.Count(path, "/") == 2:
		obj, kind = &metav1.APIGroup{}, "APIGroup"
	default:
		obj, kind = &metav1.APIResourceList{}, "APIResourceList"
	}
	body, err := protobufOf(obj, kind, plain)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
	_, _ = w.Write(body)
}

func protobufOf(obj runtime.Object, kind string, plain []byte) ([]byte, error) {
	if err := json.Unmarshal(plain, obj); err != nil {
		return nil, err
	}
	m, ok := obj.(interface{ Marshal() ([]byte, error) })
	if !ok {
		return nil, fmt.Errorf("%T has no protobuf encoding", obj)
	}
	raw, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	return wire.AppendEnvelope(nil, "v1", kind, raw), nil
}
