package rest

import (
	"net/http"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"flagship/apiserver/internal/admission"
)

// checkOptions checks the options of a create, update or patch, which its query
// has.
func checkOptions(r *http.Request) error {
	switch r.Method {
	case http.MethodPost:
		return invalidOptions("CreateOptions", metavalidation.ValidateCreateOptions(optionsOf(r, admission.Create).(*metav1.CreateOptions)))
	case http.MethodPut:
		return invalidOptions("UpdateOptions", metavalidation.ValidateUpdateOptions(optionsOf(r, admission.Update).(*metav1.UpdateOptions)))
	case http.MethodPatch:
		q := r.URL.Query()
		o := &metav1.PatchOptions{DryRun: q["dryRun"], FieldManager: q.Get("fieldManager"), FieldValidation: q.Get("fieldValidation")}
		if f := q.Get("force"); f != "" {
			o.Force = new(truthy(f))
		}
		return invalidOptions("PatchOptions", metavalidation.ValidatePatchOptions(o, types.PatchType(mediaOf(r))))
	}
	return nil
}

// checkList checks the options of a list or a watch.
func checkList(query url.Values, watch bool) error {
	o := &internalversion.ListOptions{
		Watch: watch, ResourceVersion: query.Get("resourceVersion"), Continue: query.Get("continue"),
		ResourceVersionMatch: metav1.ResourceVersionMatch(query.Get("resourceVersionMatch")), AllowWatchBookmarks: truthy(query.Get("allowWatchBookmarks")),
	}
	if s := query.Get("sendInitialEvents"); s != "" {
		initial := truthy(s)
		o.SendInitialEvents = &initial
	}
	return invalidOptions("ListOptions", internalvalidation.ValidateListOptions(o, true))
}

// invalidOptions is nil where there are no errors.
func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return invalid(metav1.SchemeGroupVersion.WithKind(kind).GroupKind(), "", errs)
}

// parseSeconds reads a number of seconds, 0 for none or less.
func parseSeconds(s string) (int64, error) { return parseLimit(s) }

// parseLimit reads ?limit. One below 0 is none.
func parseLimit(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, apierrors.NewBadRequest(err.Error())
	}
	return max(n, 0), nil
}
