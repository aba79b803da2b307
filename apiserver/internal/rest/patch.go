package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/wire"
)

// maxPatchOperations bounds a JSON patch, as upstream does.
const maxPatchOperations = 10000

// mediaOf is the media type of a request's body, empty where the header is not one.
func mediaOf(r *http.Request) string {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mediaType
}

// patchBody reads a patch of one of the sorts that the resource takes. It is JSON, or YAML that is applied.
func (a *API) patchBody(q *request) (types.PatchType, []byte, error) {
	sort := types.PatchType(mediaOf(q.http))
	strategic := sort == types.StrategicMergePatchType && q.res.codec == nil
	if !strategic && sort != types.ApplyYAMLPatchType && sort != types.JSONPatchType && sort != types.MergePatchType {
		if q.res.codec != nil {
			return "", nil, unsupportedMedia(string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyYAMLPatchType))
		}
		return "", nil, notConsumed()
	}
	body, err := a.readBody(q.http)
	if err != nil {
		return "", nil, err
	}
	shown := body
	if sort == types.ApplyYAMLPatchType {
		if err := a.boundAliases(body); err != nil {
			return "", nil, err
		}
		if shown, err = yaml.YAMLToJSON(body); err != nil {
			return "", nil, apierrors.NewBadRequest("error encoding patch: " + err.Error())
		}
	} else if !json.Valid(body) {
		return "", nil, apierrors.NewBadRequest("invalid JSON patch")
	}
	audit.From(q.ctx()).RequestPatch(shown)
	return sort, body, nil
}

func (a *API) patch(w http.ResponseWriter, q *request, sub string) error {
	sort, body, err := a.patchBody(q)
	if err != nil {
		return err
	}
	switch sort {
	case types.ApplyYAMLPatchType:
		return a.apply(w, q, sub, body)
	case types.JSONPatchType:
		return a.patchJSON(w, q, sub, func(old []byte, check validation) ([]byte, []error, error) { return jsonPatch(old, body, check) })
	case types.MergePatchType:
		return a.patchJSON(w, q, sub, func(old []byte, check validation) ([]byte, []error, error) { return mergePatch(old, body, check) })
	}
	return a.patchStrategic(w, q, sub, body)
}

// patchJSON changes the object's JSON. Besides the new JSON, patch returns what a strict reader of it refuses.
func (a *API) patchJSON(w http.ResponseWriter, q *request, sub string, patch func(old []byte, check validation) ([]byte, []error, error)) error {
	check := fieldValidation(q.http)
	return a.applyChange(w, q, sub, func(old runtime.Object) (runtime.Object, error) {
		if old == nil {
			return nil, errNoObject
		}
		before, err := json.Marshal(old)
		if err != nil {
			return nil, err
		}
		after, strange, err := patch(before, check)
		if err != nil {
			return nil, err
		}
		if err := q.versioned(after, check); err != nil {
			return nil, err
		}
		obj, unknown, err := a.parseJSON(q, q.res.GroupVersionKind, after, check != metav1.FieldValidationIgnore)
		if err != nil {
			return nil, unprocessable(string(after), err)
		}
		if err := q.refuse(check, string(after), append(strange, unknown...)); err != nil {
			return nil, err
		}
		return obj, q.named(obj.(metav1.Object))
	})
}

// versioned refuses an object that a patch took the apiVersion from. Upstream's
// reader of such an object knows none of its fields, and so not its name.
func (q *request) versioned(after []byte, check validation) error {
	if q.res.codec != nil {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(after, &fields) != nil {
		return nil //nolint:nilerr // who reads it next says what is wrong
	}
	if version, ok := fields["apiVersion"]; ok && string(version) != `""` && string(version) != "null" {
		return nil
	}
	var unknown []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != "kind" && name != "apiVersion" {
			unknown = append(unknown, fmt.Errorf("unknown field %q", name))
		}
	}
	if check != metav1.FieldValidationIgnore {
		if err := q.refuse(check, string(after), unknown); err != nil {
			return err
		}
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", q.info.Name))
}

// patchStrategic merges by the keys that the Go type names.
func (a *API) patchStrategic(w http.ResponseWriter, q *request, sub string, body []byte) error {
	check := fieldValidation(q.http)
	return a.applyChange(w, q, sub, func(old runtime.Object) (runtime.Object, error) {
		if old == nil {
			return nil, errNoObject
		}
		obj, err := a.empty(q.res)
		if err != nil {
			return nil, err
		}
		if err := q.strategicPatch(old, body, obj, check); err != nil {
			return nil, err
		}
		obj.GetObjectKind().SetGroupVersionKind(q.res.GroupVersionKind)
		return obj, q.named(obj.(metav1.Object))
	})
}

// strategicPatch fills into with the patched old, of the same type.
func (q *request) strategicPatch(old runtime.Object, body []byte, into runtime.Object, check validation) error {
	// The patch is read each time: merging changes it.
	patch, strange, err := readPatch(body, check)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if err := boundLists(patch); err != nil {
		return err
	}
	before, err := runtime.DefaultUnstructuredConverter.ToUnstructured(old)
	if err != nil {
		return err
	}
	after, err := mergeStrategic(before, patch, old)
	if err != nil {
		return strategicError(err)
	}
	if hasCostly(reflect.TypeOf(into), after) {
		return unprocessable(fmt.Sprintf("%+v", patch), wire.ErrCostly)
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(after, into, check != metav1.FieldValidationIgnore)
	if unknown, ok := runtime.AsStrictDecodingError(err); ok {
		strange = append(strange, unknown.Errors()...)
	} else if err != nil {
		return unprocessable(fmt.Sprintf("%+v", patch), err)
	}
	return q.refuse(check, fmt.Sprintf("%+v", patch), strange)
}

// mergeStrategic merges a patch by the tags of a Go type. The library panics at
// some merge keys of a wrong type: that is the patch's fault, and an error.
func mergeStrategic(before, patch map[string]any, typ runtime.Object) (after map[string]any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = apierrors.NewBadRequest(fmt.Sprintf("the patch cannot be merged: %v", v))
		}
	}()
	return strategicpatch.StrategicMergeMapPatch(before, patch, typ)
}

