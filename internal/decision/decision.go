// Package decision keeps why a component did what it did.
//
// Data in: entries recorded by the component's loops. Data out: the gRPC
// service Decisions. The ring is bounded by its capacity; recording never
// blocks on a reader. It owns no goroutine.
package decision

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/apimachinery/pkg/types"

	decisionv1 "flagship/proto/decision/v1"
)

// Reason is one ground of a verdict.
type Reason struct {
	Subject string
	Code    string
	Message string
	// Count is how many subjects share the ground, 0 where none were folded.
	Count int
}

// Entry is one verdict about one object.
type Entry struct {
	// Actor is the part of the component that decided, such as a controller.
	Actor      string
	Time       time.Time
	Kind       string
	Namespace  string
	Name       string
	UID        types.UID
	Generation int64
	Verdict    string
	Reasons    []Reason
}

// maxReasons bounds what one entry holds; what is beyond is dropped.
const maxReasons = 64

// Log is a bounded ring of entries, safe for concurrent use.
type Log struct {
	component string
	capacity  int

	mu   sync.Mutex // guards ring and next
	ring []Entry
	next int
}

// NewLog returns a ring that keeps the newest capacity entries. It takes memory
// as they come.
func NewLog(component string, capacity int) *Log {
	return &Log{component: component, capacity: capacity}
}

// Record adds an entry, in place of the oldest when the ring is full. An entry
// that repeats the latest one about the same object only renews its time.
func (l *Log) Record(e Entry) {
	if len(e.Reasons) > maxReasons {
		e.Reasons = e.Reasons[:maxReasons:maxReasons]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.ring); n > 0 {
		last := &l.ring[(l.next+n-1)%n]
		if same(last, &e) {
			last.Time = e.Time
			return
		}
	}
	if len(l.ring) < l.capacity {
		l.ring = append(l.ring, e)
		return
	}
	if l.capacity == 0 {
		return
	}
	l.ring[l.next] = e
	l.next = (l.next + 1) % len(l.ring)
}

func same(a, b *Entry) bool {
	if a.UID != b.UID || a.Actor != b.Actor || a.Verdict != b.Verdict || a.Kind != b.Kind || a.Name != b.Name ||
		a.Namespace != b.Namespace || a.Generation != b.Generation || len(a.Reasons) != len(b.Reasons) {
		return false
	}
	for i := range a.Reasons {
		if a.Reasons[i] != b.Reasons[i] {
			return false
		}
	}
	return true
}

// Server answers the Decisions service from the log.
func (l *Log) Server() decisionv1.DecisionsServer { return &server{log: l} }

type server struct {
	decisionv1.UnimplementedDecisionsServer
	log *Log
}

// List answers the matching decisions, oldest first.
func (s *server) List(_ context.Context, req *decisionv1.ListRequest) (*decisionv1.ListResponse, error) {
	entries := s.log.entries(func(e *Entry) bool { return matches(e, req) })
	if n := int(req.GetLimit()); n > 0 && len(entries) > n {
		entries = entries[len(entries)-n:]
	}
	out := &decisionv1.ListResponse{Decisions: make([]*decisionv1.Decision, 0, len(entries))}
	for i := range entries {
		out.Decisions = append(out.Decisions, toProto(s.log.component, &entries[i]))
	}
	return out, nil
}

func (l *Log) entries(keep func(*Entry) bool) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Entry
	for i := range l.ring {
		if e := &l.ring[(l.next+i)%len(l.ring)]; keep(e) {
			out = append(out, *e)
		}
	}
	return out
}

func matches(e *Entry, req *decisionv1.ListRequest) bool {
	if uid := req.GetUid(); uid != "" {
		return string(e.UID) == uid
	}
	return (req.GetKind() == "" || req.GetKind() == e.Kind) &&
		(req.GetNamespace() == "" || req.GetNamespace() == e.Namespace) &&
		(req.GetName() == "" || req.GetName() == e.Name)
}

func toProto(component string, e *Entry) *decisionv1.Decision {
	d := &decisionv1.Decision{
		Component: component, Actor: e.Actor, Time: timestamppb.New(e.Time),
		Kind: e.Kind, Namespace: e.Namespace, Name: e.Name, Uid: string(e.UID),
		Generation: e.Generation, Verdict: e.Verdict,
	}
	for _, r := range e.Reasons {
		d.Reasons = append(d.Reasons, &decisionv1.Reason{Subject: r.Subject, Code: r.Code, Message: r.Message, Count: int32(min(r.Count, 1<<31-1))})
	}
	return d
}
