package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
)

const (
	// maxAgent bounds what is told of a client's name for itself, in bytes.
	maxAgent = 1024
	// truncated is the annotation of events that do not hold all that the policy asks for.
	truncated = "audit.k8s.io/truncated"
)

// Event is what is known so far of one request. The methods may be called on nil, which is the event of requests that are not told of, and from several
// goroutines.
type Event struct {
	rule  Rule
	audit *Audit

	mu sync.Mutex // guards what follows
	ev auditv1.Event
	// elsewhere is whether another server answers.
	elsewhere bool
}

// patches begins annotations that are as telling as the requests' objects.
const patches = "patch.webhook.admission.k8s.io"

type eventKey struct{}

// From is the event of the request that a context is of, nil for none.
func From(ctx context.Context) *Event {
	e, _ := ctx.Value(eventKey{}).(*Event)
	return e
}

// Outside is the context of what the server does by itself while it answers a request.
func Outside(ctx context.Context) context.Context {
	return context.WithValue(ctx, eventKey{}, (*Event)(nil))
}

// Begin makes the event of a request, and the context in which it is found. It is nil where the policy tells nothing of the request, or there is none.
func (a *Audit) Begin(r *http.Request, id string, at *authz.Attributes, received time.Time) (*Event, context.Context) {
	if a == nil {
		return nil, r.Context()
	}
	rule := a.policy.Rule(at)
	a.metrics.levels.WithLabelValues(string(rule.Level)).Inc()
	if rule.Level == auditv1.LevelNone {
		return nil, r.Context()
	}
	e := &Event{rule: rule, audit: a, ev: auditv1.Event{
		TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: auditv1.SchemeGroupVersion.String()},
		Level:    rule.Level, AuditID: types.UID(id), RequestURI: r.URL.RequestURI(), Verb: at.Verb, UserAgent: r.UserAgent(),
		RequestReceivedTimestamp: metav1.NewMicroTime(received),
	}}
	if len(e.ev.UserAgent) > maxAgent {
		e.ev.UserAgent = e.ev.UserAgent[:maxAgent] + "...TRUNCATED"
	}
	for _, ip := range utilnet.SourceIPs(r) {
		e.ev.SourceIPs = append(e.ev.SourceIPs, ip.String())
	}
	if at.User != nil {
		e.ev.User = userInfo(at.User)
	}
	if at.ResourceRequest {
		e.ev.ObjectRef = &auditv1.ObjectReference{
			Namespace: at.Namespace, Name: at.Name, Resource: at.Resource, Subresource: at.Subresource, APIGroup: at.APIGroup, APIVersion: at.APIVersion,
		}
	}
	return e, context.WithValue(r.Context(), eventKey{}, e)
}

func userInfo(u *authn.Identity) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	if len(u.Extra) > 0 {
		out.Extra = make(map[string]authenticationv1.ExtraValue, len(u.Extra))
		for k, v := range u.Extra {
			out.Extra[k] = v
		}
	}
	return out
}

// Stage tells that a request has come so far. It is false where that could not be told, and the sink does not let the request go on without.
func (e *Event) Stage(s auditv1.Stage) bool {
	if e == nil || slices.Contains(e.rule.OmitStages, s) {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ev.Stage = s
	e.ev.StageTimestamp = metav1.NewMicroTime(time.Now())
	if s == auditv1.StageRequestReceived {
		e.ev.StageTimestamp = e.ev.RequestReceivedTimestamp
	}
	e.audit.metrics.events.Inc()
	return e.audit.sink.Process([]*auditv1.Event{e.ev.DeepCopy()})
}

// Annotate adds an annotation; one that is there stays.
func (e *Event) Annotate(key, value string) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ev.Annotations == nil {
		e.ev.Annotations = map[string]string{}
	}
	if _, have := e.ev.Annotations[key]; !have {
		e.ev.Annotations[key] = value
	}
}

// AnnotateAll adds annotations.
func (e *Event) AnnotateAll(list map[string]string) {
	for k, v := range list {
		if !strings.HasPrefix(k, patches) || e.Wants(auditv1.LevelRequest) {
			e.Annotate(k, v)
		}
	}
}

// Wants is whether the policy asks for so much.
func (e *Event) Wants(level auditv1.Level) bool {
	return e != nil && slices.Index(levels, e.rule.Level) >= slices.Index(levels, level)
}

