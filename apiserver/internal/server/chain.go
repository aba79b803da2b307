package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/rest"
	"flagship/apiserver/internal/timing"
	"flagship/apiserver/internal/tracing"
)

// Chain is what the filters need.
type Chain struct {
	Log           *zap.Logger
	Authenticator authn.Authenticator
	Authorizer    authz.Authorizer
	Impersonator  *authz.Impersonator
	Metrics       *Metrics
	// Audit tells of requests, nil for not at all.
	Audit          *audit.Audit
	RequestTimeout time.Duration
	// Tracer makes spans of requests, nil for none.
	Tracer *tracing.Tracer
	// Drain is told of requests, and refuses them at the end.
	Drain *Drain
	// Origins are those whose pages may call the API; StrictTransport are the directives of RFC 6797.
	Origins         []*regexp.Regexp
	StrictTransport []string
	// GoawayChance is the part of the HTTP/2 requests after which the connection ends.
	GoawayChance float64
	// Limits decides which requests are served, and when.
	Limits Limits
}

// Limits has next answer a request that came at a time, or refuses it.
type Limits interface {
	Serve(w http.ResponseWriter, r *http.Request, came time.Time, mutating bool, next http.Handler)
}

// Wrap puts the filters around a handler.
func (c *Chain) Wrap(next http.Handler) http.Handler {
	h := c.authorize(served(next))
	h = c.limit(h)
	h = c.timeout(h)
	h = c.impersonate(h)
	h = c.audit(h)
	h = c.Tracer.Handler(h, spanName, func(r *http.Request) bool {
		u := rest.UserFrom(r.Context())
		return u.InGroup(authn.PrivilegedGroup) || u.InGroup(authn.MonitoringGroup)
	}, func(r *http.Request) string { return timing.From(r.Context()).ID })
	h = c.authenticate(h)
	h = c.Metrics.count(h)
	h = c.Drain.track(h, func(r *http.Request) bool { return longRunning(rest.InfoFrom(r.Context()), r) })
	h = c.slow(h)
	h = c.bodies(h)
	h = info(h)
	h = auditID(h)
	h = c.Drain.wrap(h)
	h = shareOrigins(h, c.Origins)
	h = strict(h, c.StrictTransport)
	h = moveOn(h, c.GoawayChance)
	return c.recover(h)
}

// recover keeps a panic in one request from ending the process.
func (c *Chain) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			c.Log.Error("request handler panicked", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			http.Error(w, "This request caused apiserver to panic. Look in the logs for details.", http.StatusInternalServerError)
		}()
		next.ServeHTTP(w, r)
	})
}

// auditID names the request in its answer, taking the client's name for it.
func auditID(next http.Handler) http.Handler {
	const longest = 64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("Audit-Id")
		if id == "" || len(id) > longest {
			id = uuid.NewString()
		}
		w.Header().Set("Audit-Id", id)
		next.ServeHTTP(w, r.WithContext(timing.With(r.Context(), &timing.Timing{ID: id, Arrived: time.Now()})))
	})
}

// slow logs the requests that take long, and where their time went.
func (c *Chain) slow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		t := timing.From(r.Context())
		took := time.Since(t.Arrived)
		if took < timing.Slow {
			return
		}
		i := rest.InfoFrom(r.Context())
		if longRunning(i, r) {
			return
		}
		fields := []zap.Field{zap.String("verb", i.Verb), zap.String("uri", r.RequestURI), zap.String("userAgent", r.UserAgent()), zap.String("auditID", t.ID), zap.Duration("total", took)}
		t.Spent(func(name string, d time.Duration) { fields = append(fields, zap.Duration(name, d)) })
		c.Log.Info("slow request", fields...)
	})
}

// event begins what is told of a request.
func (c *Chain) event(r *http.Request) (*audit.Event, *http.Request) {
	if c.Audit == nil {
		return nil, r
	}
	t := timing.From(r.Context())
	at := attributes(r)
	e, ctx := c.Audit.Begin(r, t.ID, &at, t.Arrived)
	return e, r.WithContext(ctx)
}

