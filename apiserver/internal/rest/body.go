package rest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/wire"
)

// defaultTokenSeconds is how long a token holds that is asked for without saying it.
const defaultTokenSeconds = 60 * 60

// readBody reads a request's body up to the limit.
func (a *API) readBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, a.cfg.MaxBody+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, apierrors.NewTimeoutError("the body of the request did not come within the allotted time", 0)
	}
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

// fieldValidation reads ?fieldValidation, which checkOptions has checked.
func fieldValidation(r *http.Request) validation {
	if v := r.URL.Query().Get("fieldValidation"); v != "" {
		return validation(v)
	}
	return metav1.FieldValidationWarn
}

// dryRun reads ?dryRun, which checkOptions has checked.
func dryRun(r *http.Request) bool { return len(r.URL.Query()["dryRun"]) > 0 }

// decodeBody reads the object in a request's body, which must be of the kind
// want; a body that names no kind is taken for one.
func (a *API) decodeBody(q *request, want schema.GroupVersionKind, data []byte) (runtime.Object, error) {
	obj, err := a.readObject(q, want, data)
	if err != nil {
		return nil, err
	}
	if t, ok := obj.(*authenticationv1.TokenRequest); ok && t.Spec.ExpirationSeconds == nil {
		t.Spec.ExpirationSeconds = new(int64(defaultTokenSeconds))
	}
	if e := audit.From(q.ctx()); e != nil {
		shown := obj
		if q.res != nil && want == q.res.GroupVersionKind {
			shown = obj.DeepCopyObject()
			setDefaults(q.res.Kind, shown)
		}
		e.RequestObject(shown)
	}
	return obj, nil
}

func (a *API) readObject(q *request, want schema.GroupVersionKind, data []byte) (runtime.Object, error) {
	media, err := bodyMedia(q.http)
	if err != nil {
		return nil, err
	}
	check := fieldValidation(q.http)
	if media == mediaProtobuf {
		if q.res != nil && q.res.codec != nil && want == q.res.GroupVersionKind {
			return nil, unsupportedMedia(mediaJSON, mediaYAML)
		}
		return a.decodeProto(q, want, data)
	}
	if media == mediaYAML {
		if data, err = a.yamlToJSON(data, check); err != nil {
			return nil, err
		}
	}
	return a.decodeJSON(q, want, data, check)
}

func (a *API) yamlToJSON(data []byte, check validation) ([]byte, error) {
	if err := a.boundAliases(data); err != nil {
		return nil, err
	}
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

func (a *API) decodeProto(q *request, want schema.GroupVersionKind, data []byte) (runtime.Object, error) {
	apiVersion, kind, raw, _, err := wire.SplitEnvelope(data)
	if err != nil {
		inner := err
		if u := errors.Unwrap(err); u != nil {
			inner = u
		}
		return nil, badBody(want, data, &bodyError{err: inner})
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
	if q.res != nil && q.res.program != nil && want == q.res.GroupVersionKind {
		if err := q.res.program.Check(raw); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
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

// decodeJSON reads an object of the kind want from JSON. Fields that a strict
// reader refuses are an error or warnings, as check has it.
func (a *API) decodeJSON(q *request, want schema.GroupVersionKind, data []byte, check validation) (runtime.Object, error) {
	obj, unknown, err := a.parseJSON(q, want, data, check != metav1.FieldValidationIgnore)
	if err != nil {
		return nil, badBody(want, data, err)
	}
	if len(unknown) > 0 && check == metav1.FieldValidationStrict {
		return nil, badBody(want, data, runtime.NewStrictDecodingError(unknown))
	}
	for _, e := range unknown {
		q.warn(e.Error())
	}
	return obj, nil
}

// parseJSON reads an object of the kind want from JSON. Unknown are the fields
// that a strict reader refuses.
func (a *API) parseJSON(q *request, want schema.GroupVersionKind, data []byte, strict bool) (obj runtime.Object, unknown []error, err error) {
	if q.res != nil && q.res.codec != nil && want == q.res.GroupVersionKind {
		return a.parseUnstructured(q, data, strict)
	}
	s := json.NewSerializerWithOptions(json.DefaultMetaFactory, a.deps.Scheme, a.deps.Scheme, json.SerializerOptions{Strict: strict})
	into, err := a.deps.Scheme.New(want)
	if err != nil {
		return nil, nil, err
	}
	if err := checkQuantities(data, reflect.TypeOf(into)); err != nil {
		return nil, nil, err
	}
	obj, gvk, err := s.Decode(data, &want, into)
	if gvk != nil && *gvk != want {
		return nil, nil, &bodyError{gvk, a.otherKind(want, *gvk, data)}
	}
	if refused, ok := runtime.AsStrictDecodingError(err); ok && obj != nil {
		unknown, err = refused.Errors(), nil
	}
	if err != nil {
		return nil, nil, &bodyError{gvk, err}
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	return obj, unknown, nil
}

// parseUnstructured is parseJSON for a resource without a Go type.
func (a *API) parseUnstructured(q *request, data []byte, strict bool) (runtime.Object, []error, error) {
	want := q.res.GroupVersionKind
	u, unknown, err := q.res.codec.Parse(data, strict)
	if err != nil {
		return nil, nil, err
	}
	if u.GetAPIVersion() != want.GroupVersion().String() {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", u.GetAPIVersion(), want.GroupVersion()))
	}
	if u.GetKind() != want.Kind {
		return nil, nil, apierrors.NewInvalid(schema.GroupKind{Group: want.Group, Kind: u.GetKind()}, u.GetName(), field.ErrorList{
			field.Invalid(field.NewPath("kind"), u.GetKind(), "must be "+want.Kind),
		})
	}
	return u, unknown, nil
}

// otherKind is the error for an object that is not of the kind want, in the
// words of upstream's conversion.
func (a *API) otherKind(want, got schema.GroupVersionKind, data []byte) error {
	if !a.deps.Scheme.Recognizes(got) {
		return fmt.Errorf("no kind %q is registered for version %q in scheme %q", got.Kind, got.GroupVersion(), upstreamScheme)
	}
	if got.Kind == want.Kind && got.Group == want.Group {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", got.GroupVersion(), want.GroupVersion()))
	}
	// It is read as what it says it is before anything is converted.
	if obj, err := a.deps.Scheme.New(got); err == nil {
		if err := kjson.UnmarshalCaseSensitivePreserveInts(data, obj); err != nil {
			return err
		}
	}
	internal, _, _ := strings.Cut(want.Group, ".")
	if internal == "" {
		internal = "core"
	}
	return fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", got.Version, got.Kind, internal, want.Kind)
}

// upstreamScheme is where upstream's scheme comes from, as its messages have it.
const upstreamScheme = "pkg/runtime/scheme.go:111"

// badBody answers a body that cannot be read. It names the kind in the data.
func badBody(want schema.GroupVersionKind, data []byte, err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	var body *bodyError
	got := &want
	if errors.As(err, &body) {
		got = body.gvk
	}
	if got == nil || got.Kind == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summary(data)))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", got.Kind, got.Version, want.Kind, err))
}

// bodyError is what is wrong with a body of a kind, nil where it does not say of which.
type bodyError struct {
	gvk *schema.GroupVersionKind
	err error
}

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// summary is the beginning of a body, as text where it may be JSON and else as hex.
func summary(data []byte) string {
	const most = 30
	more := ""
	if len(data) > most {
		data, more = data[:most], " ..."
	}
	switch {
	case len(data) == 0:
		return "<empty>"
	case data[0] == '{':
		return string(data) + more
	}
	return hex.EncodeToString(data) + more
}
