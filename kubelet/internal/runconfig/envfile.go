package runconfig

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// FileValue reads one variable of an environment file: lines NAME='value' whose values stand in single quotes, literally
// and over several lines if need be; blank lines and those that start with # are skipped. It returns "" for a name that the
// file does not set. The format is that of KEP-3721.
func FileValue(r io.Reader, name string) (string, error) {
	sc := bufio.NewScanner(r)
	n := 0
	next := func() (string, bool) {
		ok := sc.Scan()
		n++
		return sc.Text(), ok
	}
	for line, ok := next(); ok; line, ok = next() {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		switch {
		case !found:
			return "", fmt.Errorf("line %d: there is no '='", n)
		case key == "" || strings.ContainsAny(key, " \t"):
			return "", fmt.Errorf("line %d: the name %q is empty or holds blanks", n, key)
		case value == "" || value[0] == ' ' || value[0] == '\t': // as a shell reads it: set to nothing
			if trimmed := strings.TrimLeft(value, " \t"); value == "" || trimmed == value {
				return "", fmt.Errorf("line %d: the value does not stand in single quotes", n)
			}
			if key == name {
				return "", nil
			}
			continue
		case value[0] != '\'':
			return "", fmt.Errorf("line %d: the value does not stand in single quotes", n)
		}
		begin, text, rest := n, "", value[1:]
		for !strings.Contains(rest, "'") {
			text += rest + "\n"
			if rest, ok = next(); !ok {
				return "", fmt.Errorf("line %d: the quote is not closed", begin)
			}
		}
		last, after, _ := strings.Cut(rest, "'")
		if after = strings.TrimLeft(after, " \t"); after != "" && after[0] != '#' {
			return "", fmt.Errorf("line %d: there is something after the closing quote", n)
		}
		if key == name {
			return text + last, nil
		}
	}
	return "", sc.Err()
}
