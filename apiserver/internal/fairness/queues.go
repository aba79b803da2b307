package fairness

import (
	"container/list"
	"math"
	"time"
)

// shape is how the requests of a level wait. Without queues they do not: what finds no seat is refused.
type shape struct{ queues, hand, length int }

// queues are a level's requests, which wait and are served as by KEP-1040's fair queuing: each flow is dealt a hand of queues of which a request takes the
// emptiest, and the queue whose oldest request would end first in a world that served all queues at the same rate is served next. Its caller guards it by a
// lock, and says what time it is.
type queues struct {
	// exempt levels have seats without end.
	exempt bool
	shape  shape
	// limit is how many seats may be occupied now.
	limit int
	// list may be longer than the shape says, until those at its end are empty. A queue is nil until it is first used.
	list []*queue
	// progress is the seat-seconds that each queue with requests has been due since the start, as of the time at.
	progress float64
	at       time.Time
	// robin is the queue that was served last; of equals, the next has its turn.
	robin int
	// dealt counts the hands, so that of equals in a hand not always the same is taken.
	dealt uint64
	// What waits and what is served, in requests and seats. Seats stay occupied while a request lingers.
	waiting, waitingSeats, executing, seats int
	// active counts the queues that have requests.
	active int
	served servedSet
	gauges *levelMetrics
}

// queue is one of them.
type queue struct {
	waiting list.List // of *ticket, the oldest first
	// work is what waits, in seat-seconds.
	work float64
	// next is the progress at which the queue's next request is due.
	next             float64
	executing, seats int
	served           servedSet
	index            int
}

// servedSet are the requests that are being served.
type servedSet map[*ticket]struct{}

func (q *queue) busy() bool { return q.executing > 0 || q.waiting.Len() > 0 }

func (q *queue) oldest() *ticket { return q.waiting.Front().Value.(*ticket) }

// ticket is a request at a level.
type ticket struct {
	class   *class
	metrics *classMetrics
	flow    string
	work    work
	about   about
	// queue is where the request waits or was served from, nil at a level without queues.
	queue   *queue
	element *list.Element
	arrived time.Time
	// due is the progress when it arrived.
	due float64
	// started is when its service began, and turn is closed then; turn is nil for what need not wait.
	started time.Time
	turn    chan struct{}
}

// serviceTime is how long a request is thought to take before it is known.
const serviceTime = 3 * time.Millisecond

// reserved is what a request is thought to take, in seat-seconds.
func (t *ticket) reserved() float64 {
	return float64(t.work.initial)*serviceTime.Seconds() + float64(t.work.final)*t.work.linger.Seconds()
}

// refusal is why a request is not served, the reason of rejected_requests_total.
type refusal string

const (
	noRefusal     refusal = ""
	noSeats       refusal = "concurrency-limit"
	queueFull     refusal = "queue-full"
	waitedTooLong refusal = "time-out"
)

// enter takes in a request: it is served at once, waits for its turn, or is refused.
func (q *queues) enter(t *ticket, hash uint64, now time.Time) refusal {
	q.advance(now)
	t.arrived, t.due = now, q.progress
	if q.exempt || q.shape.queues == 0 {
		if !q.fits(t.work.seats()) {
			return noSeats
		}
		q.start(t, now)
		return noRefusal
	}
	t.queue = q.pick(hash)
	if q.seats >= q.limit && t.queue.waiting.Len() >= q.shape.length {
		return queueFull
	}
	if !t.queue.busy() {
		t.queue.next = q.progress
		q.active++
	}
	if q.waiting == 0 && q.seats < q.limit && q.fits(t.work.seats()) {
		// Nobody is before it: it goes through its queue without a stop.
		t.metrics.queueLength.Observe(1)
		q.robin = t.queue.index
		t.queue.next = max(t.queue.next, t.due)
		q.start(t, now)
		return noRefusal
	}
	t.turn = make(chan struct{})
	t.element = t.queue.waiting.PushBack(t)
	t.queue.work += t.reserved()
	q.bound(t.queue)
	q.count(t, 1)
	t.metrics.queueLength.Observe(float64(t.queue.waiting.Len()))
	q.dispatch(now)
	return noRefusal
}

