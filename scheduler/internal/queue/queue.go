package queue

import (
	"container/heap"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"flagship/scheduler/internal/snapshot"
)

// Place is where a pod is in the queue.
type Place string

// The places. Their names are upstream's values of the metric label "queue".
const (
	Active        Place = "active"
	Backoff       Place = "backoff"
	Unschedulable Place = "unschedulable"
	Gated         Place = "gated"
	InFlight      Place = "inflight"
)

// Config are the queue's times.
type Config struct {
	// InitialBackoff is how long a pod waits after its first failure; it doubles up to MaxBackoff.
	InitialBackoff, MaxBackoff time.Duration
	// MaxUnschedulable is how long a pod may wait for an event before it is tried all the same.
	MaxUnschedulable time.Duration
}

// Item is a pod in the queue.
type Item struct {
	Pod      *snapshot.Pod
	Attempts int
	// Failures counts the rejections that backoff grows with; errors of the scheduler itself count the same.
	Failures int
	// Since is when the pod entered the place where it is; First when its first attempt began, zero before it.
	Since, First time.Time
	// Rejectors are the plugins that rejected the pod last.
	Rejectors []string
	// Flushed says that the pod was moved because of the time, not of an event.
	Flushed bool

	place Place
	until time.Time // end of backoff
	erred bool      // the last failure was an error: backoff is always waited for
	index int
	seq   uint64
}

// Place is where the item is.
func (i *Item) Place() Place { return i.place }

// Move is one change of place, for metrics and transcripts.
type Move struct {
	Pod   *snapshot.Pod
	To    Place
	Event string
}

// Queue holds the pods that wait.
type Queue struct {
	cfg     Config
	gate    func(*snapshot.Pod) bool
	moved   func(Move)
	items   map[types.UID]*Item
	active  itemHeap
	backoff itemHeap
	seq     uint64
}

// New returns an empty queue. gate says whether a pod must not be tried yet; moved, if not nil, is told every move.
func New(cfg Config, gate func(*snapshot.Pod) bool, moved func(Move)) *Queue {
	if moved == nil {
		moved = func(Move) {}
	}
	return &Queue{
		cfg: cfg, gate: gate, moved: moved, items: map[types.UID]*Item{},
		active:  itemHeap{less: before},
		backoff: itemHeap{less: func(a, b *Item) bool { return a.until.Before(b.until) }},
	}
}

// before orders by priority, then by age, then by arrival.
func before(a, b *Item) bool {
	if a.Pod.Priority != b.Pod.Priority {
		return a.Pod.Priority > b.Pod.Priority
	}
	if !a.Since.Equal(b.Since) {
		return a.Since.Before(b.Since)
	}
	return a.seq < b.seq
}

func (q *Queue) take(it *Item) {
	switch it.place {
	case Active:
		heap.Remove(&q.active, it.index)
	case Backoff:
		heap.Remove(&q.backoff, it.index)
	}
}

func (q *Queue) put(it *Item, to Place, event string, now time.Time) {
	q.take(it)
	it.place = to
	if to != Backoff {
		it.Since = now
	}
	switch to {
	case Active:
		heap.Push(&q.active, it)
	case Backoff:
		heap.Push(&q.backoff, it)
	}
	q.moved(Move{Pod: it.Pod, To: to, Event: event})
}

// Add enters a new pod; one that is known already is updated.
func (q *Queue) Add(p *snapshot.Pod, now time.Time) {
	if _, ok := q.items[p.UID]; ok {
		q.Update(p, now)
		return
	}
	q.seq++
	it := &Item{Pod: p, seq: q.seq, index: -1}
	q.items[p.UID] = it
	if q.gate(p) {
		q.put(it, Gated, "PodAdd", now)
		return
	}
	q.put(it, Active, "PodAdd", now)
}

// Update takes a pod's new state. A pod that was waiting for an event is tried again when something of it changed that
// scheduling reads, which changed says.
func (q *Queue) Update(p *snapshot.Pod, now time.Time) {
	it, ok := q.items[p.UID]
	if !ok {
		q.Add(p, now)
		return
	}
	old := it.Pod
	it.Pod = p
	switch it.place {
	case Active:
		heap.Fix(&q.active, it.index)
	case Gated:
		if !q.gate(p) {
			q.put(it, Active, "PodUpdate", now)
		}
	case Unschedulable:
		if relevant(old, p) {
			q.ready(it, "PodUpdate", now)
		}
	}
}

// Remove forgets a pod; it returns the item, nil when the pod was not known.
func (q *Queue) Remove(uid types.UID) *Item {
	it := q.items[uid]
	if it == nil {
		return nil
	}
	q.take(it)
	delete(q.items, uid)
	return it
}

// Get finds a pod's item, nil when the pod is not known.
func (q *Queue) Get(uid types.UID) *Item { return q.items[uid] }

