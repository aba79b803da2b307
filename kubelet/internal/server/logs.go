package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// followPeriod is how often a followed log is looked at.
const followPeriod = 100 * time.Millisecond

// logOptions is what a reader asked for.
type logOptions struct {
	follow, previous, timestamps bool
	tail                         int64 // lines, -1 for all
	limit                        int64 // bytes, -1 for all
	since                        time.Time
	stream                       string // "stdout", "stderr" or "" for both
}

func parseLogOptions(q url.Values, now time.Time) (logOptions, error) {
	o := logOptions{follow: flag(q, "follow"), previous: flag(q, "previous"), timestamps: flag(q, "timestamps"), tail: -1, limit: -1}
	number := func(name string, least int64, into *int64) error {
		v := q.Get(name)
		if v == "" {
			return nil
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < least {
			return fmt.Errorf("%s: Invalid value: %q: must be a number of at least %d", name, v, least)
		}
		*into = n
		return nil
	}
	seconds := int64(0)
	tail := "tailLines"
	if q.Get("tail") == "all" {
		q.Del("tail")
	} else if q.Get("tail") != "" {
		tail = "tail"
	}
	if err := errors.Join(number(tail, 0, &o.tail), number("limitBytes", 1, &o.limit), number("sinceSeconds", 1, &seconds)); err != nil {
		return o, err
	}
	if seconds > 0 {
		o.since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return o, fmt.Errorf("sinceTime: Invalid value: %q: %w", v, err)
		}
		o.since = t
	}
	switch v := q.Get("stream"); v {
	case "", "All":
	case "Stdout", "Stderr":
		o.stream = strings.ToLower(v)
	default:
		return o, fmt.Errorf("stream: Unsupported value: %q", v)
	}
	return o, nil
}

func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("container")
	pod, st, ok := s.find(r.PathValue("namespace"), r.PathValue("pod"), "")
	if !ok {
		http.Error(w, fmt.Sprintf("pod %q does not exist", r.PathValue("pod")), http.StatusNotFound)
		return
	}
	if c, _ := podspec.Find(pod, name); c == nil {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q", name, pod.Name), http.StatusNotFound)
		return
	}
	o, err := parseLogOptions(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	id, err := logContainer(pod.Name, &st, name, o.previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c, err := s.deps.Runtime.Container(r.Context(), id)
	if err != nil {
		http.Error(w, fmt.Sprintf("unable to retrieve container logs for %s", id), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &limited{w: w, left: o.limit}
	out.flush, _ = w.(http.Flusher)
	if out.flush != nil {
		out.flush.Flush()
	}
	err = copyLog(r.Context(), c.LogPath, o, out, func() bool {
		now, err := s.deps.Runtime.Container(r.Context(), id)
		return err == nil && now.State == podstate.Running
	})
	if err != nil && !errors.Is(err, errLimit) && r.Context().Err() == nil {
		fmt.Fprintln(w, err)
	}
}

// logContainer picks the instance whose log is meant, with upstream's messages when there is none.
func logContainer(pod string, st *corev1.PodStatus, name string, previous bool) (string, error) {
	var c *corev1.ContainerStatus
	for _, list := range [][]corev1.ContainerStatus{st.ContainerStatuses, st.InitContainerStatuses, st.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				c = &list[i]
			}
		}
	}
	if c == nil {
		return "", fmt.Errorf("container %q in pod %q is not available", name, pod)
	}
	last := c.LastTerminationState.Terminated
	var id string
	switch {
	case previous:
		if last == nil || last.ContainerID == "" {
			return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, pod)
		}
		id = last.ContainerID
	case c.State.Running != nil:
		id = c.ContainerID
	case c.State.Terminated != nil:
		if id = c.State.Terminated.ContainerID; id == "" && last != nil {
			id = last.ContainerID
		}
	case last != nil:
		id = last.ContainerID
	case c.State.Waiting != nil:
		switch c.State.Waiting.Reason {
		case "ErrImagePull":
			return "", fmt.Errorf("container %q in pod %q is waiting to start: image can't be pulled", name, pod)
		case "ImagePullBackOff":
			return "", fmt.Errorf("container %q in pod %q is waiting to start: trying and failing to pull image", name, pod)
		default:
			return "", fmt.Errorf("container %q in pod %q is waiting to start: %v", name, pod, c.State.Waiting.Reason)
		}
	default:
		return "", fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", name, pod)
	}
	if id == "" {
		return "", fmt.Errorf("container %q in pod %q is terminated", name, pod)
	}
	_, id, _ = strings.Cut(id, "://")
	return id, nil
}