// audit tells of the requests of those who are known.
func (c *Chain) audit(next http.Handler) http.Handler {
	if c.Audit == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, r := c.event(r)
		e.Serve(w, r, longRunning(rest.InfoFrom(r.Context()), r), next)
	})
}

// unknown tells of a request of somebody who could not be recognized.
func (c *Chain) unknown(r *http.Request, answer *apierrors.StatusError) {
	if c.Audit == nil {
		return
	}
	e, _ := c.event(r.WithContext(rest.WithUser(r.Context(), nil)))
	e.Status(&answer.ErrStatus)
	e.Stage(auditv1.StageResponseStarted)
}

// afterwards is how long a client may go on reading an answer that was made at the last moment.
const afterwards = 5 * time.Second

// bodies bounds how long a client may take to send a body, --request-timeout, whoever it is and whether the body is read or thrown away, and how long it may
// take to read the answer: one that does neither would keep its place among the requests that are served. What runs long does both as long as it likes.
func (c *Chain) bodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, now := http.NewResponseController(w), time.Now()
		// What cannot be given a deadline has no client.
		switch long := longRunning(rest.InfoFrom(r.Context()), r); {
		case !long:
			if r.ContentLength != 0 {
				_ = client.SetReadDeadline(now.Add(c.RequestTimeout))
			}
			_ = client.SetWriteDeadline(now.Add(c.RequestTimeout + afterwards))
		case r.ProtoMajor == 1:
			// The connection has it from the request before.
			_ = client.SetWriteDeadline(time.Time{})
		}
		next.ServeHTTP(w, r)
	})
}

func info(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := rest.ParseInfo(r)
		next.ServeHTTP(w, r.WithContext(rest.WithInfo(r.Context(), &i)))
	})
}

func (c *Chain) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id, ok, err := c.Authenticator.Authenticate(r)
		timing.From(r.Context()).Since(timing.Authentication, start)
		if err != nil || !ok {
			if err != nil {
				c.Log.Debug("request not authenticated", zap.String("path", r.URL.Path), zap.Error(err))
			}
			refusal := apierrors.NewUnauthorized("Unauthorized")
			c.unknown(r, refusal)
			rest.WriteError(w, r, refusal)
			return
		}
		// The credentials end here: nothing behind this filter needs them.
		r.Header.Del("Authorization")
		next.ServeHTTP(w, r.WithContext(rest.WithUser(r.Context(), id)))
	})
}

// impersonate lets a user act as another whom they may be.
func (c *Chain) impersonate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want, err := authn.Impersonate(r.Header)
		if err != nil || want == nil {
			if err != nil {
				rest.WriteError(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
			return
		}
		start := time.Now()
		as, constraint, err := c.Impersonator.As(r.Context(), want, attributes(r))
		timing.From(r.Context()).Since(timing.Impersonation, start)
		if err != nil {
			rest.WriteError(w, r, err)
			return
		}
		audit.From(r.Context()).Impersonated(as, constraint)
		next.ServeHTTP(w, r.WithContext(rest.WithUser(r.Context(), as)))
	})
}

// longRunning requests are not bounded in time.
func longRunning(i *rest.Info, r *http.Request) bool {
	switch i.Verb {
	case "watch", "proxy":
		return true
	}
	switch i.Subresource {
	case "attach", "exec", "proxy", "log", "portforward":
		return true
	}
	return !i.IsResource && (strings.HasPrefix(r.URL.Path, "/debug/pprof/") || r.Header.Get("Content-Type") == "application/grpc")
}

// limit has a request wait until there is room for it. A watch only begins under the limits; what else runs long is outside of them.
func (c *Chain) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := rest.InfoFrom(r.Context())
		if i.Verb != "watch" && longRunning(i, r) {
			next.ServeHTTP(w, r)
			return
		}
		c.Limits.Serve(w, r, timing.From(r.Context()).Arrived, i.Verb != "get" && i.Verb != "list" && i.Verb != "watch", next)
	})
}

