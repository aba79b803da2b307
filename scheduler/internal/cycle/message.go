package cycle

import (
	"fmt"
	"slices"
	"strings"

	"flagship/scheduler/internal/plugin"
)

// Message says why no node can take the pod, in upstream's words:
// "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: …".
func (d *Decision) Message() string {
	if d.Nodes == 0 && d.Rejected == nil {
		return "no nodes available to schedule pods"
	}
	msg := fmt.Sprintf("0/%d nodes are available:", d.Nodes)
	if d.Rejected != nil {
		msg += fmt.Sprintf(" %s.", strings.Join(d.Rejected.Reasons, ", "))
	} else if h := Histogram(d.reasons()); h != "" {
		msg += " " + h + "."
	}
	if d.After != "" {
		msg += " " + d.After
	}
	return msg
}

func (d *Decision) reasons() map[string]int {
	reasons := map[string]int{}
	for _, r := range d.Refusals {
		for _, reason := range r.Reasons {
			reasons[reason]++
		}
	}
	if absent := d.Nodes - len(d.Refusals); absent > 0 && len(d.Absent) > 0 {
		slices.Sort(d.Absent)
		reasons[fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", d.Absent)] += absent
	}
	return reasons
}

// Histogram renders counted reasons as "2 this, 3 that", sorted as text.
func Histogram(reasons map[string]int) string {
	list := make([]string, 0, len(reasons))
	for reason, n := range reasons {
		list = append(list, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// Plugins are those that refused the pod, sorted.
func (d *Decision) Plugins() []string {
	var out []string
	add := func(name string) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	add(d.RejectedBy)
	for _, r := range d.Refusals {
		add(r.Plugin)
	}
	if d.Nodes > len(d.Refusals) {
		for _, name := range d.Absent {
			add(name)
		}
	}
	slices.Sort(out)
	return out
}

// Erred says whether a plugin failed, rather than refused.
func (d *Decision) Erred() bool { return d.Rejected != nil && d.Rejected.Code == plugin.Failed }
