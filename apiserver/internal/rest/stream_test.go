package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// blocks remembers the writes that come through.
type blocks struct {
	*httptest.ResponseRecorder
	sizes []int
}

func (b *blocks) Write(p []byte) (int, error) {
	b.sizes = append(b.sizes, len(p))
	return b.ResponseRecorder.Write(p)
}

func ask(remote, encoding string, major int) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr, r.ProtoMajor = remote, major
	r.Header.Set("Accept-Encoding", encoding)
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP("10.0.0.1"), Port: 6443}))
}

func TestCompresses(t *testing.T) {
	for _, c := range []struct {
		remote, encoding string
		want             bool
	}{
		{"10.0.0.2:5", "gzip", true},
		{"10.0.0.2:5", "deflate, gzip;q=1.0, *;q=0.5", true},
		{"10.0.0.2:5", "gzip;q=0", false},
		{"10.0.0.2:5", "deflate", false},
		{"10.0.0.2:5", "", false},
		{"127.0.0.1:5", "gzip", false},
		{"[::1]:5", "gzip", false},
		{"10.0.0.1:5", "gzip", false},
		{"@", "gzip", true},
	} {
		if got := compresses(ask(c.remote, c.encoding, 2)); got != c.want {
			t.Errorf("%s, %q: %v", c.remote, c.encoding, got)
		}
	}
}

func TestStream(t *testing.T) {
	whole := make([]byte, 300_001)
	for i := range whole {
		whole[i] = "the same again, "[i%16]
	}
	for name, c := range map[string]struct {
		r     *http.Request
		size  int
		piece int
		zip   bool
		block int
	}{
		"HTTP/2":            {ask("127.0.0.1:5", "gzip", 2), len(whole), 70_000, false, frameBlock},
		"in small pieces":   {ask("127.0.0.1:5", "gzip", 2), len(whole), 777, false, frameBlock},
		"HTTP/1.1":          {ask("127.0.0.1:5", "gzip", 1), len(whole), 70_000, false, 70_000},
		"compressed":        {ask("10.0.0.2:5", "gzip", 2), len(whole), 70_000, true, 0},
		"compressed by bit": {ask("10.0.0.2:5", "gzip", 2), len(whole), 777, true, 0},
		"small":             {ask("10.0.0.2:5", "gzip", 2), gzipFrom, 70_000, false, gzipFrom},
		"empty":             {ask("10.0.0.2:5", "gzip", 2), 0, 1, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := &blocks{ResponseRecorder: httptest.NewRecorder()}
			s := newStream(w, c.r, form{media: mediaJSON}, http.StatusAccepted)
			for p := whole[:c.size]; len(p) > 0; {
				n := min(c.piece, len(p))
				if _, err := s.Write(p[:n]); err != nil {
					t.Fatal(err)
				}
				p = p[n:]
			}
			if err := s.finish(nil); err != nil {
				t.Fatal(err)
			}
			body := io.Reader(w.Body)
			if got := w.Header().Get("Content-Encoding"); (got == "gzip") != c.zip || (w.Header().Get("Vary") == "Accept-Encoding") != c.zip {
				t.Errorf("headers %v", w.Header())
			}
			if c.zip {
				var err error
				if body, err = gzip.NewReader(body); err != nil {
					t.Fatal(err)
				}
			}
			got, err := io.ReadAll(body)
			if err != nil || !bytes.Equal(got, whole[:c.size]) || w.Code != http.StatusAccepted {
				t.Errorf("%d bytes of %d, code %d, %v", len(got), c.size, w.Code, err)
			}
			for i, n := range w.sizes {
				if c.block > 0 && i < len(w.sizes)-1 && n != c.block {
					t.Errorf("writes of %v", w.sizes)
					break
				}
			}
		})
	}
}

func TestStreamErrors(t *testing.T) {
	failure := errors.New("no")
	w := httptest.NewRecorder()
	s := newStream(w, ask("127.0.0.1:5", "", 2), form{media: mediaJSON}, http.StatusOK)
	_, _ = io.WriteString(s, "[")
	if err := s.finish(failure); !errors.Is(err, failure) || w.Body.Len() > 0 {
		t.Errorf("nothing is written, so that the error can be answered: %v, %q", err, w.Body)
	}
	for _, r := range []*http.Request{ask("127.0.0.1:5", "", 2), ask("10.0.0.2:5", "gzip", 2)} {
		s = newStream(httptest.NewRecorder(), r, form{media: mediaJSON}, http.StatusOK)
		_, _ = io.WriteString(s, strings.Repeat("x", 200_000))
		func() {
			defer func() {
				if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // it is the very value
					t.Errorf("half a body: %v", v)
				}
			}()
			_ = s.finish(failure)
		}()
	}
}
