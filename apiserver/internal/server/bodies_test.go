package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlines records the deadline that a request's body got.
type deadlines struct {
	*httptest.ResponseRecorder
	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read = t
	return nil
}

func TestBodiesBounded(t *testing.T) {
	c := &Chain{RequestTimeout: time.Minute}
	h := info(c.bodies(http.HandlerFunc(answer)))
	for _, x := range []struct {
		method, path, body string
		bounded            bool
	}{
		{http.MethodPost, "/api/v1/namespaces/a/configmaps", "{}", true},
		{http.MethodGet, "/version", "{}", true},
		{http.MethodGet, "/api/v1/pods", "", false},
		{http.MethodGet, "/api/v1/pods?watch=1", "{}", false},
		{http.MethodPost, "/api/v1/namespaces/a/pods/p/exec", "", false},
		{http.MethodPost, "/api/v1/namespaces/a/services/s/proxy/x", "{}", false},
	} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		var body io.Reader = http.NoBody
		if x.body != "" {
			body = strings.NewReader(x.body)
		}
		h.ServeHTTP(w, httptest.NewRequest(x.method, x.path, body))
		if w.read.IsZero() == x.bounded || x.bounded && time.Until(w.read) > time.Minute {
			t.Errorf("%s %s: deadline %v", x.method, x.path, w.read)
		}
	}
}
