package hook

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestRetries(t *testing.T) {
	for name, x := range map[string]struct {
		code, refusals int
		retryAfter     string
		calls          int
		err            string
	}{
		"at once":                 {503, 0, "0", 1, ""},
		"asked to come again":     {429, 3, "0", 4, ""},
		"a failure that passes":   {500, 1, "0", 2, ""},
		"one that never does":     {503, 20, "0", 11, "the server is currently unable to handle the request"},
		"not asked to":            {503, 1, "", 1, "the server is currently unable to handle the request"},
		"asked for a date":        {503, 1, "Fri, 31 Dec 2027 23:59:59 GMT", 1, "the server is currently unable to handle the request"},
		"an error of its request": {400, 1, "0", 1, "the server rejected our request for an unknown reason"},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if calls++; calls <= x.refusals {
					if x.retryAfter != "" {
						w.Header().Set("Retry-After", x.retryAfter)
					}
					w.WriteHeader(x.code)
					return
				}
				_, _ = w.Write(body)
			}))
			defer server.Close()
			var out map[string]string
			err := New(nil, nil, nil, nil).Call(t.Context(), Target{URL: server.URL}, map[string]string{"a": "b"}, &out)
			if calls != x.calls || (err == nil) != (x.err == "") || err != nil && !strings.HasPrefix(err.Error(), x.err) || err == nil && out["a"] != "b" {
				t.Errorf("%d calls, %v, %v", calls, out, err)
			}
		})
	}
}

// It is waited for as long as is asked, but not longer than the call may take.
func TestRetryWaits(t *testing.T) {
	for limit, want := range map[time.Duration]time.Duration{time.Minute: 7 * time.Second, 3 * time.Second: 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			self := &Self{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if calls++; calls == 1 {
					w.Header().Set("Retry-After", "7")
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				_, _ = io.WriteString(w, "{}")
			})}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			start := time.Now()
			err := New(nil, self, nil, nil).Call(ctx, Target{URL: "https://kubernetes.default.svc/"}, struct{}{}, &struct{}{})
			if took := time.Since(start); took != want || (err == nil) != (limit > want) {
				t.Errorf("within %v: %v after %v", limit, err, took)
			}
		})
	}
}

// What cannot be reached is called once: who was called may have seen the request.
func TestNoRetryOfConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	calls := make(chan int, 1)
	go func() {
		n := 0
		for {
			c, err := l.Accept()
			if err != nil {
				calls <- n
				return
			}
			n++
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}()
	if err := New(nil, nil, nil, nil).Call(t.Context(), Target{URL: "http://" + l.Addr().String()}, struct{}{}, nil); err == nil {
		t.Error("no error")
	}
	_ = l.Close()
	if n := <-calls; n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestSelf(t *testing.T) {
	type key struct{}
	self := &Self{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/broken":
			panic(http.ErrAbortHandler)
		case "/refused":
			w.WriteHeader(http.StatusForbidden)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, inherited := r.Context().Value(key{}).(string)
		_, _ = fmt.Fprintf(w, `{"path": %q, "body": %q, "inherited": "%v"}`, r.RequestURI, body, inherited)
	})}
	caller := New(address("127.0.0.1:1"), self, nil, nil)
	ctx := context.WithValue(t.Context(), key{}, "of the request that asks")
	kubernetes := func(path string, port int32) Target {
		return Target{Service: &Service{Namespace: "default", Name: "kubernetes", Path: path, Port: port}}
	}
	for name, target := range map[string]Target{
		"the service": kubernetes("/apis/x", 443), "its port by default": kubernetes("/apis/x", 0), "its name": {URL: "https://kubernetes.default.svc/apis/x"},
	} {
		var out map[string]string
		if err := caller.Call(ctx, target, "hello", &out); err != nil || out["path"] != "/apis/x" || out["body"] != `"hello"` || out["inherited"] != "false" {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
	if err := caller.Call(ctx, kubernetes("/refused", 443), "hello", nil); !apierrors.IsForbidden(err) {
		t.Errorf("refused: %v", err)
	}
	if err := caller.Call(ctx, kubernetes("/broken", 443), "hello", nil); err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("broken: %v", err)
	}
	for name, target := range map[string]Target{
		"another port": kubernetes("/apis/x", 8443), "another service": {Service: &Service{Namespace: "other", Name: "kubernetes"}},
	} {
		if err := caller.Call(ctx, target, "hello", nil); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
