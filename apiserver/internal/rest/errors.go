package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/wire"
)

// statusOf is the Status that an error is answered with.
func statusOf(err error) *metav1.Status {
	var apiStatus apierrors.APIStatus
	if errors.As(err, &apiStatus) {
		s := apiStatus.Status()
		if s.Code == 0 {
			s.Code = http.StatusInternalServerError
		}
		s.Status = metav1.StatusFailure
		return &s
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s := apierrors.NewTimeoutError("request did not complete within the allotted time", 0).Status()
		return &s
	case errors.Is(err, context.Canceled):
		return &metav1.Status{
			Status: metav1.StatusFailure, Code: 499, Reason: "ClientClosedRequest", Message: "the client closed the request",
		}
	case strings.Contains(err.Error(), "etcdserver: request is too large"), strings.Contains(err.Error(), "trying to send message larger than max"): // by etcd's limits, its server's and its client's
		s := apierrors.NewRequestEntityTooLargeError("the object is larger than etcd takes").Status()
		return &s
	}
	return &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonUnknown, Message: err.Error(),
	}
}

// WriteError answers a request with an error as a Status, in the form that the
// client asked for.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	s := statusOf(err)
	s.Kind, s.APIVersion = "Status", "v1"
	f, nerr := negotiateAmong(r, func(f form) bool { return f.as == "" })
	if nerr != nil {
		f = form{media: mediaJSON}
	}
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(s.Details.RetryAfterSeconds)))
	}
	if nerr == nil {
		audit.From(r.Context()).Answer(s)
	}
	writeStatus(w, f, int(s.Code), s)
}

func writeStatus(w http.ResponseWriter, f form, code int, s *metav1.Status) {
	if f.media == mediaProtobuf {
		raw, err := s.Marshal()
		if err == nil {
			respond(w, f, code, wire.AppendEnvelope(nil, "v1", "Status", raw))
			return
		}
		f.media = mediaJSON
	}
	data, err := json.Marshal(s)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	respond(w, f, code, append(data, '\n'))
}
