package rest

import "k8s.io/apimachinery/pkg/runtime/schema"

// Stored is how many objects there are of a request's resource, and the sum of the bytes that they are stored in; false where it is not served from here.
func (a *API) Stored(i *Info) (objects int, bytes int64, ok bool) {
	r := a.Lookup(schema.GroupVersionResource{Group: i.Group, Version: i.Version, Resource: i.Resource})
	if r == nil || r.Cache == nil {
		return 0, 0, false
	}
	objects, bytes = r.Cache.Size()
	return objects, bytes, true
}

// Watching is how many watchers hear of a change that a request makes.
func (a *API) Watching(i *Info) int {
	r := a.Lookup(schema.GroupVersionResource{Group: i.Group, Version: i.Version, Resource: i.Resource})
	if r == nil || r.Cache == nil {
		return 0
	}
	return r.Cache.Interested(i.Namespace, i.Name)
}
