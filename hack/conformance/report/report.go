package report

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2/types"
)

// Result is how a test ended.
type Result int

// The results, the later the more telling.
const (
	NotRun Result = iota // filtered out, or it says itself that it cannot run here
	Passed
	Failed
)

// Test is one test.
type Test struct {
	SIG, Name string
	Result    Result
	Error     string // the first line of why it failed or did not run
}

// Summary is the tests of a run, by group and name.
type Summary []Test

// Summarize reads reports of parts of one suite. A test that ran in one part counts as that part has it.
func Summarize(reports []types.Report) Summary {
	tests := map[string]Test{}
	for _, r := range reports {
		for _, s := range r.SpecReports {
			if s.LeafNodeType != types.NodeTypeIt || !slices.Contains(s.Labels(), "Conformance") {
				continue
			}
			t := test(s)
			if old, ok := tests[t.Name]; !ok || t.Result > old.Result || t.Result == old.Result && old.Error == "" {
				tests[t.Name] = t
			}
		}
	}
	return slices.SortedFunc(maps.Values(tests), func(a, b Test) int {
		return cmp.Or(cmp.Compare(a.SIG, b.SIG), cmp.Compare(a.Name, b.Name))
	})
}

var group = regexp.MustCompile(`^\[sig-([a-z-]+)\] *`)

func test(s types.SpecReport) Test {
	t := Test{SIG: "none", Name: s.FullText(), Error: FirstLine(s.Failure.Message)}
	if m := group.FindStringSubmatch(t.Name); m != nil {
		t.SIG, t.Name = m[1], strings.TrimPrefix(t.Name, m[0])
	}
	switch {
	case s.State.Is(types.SpecStateFailureStates):
		t.Result = Failed
		t.Error = cmp.Or(t.Error, s.State.String())
	case s.State.Is(types.SpecStatePassed):
		t.Result, t.Error = Passed, ""
	}
	return t
}

var (
	// headline is a line that only announces what follows.
	headline = regexp.MustCompile(`(:|occurred|\{|\[|^Expected|^to (be|equal|contain|match|have).*)$`)
	// typed is the mark that gomega sets before a value.
	typed = regexp.MustCompile(`^<[^>]+>: ?`)
)

// FirstLine is the beginning of an error in at most 300 bytes of one line: its first line, and those after it where the
// first only announces them.
func FirstLine(message string) string {
	var parts []string
	for line := range strings.Lines(message) {
		line = typed.ReplaceAllString(strings.Join(strings.Fields(line), " "), "")
		if line == "" {
			continue
		}
		parts = append(parts, line)
		// "Expected" has a value, "to equal" and another after it.
		if expects := len(parts) == 2 && parts[0] == "Expected"; !headline.MatchString(line) && !expects || len(parts) == 4 {
			break
		}
	}
	out := strings.Join(parts, " ")
	if len(out) > 300 {
		out = strings.ToValidUTF8(out[:300], "") + "…"
	}
	return out
}

// Failed is the number of tests that failed.
func (s Summary) Failed() int { return s.count("", Failed) }

// Total is the number of tests that ran.
func (s Summary) Total() int { return s.count("", Failed) + s.count("", Passed) }

// count is the number of tests of a group, or of all, with a result.
func (s Summary) count(sig string, r Result) int {
	n := 0
	for _, t := range s {
		if t.Result == r && (sig == "" || t.SIG == sig) {
			n++
		}
	}
	return n
}

// groups are the names of the groups that have tests.
func (s Summary) groups() []string {
	var out []string
	for _, t := range s {
		if !slices.Contains(out, t.SIG) {
			out = append(out, t.SIG)
		}
	}
	return out
}
