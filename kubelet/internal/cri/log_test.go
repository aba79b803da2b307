package cri

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLogTail(t *testing.T) {
	const at = "2026-01-01T00:00:01Z stdout "
	tests := map[string]struct {
		text, want   string
		limit, lines int
	}{
		"lines":              {at + "F a\n" + at + "F b\n", "a\nb\n", 100, 9},
		"no end of the last": {at + "F a\n" + at + "P DONE\n", "a\nDONE", 100, 9},
		"parts of one line":  {at + "P a\n" + at + "F b\n" + at + "F c\n", "ab\nc\n", 100, 2},
		"the last lines":     {at + "F a\n" + at + "F b\n" + at + "F c\n", "b\nc\n", 100, 2},
		"the last bytes":     {at + "F 0123456789012345678901234\n", "56789012345678901234\n", 21, 9},
		"not a log":          {"x\n", "", 100, 9},
	}
	for name, tc := range tests {
		path := filepath.Join(t.TempDir(), "0.log")
		if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := logTail(path, tc.limit, tc.lines); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if got := logTail("/nowhere", 1, 1); got != "" {
		t.Errorf("an absent log: %q", got)
	}
}
