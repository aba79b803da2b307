package extend

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/openapi"
	"flagship/apiserver/internal/resource"
)

// Models implements openapi.Extension. Nothing is kept: few clients ask.
func (d *Definitions) Models(k *resource.Kind, v2 bool) (one, many openapi.Model, err error) {
	def, err := d.read(k.Resource + "." + k.Group)
	if err != nil {
		return one, many, err
	}
	for i := range def.Spec.Versions {
		v := &def.Spec.Versions[i]
		if v.Name != k.Version {
			continue
		}
		s, err := structuralOf(def, v)
		if err != nil {
			return one, many, err
		}
		object := objectModel(s, k.GroupVersionKind, def.Spec.PreserveUnknownFields, v2)
		list := listModel(k.GroupVersionKind, k.Resource, k.ListName(), v2)
		if len(v.SelectableFields) > 0 {
			var fields []any
			for _, f := range v.SelectableFields {
				fields = append(fields, map[string]any{"fieldPath": strings.TrimPrefix(f.JSONPath, ".")})
			}
			object.AddExtension("x-kubernetes-selectable-fields", fields)
			list.AddExtension("x-kubernetes-selectable-fields", fields)
		}
		one.Name, many.Name = modelName(k.GroupVersionKind), modelName(k.GroupVersion().WithKind(k.ListName()))
		if one.JSON, err = json.Marshal(object); err != nil {
			return one, many, err
		}
		many.JSON, err = json.Marshal(list)
		return one, many, err
	}
	return one, many, fmt.Errorf("definition %s has no version %q", def.Name, k.Version)
}

// Hash implements openapi.Extension: it changes with the generation of any
// definition that is served in the version, and is empty where there is none.
func (d *Definitions) Hash(gv schema.GroupVersion) string {
	d.mu.RLock()
	var parts []string
	for _, def := range d.served {
		if def.group != gv.Group || !def.versions[gv.Version] {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %s %d %+v", def.name, def.uid, def.generation, def.names))
	}
	d.mu.RUnlock()
	if len(parts) == 0 {
		return ""
	}
	sort.Strings(parts)
	sum := sha512.Sum512([]byte(strings.Join(parts, "\n")))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}
