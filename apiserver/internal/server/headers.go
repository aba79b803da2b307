package server

import (
	"context"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// strict tells browsers to come by TLS alone, RFC 6797.
func strict(next http.Handler, directives []string) http.Handler {
	if len(directives) == 0 {
		return next
	}
	value := strings.Join(directives, "; ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", value)
		next.ServeHTTP(w, r)
	})
}

// shareOrigins lets pages of other origins call the API, if their origin matches.
func shareOrigins(next http.Handler, allowed []*regexp.Regexp) http.Handler {
	if len(allowed) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if origin == "" || !slices.ContainsFunc(allowed, func(x *regexp.Regexp) bool { return x.MatchString(origin) }) {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE, PATCH")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since")
		h.Set("Access-Control-Expose-Headers", "Date")
		h.Set("Access-Control-Allow-Credentials", "true")
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// moveOn ends the connection of a part of the HTTP/2 requests, so that clients spread over the servers behind a load balancer.
func moveOn(next http.Handler, chance float64) http.Handler {
	if chance <= 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && rand.Float64() < chance { //nolint:gosec // nothing is to be kept secret
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// Drain refuses what comes after the delay of a shutdown, and knows what is in flight. Requests that run long are not waited for.
type Drain struct {
	// draining is closed when nothing new is accepted, where refuse is set.
	draining <-chan struct{}
	refuse   bool
	flight   atomic.Int64
}

// NewDrain is of a server whose clients are told to come later, if refuse is set, once draining is closed.
func NewDrain(draining <-chan struct{}, refuse bool) *Drain {
	return &Drain{draining: draining, refuse: refuse}
}

// empty waits until nothing is in flight, or ctx ends.
func (d *Drain) empty(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for d.flight.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// exempt are paths that are answered to the end.
var exempt = []string{"/readyz", "/livez", "/healthz", "/metrics"}

func (d *Drain) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.ContainsFunc(exempt, func(p string) bool { return strings.HasPrefix(r.URL.Path, p) }) {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case <-d.draining:
			if d.refuse {
				w.Header().Set("Connection", "close")
				w.Header().Set("Retry-After", "5")
				http.Error(w, "The apiserver is shutting down, please try again later.", http.StatusTooManyRequests)
				return
			}
		default:
		}
		next.ServeHTTP(w, r)
	})
}

// track counts a request that does not run long.
func (d *Drain) track(next http.Handler, long func(r *http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.refuse || long(r) {
			next.ServeHTTP(w, r)
			return
		}
		d.flight.Add(1)
		defer d.flight.Add(-1)
		next.ServeHTTP(w, r)
	})
}
