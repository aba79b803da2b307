package main

import (
	"fmt"
	"slices"
	"strings"

	"flagship/hack/conformance/report"
)

func components() []string {
	return []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"}
}

type direction struct{ name, title, about string }

func directions() []direction {
	return []direction{
		{"swap", "Our cluster, one component upstream's", "`make swap`: `ctl init` with our binaries and images, of which one is upstream's."},
		{"swap-in", "Upstream's cluster, one component ours", "`make swap-in`: `kubeadm init` with upstream's binaries and images, of which one is ours."},
	}
}

// result is one run.
type result struct {
	Direction, Component string
	Date, Commit         string
	Error                string // why there are no tests, or not all
	Changes, Machine     []string
	Versions             []string
	Listed               int // the tests that belong to the component
	Tests                report.Summary
}

func (r *result) folder() string { return r.Direction + "-" + r.Component }

// parse reads the script's lines. The last date, commit and error count.
func (r *result) parse(text string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "date":
			r.Date = value
		case "commit":
			r.Commit = value
		case "error":
			r.Error = report.FirstLine(value)
		case "change":
			r.Changes = append(r.Changes, value)
		case "machine":
			r.Machine = append(r.Machine, value)
		case "version":
			r.Versions = append(r.Versions, value)
		}
	}
}

// passed and notRun count tests; a listed test that the run never came to is not run.
func (r *result) passed() int { return r.Tests.Total() - r.Tests.Failed() }
func (r *result) notRun() int { return r.Listed - r.Tests.Total() }

// first is the first error of the run.
func (r *result) first() string {
	if r.Error != "" {
		return r.Error
	}
	for _, t := range r.Tests {
		if t.Result == report.Failed {
			return t.Error
		}
	}
	return ""
}

// text is the run for a terminal.
func (r *result) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d passed, %d failed, %d not run\n", r.Direction, r.Component, r.passed(), r.Tests.Failed(), r.notRun())
	if r.Error != "" {
		fmt.Fprintf(&b, "  %s\n", r.Error)
	}
	for _, t := range r.Tests {
		if t.Result == report.Failed {
			fmt.Fprintf(&b, "FAILED [sig-%s] %s\n  %s\n", t.SIG, t.Name, t.Error)
		}
	}
	return b.String()
}

const head = `# Drop-in

` + "`make swap-all`" + ` wrote this page of the last run of each combination; it is not edited by hand. A cluster of five components has one replaced by its namesake from the other
implementation, in a machine of its own of one node; before the tests, the program file of each running component is compared with the binary that it should be. The tests are
conformance tests of upstream's suite that exercise the component: [hack/swap](../hack/swap) names them. "Changed" is what the flags, manifests and configuration files of
the cluster were not as its own tool writes them, for the sake of the replaced component.
`

// page is the table of all combinations.
func page(all []result) string {
	var b strings.Builder
	b.WriteString(head)
	for _, d := range directions() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| component | passed | failed | not run | first error | changed | date | commit |\n|---|---|---|---|---|---|---|---|\n", d.title, d.about)
		for _, r := range all {
			if r.Direction != d.name {
				continue
			}
			if r.Date == "" {
				fmt.Fprintf(&b, "| %s | | | | no run was made | | | |\n", r.Component)
				continue
			}
			cells := []string{
				r.Component, fmt.Sprint(r.passed()), fmt.Sprint(r.Tests.Failed()), fmt.Sprint(r.notRun()), code(r.first()), or(strings.Join(r.Changes, "; "), "nothing"), r.Date, r.Commit,
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		}
	}
	union(&b, "What the machine asks of both", all, func(r result) []string { return r.Machine })
	union(&b, "Versions", all, func(r result) []string { return r.Versions })
	failures(&b, all)
	return b.String()
}

// union lists what some runs say, once.
func union(b *strings.Builder, title string, all []result, of func(result) []string) {
	var lines []string
	for _, r := range all {
		for _, l := range of(r) {
			if !slices.Contains(lines, l) {
				lines = append(lines, l)
			}
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "- %s\n", l)
	}
}

// failures lists the tests that failed or did not run, with what they say.
func failures(b *strings.Builder, all []result) {
	title := "\n## Failed, or not run\n\n"
	for _, r := range all {
		for _, t := range r.Tests {
			if t.Result == report.Passed {
				continue
			}
			fmt.Fprintf(b, "%s- %s %s: [sig-%s] %s\n  %s\n", title, r.Direction, r.Component, t.SIG, t.Name, or(code(t.Error), "not run"))
			title = ""
		}
	}
}

// code marks an error as such in a cell of a table.
func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.NewReplacer("`", "'", "|", "¦").Replace(s) + "`"
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