// Pop hands out the next pod, nil for none. With no active pod it takes the backoff pod that is due first, provided that it
// was rejected and not the victim of an error: an idle scheduler need not let it wait.
func (q *Queue) Pop(now time.Time) *Item {
	q.Flush(now)
	var it *Item
	switch {
	case q.active.Len() > 0:
		it = q.active.list[0]
	default:
		for _, b := range q.backoff.list {
			if !b.erred && (it == nil || b.until.Before(it.until)) {
				it = b
			}
		}
	}
	if it == nil {
		return nil
	}
	q.take(it)
	it.place = InFlight
	it.Attempts++
	if it.First.IsZero() {
		it.First = now
	}
	return it
}

// Reject puts a pod back that a cycle found no node for: it waits for an event that interests one of the plugins.
func (q *Queue) Reject(it *Item, plugins []string, now time.Time) {
	if q.items[it.Pod.UID] != it {
		return
	}
	it.Rejectors, it.Flushed, it.erred = plugins, false, false
	it.Failures++
	it.until = now.Add(q.delay(it.Failures))
	q.put(it, Unschedulable, "ScheduleAttemptFailure", now)
}

// Fail puts a pod back after an error: it is tried again when its backoff has passed.
func (q *Queue) Fail(it *Item, now time.Time) {
	if q.items[it.Pod.UID] != it {
		return
	}
	it.Rejectors, it.Flushed, it.erred = nil, false, true
	it.Failures++
	it.until = now.Add(q.delay(it.Failures))
	q.put(it, Backoff, "ScheduleAttemptFailure", now)
}

func (q *Queue) delay(failures int) time.Duration {
	d := q.cfg.InitialBackoff
	for i := 1; i < failures; i++ {
		if d >= q.cfg.MaxBackoff-d {
			return q.cfg.MaxBackoff
		}
		d += d
	}
	return min(d, q.cfg.MaxBackoff)
}

// ready moves an item to where it can be tried from: active, or backoff while that lasts.
func (q *Queue) ready(it *Item, event string, now time.Time) {
	if it.until.After(now) {
		q.put(it, Backoff, event, now)
		return
	}
	q.put(it, Active, event, now)
}

// Wake moves the unschedulable pods that an event may help: those that hint agrees to for one of the plugins that rejected
// them. A pod that no plugin rejected is woken by anything.
func (q *Queue) Wake(event string, hint func(plugin string, p *snapshot.Pod) bool, now time.Time) {
	var woken []*Item
	for _, it := range q.items {
		if it.place != Unschedulable {
			continue
		}
		if len(it.Rejectors) == 0 || slices.ContainsFunc(it.Rejectors, func(name string) bool { return hint(name, it.Pod) }) {
			woken = append(woken, it)
		}
	}
	slices.SortFunc(woken, func(a, b *Item) int { return int(int64(a.seq) - int64(b.seq)) })
	for _, it := range woken {
		q.ready(it, event, now)
	}
}

// Flush moves what time has made ready: pods whose backoff has passed, and pods that have waited too long for an event.
func (q *Queue) Flush(now time.Time) {
	for q.backoff.Len() > 0 && !q.backoff.list[0].until.After(now) {
		q.put(q.backoff.list[0], Active, "BackoffComplete", now)
	}
	var late []*Item
	for _, it := range q.items {
		if it.place == Unschedulable && now.Sub(it.Since) > q.cfg.MaxUnschedulable {
			late = append(late, it)
		}
	}
	slices.SortFunc(late, func(a, b *Item) int { return int(int64(a.seq) - int64(b.seq)) })
	for _, it := range late {
		it.Flushed = true
		q.ready(it, "UnschedulableTimeout", now)
	}
}

// Next is when Flush would move something; ok is false when nothing waits for time.
func (q *Queue) Next() (at time.Time, ok bool) {
	if q.backoff.Len() > 0 {
		at, ok = q.backoff.list[0].until, true
	}
	for _, it := range q.items {
		if it.place != Unschedulable {
			continue
		}
		if due := it.Since.Add(q.cfg.MaxUnschedulable + time.Nanosecond); !ok || due.Before(at) {
			at, ok = due, true
		}
	}
	return at, ok
}

// Count is how many pods are in each place.
func (q *Queue) Count() map[Place]int {
	out := map[Place]int{Active: 0, Backoff: 0, Unschedulable: 0, Gated: 0}
	for _, it := range q.items {
		out[it.place]++
	}
	return out
}

type itemHeap struct {
	list []*Item
	less func(a, b *Item) bool
}

func (h *itemHeap) Len() int           { return len(h.list) }
func (h *itemHeap) Less(i, j int) bool { return h.less(h.list[i], h.list[j]) }
func (h *itemHeap) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].index, h.list[j].index = i, j
}

func (h *itemHeap) Push(x any) {
	it := x.(*Item)
	it.index = len(h.list)
	h.list = append(h.list, it)
}

func (h *itemHeap) Pop() any {
	it := h.list[len(h.list)-1]
	h.list[len(h.list)-1] = nil
	h.list = h.list[:len(h.list)-1]
	it.index = -1
	return it
}
