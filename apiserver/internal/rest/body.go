package rest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/wire"
)

// readBody reads a request's body up to the limit.
func (a *API) readBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, a.cfg.MaxBody+1))
	if err != nil {
		return nil, apierrors.NewBadRequest("read the body of the request: " + err.Error())
	}
	if int64(len(data)) > a.cfg.MaxBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", a.cfg.MaxBody))
	}
	return data, nil
}

// validation is what to do about unknown and duplicate fields.
type validation string

func fieldValidation(r *http.Request) (validation, error) {
	v := r.URL.Query().Get("fieldValidation")
	switch v {
	case "":
		return metav1.FieldValidationWarn, nil
	case metav1.FieldValidationIgnore, metav1.FieldValidationWarn, metav1.FieldValidationStrict:
		return validation(v), nil
	}
	return "", invalidOptions(r, "fieldValidation", v, "Ignore", "Strict", "Warn")
}

func invalidOptions(r *http.Request, field, value string, supported ...string) error {
	kind := map[string]string{http.MethodPost: "CreateOptions", http.MethodPut: "UpdateOptions", http.MethodPatch: "PatchOptions", http.MethodDelete: "DeleteOptions"}[r.Method]
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: fmt.Sprintf("%s.meta.k8s.io \"\" is invalid: %s: Unsupported value: %q: supported values: \"%s\"", kind, field, value, strings.Join(supported, "\", \"")),
	}}
}

// dryRun reads ?dryRun, whose only value is All.
func dryRun(r *http.Request) (bool, error) {
	values := r.URL.Query()["dryRun"]
	for _, v := range values {
		if v != metav1.DryRunAll {
			return false, invalidOptions(r, "dryRun", v, metav1.DryRunAll)
		}
	}
	return len(values) > 0, nil
}

// decodeBody reads the object in a request's body, which must be of the kind
// want; a body that names no kind is taken for one.
func (a *API) decodeBody(q *request, want schema.GroupVersionKind, data []byte) (runtime.Object, error) {
	media, err := bodyMedia(q.http)
	if err != nil {
		return nil, err
	}
	check, err := fieldValidation(q.http)
	if err != nil {
		return nil, err
	}
	if media == mediaProtobuf {
		if q.res != nil && q.res.codec != nil && want == q.res.GroupVersionKind {
			return nil, unsupportedMedia(mediaJSON, mediaYAML)
		}
		return a.decodeProto(want, data)
	}
	if media == mediaYAML {
		if data, err = yamlToJSON(data, check); err != nil {
			return nil, err
		}
	}
	return a.decodeJSON(q, want, data, check)
}

func yamlToJSON(data []byte, check validation) ([]byte, error) {
	convert := yaml.YAMLToJSON
	if check == metav1.FieldValidationStrict {
		convert = yaml.YAMLToJSONStrict
	}
	out, err := convert(data)
	if err != nil {
		return nil, apierrors.NewBadRequest("the body of the request is not YAML: " + err.Error())
	}
	return out, nil
}

func (a *API) decodeProto(want schema.GroupVersionKind, data []byte) (runtime.Object, error) {
	apiVersion, kind, raw, _, err := wire.SplitEnvelope(data)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if err := sameKind(want, apiVersion, kind); err != nil {
		return nil, err
	}
	obj, err := a.deps.Scheme.New(want)
	if err != nil {
		return nil, err
	}
	p, ok := obj.(protoObject)
	if !ok {
		return nil, unsupportedMedia(mediaJSON, mediaYAML)
	}
	if err := p.Unmarshal(raw); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	return obj, nil
}

func sameKind(want schema.GroupVersionKind, apiVersion, kind string) error {
	if kind != "" && kind != want.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: no kind %q is registered for this path", kind, apiVersion, want.Kind, kind))
	}
	if apiVersion != "" && apiVersion != want.GroupVersion().String() {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", apiVersion, want.GroupVersion()))
	}
	return nil
}

// parseUnstructured is decodeJSON for a resource without a Go type.
func (a *API) parseUnstructured(q *request, data []byte, check validation) (runtime.Object, error) {
	want := q.res.GroupVersionKind
	u, unknown, err := q.res.codec.Parse(data, check != metav1.FieldValidationIgnore)
	if err != nil {
		return nil, badBody(want, err)
	}
	if u.GetAPIVersion() != want.GroupVersion().String() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", u.GetAPIVersion(), want.GroupVersion()))
	}
	if u.GetKind() != want.Kind {
		return nil, apierrors.NewInvalid(want.GroupKind(), u.GetName(), field.ErrorList{
			field.Invalid(field.NewPath("kind"), u.GetKind(), "must be "+want.Kind),
		})
	}
	if len(unknown) > 0 && check == metav1.FieldValidationStrict {
		return nil, badBody(want, runtime.NewStrictDecodingError(unknown))
	}
	for _, e := range unknown {
		q.warn(e.Error())
	}
	return u, nil
}

func (a *API) decodeJSON(q *request, want schema.GroupVersionKind, data []byte, check validation) (runtime.Object, error) {
	if q.res != nil && q.res.codec != nil && want == q.res.GroupVersionKind {
		return a.parseUnstructured(q, data, check)
	}
	s := json.NewSerializerWithOptions(json.DefaultMetaFactory, a.deps.Scheme, a.deps.Scheme, json.SerializerOptions{Strict: check != metav1.FieldValidationIgnore})
	into, err := a.deps.Scheme.New(want)
	if err != nil {
		return nil, err
	}
	obj, gvk, err := s.Decode(data, &want, into)
	if gvk != nil {
		if kerr := sameKind(want, gvk.GroupVersion().String(), gvk.Kind); kerr != nil {
			return nil, kerr
		}
	}
	if strict, ok := runtime.AsStrictDecodingError(err); ok && obj != nil {
		if check == metav1.FieldValidationStrict {
			return nil, badBody(want, err)
		}
		for _, e := range strict.Errors() {
			q.warn(e.Error())
		}
		err = nil
	}
	if err != nil {
		return nil, badBody(want, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	return obj, nil
}

func badBody(want schema.GroupVersionKind, err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", want.Kind, want.Version, want.Kind, err))
}
