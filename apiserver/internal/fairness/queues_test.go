package fairness

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/util/shufflesharding"
)

// world runs queues by a clock of its own.
type world struct {
	t   *testing.T
	now time.Time
	queues
	class *class
	// lingering are those whose seats are still occupied, by when that ends.
	lingering map[*ticket]time.Time
}

func newWorld(t *testing.T, s shape, limit int) *world {
	t.Helper()
	m := newMetrics(prometheus.NewRegistry())
	w := &world{t: t, now: time.Unix(1000, 0), class: &class{metrics: m.class("level", "schema", false)}, lingering: map[*ticket]time.Time{}}
	w.queues = queues{at: w.now, served: servedSet{}, gauges: m.level("level")}
	w.change(s, limit, w.now)
	return w
}

func (w *world) arrive(flow string, wk work) (*ticket, refusal) {
	t := &ticket{class: w.class, metrics: w.class.metrics(), flow: flow, work: wk}
	r := w.enter(t, flowHash("schema", flow), w.now)
	w.check()
	return t, r
}

func (w *world) end(t *ticket) {
	if d := w.leave(t, w.now); d > 0 {
		w.lingering[t] = w.now.Add(d)
	}
	w.check()
}

// pass lets time go by, and seats be freed whose time has come.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for t, at := range w.lingering {
		if !at.After(w.now) {
			delete(w.lingering, t)
			w.release(t, w.now)
		}
	}
	w.check()
}

func turn(t *ticket) bool {
	if t.turn == nil {
		return true
	}
	select {
	case <-t.turn:
		return true
	default:
		return false
	}
}

// check is what always holds.
func (w *world) check() {
	w.t.Helper()
	waiting, waitingSeats, executing, active := 0, 0, len(w.served), 0
	for i, q := range w.list {
		if q == nil {
			continue
		}
		work := 0.0
		for e := q.waiting.Front(); e != nil; e = e.Next() {
			waitingSeats += e.Value.(*ticket).work.seats()
			work += e.Value.(*ticket).reserved()
		}
		waiting += q.waiting.Len()
		executing += q.executing
		if q.busy() {
			active++
		}
		if len(q.served) != q.executing || q.index != i || q.seats < 0 || q.work-work > 1e-6 || work-q.work > 1e-6 {
			w.t.Fatalf("queue %d: %+v, of work %v", i, q, work)
		}
	}
	if waiting != w.waiting || waitingSeats != w.waitingSeats || executing != w.executing || active != w.active {
		w.t.Fatalf("waiting %d of %d seats, executing %d, active %d: %+v", waiting, waitingSeats, executing, active, w.queues)
	}
	if w.seats > w.limit && w.executing > 1 {
		// A limit that shrank is above for a while; a wide request is alone.
		w.t.Fatalf("%d seats are occupied of %d by %d requests", w.seats, w.limit, w.executing)
	}
}

var narrow = work{initial: 1}

func TestQueuesShareFairly(t *testing.T) {
	// One flow floods the level, another sends a request now and then: it waits for no more than those that are being served.
	w := newWorld(t, shape{queues: 64, hand: 6, length: 50}, 4)
	var flood []*ticket
	for range 200 {
		if tk, r := w.arrive("flood", narrow); r == noRefusal {
			flood = append(flood, tk)
		}
	}
	if len(flood) != 200 {
		t.Fatalf("%d of 200 were taken in: a hand of 6 queues has room for them", len(flood))
	}
	late, _ := w.arrive("quiet", narrow)
	if turn(late) {
		t.Fatal("all seats are taken, and it is served")
	}
	w.pass(10 * time.Millisecond)
	served := 0
	for _, f := range flood {
		if turn(f) && !turn(late) {
			w.end(f)
			served++
		}
	}
	if !turn(late) || served > 8 {
		t.Errorf("its turn %v, after %d of the flood: want at once", turn(late), served)
	}
}

// apart names n flows that have no queue in common, where a hand is of one.
func apart(n, queues int) (flows []string) {
	seen := map[int]bool{}
	for i := 0; len(flows) < n; i++ {
		name := fmt.Sprint("flow", i)
		if at := deal(flowHash("schema", name), queues, 1)[0]; !seen[at] {
			seen[at] = true
			flows = append(flows, name)
		}
	}
	return flows
}

