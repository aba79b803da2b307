package report

import (
	"fmt"
	"strings"
	"time"
)

// Header is what the page says about the run.
type Header struct {
	Version, Commit, Focus, Skip string
	Date                         time.Time
	Procs                        int
	Took                         time.Duration
}

// rows are the cells of the table: a row per group, and their sum.
func (s Summary) rows() [][4]string {
	out := [][4]string{{"SIG", "passed", "failed", "not run"}}
	row := func(name, sig string) {
		out = append(out, [4]string{name, fmt.Sprint(s.count(sig, Passed)), fmt.Sprint(s.count(sig, Failed)), fmt.Sprint(s.count(sig, NotRun))})
	}
	for _, g := range s.groups() {
		row(g, g)
	}
	row("all", "")
	return out
}

// Text is the table and the failures for a terminal.
func (s Summary) Text() string {
	var b strings.Builder
	for _, r := range s.rows() {
		fmt.Fprintf(&b, "%-20s %7s %7s %8s\n", r[0], r[1], r[2], r[3])
	}
	for _, t := range s {
		if t.Result == Failed {
			fmt.Fprintf(&b, "\nFAILED [sig-%s] %s\n  %s\n", t.SIG, t.Name, t.Error)
		}
	}
	return b.String()
}

// Markdown is the page.
func (s Summary) Markdown(h Header) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Conformance\n\n`make conformance` wrote this page; it is not edited by hand. Upstream's e2e suite %s, tests with [Conformance],\n", h.Version)
	fmt.Fprintf(&b, "against commit %s on %s, %d processes, %s.\n", h.Commit, h.Date.Format("2006-01-02 15:04 MST"), h.Procs, h.Took.Round(time.Second))
	for _, f := range [][2]string{{"FOCUS", h.Focus}, {"SKIP", h.Skip}} {
		if f[1] != "" {
			fmt.Fprintf(&b, "%s: `%s`\n", f[0], f[1])
		}
	}
	b.WriteString("\n")
	for i, r := range s.rows() {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(r[:], " | "))
		if i == 0 {
			b.WriteString("|---|---|---|---|\n")
		}
	}
	s.section(&b, "Failed", Failed)
	s.section(&b, "Not run", NotRun)
	return b.String()
}

// section lists the tests of a result that have something to say.
func (s Summary) section(b *strings.Builder, title string, r Result) {
	head := fmt.Sprintf("\n## %s\n\n", title)
	for _, t := range s {
		if t.Result != r || t.Error == "" {
			continue
		}
		b.WriteString(head)
		head = ""
		fmt.Fprintf(b, "- [sig-%s] %s\n  `%s`\n", t.SIG, t.Name, strings.ReplaceAll(t.Error, "`", "'"))
	}
}
