package list

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"flagship/hack/conformance/report"
)

// Read reads a file. A name that stands in it twice is an error.
func Read(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []string
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if seen[line] {
			return nil, fmt.Errorf("%s: twice: %s", file, line)
		}
		seen[line] = true
		out = append(out, line)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no test is named in it", file)
	}
	return out, nil
}

// tags may follow a name.
const tags = `( \[[^\]]+\])*$`

// Focus is an expression that matches the tests of these names.
func Focus(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	return "(" + strings.Join(quoted, "|") + ")" + tags
}

var trailing = regexp.MustCompile(tags)

// Pick is the part of a summary that is named, in the order of the names, and the names that the summary does not have.
func Pick(names []string, sum report.Summary) (found report.Summary, missing []string) {
	tests := map[string]report.Test{}
	for _, t := range sum {
		tests["[sig-"+t.SIG+"] "+trailing.ReplaceAllString(t.Name, "")] = t
	}
	for _, n := range names {
		t, ok := tests[trailing.ReplaceAllString(n, "")]
		if !ok {
			missing = append(missing, n)
			continue
		}
		found = append(found, t)
	}
	return found, missing
}
