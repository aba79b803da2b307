package fairness

import (
	"math"
	"net/url"
	"strconv"
	"time"

	"flagship/apiserver/internal/rest"
)

// work is what a request is estimated to take: the seats while it is served, and those that it keeps for the time after it.
type work struct {
	initial, final int
	linger         time.Duration
}

// seats is what it occupies until it is over.
func (w work) seats() int { return max(w.initial, w.final) }

// The bounds and measures of the estimate, upstream's.
const (
	mostListSeats     = 100
	mostWritingSeats  = 10
	bytesPerSeat      = 100_000
	mostStreamed      = 1_000_000 // bytes of a list that are in memory at one time, since it is streamed from the cache
	watchersPerSeat   = 10
	timePerWatchEvent = 5 * time.Millisecond
	// shareOfLevel is the most of a level's seats that one request may take.
	shareOfLevel = 0.15
)

// Costs are the facts that an estimate is made by.
type Costs interface {
	// Stored is how many objects of a resource there are, and the bytes that they take; false where it is not served from here.
	Stored(i *rest.Info) (objects int, bytes int64, ok bool)
	// Watching is how many watchers a change that the request makes concerns.
	Watching(i *rest.Info) int
}

// widest is the most seats that one request of a level with queues may take, of its nominal seats and the size of a hand; 0 where there are no queues.
func widest(nominal, hand int) int {
	if hand == 0 {
		return 0
	}
	return max(1, min(int(math.Ceil(float64(nominal)*shareOfLevel)), nominal/hand))
}

// estimate says what a request will take. most is the level's bound, 0 for none. watchers is -1 where nobody needs to hear of it.
func estimate(i *rest.Info, query func() url.Values, costs Costs, most int) (w work, watchers int) {
	switch i.Verb {
	case "list", "watch":
		return work{initial: listSeats(i, query(), costs, most)}, -1
	case "create", "update", "patch", "delete":
		if i.Resource == "serviceaccounts" && i.Subresource == "token" {
			return work{initial: 1}, -1 // a token changes nothing that is watched
		}
		n := costs.Watching(i)
		return writing(n, most), n
	}
	return work{initial: 1}, -1
}

func listSeats(i *rest.Info, query url.Values, costs Costs, most int) int {
	if most == 0 || most > mostListSeats {
		most = mostListSeats
	}
	if rv := query.Get("resourceVersion"); i.Verb == "watch" && rv != "" && rv != "0" && query.Get("sendInitialEvents") != "true" {
		return 1 // it begins with no objects
	}
	limit, err := strconv.ParseInt(query.Get("limit"), 10, 64)
	if err != nil && query.Has("limit") {
		return most // it will be refused
	}
	objects, bytes, ok := costs.Stored(i)
	if !ok || objects == 0 {
		return 1
	}
	loaded := int64(objects)
	switch {
	case i.Name != "":
		loaded = 1
	case limit > 0:
		loaded = min(limit, loaded)
	}
	inMemory := min(loaded*(bytes/int64(objects)), mostStreamed)
	return max(1, min(int((inMemory+bytesPerSeat-1)/bytesPerSeat), most))
}

// writing is the work of a change that so many watchers hear of: each takes a part of a seat for a while after the answer.
func writing(watchers, most int) work {
	if most == 0 || most > mostWritingSeats {
		most = mostWritingSeats
	}
	w := work{initial: 1}
	if watchers < watchersPerSeat {
		return w
	}
	seats := int(math.Ceil(float64(watchers) / watchersPerSeat))
	w.final = min(seats, most)
	w.linger = timePerWatchEvent * time.Duration(seats) / time.Duration(w.final)
	return w
}
