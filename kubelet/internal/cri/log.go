package cri

import (
	"bytes"
	"strings"
)

// logTail returns the payload of the last lines of a CRI log file, at most limit bytes and lines; "" if unreadable.
func logTail(path string, limit int, lines int) string {
	data, err := tail(path, int64(limit)*4)
	if err != nil {
		return ""
	}
	var out []string
	for _, line := range bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n")) {
		// time stream tags payload
		parts := bytes.SplitN(line, []byte(" "), 4)
		if len(parts) == 4 {
			out = append(out, string(parts[3])+"\n")
		}
	}
	if len(out) > lines {
		out = out[len(out)-lines:]
	}
	text := strings.Join(out, "")
	if len(text) > limit {
		text = text[len(text)-limit:]
	}
	return text
}
