package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// report writes the committed table. up are upstream's results by attack, nil where it was not attacked.
func report(w io.Writer, ours []result, up map[string]result, took time.Duration) {
	fmt.Fprintf(w, "# What an abused kube-apiserver answers\n\nWritten by `make abuse`, not by hand. %d attacks in %.0f s; each server has an etcd of its own, --request-timeout=%.0fs, and shares two cores with who attacks it.\n\n", len(ours), took.Seconds(), requestTimeout.Seconds())
	fmt.Fprintf(w, "An attack fails that gets another answer than the expected, takes longer than %.0f s or more memory than %d MiB (VmHWM over the memory before) where it states no other bound, delays the renewal of a node's lease, /readyz or /livez for more than %.0f s or makes one fail, changes a key in etcd that is not its own, or ends the server.\n",
		mostTime.Seconds(), mostMemory>>20, mostWait.Seconds())
	group := ""
	for _, r := range ours {
		a := r.attack
		if a.group != group {
			group = a.group
			fmt.Fprintf(w, "\n## %s\n\n| attack | expected | answer | s | CPU s | MiB (most) | worst lease ms |", group)
			if up != nil {
				fmt.Fprint(w, " upstream: answer | s | MiB | worst lease ms |")
			}
			fmt.Fprint(w, "\n|---|---|---|---:|---:|---:|---:|")
			if up != nil {
				fmt.Fprint(w, "---|---:|---:|---:|")
			}
			fmt.Fprintln(w)
		}
		answer := r.answers.String()
		if len(r.faults) > 0 {
			answer += " **failed: " + strings.Join(r.faults, "; ") + "**"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %.1f | %.1f | %d (%d) | %d |", a.name, strings.Join(a.want, ", "), cell(answer), r.took.Seconds(), r.cpu.Seconds(), r.memory>>20, r.bound()>>20, r.lease.Milliseconds())
		if u, ok := up[a.id()]; ok {
			fmt.Fprintf(w, " %s | %.1f | %d | %d |", cell(u.answers.String()), u.took.Seconds(), u.memory>>20, u.lease.Milliseconds())
		}
		fmt.Fprintln(w)
	}
}

// cell keeps a text within a table's cell.
func cell(s string) string { return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s) }
