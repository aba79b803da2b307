package extend

import (
	"fmt"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/watchcache"
)

// definition is one CustomResourceDefinition as it is served. Only what is
// compiled changes, by being compiled.
type definition struct {
	name       string
	uid        types.UID
	generation int64
	group      string
	names      apiextensionsv1.CustomResourceDefinitionNames
	closed     bool // its objects are being deleted: none may be created
	stored     schema.GroupVersionKind
	versions   map[string]bool // every version, and whether it is served
	// settled is the revision after which objects were written under this
	// schema: they are served as they are stored.
	settled int64
	cache   *watchcache.Cache
	kinds   []*resource.Kind
	// read returns the definition as it is stored.
	read    func(name string) (*apiextensionsv1.CustomResourceDefinition, error)
	convert converter

	mu       sync.Mutex // guards what follows
	compiled map[string]*version
	types    managedfields.TypeConverter
}

func (d *definition) gv(version string) schema.GroupVersion {
	return schema.GroupVersion{Group: d.group, Version: version}
}

// version returns a compiled version.
func (d *definition) version(name string) (*version, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.compiled[name]; ok {
		return v, nil
	}
	crd, err := d.read(d.name)
	if err != nil {
		return nil, fmt.Errorf("read definition %s: %w", d.name, err)
	}
	for i := range crd.Spec.Versions {
		if crd.Spec.Versions[i].Name != name {
			continue
		}
		v, err := compileVersion(d.gv(name).WithKind(d.names.Kind), &crd.Spec.Versions[i], crd.Spec.PreserveUnknownFields)
		if err != nil {
			return nil, err
		}
		if d.compiled == nil {
			d.compiled = map[string]*version{}
		}
		d.compiled[name] = v
		return v, nil
	}
	return nil, fmt.Errorf("definition %s has no version %q", d.name, name)
}

// typeConverter is the schema of all versions as server-side apply needs it.
func (d *definition) typeConverter() (managedfields.TypeConverter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.types != nil {
		return d.types, nil
	}
	crd, err := d.read(d.name)
	if err != nil {
		return nil, fmt.Errorf("read definition %s: %w", d.name, err)
	}
	models, err := applyModels(crd)
	if err != nil {
		return nil, err
	}
	if d.types, err = managedfields.NewTypeConverter(models, crd.Spec.PreserveUnknownFields); err != nil {
		return nil, fmt.Errorf("types of %s for apply: %w", d.name, err)
	}
	return d.types, nil
}