// abandon takes a request out that has waited long enough, and says whether it was still waiting.
func (q *queues) abandon(t *ticket, now time.Time) bool {
	q.advance(now)
	if t.element == nil {
		return false
	}
	q.remove(t)
	q.bound(t.queue)
	if !t.queue.busy() {
		q.active--
	}
	q.trim()
	return true
}

// leave ends the service of a request; whether its seats stay occupied, for so long, until release is called.
func (q *queues) leave(t *ticket, now time.Time) (linger time.Duration) {
	q.advance(now)
	q.executing--
	t.metrics.executing.Dec()
	q.gauges.executing.add(-1)
	if t.queue == nil {
		delete(q.served, t)
	} else {
		delete(t.queue.served, t)
		t.queue.executing--
		// The queue is charged for what the request took, not for what it was thought to take.
		t.queue.next -= float64(t.work.initial) * (serviceTime - now.Sub(t.started)).Seconds()
		q.bound(t.queue)
		if !t.queue.busy() {
			q.active--
		}
	}
	if t.work.linger > 0 {
		q.dispatch(now)
		return t.work.linger
	}
	q.release(t, now)
	return 0
}

// release frees the seats of a request.
func (q *queues) release(t *ticket, now time.Time) {
	q.advance(now)
	n := t.work.seats()
	q.seats -= n
	if t.queue != nil {
		t.queue.seats -= n
	}
	t.metrics.seats.Sub(float64(n))
	q.gauges.seats.add(-float64(n))
	q.trim()
	q.demand()
	q.dispatch(now)
}

// change gives the level another shape and limit.
func (q *queues) change(s shape, limit int, now time.Time) {
	q.advance(now)
	if s.queues == 0 {
		// What still waits keeps the bounds that it waits under.
		s.hand, s.length = q.shape.hand, q.shape.length
	}
	q.shape, q.limit = s, limit
	if more := s.queues - len(q.list); more > 0 {
		q.list = append(q.list, make([]*queue, more)...)
	}
	q.trim()
	q.dispatch(now)
}

// idle says whether the level has no requests.
func (q *queues) idle() bool { return q.waiting == 0 && q.executing == 0 }

// advance moves the progress on: the seats that are wanted, or those that there are, are shared by the queues that have requests.
func (q *queues) advance(now time.Time) {
	since := now.Sub(q.at).Seconds()
	q.at = now
	if q.active > 0 && since > 0 {
		q.progress += since * float64(min(q.seats+q.waitingSeats, q.limit)) / float64(q.active)
	}
	q.gauges.progress.Set(q.progress)
}

// pick takes the queue of a flow's hand that has the least work waiting.
func (q *queues) pick(hash uint64) *queue {
	hand := deal(hash, q.shape.queues, q.shape.hand)
	offset := int(q.dealt % uint64(q.shape.hand)) //nolint:gosec // below a hand's size
	q.dealt++
	var best *queue
	for i := range q.shape.hand {
		if c := q.use(hand[(offset+i)%q.shape.hand]); best == nil || c.work < best.work {
			best = c
		}
	}
	return best
}

func (q *queues) use(index int) *queue {
	if q.list[index] == nil {
		q.list[index] = &queue{served: servedSet{}, index: index}
	}
	return q.list[index]
}

// fits says whether so many seats are free. A request wider than the limit is served when it is alone.
func (q *queues) fits(seats int) bool {
	switch {
	case q.exempt:
		return true
	case seats > q.limit:
		return q.executing == 0
	}
	return q.seats+seats <= q.limit
}