var errLimit = errors.New("limit reached")

// limited writes until its limit, and flushes.
type limited struct {
	w     io.Writer
	flush http.Flusher
	left  int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left >= 0 && int64(len(p)) >= l.left {
		n, err := l.w.Write(p[:l.left])
		l.left = 0
		if err == nil {
			err = errLimit
		}
		return n, err
	}
	n, err := l.w.Write(p)
	if l.left >= 0 {
		l.left -= int64(n)
	}
	return n, err
}

// copyLog copies a CRI log, and what is added to it while the container runs if asked to follow.
func copyLog(ctx context.Context, path string, o logOptions, out *limited, running func() bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("failed to try resolving symlinks in path %q: %w", path, err)
	}
	defer func() { f.Close() }()
	if err := seekTail(f, o.tail); err != nil {
		return err
	}
	in := bufio.NewReaderSize(f, 32<<10)
	var part []byte
	for {
		line, err := in.ReadBytes('\n')
		part = append(part, line...)
		if err == nil {
			if err := emit(out, part, o); err != nil {
				return err
			}
			part = part[:0]
			continue
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		if !o.follow {
			if len(part) > 0 {
				return emit(out, part, o)
			}
			return nil
		}
		if out.flush != nil {
			out.flush.Flush()
		}
		if reopened := rotated(f, path); reopened != nil {
			f.Close()
			f, part = reopened, part[:0]
			in.Reset(f)
			continue
		}
		if !running() {
			if line, _ := in.ReadBytes('\n'); len(line) > 0 {
				if err := emit(out, append(part, line...), o); err != nil {
					return err
				}
				part = part[:0]
				continue
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPeriod):
		}
	}
}

// rotated opens the path again when it no longer names the open file; nil when it does.
func rotated(f *os.File, path string) *os.File {
	a, err := f.Stat()
	if err != nil {
		return nil
	}
	b, err := os.Stat(path)
	if err != nil || os.SameFile(a, b) {
		return nil
	}
	fresh, err := os.Open(path)
	if err != nil {
		return nil
	}
	return fresh
}

// emit writes one CRI line: "TIME STREAM TAGS payload"; a partial line (tag P) gets no line end.
func emit(out *limited, line []byte, o logOptions) error {
	f := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), 4)
	if len(f) < 3 {
		return nil
	}
	if o.stream != "" && string(f[1]) != o.stream {
		return nil
	}
	if !o.since.IsZero() {
		if t, err := time.Parse(time.RFC3339Nano, string(f[0])); err == nil && t.Before(o.since) {
			return nil
		}
	}
	var b bytes.Buffer
	if o.timestamps {
		b.Write(f[0])
		b.WriteByte(' ')
	}
	if len(f) == 4 {
		b.Write(f[3])
	}
	if !strings.HasPrefix(string(f[2]), "P") {
		b.WriteByte('\n')
	}
	_, err := out.Write(b.Bytes())
	return err
}

// seekTail moves to the start of the last n lines; a negative n keeps the start.
func seekTail(f *os.File, n int64) error {
	if n < 0 {
		return nil
	}
	pos, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	const block = 16 << 10
	buf := make([]byte, block)
	lines := int64(0)
	for end := pos; end > 0; {
		start := max(end-block, 0)
		if _, err := f.ReadAt(buf[:end-start], start); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := end - start - 1; i >= 0; i-- {
			if buf[i] != '\n' {
				continue
			}
			if start+i == pos-1 {
				continue // the end of the last line
			}
			if lines++; lines == n {
				_, err := f.Seek(start+i+1, io.SeekStart)
				return err
			}
		}
		end = start
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
