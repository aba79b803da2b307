// Package timing is where the time of a request goes: how long its layers took, for the log of slow requests and for audit events.
//
// Data in: what the layers spend, by the request's context. Data out: the layers of a slow request. It owns no goroutine.
package timing

import (
	"context"
	"sync/atomic"
	"time"
)

// Layer is a part of the way of a request.
type Layer int

// The layers.
const (
	Authentication Layer = iota
	Impersonation
	Queue
	Authorization
	MutatingWebhook
	ValidatingWebhook
	Storage
	ResponseWrite
	layers
)

// names are those of audit annotations, after their prefix.
var names = [layers]string{
	"authentication", "impersonation", "apf-queue-wait", "authorization", "mutating-webhook", "validating-webhook", "etcd", "response-write",
}

// Slow is above what a request is worth telling of, upstream's.
const Slow = 500 * time.Millisecond

// Timing is of one request. It is safe for concurrent use; a nil one takes nothing.
type Timing struct {
	// ID is the request's name in the audit log, and Arrived when it came.
	ID      string
	Arrived time.Time
	// Served is whether the request has got past what may refuse it, and Deprecated whether it asked for what is.
	Served, Deprecated atomic.Bool

	spent [layers]atomic.Int64
}

type key struct{}

// With adds the timing of a request to its context.
func With(ctx context.Context, t *Timing) context.Context { return context.WithValue(ctx, key{}, t) }

// From returns what With added, nil where nothing was.
func From(ctx context.Context) *Timing {
	t, _ := ctx.Value(key{}).(*Timing)
	return t
}

// Since adds the time from start on to a layer.
func (t *Timing) Since(l Layer, start time.Time) {
	if t != nil {
		t.spent[l].Add(int64(time.Since(start)))
	}
}

// Of is the time that a layer took so far.
func (t *Timing) Of(l Layer) time.Duration {
	if t == nil {
		return 0
	}
	return time.Duration(t.spent[l].Load())
}

// Spent tells the layers that took any time, in their order, in the way of a request.
func (t *Timing) Spent(visit func(name string, d time.Duration)) {
	if t == nil {
		return
	}
	for l := range t.spent {
		if d := t.spent[l].Load(); d > 0 {
			visit(names[l], time.Duration(d))
		}
	}
}