// dispatch begins the service of those whose turn it is, as long as there are seats. Who is next is waited for, even
// where another would fit: else wide requests would never be served.
func (q *queues) dispatch(now time.Time) {
	for q.waiting > 0 && q.seats < q.limit {
		next := q.next()
		t := next.oldest()
		if !q.fits(t.work.seats()) {
			t.metrics.noAccommodation()
			return
		}
		q.robin = next.index
		q.remove(t)
		if t.work.final > q.limit {
			// The same work, by fewer seats for longer.
			t.work.linger = time.Duration(float64(t.work.linger) * float64(t.work.final) / float64(q.limit))
			t.work.final = q.limit
		}
		q.start(t, now)
		q.bound(next)
		close(t.turn)
	}
}

// next is the queue whose oldest request would end first.
func (q *queues) next() (best *queue) {
	least := math.Inf(1)
	bounds := newBounds()
	for i := range q.list {
		c := q.list[(q.robin+1+i)%len(q.list)]
		if c == nil || c.waiting.Len() == 0 {
			continue
		}
		bounds.add(c)
		if end := c.next + c.oldest().reserved(); end < least {
			best, least = c, end
		}
	}
	q.gauges.dispatched(q.progress, best.next, &bounds)
	return best
}

// remove takes a request out of its queue's line.
func (q *queues) remove(t *ticket) {
	t.queue.waiting.Remove(t.element)
	t.element = nil
	t.queue.work -= t.reserved()
	if t.queue.waiting.Len() == 0 {
		t.queue.work = 0 // and no rounding is left
	}
	q.count(t, -1)
}

// count notes a request that begins or ends to wait.
func (q *queues) count(t *ticket, n int) {
	seats := n * t.work.seats()
	q.waiting += n
	q.waitingSeats += seats
	t.metrics.waiting.Add(float64(n))
	t.metrics.waitingSeats.Add(float64(seats))
	q.gauges.waiting.add(float64(n))
	q.gauges.noteWaiting(t.about.mutating, n)
	q.demand()
}

// start begins the service of a request.
func (q *queues) start(t *ticket, now time.Time) {
	n := t.work.seats()
	t.started = now
	q.executing++
	q.seats += n
	if t.queue == nil {
		q.served[t] = struct{}{}
	} else {
		t.queue.served[t] = struct{}{}
		t.queue.executing++
		t.queue.seats += n
		t.queue.next += t.reserved()
	}
	t.metrics.executing.Inc()
	t.metrics.seats.Add(float64(n))
	q.gauges.executing.add(1)
	q.gauges.seats.add(float64(n))
	q.demand()
}

// bound keeps a queue from saving up what it did not use: its next request is not due before it came.
func (q *queues) bound(one *queue) {
	if one.waiting.Len() > 0 {
		one.next = max(one.next, one.oldest().due)
	}
}

// trim drops the queues beyond the shape that are empty.
func (q *queues) trim() {
	n := len(q.list)
	for n > q.shape.queues && (q.list[n-1] == nil || !q.list[n-1].busy() && q.list[n-1].seats == 0) {
		n--
	}
	clear(q.list[n:])
	q.list = q.list[:n]
	q.robin = min(q.robin, max(0, n-1))
}

// demand notes the seats that the level could use.
func (q *queues) demand() { q.gauges.demand.set(float64(q.seats+q.waitingSeats), q.at) }

// bounds are the least and the greatest progress at which waiting queues are due, and the same without what is being served.
type bounds struct{ min, max, discountedMin, discountedMax float64 }

func newBounds() bounds {
	return bounds{math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)}
}

func (b *bounds) add(q *queue) {
	discounted := q.next - float64(q.seats)*serviceTime.Seconds()
	b.min, b.max = min(b.min, q.next), max(b.max, q.next)
	b.discountedMin, b.discountedMax = min(b.discountedMin, discounted), max(b.discountedMax, discounted)
}
