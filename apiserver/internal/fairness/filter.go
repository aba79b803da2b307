package fairness

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/rest"
	"flagship/apiserver/internal/timing"
)

// about is what the pages tell of a request.
type about struct {
	user     *authn.Identity
	info     *rest.Info
	mutating bool
}

// TooMany is what a request is told that is refused.
const TooMany = "Too many requests, please try again later."

// longestWait bounds the time that a request waits for its turn.
const longestWait = time.Minute

// Serve has next answer a request when it is its turn, and refuses it with 429 when that does not come in time. A watch takes its seats until it has sent
// what is there, see rest.WithBegun. came is when the request arrived; mutating whether it counts as one that writes.
func (c *Controller) Serve(w http.ResponseWriter, r *http.Request, came time.Time, mutating bool, next http.Handler) {
	ctx := r.Context()
	i, user := rest.InfoFrom(ctx), rest.UserFrom(ctx)
	k := classify(*c.classes.Load(), user, i)
	m := k.metrics()
	t := &ticket{class: k, metrics: m, about: about{user, i, mutating}}
	var watchers int
	t.work, watchers = estimate(i, r.URL.Query, c.deps.Costs, k.widest)
	if watchers >= 0 {
		m.watched(watchers)
	}
	m.estimated.Observe(float64(t.work.seats()))
	// The names of what was matched are the administrator's own; its UIDs tell nothing to those who may not see it.
	h := w.Header()
	h.Set(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID, string(k.uid))
	h.Set(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID, string(k.schema.UID))
	if !c.admit(ctx, t, came) {
		h.Set("Retry-After", strconv.Itoa(k.level.drops.note(time.Now())))
		http.Error(w, TooMany, http.StatusTooManyRequests)
		return
	}
	executing := c.metrics.kinds.of(mutating).executing
	executing.add(1)
	over := func() {
		executing.add(-1)
		c.leave(t)
	}
	if i.Verb != "watch" {
		defer over()
		next.ServeHTTP(w, r)
		return
	}
	begun := once(over)
	defer begun()
	next.ServeHTTP(w, r.WithContext(rest.WithBegun(ctx, begun)))
}

// once calls f the first time. What it returns is called by one goroutine.
func once(f func()) func() {
	done := false
	return func() {
		if !done {
			done = true
			f()
		}
	}
}

// admit waits for a request's turn, and says whether it came.
func (c *Controller) admit(ctx context.Context, t *ticket, came time.Time) bool {
	l := t.class.level
	var hash uint64
	if !l.exempt {
		t.flow = distinguisher(t.class.schema, t.about.user, t.about.info)
		hash = flowHash(t.class.schema.Name, t.flow)
	}
	l.mu.Lock()
	refused := l.queues.enter(t, hash, time.Now())
	if refused != noRefusal {
		l.rejected++
	}
	l.mu.Unlock()
	if refused == noRefusal && t.turn != nil {
		refused = c.wait(ctx, t, came)
		timing.From(ctx).Since(timing.Queue, t.arrived)
	}
	after := time.Since(t.arrived)
	if refused != noRefusal {
		t.metrics.rejected(refused, l.exempt, after)
		return false
	}
	if !l.exempt {
		t.metrics.waited.Observe(after.Seconds())
	}
	t.metrics.dispatched.Inc()
	l.mu.Lock()
	l.dispatched++
	l.mu.Unlock()
	return true
}

// wait waits for a turn: a quarter of the time that the request has, which leaves the rest for serving it.
func (c *Controller) wait(ctx context.Context, t *ticket, came time.Time) refusal {
	limit := c.cfg.Wait
	if deadline, ok := ctx.Deadline(); ok {
		limit = deadline.Sub(came) / 4
	}
	timer := time.NewTimer(time.Until(came.Add(min(limit, longestWait))))
	defer timer.Stop()
	select {
	case <-t.turn:
		return noRefusal
	case <-ctx.Done():
	case <-timer.C:
	}
	l := t.class.level
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.queues.abandon(t, time.Now()) {
		return noRefusal // its turn came meanwhile
	}
	l.rejected++
	l.timedOut++
	return waitedTooLong
}

// leave ends the service of a request. Its seats may stay occupied for a while, for the watchers that hear of what it did.
func (c *Controller) leave(t *ticket) {
	l := t.class.level
	now := time.Now()
	l.mu.Lock()
	linger := l.queues.leave(t, now)
	idle := l.queues.idle()
	l.mu.Unlock()
	t.metrics.served(t.about.info.Verb == "watch", now.Sub(t.started))
	if linger > 0 {
		// It runs for milliseconds, and nothing waits for it.
		time.AfterFunc(linger, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.queues.release(t, time.Now())
		})
	}
	if idle && l.leaving.Load() {
		c.wake()
	}
}

// drops counts the refusals of a level, for the time after which to try again: it grows as TCP's does, and falls by a second at a time.
type drops struct {
	mu sync.Mutex // guards what follows
	// after is the time now told, in seconds, and raised when it last grew.
	after, raised int64
	// counts are the refusals of the last seconds, by the second modulo its length; at is the newest.
	counts [mostAfter + 1]int64
	at     int64
}

// mostAfter bounds the time that is told, in seconds.
const mostAfter = 32

// note counts a refusal, and returns the seconds after which to try again.
func (d *drops) note(now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.after = max(d.after, 1)
	if s := now.Unix(); s > d.at {
		d.next(s)
	}
	d.counts[d.at%int64(len(d.counts))]++
	return int(d.after)
}

// next begins a second, and looks at those before.
func (d *drops) next(second int64) {
	for s := max(d.at+1, second-int64(len(d.counts))+1); s <= second; s++ {
		d.counts[s%int64(len(d.counts))] = 0
	}
	d.at = second
	var recent int64
	for s := second - d.after; s < second; s++ {
		if s > 0 {
			recent += d.counts[s%int64(len(d.counts))]
		}
	}
	switch {
	case second-d.raised >= d.after && recent >= 3*d.after:
		d.after, d.raised = min(2*d.after, mostAfter), second
	case recent < d.after && d.after > 1:
		d.after--
	}
}
