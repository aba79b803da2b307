package fairness

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Pages are where the state of the levels can be looked at. They are for people: the columns follow upstream's.
const Pages = "/debug/api_priority_and_fairness/"

// Register serves the pages.
func (c *Controller) Register(mux *http.ServeMux) {
	for name, rows := range map[string]func(*http.Request) [][]string{
		"dump_priority_levels": c.levelRows, "dump_queues": c.queueRows, "dump_requests": c.requestRows,
	} {
		mux.HandleFunc(Pages+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			tab := tabwriter.NewWriter(w, 8, 0, 1, ' ', 0)
			for _, row := range rows(r) {
				_, _ = fmt.Fprintln(tab, strings.Join(row, ",\t"))
			}
			_ = tab.Flush()
		})
	}
}

// each visits the levels by name, with their locks held.
func (c *Controller) each(visit func(name string, l *level)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.levels)) {
		l := c.levels[name]
		l.mu.Lock()
		visit(name, l)
		l.mu.Unlock()
	}
}

func texts(values ...any) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return out
}

func (c *Controller) levelRows(*http.Request) [][]string {
	rows := [][]string{{
		"PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
		"DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests",
	}}
	c.each(func(name string, l *level) {
		waiting := 0
		for _, q := range l.queues.list {
			if q != nil && q.waiting.Len() > 0 {
				waiting++
			}
		}
		rows = append(rows, texts(name, waiting, l.queues.idle(), l.leaving.Load(), l.queues.waiting, l.queues.executing, l.dispatched, l.rejected, 0, l.timedOut))
	})
	return rows
}

func (c *Controller) queueRows(*http.Request) [][]string {
	rows := [][]string{{
		"PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR", "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum",
	}}
	seconds := func(f float64) string { return fmt.Sprintf("%.8fss", f) }
	c.each(func(name string, l *level) {
		for i, q := range l.queues.list {
			if q == nil {
				q = &queue{}
			}
			initial, most := 0, 0
			for e := q.waiting.Front(); e != nil; e = e.Next() {
				w := e.Value.(*ticket).work
				initial, most = initial+w.initial, most+w.seats()
			}
			rows = append(rows, texts(name, i, q.waiting.Len(), q.executing, q.seats, seconds(q.next), initial, most, seconds(q.work)))
		}
	})
	return rows
}

func (c *Controller) requestRows(r *http.Request) [][]string {
	details := r.URL.Query().Get("includeRequestDetails") != ""
	header := []string{
		"PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime", "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
	}
	if details {
		header = append(header, "UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")
	}
	rows := [][]string{header}
	c.each(func(name string, l *level) {
		add := func(queue, index int, t *ticket) {
			row := texts(name, t.class.schema.Name, queue, index, t.flow, stamp(t.arrived), t.work.initial, t.work.final, t.work.linger, stamp(t.started))
			if i := t.about.info; details {
				gv := schema.GroupVersion{Group: i.Group, Version: i.Version}
				row = append(row, t.about.user.Name, i.Verb, i.Path, i.Namespace, i.Name, gv.String(), i.Resource, i.Subresource)
			}
			rows = append(rows, row)
		}
		for n, q := range l.queues.list {
			if q == nil {
				continue
			}
			index := 0
			for e := q.waiting.Front(); e != nil; e = e.Next() {
				add(n, index, e.Value.(*ticket))
				index++
			}
			for t := range q.served {
				add(n, -1, t)
			}
		}
		for t := range l.queues.served {
			add(-1, -1, t)
		}
	})
	return rows
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
