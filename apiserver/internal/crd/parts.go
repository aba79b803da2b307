package crd

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/transport"
)

// maxSelectable bounds the selectable fields of a version.
const maxSelectable = 8

func oneOf(at *field.Path, value string, valid ...string) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(at, "")}
	case !slices.Contains(valid, value):
		return field.ErrorList{field.NotSupported(at, value, valid)}
	}
	return nil
}

func hasStatus(s *apiextensions.CustomResourceSubresources) bool { return s != nil && s.Status != nil }

// namesThere wants the names that a specification must have.
func namesThere(n *apiextensions.CustomResourceDefinitionNames, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct{ name, value string }{{"plural", n.Plural}, {"singular", n.Singular}, {"kind", n.Kind}, {"listKind", n.ListKind}} {
		if f.value == "" {
			errs = append(errs, field.Required(at.Child(f.name), ""))
		}
	}
	return errs
}

// nameForms checks the names that are there.
func nameForms(n *apiextensions.CustomResourceDefinitionNames, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	label := func(at *field.Path, v, checked, hint string) {
		if msgs := validation.IsDNS1035Label(checked); v != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, v, hint+strings.Join(msgs, ",")))
		}
	}
	const mixed = "may have mixed case, but should otherwise match: "
	label(at.Child("plural"), n.Plural, n.Plural, "")
	label(at.Child("singular"), n.Singular, n.Singular, "")
	label(at.Child("kind"), n.Kind, strings.ToLower(n.Kind), mixed)
	label(at.Child("listKind"), n.ListKind, strings.ToLower(n.ListKind), mixed)
	list := func(at *field.Path, names []string) {
		for i, s := range names {
			if msgs := validation.IsDNS1035Label(s); len(msgs) > 0 {
				errs = append(errs, field.Invalid(at.Index(i), s, strings.Join(msgs, ",")))
			}
		}
	}
	list(at.Child("shortNames"), n.ShortNames)
	if n.Kind != "" && n.Kind == n.ListKind {
		errs = append(errs, field.Invalid(at.Child("listKind"), n.ListKind, "kind and listKind may not be the same"))
	}
	list(at.Child("categories"), n.Categories)
	return errs
}

func deprecationErrors(deprecated bool, warning *string) []string {
	if warning == nil {
		return nil
	}
	if !deprecated {
		return []string{"can only be set for deprecated versions"}
	}
	var out []string
	if len(*warning) > 256 {
		out = append(out, "must be <= 256 characters long")
	}
	if *warning == "" {
		out = append(out, "must not be an empty string")
	}
	for i, r := range *warning {
		if !unicode.IsPrint(r) {
			out = append(out, fmt.Sprintf("must only contain printable UTF-8 characters; non-printable character found at index %d", i))
			break
		}
	}
	if !utf8.ValidString(*warning) {
		out = append(out, "must only contain printable UTF-8 characters")
	}
	return out
}

// simplePath wants a path such as .spec.replicas.
func simplePath(s string, at *field.Path) field.ErrorList {
	if s == "" {
		return field.ErrorList{field.Invalid(at, s, "must not be empty")}
	}
	if s[0] != '.' {
		return field.ErrorList{field.Invalid(at, s, "must be a simple json path starting with .")}
	}
	return nil
}

func subresources(s *apiextensions.CustomResourceSubresources, at *field.Path) field.ErrorList {
	if s == nil || s.Scale == nil {
		return nil
	}
	var errs field.ErrorList
	path := func(name, value, under string) {
		p := at.Child("scale." + name)
		if value == "" {
			errs = append(errs, field.Required(p, ""))
		} else if bad := simplePath(value, p); len(bad) > 0 {
			errs = append(errs, bad...)
		} else if !strings.HasPrefix(value, under+".") {
			errs = append(errs, field.Invalid(p, value, "should be a json path under "+under))
		}
	}
	path("specReplicasPath", s.Scale.SpecReplicasPath, ".spec")
	path("statusReplicasPath", s.Scale.StatusReplicasPath, ".status")
	if l := s.Scale.LabelSelectorPath; l != nil && *l != "" {
		p := at.Child("scale.labelSelectorPath")
		if bad := simplePath(*l, p); len(bad) > 0 {
			errs = append(errs, bad...)
		} else if !strings.HasPrefix(*l, ".spec.") && !strings.HasPrefix(*l, ".status.") {
			errs = append(errs, field.Invalid(p, l, "should be a json path under either .spec or .status"))
		}
	}
	return errs
}