// Impersonated notes as whom a user acts, and by which verb that is allowed, empty for the one that allows it for all requests.
func (e *Event) Impersonated(u *authn.Identity, constraint string) {
	if e == nil {
		return
	}
	info := userInfo(u)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ev.ImpersonatedUser = &info
	if constraint != "" {
		e.ev.AuthenticationMetadata = &auditv1.AuthenticationMetadata{ImpersonationConstraint: constraint}
	}
}

// RequestObject notes the object that a client sent.
func (e *Event) RequestObject(obj runtime.Object) {
	if e == nil {
		return
	}
	m, err := meta.Accessor(obj)
	if err == nil {
		e.named(m)
	}
	if !e.Wants(auditv1.LevelRequest) {
		return
	}
	if err == nil && e.rule.OmitManagedFields && len(m.GetManagedFields()) > 0 {
		obj = obj.DeepCopyObject()
		m, _ = meta.Accessor(obj)
		m.SetManagedFields(nil)
	}
	data, err := json.Marshal(obj)
	if err != nil {
		e.Annotate(truncated, "true")
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ev.RequestObject = unknown(data)
}

// named fills in, from an object, what a path does not say of it.
func (e *Event) named(m metav1.Object) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ref := e.ev.ObjectRef
	if ref == nil {
		return
	}
	if ref.Namespace == "" {
		ref.Namespace = m.GetNamespace()
	}
	if ref.Name == "" {
		ref.Name = m.GetName()
	}
	if ref.UID == "" {
		ref.UID = m.GetUID()
	}
	if ref.ResourceVersion == "" {
		ref.ResourceVersion = m.GetResourceVersion()
	}
}

// RequestPatch notes the patch that a client sent, as JSON.
func (e *Event) RequestPatch(patch []byte) {
	if !e.Wants(auditv1.LevelRequest) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ev.RequestObject = unknown(bytes.Clone(patch))
}

func unknown(data []byte) *runtime.Unknown {
	return &runtime.Unknown{Raw: bytes.TrimSpace(data), ContentType: runtime.ContentTypeJSON}
}

// Status notes how a request went.
func (e *Event) Status(s *metav1.Status) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ev.ResponseStatus = &metav1.Status{Status: s.Status, Message: s.Message, Reason: s.Reason, Details: s.Details, Code: s.Code}
}

// Answer notes the Status that a request is about to be answered with.
func (e *Event) Answer(s *metav1.Status) {
	e.Status(s)
	if !e.Wants(auditv1.LevelRequestResponse) {
		return
	}
	if data, err := json.Marshal(s); err == nil {
		e.responseObject(data)
	}
}

// code notes the code that a request is answered with.
func (e *Event) code(code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ev.ResponseStatus == nil {
		e.ev.ResponseStatus = &metav1.Status{}
	}
	e.ev.ResponseStatus.Code = int32(code)
}

// Elsewhere notes that another server answers, which tells of the answer itself.
func (e *Event) Elsewhere() {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.elsewhere = true
}

// shows is whether the body of the answer is what to tell: it is this server's, and no error.
func (e *Event) shows() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.elsewhere && e.ev.ResponseStatus != nil && e.ev.ResponseStatus.Code < http.StatusBadRequest
}

// answered is whether a code was noted.
func (e *Event) answered() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ev.ResponseStatus != nil && e.ev.ResponseStatus.Code != 0
}

// responseObject notes the JSON that a request is answered with.
func (e *Event) responseObject(data []byte) {
	if e.rule.OmitManagedFields {
		data = withoutManagedFields(data)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ev.ResponseObject = unknown(data)
}

// withoutManagedFields removes the managed fields of an object, or of the items of a list or table.
func withoutManagedFields(data []byte) []byte {
	var obj map[string]any
	if json.Unmarshal(data, &obj) != nil {
		return data
	}
	drop := func(v any) {
		if m, ok := v.(map[string]any); ok {
			if meta, ok := m["metadata"].(map[string]any); ok {
				delete(meta, "managedFields")
			}
		}
	}
	drop(obj)
	items, _ := obj["items"].([]any)
	for _, item := range items {
		drop(item)
	}
	rows, _ := obj["rows"].([]any)
	for _, row := range rows {
		if m, ok := row.(map[string]any); ok {
			drop(m["object"])
		}
	}
	out, err := json.Marshal(obj)
	if err != nil {
		return data
	}
	return out
}
