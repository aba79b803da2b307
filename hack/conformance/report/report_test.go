package report

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/ginkgo/v2/types"
)

func spec(name string, state types.SpecState, message string, labels ...string) types.SpecReport {
	return types.SpecReport{
		LeafNodeType: types.NodeTypeIt, LeafNodeText: name, LeafNodeLabels: append(labels, "Conformance"), State: state,
		Failure: types.Failure{Message: message},
	}
}

func TestSummarize(t *testing.T) {
	other := spec("[sig-node] no conformance test", types.SpecStateFailed, "x")
	other.LeafNodeLabels = nil
	parallel := types.Report{SpecReports: types.SpecReports{
		spec("[sig-node] Pods run", types.SpecStatePassed, ""),
		spec("[sig-node] Pods stop", types.SpecStateFailed, "timed out\nafter 300 s"),
		spec("[sig-apps] Daemon", types.SpecStateSkipped, ""),
		spec("[sig-apps] Two nodes", types.SpecStateSkipped, "needs two nodes"),
		other,
		{LeafNodeType: types.NodeTypeBeforeSuite, State: types.SpecStatePassed},
	}}
	serial := types.Report{SpecReports: types.SpecReports{
		spec("[sig-node] Pods run", types.SpecStateSkipped, ""),
		spec("[sig-node] Pods stop", types.SpecStateSkipped, ""),
		spec("[sig-apps] Daemon", types.SpecStatePanicked, "", "Serial"),
		spec("[sig-apps] Two nodes", types.SpecStateSkipped, ""),
	}}
	got := Summarize([]types.Report{parallel, serial})
	want := Summary{
		{SIG: "apps", Name: "Daemon", Result: Failed, Error: "panicked"},
		{SIG: "apps", Name: "Two nodes", Error: "needs two nodes"},
		{SIG: "node", Name: "Pods run", Result: Passed},
		{SIG: "node", Name: "Pods stop", Result: Failed, Error: "timed out"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Failed() != 2 || got.Total() != 3 {
		t.Errorf("failed %d, total %d", got.Failed(), got.Total())
	}
}

func TestFirstLine(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"one line":     {"boom", "boom"},
		"announced":    {"Unexpected error:\n    <*errors.StatusError | 0xc0>: \n    pods \"a\" is forbidden\n    {", "Unexpected error: pods \"a\" is forbidden"},
		"expected":     {"Expected\n    <string>: DONE\\n\nto equal\n    <string>: DONE", "Expected DONE\\n to equal DONE"},
		"empty":        {"", ""},
		"blank before": {"\n\n  late  words\nmore", "late words"},
		"long":         {strings.Repeat("é", 200), strings.Repeat("é", 150) + "…"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := FirstLine(c.in); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestRender(t *testing.T) {
	s := Summary{
		{SIG: "apps", Name: "Two nodes", Error: "needs `two` nodes"},
		{SIG: "node", Name: "Pods run", Result: Passed},
		{SIG: "node", Name: "Pods stop", Result: Failed, Error: "timed out"},
	}
	got := s.Markdown(Header{Version: "v1", Commit: "abc", Date: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), Procs: 4, Took: 61 * time.Second, Focus: "Pods"})
	want := "# Conformance\n\n`make conformance` wrote this page; it is not edited by hand. Upstream's e2e suite v1, tests with [Conformance],\n" +
		"against commit abc on 2026-01-02 03:04 UTC, 4 processes, 1m1s.\nFOCUS: `Pods`\n\n" +
		"| SIG | passed | failed | not run |\n|---|---|---|---|\n| apps | 0 | 0 | 1 |\n| node | 1 | 1 | 0 |\n| all | 1 | 1 | 1 |\n" +
		"\n## Failed\n\n- [sig-node] Pods stop\n  `timed out`\n\n## Not run\n\n- [sig-apps] Two nodes\n  `needs 'two' nodes`\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if text := s.Text(); !strings.Contains(text, "FAILED [sig-node] Pods stop\n  timed out") {
		t.Error(text)
	}
}
