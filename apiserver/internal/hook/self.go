package hook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// Self is this server as a webhook: where the service kubernetes is called, whoever answers it. It is asked as the server itself, which is trusted
// with everything, and without a connection.
type Self struct {
	// Handler answers as if the server had asked. It is set before the first call.
	Handler http.Handler
}

// detached is a context that ends with another and has none of its values: they are of the request that asks, not of the one that is made.
type detached struct{ context.Context }

func (detached) Value(any) any { return nil }

// RoundTrip implements http.RoundTripper.
func (s *Self) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if r.Body != nil {
		defer func() { _ = r.Body.Close() }()
	}
	in := r.Clone(detached{r.Context()})
	in.RequestURI, in.Host, in.RemoteAddr = r.URL.RequestURI(), r.URL.Host, "127.0.0.1:0"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	a := &answer{header: http.Header{}}
	defer func() {
		// A handler gives up so.
		if v := recover(); v != nil {
			resp, err = nil, fmt.Errorf("%s %s: the answer broke off: %v", r.Method, r.URL.Path, v)
		}
	}()
	s.Handler.ServeHTTP(a, in)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	a.WriteHeader(http.StatusOK)
	return &http.Response{
		StatusCode: a.code, Status: fmt.Sprintf("%d %s", a.code, http.StatusText(a.code)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()), Request: r,
	}, nil
}

// answer keeps what a handler writes, up to what is read of an answer.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) {
	if a.code == 0 && code >= http.StatusOK {
		a.code = code
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.body.Len()+len(p) > maxAnswer {
		return 0, io.ErrShortWrite
	}
	return a.body.Write(p)
}

// Flush implements http.Flusher.
func (a *answer) Flush() { a.WriteHeader(http.StatusOK) }
