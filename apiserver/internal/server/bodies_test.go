package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlines records the deadlines that a request's body and its answer got.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read = t
	return nil
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.write = t
	return nil
}

func TestBodiesBounded(t *testing.T) {
	c := &Chain{RequestTimeout: time.Minute}
	h := info(c.bodies(http.HandlerFunc(answer)))
	for _, x := range []struct {
		method, path, body string
		bounded, long      bool
	}{
		{http.MethodPost, "/api/v1/namespaces/a/configmaps", "{}", true, false},
		{http.MethodGet, "/version", "{}", true, false},
		{http.MethodGet, "/api/v1/pods", "", false, false},
		{http.MethodGet, "/api/v1/pods?watch=1", "{}", false, true},
		{http.MethodPost, "/api/v1/namespaces/a/pods/p/exec", "", false, true},
		{http.MethodPost, "/api/v1/namespaces/a/services/s/proxy/x", "{}", false, true},
	} {
		// A deadline of the connection's request before.
		w := &deadlines{ResponseRecorder: httptest.NewRecorder(), write: time.Unix(1, 0)}
		var body io.Reader = http.NoBody
		if x.body != "" {
			body = strings.NewReader(x.body)
		}
		h.ServeHTTP(w, httptest.NewRequest(x.method, x.path, body))
		if w.read.IsZero() == x.bounded || x.bounded && time.Until(w.read) > time.Minute {
			t.Errorf("%s %s: deadline %v", x.method, x.path, w.read)
		}
		if w.write.IsZero() != x.long || !x.long && time.Until(w.write) <= 0 {
			t.Errorf("%s %s: deadline of the answer %v", x.method, x.path, w.write)
		}
	}
}
