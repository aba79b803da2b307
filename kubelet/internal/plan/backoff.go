package plan

import "time"

// Crash-loop back-off, as documented for the pod lifecycle.
const (
	BackoffInitial = 10 * time.Second
	BackoffMax     = 5 * time.Minute
)

// Backoff delays the restarts of one pod's containers: 10 s doubling to the maximum, forgotten after a container has
// run for twice the maximum. The zero value with Max 0 means BackoffMax. It is not safe for concurrent use.
type Backoff struct {
	Max     time.Duration
	Initial time.Duration
	entries map[string]backoffEntry
}

type backoffEntry struct {
	delay time.Duration
	last  time.Time
}

func (b *Backoff) max() time.Duration {
	if b.Max > 0 {
		return b.Max
	}
	return BackoffMax
}

func (b *Backoff) initial() time.Duration {
	if b.Initial > 0 {
		return b.Initial
	}
	return min(BackoffInitial, b.max())
}

// Check is asked before a container that finished at the given time is started again. It returns zero and doubles the
// next delay when the start may go ahead, and else the current delay and the time until which to wait.
func (b *Backoff) Check(key string, finished, now time.Time) (delay time.Duration, until time.Time) {
	if b.entries == nil {
		b.entries = map[string]backoffEntry{}
	}
	e, ok := b.entries[key]
	expired := ok && finished.Sub(e.last) > 2*b.max()
	if ok && !expired {
		if now.Sub(finished) < e.delay {
			return e.delay, finished.Add(e.delay)
		}
		b.entries[key] = backoffEntry{delay: min(2*e.delay, b.max()), last: now}
		return 0, time.Time{}
	}
	b.entries[key] = backoffEntry{delay: b.initial(), last: now}
	return 0, time.Time{}
}

// Seed gives a container that crashed before this process started the delay its restart count implies, so that a
// restarted kubelet does not begin the loop anew.
func (b *Backoff) Seed(key string, restarts int, started time.Time) {
	if b.entries == nil {
		b.entries = map[string]backoffEntry{}
	}
	if _, ok := b.entries[key]; ok || restarts == 0 {
		return
	}
	d := b.initial()
	for range min(restarts-1, 10) {
		d = min(2*d, b.max())
	}
	b.entries[key] = backoffEntry{delay: d, last: started}
}

// Forget drops the entry of a container.
func (b *Backoff) Forget(key string) { delete(b.entries, key) }