// readPatch reads a patch that is an object, and says what a strict reader of it refuses.
func readPatch(body []byte, check validation) (patch map[string]any, strange []error, err error) {
	patch = map[string]any{}
	if check == metav1.FieldValidationIgnore {
		return patch, nil, kjson.UnmarshalCaseSensitivePreserveInts(body, &patch)
	}
	strange, err = kjson.UnmarshalStrict(body, &patch)
	return patch, strange, err
}

// refuse is the answer to a patch with fields that a strict reader refuses; short of one they are warnings.
func (q *request) refuse(check validation, value string, strange []error) error {
	if len(strange) > 0 && check == metav1.FieldValidationStrict {
		return unprocessable(value, runtime.NewStrictDecodingError(strange))
	}
	for _, err := range strange {
		q.warn(err.Error())
	}
	return nil
}

// unprocessable answers a patch whose outcome is not an object of the kind.
func unprocessable(value string, err error) error {
	return invalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), value, err.Error())})
}

// named checks that an object is the one at the URL.
func (q *request) named(m metav1.Object) error {
	switch m.GetName() {
	case q.info.Name:
	case "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", q.info.Name))
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", m.GetName(), q.info.Name))
	}
	return q.inNamespace(m)
}

func jsonPatch(old, body []byte, check validation) ([]byte, []error, error) {
	var strange []error
	if check != metav1.FieldValidationIgnore {
		var ops []jsonPatchOperation
		var err error
		if strange, err = kjson.UnmarshalStrict(body, &ops); err != nil {
			return nil, nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
		}
		for i, err := range strange {
			strange[i] = fmt.Errorf("json patch %w", err)
		}
	}
	ops, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	if len(ops) > maxPatchOperations {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(ops)))
	}
	out, err := ops.Apply(old)
	if err != nil {
		return nil, nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return out, strange, nil
}

// jsonPatchOperation is what a strict reader knows of an operation.
type jsonPatchOperation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

func mergePatch(old, body []byte, check validation) ([]byte, []error, error) {
	var strange []error
	if check != metav1.FieldValidationIgnore {
		var err error
		if _, strange, err = readPatch(body, check); err != nil {
			return nil, nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
		}
	}
	out, err := merged(old, body)
	if errors.Is(err, jsonpatch.ErrBadJSONPatch) {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	return out, strange, err
}

func strategicError(err error) error {
	for _, bad := range []error{
		mergepatch.ErrBadJSONDoc, mergepatch.ErrBadPatchFormatForPrimitiveList, mergepatch.ErrBadPatchFormatForRetainKeys,
		mergepatch.ErrBadPatchFormatForSetElementOrderList, mergepatch.ErrUnsupportedStrategicMergePatchFormat,
	} {
		if errors.Is(err, bad) {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	if errors.Is(err, mergepatch.ErrNoListOfLists) || errors.Is(err, mergepatch.ErrPatchContentNotMatchRetainKeys) {
		return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return err
}

// appliedPatch reads what is to be applied.
func appliedPatch(body []byte) (*unstructured.Unstructured, error) {
	patch := &unstructured.Unstructured{Object: map[string]any{}}
	data, err := yaml.YAMLToJSON(body)
	if err == nil {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, &patch.Object)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	return patch, nil
}

// apply is server-side apply, KEP-555.
func (a *API) apply(w http.ResponseWriter, q *request, sub string, body []byte) error {
	query := q.http.URL.Query()
	name := query.Get("fieldManager")
	force := truthy(query.Get("force"))
	check := fieldValidation(q.http)
	manager, err := a.manager(q.res, sub)
	if err != nil {
		return err
	}
	q.applied = true
	return a.applyChange(w, q, sub, func(old runtime.Object) (runtime.Object, error) {
		// The patch is read each time: the manager changes it.
		patch, err := appliedPatch(body)
		if err != nil {
			return nil, err
		}
		if err := a.boundApplied(q.res, patch.Object); err != nil {
			return nil, err
		}
		live := old
		if live == nil {
			if patch.GetUID() != "" || patch.GetResourceVersion() != "" {
				return nil, errNoObject
			}
			if live, err = a.empty(q.res); err != nil {
				return nil, err
			}
		}
		obj, err := manager.Apply(live, patch, name, force)
		if err != nil {
			return nil, err
		}
		if check != metav1.FieldValidationIgnore {
			if err := yaml.UnmarshalStrict(body, &map[string]any{}); err != nil {
				if check == metav1.FieldValidationStrict {
					return nil, apierrors.NewBadRequest("error strict decoding patch: " + err.Error())
				}
				q.warn(err.Error())
			}
		}
		obj.GetObjectKind().SetGroupVersionKind(q.res.GroupVersionKind)
		return obj, q.named(obj.(metav1.Object))
	})
}