// timeout bounds a request by --request-timeout, or by a shorter ?timeout.
func (c *Chain) timeout(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if longRunning(rest.InfoFrom(r.Context()), r) {
			next.ServeHTTP(w, r)
			return
		}
		limit := c.RequestTimeout
		if s := r.URL.Query().Get("timeout"); s != "" {
			d, err := time.ParseDuration(s)
			if err != nil {
				if n, nerr := strconv.Atoi(s); nerr == nil {
					d, err = time.Duration(n)*time.Second, nil
				}
			}
			if err != nil {
				rest.WriteError(w, r, apierrors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL - %v", err)))
				return
			}
			if d > 0 && d < limit {
				limit = d
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// The annotations of audit events that say what was decided, and why.
const (
	decisionKey = "authorization.k8s.io/decision"
	reasonKey   = "authorization.k8s.io/reason"
)

// plain keeps markup out of answers that are text.
var plain = strings.NewReplacer(`&`, "&amp;", `<`, "&lt;", `>`, "&gt;")

func (c *Chain) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := attributes(r)
		start := time.Now()
		d, reason, err := c.Authorizer.Authorize(r.Context(), a)
		timing.From(r.Context()).Since(timing.Authorization, start)
		e := audit.From(r.Context())
		if d == authz.Allow {
			e.Annotate(decisionKey, "allow")
			e.Annotate(reasonKey, reason)
			next.ServeHTTP(w, r)
			return
		}
		if err != nil {
			// Who could not be asked might have allowed it.
			e.Annotate(reasonKey, "internal error")
			c.Log.Warn("a request cannot be authorized", zap.String("path", r.URL.Path), zap.Error(err))
			http.Error(w, plain.Replace(fmt.Sprintf("Internal Server Error: %q: %v", r.RequestURI, err)), http.StatusInternalServerError)
			return
		}
		e.Annotate(decisionKey, "forbid")
		e.Annotate(reasonKey, reason)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		rest.WriteError(w, r, authz.Forbidden(a, reason))
	})
}

// attributes are what a request is authorized by.
func attributes(r *http.Request) authz.Attributes {
	i := rest.InfoFrom(r.Context())
	a := authz.Attributes{
		User: rest.UserFrom(r.Context()), Verb: i.Verb, ResourceRequest: i.IsResource, Namespace: i.Namespace,
		APIGroup: i.Group, APIVersion: i.Version, Resource: i.Resource, Subresource: i.Subresource, Name: i.Name, Path: i.Path,
	}
	if !i.IsResource {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			a.Verb = "get"
		}
		return a
	}
	switch i.Verb {
	case "list", "watch", "deletecollection":
		query := r.URL.Query()
		if s := query.Get("fieldSelector"); s != "" {
			sel, err := fields.ParseSelector(s)
			if err != nil {
				a.FieldSelectorErr = err
			} else {
				a.Fields = sel.Requirements()
			}
		}
		if s := query.Get("labelSelector"); s != "" {
			sel, err := labels.Parse(s)
			if err != nil {
				a.LabelSelectorErr = err
			} else {
				a.Labels, _ = sel.Requirements()
			}
		}
	}
	return a
}

// spanName is a request's method and path, without what it is about.
func spanName(r *http.Request) string {
	i := rest.InfoFrom(r.Context())
	if !i.IsResource {
		return r.Method
	}
	out := r.Method + " /api/" + i.Version
	if i.Group != "" {
		out = r.Method + " /apis/" + i.Group + "/" + i.Version
	}
	if i.Namespace != "" {
		out += "/namespaces/{:namespace}"
	}
	out += "/" + i.Resource
	if i.Name != "" {
		out += "/{:name}"
	}
	if i.Subresource != "" {
		out += "/" + i.Subresource
	}
	return out
}
