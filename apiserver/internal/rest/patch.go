package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxPatchOperations bounds a JSON patch, as upstream does.
const maxPatchOperations = 10000

func (a *API) patch(w http.ResponseWriter, q *request, sub string) error {
	body, err := a.readBody(q.http)
	if err != nil {
		return err
	}
	mediaType, _, err := mime.ParseMediaType(q.http.Header.Get("Content-Type"))
	if err != nil {
		mediaType = ""
	}
	switch types.PatchType(mediaType) {
	case types.ApplyYAMLPatchType:
		return a.apply(w, q, sub, body)
	case types.JSONPatchType:
		return a.patchWith(w, q, sub, func(old []byte, _ runtime.Object) ([]byte, error) { return jsonPatch(old, body) })
	case types.MergePatchType:
		return a.patchWith(w, q, sub, func(old []byte, _ runtime.Object) ([]byte, error) { return mergePatch(old, body) })
	case types.StrategicMergePatchType:
		if q.res.codec != nil {
			break
		}
		return a.patchWith(w, q, sub, func(old []byte, obj runtime.Object) ([]byte, error) { return strategicPatch(old, body, obj) })
	}
	if q.res.codec != nil {
		return unsupportedMedia(string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyYAMLPatchType))
	}
	return unsupportedMedia(string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType))
}

// patchWith changes the object's JSON.
func (a *API) patchWith(w http.ResponseWriter, q *request, sub string, patch func(old []byte, obj runtime.Object) ([]byte, error)) error {
	check, err := fieldValidation(q.http)
	if err != nil {
		return err
	}
	return a.applyChange(w, q, sub, func(old runtime.Object) (runtime.Object, error) {
		if old == nil {
			return nil, errNoObject
		}
		before, err := json.Marshal(old)
		if err != nil {
			return nil, err
		}
		after, err := patch(before, old)
		if err != nil {
			return nil, err
		}
		obj, err := a.decodeJSON(q, q.res.GroupVersionKind, after, check)
		if err != nil {
			if apierrors.IsBadRequest(err) {
				return nil, unprocessable(q, err)
			}
			return nil, err
		}
		m := obj.(metav1.Object)
		if m.GetName() != q.info.Name {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", m.GetName(), q.info.Name))
		}
		if err := q.inNamespace(m); err != nil {
			return nil, err
		}
		return obj, nil
	})
}

// unprocessable answers a patch whose outcome is not an object of the kind.
func unprocessable(q *request, err error) error {
	return apierrors.NewInvalid(q.groupKind(), q.info.Name, field.ErrorList{field.Invalid(field.NewPath("patch"), "", err.Error())})
}

func jsonPatch(old, body []byte) ([]byte, error) {
	ops, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(ops) > maxPatchOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(ops)))
	}
	out, err := ops.Apply(old)
	if err != nil {
		return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return out, nil
}

func mergePatch(old, body []byte) ([]byte, error) {
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	out, err := jsonpatch.MergePatch(old, body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return out, nil
}

func strategicPatch(old, body []byte, obj runtime.Object) ([]byte, error) {
	var patch map[string]any
	if err := json.Unmarshal(body, &patch); err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	out, err := strategicpatch.StrategicMergePatch(old, body, obj)
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList), errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList), errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return nil, apierrors.NewBadRequest(err.Error())
	case err != nil:
		return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return out, nil
}

// apply is server-side apply, KEP-555.
func (a *API) apply(w http.ResponseWriter, q *request, sub string, body []byte) error {
	query := q.http.URL.Query()
	name := query.Get("fieldManager")
	if name == "" {
		return apierrors.NewInvalid(metav1.SchemeGroupVersion.WithKind("PatchOptions").GroupKind(), "", field.ErrorList{
			field.Required(field.NewPath("fieldManager"), "is required for apply patch"),
		})
	}
	force := truthy(query.Get("force"))
	check, err := fieldValidation(q.http)
	if err != nil {
		return err
	}
	patch, err := a.decodeApply(q, body, check)
	if err != nil {
		return err
	}
	manager, err := a.manager(q.res, sub)
	if err != nil {
		return err
	}
	q.applied = true
	return a.applyChange(w, q, sub, func(old runtime.Object) (runtime.Object, error) {
		live := old
		if live == nil {
			if patch.GetUID() != "" || patch.GetResourceVersion() != "" {
				return nil, errNoObject
			}
			if live, err = a.empty(q.res); err != nil {
				return nil, err
			}
		}
		obj, err := manager.Apply(live, patch.DeepCopy(), name, force)
		if err != nil {
			return nil, err
		}
		obj.GetObjectKind().SetGroupVersionKind(q.res.GroupVersionKind)
		if old == nil {
			obj.(metav1.Object).SetName(q.info.Name)
		}
		return obj, nil
	})
}

func (a *API) decodeApply(q *request, body []byte, check validation) (*unstructured.Unstructured, error) {
	patch := &unstructured.Unstructured{Object: map[string]any{}}
	data, err := yamlToJSON(body, check)
	if err != nil {
		return nil, err
	}
	if err := utiljson.Unmarshal(data, &patch.Object); err != nil {
		return nil, apierrors.NewBadRequest("error decoding YAML: " + err.Error())
	}
	if err := sameKind(q.res.GroupVersionKind, patch.GetAPIVersion(), patch.GetKind()); err != nil {
		return nil, err
	}
	if n := patch.GetName(); n != "" && n != q.info.Name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", n, q.info.Name))
	}
	if len(patch.GetManagedFields()) > 0 {
		return nil, apierrors.NewBadRequest("metadata.managedFields must be nil")
	}
	if q.res.codec != nil {
		// The typed patch finds what the schema does not know.
		return patch, nil
	}
	// A typed decode finds what the schema does not know.
	if _, err := a.decodeJSON(q, q.res.GroupVersionKind, data, check); err != nil {
		return nil, err
	}
	return patch, nil
}
