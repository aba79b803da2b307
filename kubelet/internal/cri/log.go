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
		if len(parts) != 4 {
			continue
		}
		text := string(parts[3])
		if !bytes.HasPrefix(parts[2], []byte("P")) { // a partial line goes on in the next one, or has no end
			text += "\n"
		}
		if len(out) > 0 && !strings.HasSuffix(out[len(out)-1], "\n") {
			out[len(out)-1] += text
		} else {
			out = append(out, text)
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