func TestQueuesOfEqualsTakeTurns(t *testing.T) {
	w := newWorld(t, shape{queues: 128, hand: 1, length: 500}, 1)
	flows := apart(3, 128)
	var all []*ticket
	for range 50 {
		for _, f := range flows {
			tk, _ := w.arrive(f, narrow)
			all = append(all, tk)
		}
	}
	count := map[string]int{}
	for n := range 90 {
		i := slices.IndexFunc(all, turn)
		if i < 0 {
			t.Fatalf("nobody is served after %d", n)
		}
		tk := all[i]
		all = slices.Delete(all, i, i+1)
		count[tk.flow]++
		w.pass(5 * time.Millisecond)
		w.end(tk)
	}
	for _, f := range flows {
		if count[f] < 29 || count[f] > 31 {
			t.Errorf("of 90 turns: %v, want 30 each", count)
		}
	}
}

func TestQueuesRefuse(t *testing.T) {
	t.Run("without queues", func(t *testing.T) {
		w := newWorld(t, shape{}, 2)
		w.arrive("a", narrow)
		w.arrive("a", narrow)
		if _, r := w.arrive("a", narrow); r != noSeats {
			t.Errorf("the third of two: %q", r)
		}
	})
	t.Run("a full queue", func(t *testing.T) {
		w := newWorld(t, shape{queues: 1, hand: 1, length: 3}, 1)
		for i := range 4 {
			if _, r := w.arrive("a", narrow); r != noRefusal {
				t.Errorf("the %d.: %q", i, r)
			}
		}
		if _, r := w.arrive("a", narrow); r != queueFull {
			t.Errorf("the fifth of one and three: %q", r)
		}
	})
	t.Run("a level without seats", func(t *testing.T) {
		w := newWorld(t, shape{queues: 1, hand: 1, length: 1}, 0)
		tk, r := w.arrive("a", narrow)
		if r != queueFull && turn(tk) {
			t.Errorf("%q, its turn %v", r, turn(tk))
		}
	})
}

func TestQueuesWideRequests(t *testing.T) {
	f := apart(3, 8)
	w := newWorld(t, shape{queues: 8, hand: 1, length: 50}, 4)
	first, _ := w.arrive(f[0], work{initial: 3})
	wide, _ := w.arrive(f[1], work{initial: 4})
	if !turn(first) || turn(wide) {
		t.Fatalf("turns %v %v: there is room for one", turn(first), turn(wide))
	}
	// Small ones pass it as long as they would end first, which those of a flow do less with each.
	passed := 0
	for range 20 {
		small, _ := w.arrive(f[2], narrow)
		w.pass(3 * time.Millisecond)
		if !turn(small) {
			break
		}
		passed++
		w.end(small)
	}
	if passed == 0 || passed > 8 || turn(wide) {
		t.Errorf("%d small requests passed the wide one", passed)
	}
	w.end(first)
	if !turn(wide) {
		t.Error("all seats are free, and the wide request waits")
	}
	// Wider than the level is: alone.
	w = newWorld(t, shape{queues: 8, hand: 1, length: 50}, 4)
	first, _ = w.arrive(f[0], narrow)
	huge, _ := w.arrive(f[1], work{initial: 9})
	if turn(huge) {
		t.Fatal("it is not alone")
	}
	w.end(first)
	if !turn(huge) {
		t.Error("it is alone, and waits")
	}
}

func TestQueuesLinger(t *testing.T) {
	w := newWorld(t, shape{queues: 8, hand: 1, length: 50}, 4)
	tk, _ := w.arrive("a", work{initial: 1, final: 4, linger: 20 * time.Millisecond})
	next, _ := w.arrive("b", narrow)
	w.pass(time.Millisecond)
	w.end(tk)
	if turn(next) {
		t.Fatal("the seats are occupied until it is over")
	}
	w.pass(20 * time.Millisecond)
	if !turn(next) {
		t.Error("the seats are free")
	}
	// More seats than there are: the same work for longer.
	w = newWorld(t, shape{queues: 8, hand: 1, length: 50}, 2)
	busy, _ := w.arrive("a", narrow)
	tk, _ = w.arrive("b", work{initial: 1, final: 8, linger: 10 * time.Millisecond})
	w.end(busy)
	if !turn(tk) || tk.work.final != 2 || tk.work.linger != 40*time.Millisecond {
		t.Errorf("%v: %+v", turn(tk), tk.work)
	}
}

