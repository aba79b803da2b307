package extend

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// converter turns an object into another version of its kind; it may change
// the object it is given. Nil only changes the apiVersion.
type converter func(u *unstructured.Unstructured, apiVersion string) (*unstructured.Unstructured, error)

// converted is the object in another version, with what that version's schema
// does not know left out. The object given is used up.
func (d *definition) converted(u *unstructured.Unstructured, to string) (*unstructured.Unstructured, error) {
	gv := d.gv(to)
	if u.GetAPIVersion() == gv.String() {
		return u, nil
	}
	if _, ok := d.versions[to]; !ok {
		return nil, fmt.Errorf("request to convert CR to an invalid group/version: %s", gv)
	}
	if from := u.GroupVersionKind(); from.Group != d.group {
		return nil, fmt.Errorf("request to convert CR from an invalid group/version: %s", from.GroupVersion())
	} else if _, ok := d.versions[from.Version]; !ok {
		return nil, fmt.Errorf("request to convert CR from an invalid group/version: %s", from.GroupVersion())
	}
	if d.convert == nil {
		u.SetAPIVersion(gv.String())
	} else {
		var err error
		if u, err = d.convert(u, gv.String()); err != nil {
			return nil, err
		}
	}
	v, err := d.version(to)
	if err != nil {
		return nil, err
	}
	_, err = v.coerce(u, coercion{})
	return u, err
}
