package main

import (
	"strings"
	"testing"

	"flagship/hack/conformance/report"
)

func TestPage(t *testing.T) {
	good := result{Direction: "swap", Component: "kubelet", Listed: 2, Tests: report.Summary{{SIG: "node", Name: "a", Result: report.Passed}, {SIG: "node", Name: "b", Error: "wants | two\nnodes"}}}
	good.parse("date: 2026-11-25 21:00 UTC\ncommit: abc\nmachine: m\nchange: x\nchange: y\n")
	bad := result{Direction: "swap-in", Component: "kube-proxy", Listed: 3, Tests: report.Summary{{SIG: "network", Name: "c", Result: report.Failed, Error: "timed | out"}}}
	bad.parse("date: d\ncommit: c\nmachine: m\n")
	down := result{Direction: "swap-in", Component: "kubelet", Listed: 3}
	down.parse("date: d\ncommit: c\nerror: the cluster did not come up: no node: x\n")
	text := page([]result{good, bad, down, {Direction: "swap", Component: "kube-proxy"}})
	for _, want := range []string{
		"| kubelet | 1 | 0 | 1 |  | x; y | 2026-11-25 21:00 UTC | abc |\n",
		"| kube-proxy | 0 | 1 | 2 | `timed ¦ out` | nothing | d | c |\n",
		"| kubelet | 0 | 0 | 3 | `the cluster did not come up: no node: x` | nothing | d | c |\n",
		"| kube-proxy | | | | no run was made | | | |\n",
		"- swap-in kube-proxy: [sig-network] c\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has not %q:\n%s", want, text)
		}
	}
	if strings.Count(text, "\n- m\n") != 1 {
		t.Errorf("what two runs say stands not once:\n%s", text)
	}
}
