package static

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/rest"
)

// Overlay is the API with the objects of folders before its own. It shows them to the plugins alone: no client sees them.
type Overlay struct {
	*rest.API
	// Dirs are the folders, of different kinds.
	Dirs []*Dir
}

// Changed grows when an object of a resource has changed, of the API or of a file.
func (o *Overlay) Changed(gvr schema.GroupVersionResource) int64 {
	at := o.API.Changed(gvr)
	for _, d := range o.Dirs {
		at += d.Reads()
	}
	return at
}

// Each visits those of files first.
func (o *Overlay) Each(gvr schema.GroupVersionResource, namespace string, visit func(runtime.Object) bool) error {
	for _, d := range o.Dirs {
		for _, obj := range d.Objects(gvr) {
			if !visit(obj) {
				return nil
			}
		}
	}
	return o.API.Each(gvr, namespace, visit)
}
