package fairness

import (
	"math"
	"time"
)

// share is a level's part of the server's seats.
type share struct {
	exempt bool
	// shares, lendable and borrowing are of the level's configuration; lendable and borrowing in percent, borrowing -1 for no bound.
	shares, lendable, borrowing int32
	// nominal is the level's part, min what it keeps for itself, and max what it may have with what others lend.
	nominal, min, max int
	// demand is what the level could have used of late, and smoothed that over the time before, in seats.
	demand   demand
	smoothed float64
	// target is what it would get if there were enough, and current what it may use now.
	target  float64
	current int
}

// smoothing makes the demand of five minutes ago count half.
const smoothing = 0.977

// divide sets the nominal seats of the levels, and their bounds, by their shares of total. The parts are rounded up, so that their sum may be above
// total by a few.
func divide(levels []*share, total int) {
	sum := 0.0
	for _, l := range levels {
		sum += float64(l.shares)
	}
	for _, l := range levels {
		l.nominal = 0
		if sum > 0 {
			l.nominal = int(math.Ceil(float64(total) * float64(l.shares) / sum))
		}
		lendable := percent(l.nominal, l.lendable)
		l.min = l.nominal - lendable
		l.max = l.nominal + total
		if l.borrowing >= 0 {
			l.max = l.nominal + percent(l.nominal, l.borrowing)
		}
	}
}

func percent(n int, p int32) int { return int(math.Round(float64(n) * float64(p) / 100)) }

// adjust sets what each level may use now, by what each could have used since the last time (KEP-1040, "Dispatching"). It returns the fair fraction: what
// each level gets of its target.
func adjust(levels []*share) (fair float64) {
	total, exempt, least, wanted := 0, 0, 0, 0
	var others []*share
	for _, l := range levels {
		l.smooth()
		total += l.nominal
		if l.exempt {
			l.current = max(l.min, l.demand.most())
			l.target = float64(l.current)
			exempt += l.current
			continue
		}
		others = append(others, l)
		least += l.min
		wanted += l.need()
		l.target = max(float64(l.need()), l.smoothed)
	}
	switch left := total - exempt; {
	case left <= least:
		for _, l := range others {
			l.current = l.min
		}
	case left <= wanted:
		part := float64(left-least) / float64(wanted-least)
		for _, l := range others {
			l.current = l.min + int(math.Round(float64(l.need()-l.min)*part))
		}
	default:
		fair = allocate(others, float64(total))
	}
	return fair
}

// need is what the level gets before others share the rest: what it could have used, up to its own part.
func (l *share) need() int { return max(l.min, min(l.nominal, l.demand.most())) }

// smooth takes the demand into the average. It falls slowly and rises at once.
func (l *share) smooth() {
	mean, deviation, ok := l.demand.moments()
	if !ok {
		return
	}
	envelope := mean + deviation
	l.smoothed = max(envelope, smoothing*l.smoothed+(1-smoothing)*envelope)
}

// leastTarget keeps a level without demand from being divided by.
const leastTarget = 0.001

// allocate gives each level the same fraction of its target, within its bounds, so that all have total together. The sum grows with the
// fraction, which is therefore found by halving.
func allocate(levels []*share, total float64) (fair float64) {
	at := func(l *share) float64 {
		return max(float64(l.need()), min(float64(l.max), fair*max(l.target, leastTarget)))
	}
	high := 0.0
	for _, l := range levels {
		high = max(high, float64(l.max)/max(l.target, leastTarget))
	}
	low := 0.0
	for range 100 {
		fair = (low + high) / 2
		sum := 0.0
		for _, l := range levels {
			sum += at(l)
		}
		if sum < total {
			low = fair
		} else {
			high = fair
		}
	}
	for _, l := range levels {
		l.current = int(math.Round(at(l)))
	}
	return fair
}

// demand follows a number of seats over time.
type demand struct {
	value, high           float64
	since                 time.Time
	seconds, sum, squares float64
}

// set notes a new value.
func (d *demand) set(value float64, now time.Time) {
	d.until(now)
	d.value = value
	d.high = max(d.high, value)
}

func (d *demand) until(now time.Time) {
	if !d.since.IsZero() {
		dt := now.Sub(d.since).Seconds()
		d.seconds += dt
		d.sum += dt * d.value
		d.squares += dt * d.value * d.value
	}
	d.since = now
}

// take returns what was seen up to now, and begins anew.
func (d *demand) take(now time.Time) demand {
	d.until(now)
	seen := *d
	*d = demand{value: d.value, high: d.value, since: now}
	return seen
}

// most is the highest value.
func (d *demand) most() int { return int(math.Round(d.high)) }

// moments are the average over time and the standard deviation; false before any time has passed.
func (d *demand) moments() (mean, deviation float64, ok bool) {
	if d.seconds <= 0 {
		return 0, 0, false
	}
	mean = d.sum / d.seconds
	return mean, math.Sqrt(max(0, d.squares/d.seconds-mean*mean)), true
}
