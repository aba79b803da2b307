package extend

import (
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"flagship/apiserver/internal/wire"
)

// codec reads and writes the objects of a definition in one served version.
type codec struct {
	d   *definition
	gvk schema.GroupVersionKind
}

// Parse implements rest.Codec.
func (c *codec) Parse(data []byte, strict bool) (*unstructured.Unstructured, []error, error) {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	var unknown []error
	var err error
	if strict {
		unknown, err = kjson.UnmarshalStrict(data, &u.Object)
	} else {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, &u.Object)
	}
	if err != nil {
		return nil, nil, err
	}
	if missing := missingType(u, data); missing != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", c.gvk.Kind, missing, summary(data)))
	}
	if u.GroupVersionKind() != c.gvk {
		// Whoever asked will refuse it.
		return u, unknown, nil
	}
	v, err := c.d.version(c.gvk.Version)
	if err != nil {
		return nil, nil, err
	}
	paths, err := v.coerce(u, coercion{track: strict})
	if err != nil {
		return nil, nil, err
	}
	for _, p := range paths {
		unknown = append(unknown, fmt.Errorf("unknown field %q", p))
	}
	v.fill(u)
	return u, unknown, nil
}

func missingType(u *unstructured.Unstructured, data []byte) error {
	if kind, _ := u.Object["kind"].(string); kind == "" {
		return runtime.NewMissingKindErr(string(data))
	}
	if v, _ := u.Object["apiVersion"].(string); v == "" {
		return runtime.NewMissingVersionErr(string(data))
	}
	return nil
}

// summary is the beginning of a body, for an error.
func summary(data []byte) string {
	const most = 30
	if len(data) == 0 {
		return "<empty>"
	}
	if len(data) > most {
		return string(data[:most]) + " ..."
	}
	return string(data)
}

// Decode implements rest.Codec.
func (c *codec) Decode(value []byte) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(value, &u.Object); err != nil {
		return nil, err
	}
	name := u.GroupVersionKind().Version
	from, err := c.d.version(name)
	if err != nil {
		return nil, err
	}
	if _, err := from.coerce(u, coercion{stored: true}); err != nil {
		return nil, err
	}
	from.fill(u)
	if name == c.gvk.Version {
		return u, nil
	}
	return c.d.converted(u, c.gvk.Version)
}

// Encode implements rest.Codec.
func (c *codec) Encode(obj *unstructured.Unstructured) ([]byte, error) {
	u := obj
	if c.gvk.Version == c.d.stored.Version {
		v, err := c.d.version(c.gvk.Version)
		if err != nil {
			return nil, err
		}
		if _, err := v.coerce(u, coercion{}); err != nil {
			return nil, err
		}
	} else {
		var err error
		if u, err = c.d.converted(obj.DeepCopy(), c.d.stored.Version); err != nil {
			return nil, err
		}
	}
	rv := u.GetResourceVersion()
	u.SetResourceVersion("")
	defer u.SetResourceVersion(rv)
	return json.Marshal(u.Object)
}

// Render implements rest.Codec. What was written under this schema in this
// version is not decoded.
func (c *codec) Render(value []byte, rev int64) ([]byte, error) {
	if (rev > c.d.settled || rev == 0) && wire.ScanJSONString(value, "apiVersion") == c.gvk.GroupVersion().String() {
		return value, nil
	}
	u, err := c.Decode(value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(u.Object)
}

// Manager implements rest.Codec.
func (c *codec) Manager(sub string) (*managedfields.FieldManager, error) {
	types, err := c.d.typeConverter()
	if err != nil {
		return nil, err
	}
	reset := map[fieldpath.APIVersion]fieldpath.Filter{}
	for _, k := range c.d.kinds {
		if _, ok := k.Subresources["status"]; !ok {
			continue
		}
		set := fieldpath.NewSet(fieldpath.MakePathOrDie("status"))
		switch sub {
		case "status":
			set = fieldpath.NewSet(fieldpath.MakePathOrDie("metadata"), fieldpath.MakePathOrDie("spec"))
		case "":
		default:
			continue
		}
		reset[fieldpath.APIVersion(k.GroupVersion().String())] = fieldpath.NewExcludeSetFilter(set)
	}
	o := objects{d: c.d}
	return managedfields.NewDefaultCRDFieldManager(types, o, o, o, c.gvk, c.gvk.GroupVersion(), sub, reset)
}

// objects makes, defaults and converts a definition's objects for the field
// manager.
type objects struct{ d *definition }

func (o objects) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return u, nil
}

func (o objects) Default(in runtime.Object) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return
	}
	if v, err := o.d.version(u.GroupVersionKind().Version); err == nil {
		v.fill(u)
	}
}

func (o objects) Convert(in, out, _ any) error {
	from, ok1 := in.(*unstructured.Unstructured)
	to, ok2 := out.(*unstructured.Unstructured)
	if !ok1 || !ok2 {
		return fmt.Errorf("convert %T to %T: both must be unstructured", in, out)
	}
	u, err := o.d.converted(from.DeepCopy(), to.GroupVersionKind().Version)
	if err != nil {
		return err
	}
	to.Object = u.Object
	return nil
}

func (o objects) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("convert %T: it must be unstructured", in)
	}
	to, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{u.GroupVersionKind()})
	if !ok {
		return nil, fmt.Errorf("%v is unstructured and is not suitable for converting to %q", u.GroupVersionKind(), target)
	}
	return o.d.converted(u.DeepCopy(), to.Version)
}

func (o objects) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	if strings.HasPrefix(label, "metadata.") {
		return label, value, nil
	}
	return "", "", fmt.Errorf("field label not supported: %s", label)
}
