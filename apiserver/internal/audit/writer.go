package audit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/timing"
)

// maxAnswer bounds the answers that are kept for an event, in bytes.
const maxAnswer = 16 << 20

// writer notes how a request is answered.
type writer struct {
	http.ResponseWriter
	e *Event
	// started tells when the answer begins: of requests that run long that is told.
	started bool
	wrote   bool
	// kept is the answer's body, nil where nobody asks for it.
	kept *bytes.Buffer
	// cut says that it was too long to be kept.
	cut bool
}

// Serve answers a request by next, and tells of it. long is whether it may run long. With a nil event it is next alone.
func (e *Event) Serve(w http.ResponseWriter, r *http.Request, long bool, next http.Handler) {
	if e == nil {
		next.ServeHTTP(w, r)
		return
	}
	if !e.Stage(auditv1.StageRequestReceived) {
		e.audit.metrics.rejected.Inc()
		http.Error(w, fmt.Sprintf("Internal Server Error: %q: failed to store audit event", r.RequestURI), http.StatusInternalServerError)
		return
	}
	rec := &writer{ResponseWriter: w, e: e, started: long}
	if e.Wants(auditv1.LevelRequestResponse) && !long && (e.ev.ObjectRef != nil || strings.HasPrefix(r.URL.Path, "/api")) {
		rec.kept = &bytes.Buffer{}
	}
	defer func() {
		v := recover()
		if v != nil {
			e.Status(&metav1.Status{Code: http.StatusInternalServerError, Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: fmt.Sprintf("APIServer panic'd: %v", v)})
			e.Stage(auditv1.StagePanic)
			panic(v)
		}
		if !e.answered() {
			e.Status(&metav1.Status{Code: http.StatusOK, Status: metav1.StatusSuccess, Message: "Connection closed early"})
			if long {
				e.Stage(auditv1.StageResponseStarted)
			}
		}
		rec.finish()
		e.tellSlow(timing.From(r.Context()))
		e.Stage(auditv1.StageResponseComplete)
	}()
	next.ServeHTTP(rec, r)
}

// tellSlow says of a request that took long where its time went. Watches are to take long.
func (e *Event) tellSlow(t *timing.Timing) {
	const prefix = "apiserver.latency.k8s.io/"
	if t == nil || e.ev.Verb == "watch" || time.Since(t.Arrived) <= timing.Slow {
		return
	}
	e.Annotate(prefix+"total", time.Since(t.Arrived).String())
	t.Spent(func(name string, d time.Duration) { e.Annotate(prefix+name, d.String()) })
}

func (w *writer) begin(code int) {
	if w.wrote {
		return
	}
	w.wrote = true
	w.e.code(code)
	if w.started {
		w.e.Stage(auditv1.StageResponseStarted)
	}
}

func (w *writer) WriteHeader(code int) {
	w.begin(code)
	w.ResponseWriter.WriteHeader(code)
}

func (w *writer) Write(p []byte) (int, error) {
	w.begin(http.StatusOK)
	if w.kept != nil && !w.cut {
		if w.cut = w.kept.Len()+len(p) > maxAnswer; w.cut {
			w.kept = &bytes.Buffer{}
		} else {
			w.kept.Write(p)
		}
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush sends what is buffered.
func (w *writer) Flush() {
	w.begin(http.StatusOK)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack takes over the connection, for upgrades.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.begin(http.StatusSwitchingProtocols)
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// finish puts the answer into the event, as JSON. Of errors that is told which are of the API: Answer has noted them.
func (w *writer) finish() {
	if w.kept == nil || !w.e.shows() {
		return
	}
	data, err := w.json()
	switch {
	case err != nil || w.cut:
		w.e.Annotate(truncated, "true")
	case len(data) > 0:
		w.e.responseObject(data)
	}
}

func (w *writer) json() ([]byte, error) {
	data := w.kept.Bytes()
	if w.Header().Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if data, err = io.ReadAll(io.LimitReader(z, maxAnswer+1)); err != nil {
			return nil, err
		}
		if len(data) > maxAnswer {
			return nil, io.ErrShortBuffer
		}
	}
	media, _, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil {
		return nil, nil //nolint:nilerr // it is no object
	}
	switch media {
	case "application/json":
		if !json.Valid(data) {
			return nil, nil
		}
		return data, nil
	case "application/yaml":
		return yaml.YAMLToJSON(data)
	case "application/vnd.kubernetes.protobuf":
		return w.e.audit.decode(data)
	}
	return nil, nil
}