func printerColumn(c *apiextensions.CustomResourceColumnDefinition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	types := []string{"boolean", "date", "integer", "number", "string"}
	formats := []string{"byte", "date", "date-time", "double", "float", "int32", "int64", "password"}
	if c.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	if c.Type == "" {
		errs = append(errs, field.Required(at.Child("type"), "must be one of "+strings.Join(types, ",")))
	} else if !slices.Contains(types, c.Type) {
		errs = append(errs, field.Invalid(at.Child("type"), c.Type, "must be one of "+strings.Join(types, ",")))
	}
	if c.Format != "" && !slices.Contains(formats, c.Format) {
		errs = append(errs, field.Invalid(at.Child("format"), c.Format, "must be one of "+strings.Join(formats, ",")))
	}
	if c.JSONPath == "" {
		return append(errs, field.Required(at.Child("JSONPath"), ""))
	}
	return append(errs, simplePath(c.JSONPath, at.Child("JSONPath"))...)
}

// selectable checks the fields by which objects can be selected. Holder is
// where they stand.
func selectable(list []apiextensions.SelectableField, v *apiextensions.CustomResourceValidation, holder *field.Path, many bool, noSchema string) field.ErrorList {
	at := holder.Child("selectableFields")
	if v == nil || v.OpenAPIV3Schema == nil {
		return field.ErrorList{field.Invalid(at, "", noSchema)}
	}
	var errs field.ErrorList
	s, err := structuralschema.NewStructural(v.OpenAPIV3Schema)
	if err != nil {
		return field.ErrorList{field.Invalid(holder.Child("schema.openAPIV3Schema"), "", err.Error())}
	}
	seen := map[string]bool{}
	for i, f := range list {
		p := at.Index(i).Child("jsonPath")
		if f.JSONPath == "" {
			errs = append(errs, field.Required(p, ""))
			continue
		}
		path, found, err := cel.ValidFieldPath(f.JSONPath, s, cel.WithFieldPathAllowArrayNotation(false))
		if err != nil {
			errs = append(errs, field.Invalid(p, f.JSONPath, fmt.Sprintf("is an invalid path: %v", err)))
			continue
		}
		if path.Root().String() == "metadata" {
			errs = append(errs, field.Invalid(p, f.JSONPath, "must not point to fields in metadata"))
		}
		if found == nil || found.Type != "string" && found.Type != "boolean" && found.Type != "integer" {
			errs = append(errs, field.Invalid(p, f.JSONPath, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."))
		}
		if seen[path.String()] {
			errs = append(errs, field.Duplicate(p, f.JSONPath))
		}
		seen[path.String()] = true
	}
	if len(seen) > maxSelectable && !many {
		errs = append(errs, field.TooMany(at, len(seen), maxSelectable))
	}
	return errs
}

func knownReview(v string) bool { return v == "v1" || v == "v1beta1" }

func conversion(c *apiextensions.CustomResourceConversion, lenient *leniency, at *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	errs := oneOf(at.Child("strategy"), string(c.Strategy), string(apiextensions.NoneConverter), string(apiextensions.WebhookConverter))
	hook := at.Child("webhookClientConfig")
	if c.Strategy != apiextensions.WebhookConverter {
		if c.WebhookClientConfig != nil {
			errs = append(errs, field.Forbidden(hook, "should not be set when strategy is not set to Webhook"))
		}
		if len(c.ConversionReviewVersions) > 0 {
			errs = append(errs, field.Forbidden(at.Child("conversionReviewVersions"), "should not be set when strategy is not set to Webhook"))
		}
		return errs
	}
	if c.WebhookClientConfig == nil {
		errs = append(errs, field.Required(hook, "required when strategy is set to Webhook"))
	} else {
		errs = append(errs, client(c.WebhookClientConfig, lenient, hook)...)
	}
	return append(errs, reviews(c.ConversionReviewVersions, lenient, at.Child("conversionReviewVersions"))...)
}

func reviews(versions []string, lenient *leniency, at *field.Path) field.ErrorList {
	if len(versions) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, v := range versions {
		if seen[v] {
			errs = append(errs, field.Invalid(at.Index(i), v, "duplicate version"))
			continue
		}
		seen[v] = true
		for _, msg := range validation.IsDNS1035Label(v) {
			errs = append(errs, field.Invalid(at.Index(i), v, msg))
		}
	}
	if !lenient.unknownReview && !slices.ContainsFunc(versions, knownReview) {
		errs = append(errs, field.Invalid(at, versions, "must include at least one of v1, v1beta1"))
	}
	return errs
}

func client(c *apiextensions.WebhookClientConfig, lenient *leniency, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case (c.URL == nil) == (c.Service == nil):
		errs = append(errs, field.Required(at, "exactly one of url or service is required"))
	case c.URL != nil:
		errs = append(errs, HookURL(*c.URL, at.Child("url"))...)
	default:
		errs = append(errs, HookService(c.Service.Namespace, c.Service.Name, c.Service.Path, c.Service.Port, at.Child("service"))...)
	}
	if len(c.CABundle) > 0 && !lenient.badCA {
		errs = append(errs, caBundle(c.CABundle, at.Child("caBundle"))...)
	}
	return errs
}

func caBundle(data []byte, at *field.Path) field.ErrorList {
	if _, err := transport.TLSConfigFor(&transport.Config{TLS: transport.TLSConfig{CAData: data}}); err != nil {
		return field.ErrorList{field.Invalid(at, data, err.Error())}
	}
	return nil
}

// HookURL checks the URL of a webhook.
func HookURL(text string, at *field.Path) field.ErrorList {
	const form = "; desired format: https://host[/path]"
	u, err := url.Parse(text)
	if err != nil {
		return field.ErrorList{field.Required(at, "url must be a valid URL: "+err.Error()+form)}
	}
	var errs field.ErrorList
	refuse := func(bad bool, value, why string) {
		if bad {
			errs = append(errs, field.Invalid(at, value, why))
		}
	}
	refuse(u.Scheme != "https", u.Scheme, "'https' is the only allowed URL scheme"+form)
	refuse(u.Host == "", u.Host, "host must be specified"+form)
	refuse(u.User != nil, u.User.String(), "user information is not permitted in the URL")
	refuse(u.Fragment != "", u.Fragment, "fragments are not permitted in the URL")
	refuse(u.RawQuery != "", u.RawQuery, "query parameters are not permitted in the URL")
	return errs
}

// HookService checks the service that a webhook is behind.
func HookService(namespace, name string, urlPath *string, port int32, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	if namespace == "" {
		errs = append(errs, field.Required(at.Child("namespace"), ""))
	}
	if msgs := validation.IsValidPortNum(int(port)); msgs != nil {
		errs = append(errs, field.Invalid(at.Child("port"), port, "port is not valid: "+strings.Join(msgs, ", ")))
	}
	if urlPath == nil || *urlPath == "" || *urlPath == "/" {
		return errs
	}
	path, p := *urlPath, at.Child("path")
	if path == "//" {
		return append(errs, field.Invalid(p, path, "segment[0] may not be empty"))
	}
	if !strings.HasPrefix(path, "/") {
		errs = append(errs, field.Invalid(p, path, "must start with a '/'"))
	}
	for i, step := range strings.Split(strings.TrimSuffix(path[1:], "/"), "/") {
		if step == "" {
			errs = append(errs, field.Invalid(p, path, fmt.Sprintf("segment[%d] may not be empty", i)))
			continue
		}
		for _, msg := range validation.IsDNS1123Subdomain(step) {
			errs = append(errs, field.Invalid(p, path, fmt.Sprintf("segment[%d]: %v", i, msg)))
		}
	}
	return errs
}