func TestQueuesAbandonAndChange(t *testing.T) {
	w := newWorld(t, shape{queues: 16, hand: 2, length: 50}, 1)
	first, _ := w.arrive("a", narrow)
	second, _ := w.arrive("a", narrow)
	if !w.abandon(second, w.now) || w.abandon(second, w.now) || w.abandon(first, w.now) {
		t.Error("who waits can be taken out, once")
	}
	w.check()
	for i := range 20 {
		w.arrive(fmt.Sprint(i), narrow)
	}
	w.change(shape{queues: 2, hand: 2, length: 50}, 100, w.now)
	w.check()
	if w.waiting != 0 || w.executing != 21 {
		t.Errorf("a wider limit: %d wait, %d are served", w.waiting, w.executing)
	}
	for _, q := range slices.Clone(w.list) {
		if q == nil {
			continue
		}
		for tk := range q.served {
			w.end(tk)
		}
	}
	if len(w.list) != 2 || !w.idle() || w.seats != 0 || w.active != 0 {
		t.Errorf("empty, and of two queues: %d queues, %+v", len(w.list), w.queues)
	}
}

func TestQueuesRandomly(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, shape{queues: 8, hand: 3, length: 5}, 5)
	var open []*ticket
	for range 20_000 {
		switch x := r.IntN(20); {
		case x < 9:
			wk := work{initial: 1 + r.IntN(3)*r.IntN(3)}
			if r.IntN(4) == 0 {
				wk.final, wk.linger = r.IntN(8)+1, time.Duration(r.IntN(30)+1)*time.Millisecond
			}
			if tk, refused := w.arrive(fmt.Sprint(r.IntN(6)), wk); refused == noRefusal {
				open = append(open, tk)
			}
		case x < 18 && len(open) > 0:
			i := r.IntN(len(open))
			tk := open[i]
			if turn(tk) {
				w.end(tk)
			} else if r.IntN(3) > 0 || !w.abandon(tk, w.now) {
				continue
			}
			open = slices.Delete(open, i, i+1)
		case x == 18:
			w.pass(time.Duration(r.IntN(20)) * time.Millisecond)
		case r.IntN(50) == 0:
			queues := r.IntN(10) + 3
			w.change(shape{queues: queues, hand: 3, length: 5}, max(w.seats, r.IntN(9)+1), w.now)
			w.check()
		}
	}
	for len(open) > 0 {
		i := slices.IndexFunc(open, turn)
		if i < 0 {
			w.pass(time.Second)
			if i = slices.IndexFunc(open, turn); i < 0 {
				t.Fatalf("%d wait for ever: %+v", len(open), w.queues)
			}
		}
		w.end(open[i])
		open = slices.Delete(open, i, i+1)
	}
	w.pass(time.Second)
	if !w.idle() || w.seats != 0 || w.waitingSeats != 0 || w.active != 0 {
		t.Errorf("all are over: %+v", w.queues)
	}
}

func TestDeal(t *testing.T) {
	for _, c := range []struct{ deck, hand int }{{1, 1}, {2, 1}, {8, 8}, {64, 6}, {128, 6}, {15, 15}} {
		dealer, err := shufflesharding.NewDealer(c.deck, c.hand)
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			v := rand.Uint64()
			got := deal(v, c.deck, c.hand)
			if want := dealer.DealIntoHand(v, nil); !slices.Equal(got[:c.hand], want) {
				t.Fatalf("%d of %d by %d: %v, upstream deals %v", c.hand, c.deck, v, got[:c.hand], want)
			}
		}
	}
}

func BenchmarkQueues(b *testing.B) {
	m := newMetrics(prometheus.NewRegistry())
	c := &class{metrics: m.class("level", "schema", false)}
	q := queues{at: time.Now(), served: servedSet{}, gauges: m.level("level")}
	q.change(shape{queues: 128, hand: 6, length: 50}, 100, time.Now())
	b.ReportAllocs()
	for b.Loop() {
		t := &ticket{class: c, metrics: c.metrics(), work: narrow}
		q.enter(t, 12345, time.Now())
		q.leave(t, time.Now())
	}
}
