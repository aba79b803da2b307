package extend

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/hook"
)

// conversionTimeout bounds one conversion, as upstream does.
const conversionTimeout = 30 * time.Second

// Hooks calls webhooks.
type Hooks interface {
	Call(ctx context.Context, t hook.Target, in, out any) error
}

// webhookConverter converts by the webhook of a definition.
func webhookConverter(def *apiextensionsv1.CustomResourceDefinition, hooks Hooks) converter {
	config := def.Spec.Conversion.Webhook
	t := hook.Target{CABundle: config.ClientConfig.CABundle}
	if u := config.ClientConfig.URL; u != nil {
		t.URL = *u
	}
	if s := config.ClientConfig.Service; s != nil {
		t.Service = &hook.Service{Namespace: s.Namespace, Name: s.Name, Port: 443}
		if s.Port != nil {
			t.Service.Port = *s.Port
		}
		if s.Path != nil {
			t.Service.Path = *s.Path
		}
	}
	version := ""
	for _, v := range config.ConversionReviewVersions {
		if v == "v1" || v == "v1beta1" {
			version = v
			break
		}
	}
	return func(u *unstructured.Unstructured, apiVersion string) (*unstructured.Unstructured, error) {
		if len(u.Object) == 2 && u.GetKind() != "" && u.GetAPIVersion() != "" {
			// An object without content, such as the field manager makes.
			u.SetAPIVersion(apiVersion)
			return u, nil
		}
		if version == "" {
			return nil, fmt.Errorf("no supported conversion review versions")
		}
		out, err := review(hooks, t, version, u, apiVersion)
		if err != nil {
			return nil, fmt.Errorf("conversion webhook for %v failed: %w", u.GroupVersionKind(), err)
		}
		if err := sameObject(u, out, apiVersion); err != nil {
			return nil, fmt.Errorf("conversion webhook for %v returned invalid object: %w", u.GroupVersionKind(), err)
		}
		if err := restoreMeta(u, out); err != nil {
			return nil, fmt.Errorf("conversion webhook for %v returned invalid metadata: %w", u.GroupVersionKind(), err)
		}
		return out, nil
	}
}

// review asks the webhook to convert one object. The two versions of
// ConversionReview have the same fields.
func review(hooks Hooks, t hook.Target, version string, u *unstructured.Unstructured, apiVersion string) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	uid := types.UID(uuid.NewString())
	ask := &apiextensionsv1.ConversionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/" + version, Kind: "ConversionReview"},
		Request:  &apiextensionsv1.ConversionRequest{UID: uid, DesiredAPIVersion: apiVersion, Objects: []runtime.RawExtension{{Raw: raw}}},
		Response: &apiextensionsv1.ConversionResponse{},
	}
	ctx, cancel := context.WithTimeout(context.Background(), conversionTimeout)
	defer cancel()
	got := &apiextensionsv1.ConversionReview{}
	if err := hooks.Call(ctx, t, ask, got); err != nil {
		return nil, err
	}
	if version == "v1" && (got.Kind != "ConversionReview" || got.APIVersion != ask.APIVersion) {
		return nil, fmt.Errorf("expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got %v", got.GroupVersionKind())
	}
	if got.Response == nil {
		return nil, fmt.Errorf("no response provided")
	}
	if version == "v1" && got.Response.UID != uid {
		return nil, fmt.Errorf("expected response.uid=%q, got %q", uid, got.Response.UID)
	}
	if got.Response.Result.Status != metav1.StatusSuccess {
		if got.Response.Result.Status != metav1.StatusFailure {
			return nil, fmt.Errorf("response.result.status was '%s', not 'Success'", got.Response.Result.Status)
		}
		if got.Response.Result.Message == "" {
			return nil, fmt.Errorf("response.result.status was 'Failure'")
		}
		return nil, fmt.Errorf("%s", got.Response.Result.Message)
	}
	if n := len(got.Response.ConvertedObjects); n != 1 {
		return nil, fmt.Errorf("expected 1 converted object, got %d", n)
	}
	out := &unstructured.Unstructured{}
	return out, out.UnmarshalJSON(got.Response.ConvertedObjects[0].Raw)
}

// sameObject wants the converted object to be the one that was sent.
func sameObject(in, out *unstructured.Unstructured, apiVersion string) error {
	if out.GetAPIVersion() != apiVersion {
		return fmt.Errorf("invalid groupVersion (expected %v, received %v)", apiVersion, out.GetAPIVersion())
	}
	for _, f := range []struct{ what, want, got string }{
		{"kind", in.GetKind(), out.GetKind()},
		{"name", in.GetName(), out.GetName()},
		{"namespace", in.GetNamespace(), out.GetNamespace()},
		{"UID", string(in.GetUID()), string(out.GetUID())},
	} {
		if f.want != f.got {
			return fmt.Errorf("must have the same %s: %v != %v", f.what, f.want, f.got)
		}
	}
	return nil
}

// restoreMeta keeps of the converted object's metadata the labels and
// annotations alone.
func restoreMeta(in, out *unstructured.Unstructured) error {
	theirs, ok := out.Object["metadata"].(map[string]any)
	if !ok {
		return fmt.Errorf("missing metadata in converted object")
	}
	ours, _ := runtime.DeepCopyJSONValue(in.Object["metadata"]).(map[string]any)
	if ours == nil {
		ours = map[string]any{}
	}
	out.Object["metadata"] = ours
	for _, name := range []string{"labels", "annotations"} {
		value, ok := theirs[name]
		if !ok || value == nil {
			delete(ours, name)
			continue
		}
		set, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("invalid metadata.%s of type %T in converted object", name, value)
		}
		texts := make(map[string]string, len(set))
		for k, v := range set {
			if texts[k], ok = v.(string); !ok {
				return fmt.Errorf("metadata.%s[%s] must be a string, but is %T in converted object", name, k, v)
			}
		}
		check := metav1validation.ValidateLabels
		if name == "annotations" {
			check = apivalidation.ValidateAnnotations
		}
		if errs := check(texts, field.NewPath("metadata", name)); len(errs) > 0 {
			return errs.ToAggregate()
		}
		ours[name] = set
	}
	return nil
}
