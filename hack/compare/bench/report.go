package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

func verdict(r row) string {
	switch {
	case r.goal == 0:
		return ""
	case r.ratio() <= r.goal:
		return fmt.Sprintf("  (goal %.0f%%: reached)", 100*r.goal)
	}
	return fmt.Sprintf("  (goal %.0f%%: MISSED)", 100*r.goal)
}

func (b *bench) print(w io.Writer) {
	_, _ = fmt.Fprintf(w, "\n%-12s %-52s %12s %12s %-10s %7s\n", "PART", "WHAT", "UPSTREAM", "OURS", "UNIT", "RATIO")
	for _, r := range b.rows {
		_, _ = fmt.Fprintf(w, "%-12s %-52s %12.3f %12.3f %-10s %6.1f%%%s\n", r.group, r.name, r.up, r.our, r.unit, 100*r.ratio(), verdict(r))
	}
}

// write makes the committed report.
func (b *bench) write(file string, errs []error) error {
	var s strings.Builder
	fmt.Fprintf(&s, "# Upstream's binaries and ours, side by side\n\nWritten by `make bench`, not by hand. Upstream is v1.37.2, ours is commit %s, %s; %d processors (%s), %s.\n",
		commit(), time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), cpuModel(), runtime.Version())
	s.WriteString("Both sides do the same work in one run, in turns; etcd writes through to the disk. Where not said otherwise a figure is processor time of the servers (kube-apiserver\n" +
		"with its etcd), per operation. It holds on a noisy machine; wall times do not and are there to be read with care. A ratio under 100 % means that ours takes less.\n" +
		"`make bench ONLY=api` repeats a part; the flags are those of hack/compare/bench.\n")
	group := ""
	for _, r := range b.rows {
		if r.group != group {
			group = r.group
			fmt.Fprintf(&s, "\n## %s\n\n| what | unit | upstream | ours | ratio | goal |\n|---|---|---:|---:|---:|---|\n", group)
		}
		goal := ""
		if r.goal > 0 {
			goal = fmt.Sprintf("%.0f %%: missed", 100*r.goal)
			if r.ratio() <= r.goal {
				goal = fmt.Sprintf("%.0f %%: reached", 100*r.goal)
			}
		}
		name := r.name
		if r.note != "" {
			name += " (" + r.note + ")"
		}
		fmt.Fprintf(&s, "| %s | %s | %.3f | %.3f | %.1f %% | %s |\n", name, r.unit, r.up, r.our, 100*r.ratio(), goal)
	}
	for _, err := range errs {
		if err != nil {
			fmt.Fprintf(&s, "\nNot measured: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		}
	}
	if b.idle != "" {
		if text, err := os.ReadFile(b.idle); err == nil {
			fmt.Fprintf(&s, "\n## An idle cluster of ours\n\nUpstream's column has the figures of a v1.37.2 cluster on the same kind of machine, measured once.\n\n```\n%s```\n", text)
		}
	}
	return os.WriteFile(file, []byte(s.String()), 0o644)
}

func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output() //nolint:noctx // it takes a moment
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func cpuModel() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
