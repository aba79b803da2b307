package rest

import (
	"mime"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Media types that the API speaks.
const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

// form is how an answer is rendered.
type form struct {
	// media is one of the media types above.
	media string
	// as is empty for the object itself, else Table, PartialObjectMetadata or
	// PartialObjectMetadataList.
	as     string
	pretty bool
	// bare is an item of a list of objects with a Go type: the list says of what kind it is.
	bare bool
}

// key names the form in the cache of a watch event's frames.
func (f form) key() string { return f.media + ";" + f.as }

func (f form) contentType() string {
	return f.media
}

// negotiate picks the form of the answer from the Accept header.
func negotiate(r *http.Request) (form, error) {
	return negotiateAmong(r, func(form) bool { return true })
}

// negotiate does so for the request's resource: one without a Go type has no
// protobuf but for its metadata alone.
func (q *request) negotiate() (form, error) {
	return negotiateAmong(q.http, func(f form) bool {
		return q.res.codec == nil || f.media != mediaProtobuf || f.as != "" || q.info.Subresource == "scale"
	})
}

// negotiateObject picks the form of an answer that no table shows: a client that takes nothing but a table gets none.
func negotiateObject(r *http.Request) (form, error) {
	return negotiateAmong(r, func(f form) bool { return f.as != "Table" })
}

func negotiateAmong(r *http.Request, offered func(form) bool) (form, error) {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	best, bestQ, known := form{}, -1.0, false
	for _, clause := range strings.Split(accept, ",") {
		clause = strings.TrimSpace(clause)
		if clause == "" {
			clause = "*/*"
		}
		f, q, ok := parseClause(clause)
		if ok && q > bestQ && offered(f) {
			best, bestQ = f, q
		}
		known = known || produces(clause)
	}
	if !known {
		return form{media: mediaJSON}, notProduced(r)
	}
	if bestQ < 0 {
		return form{media: mediaJSON}, notAcceptable()
	}
	best.pretty = isPretty(r) && best.media == mediaJSON
	return best, nil
}

func notAcceptable() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
	}}
}

// notProduced answers an Accept header that names none of the media types of a
// path.
func notProduced(r *http.Request) error {
	produced := []string{mediaJSON, mediaYAML, mediaProtobuf}
	if i := InfoFrom(r.Context()); i != nil && (i.Verb == "list" || i.Verb == "watch") {
		produced = append(produced, mediaJSON+";stream=watch", mediaProtobuf+";stream=watch")
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "406: Not Acceptable\n\nAvailable representations: " + strings.Join(produced, ", "), Details: &metav1.StatusDetails{},
	}}
}

// produces is whether a clause of an Accept header names a media type that
// paths have, whatever its parameters.
func produces(clause string) bool {
	mediaType, _, _ := strings.Cut(clause, ";")
	switch strings.TrimSpace(mediaType) {
	case mediaJSON, mediaYAML, mediaProtobuf, "*/*", "application/*":
		return true
	}
	return false
}

func parseClause(clause string) (form, float64, bool) {
	mediaType, params, err := mime.ParseMediaType(clause)
	if err != nil {
		return form{}, 0, false
	}
	f := form{}
	switch mediaType {
	case mediaJSON, "*/*", "application/*":
		f.media = mediaJSON
	case mediaYAML:
		f.media = mediaYAML
	case mediaProtobuf:
		f.media = mediaProtobuf
	default:
		return form{}, 0, false
	}
	q := 1.0
	if s, ok := params["q"]; ok {
		if q, err = strconv.ParseFloat(s, 64); err != nil {
			return form{}, 0, false
		}
	}
	if as := params["as"]; as != "" {
		if params["g"] != metav1.GroupName || (params["v"] != "v1" && params["v"] != "v1beta1") {
			return form{}, 0, false
		}
		switch as {
		case "Table":
			if f.media == mediaProtobuf {
				return form{}, 0, false
			}
		case "PartialObjectMetadata", "PartialObjectMetadataList":
		default:
			return form{}, 0, false
		}
		f.as = as
	}
	return f, q, true
}

// isPretty follows ?pretty, and else takes a browser or curl for a person.
func isPretty(r *http.Request) bool {
	if values, ok := r.URL.Query()["pretty"]; ok {
		return len(values) == 0 || values[0] != "false" && values[0] != "0"
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// bodyMedia is the media type of the request's body.
func bodyMedia(r *http.Request) (string, error) {
	ct := r.Header.Get("Content-Type")
	if ct == "" {
		return mediaJSON, nil
	}
	mediaType, _, err := mime.ParseMediaType(ct)
	if err == nil {
		switch mediaType {
		case mediaJSON, mediaYAML, mediaProtobuf:
			return mediaType, nil
		}
	}
	return "", unsupportedMedia(mediaJSON, mediaYAML, mediaProtobuf)
}

// notConsumed answers a patch of a type that the path has no patches of.
func notConsumed() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "415: Unsupported Media Type", Details: &metav1.StatusDetails{},
	}}
}

func unsupportedMedia(accepted ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(accepted, ", "),
	}}
}
