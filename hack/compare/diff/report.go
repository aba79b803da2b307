package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// mostShown is how many differences of one sort a report has in full.
const mostShown = 3

func (r *run) totals() (all tally) {
	for _, t := range r.tallies {
		all.compared += t.compared
		all.equal += t.equal
		all.explained += t.explained
	}
	return all
}

// table writes counts by what name makes of a kind and verb.
func (r *run) table(w io.Writer, heading string, name func(id, verb string) string) {
	sums := map[string]*tally{}
	for key, t := range r.tallies {
		s := sums[name(key[0], key[1])]
		if s == nil {
			s = &tally{}
			sums[name(key[0], key[1])] = s
		}
		s.compared += t.compared
		s.equal += t.equal
		s.explained += t.explained
	}
	fmt.Fprintf(w, "\n| %s | compared | equal | explained | different |\n|---|---:|---:|---:|---:|\n", heading)
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		s := sums[key]
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d |\n", key, s.compared, s.equal, s.explained, s.compared-s.equal-s.explained)
	}
}

// summary writes the committed report.
func (r *run) summary(w io.Writer, about string) {
	all := r.totals()
	fmt.Fprintf(w, "# The same requests to upstream's kube-apiserver and to ours\n\n%s\n\n", about)
	fmt.Fprintf(w, "Compared %d, equal %d, different for a reason %d, different %d.\n", all.compared, all.equal, all.explained, all.compared-all.equal-all.explained)
	fmt.Fprintf(w, "\n## By verb\n")
	r.table(w, "verb", func(_, verb string) string { return verb })
	fmt.Fprintf(w, "\n## By kind\n")
	r.table(w, "kind", func(id, _ string) string { return id })
	whys := map[string]int{}
	for _, d := range r.differences {
		if d.why != "" {
			whys[d.why]++
		}
	}
	fmt.Fprintf(w, "\n## Reasons\n\n")
	for _, why := range slices.Sorted(maps.Keys(whys)) {
		fmt.Fprintf(w, "- %d: %s\n", whys[why], why)
	}
	fmt.Fprintf(w, "\n## The first differences of each kind and verb\n")
	shown := map[string]int{}
	for _, d := range r.differences {
		sort := d.id + " " + d.verb
		if shown[sort]++; d.why != "" || shown[sort] > mostShown {
			continue
		}
		fmt.Fprintf(w, "\n%s, %s: `%s`\n\n```diff\n%s```\n", d.id, d.verb, strings.ReplaceAll(d.name[:min(len(d.name), 120)], "`", "'"), clean(d.diff))
	}
}

// clean is a difference in the same words each time, its lines bounded.
func clean(diff string) string {
	const longest = 240
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(diff, "\u00a0", " "), "\n"), "\n")
	for i, l := range lines {
		lines[i] = l[:min(len(l), longest)]
	}
	const most = 40
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("… %d lines more", len(lines)-most))
	}
	return strings.Join(lines, "\n") + "\n"
}

// full writes every difference.
func (r *run) full(w io.Writer) {
	for _, d := range r.differences {
		fmt.Fprintf(w, "=== %s: %s: %s (-upstream +ours) %s\n%s\n", d.id, d.verb, d.name, d.why, d.diff)
	}
}
