package runconfig

import (
	"fmt"
	"strings"
)

// Expand replaces $(NAME) by lookup's answer; $$ is an escaped dollar, and an unknown or unclosed reference stays as it
// is, as the API documents for command, args and env values.
func Expand(s string, lookup func(string) (string, bool)) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i+2:], ')')
			if end < 0 {
				b.WriteString("$(")
				i++
				continue
			}
			name := s[i+2 : i+2+end]
			if v, ok := lookup(name); ok {
				b.WriteString(v)
			} else {
				b.WriteString("$(" + name + ")")
			}
			i += 2 + end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

// expandAll is Expand where every reference must be known.
func expandAll(s string, lookup func(string) (string, bool)) (string, error) {
	var missing []string
	out := Expand(s, func(name string) (string, bool) {
		v, ok := lookup(name)
		if !ok {
			missing = append(missing, name)
		}
		return v, ok
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("missing value for %q", strings.Join(missing, ", "))
	}
	return out, nil
}
