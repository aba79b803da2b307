package server

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const sample = "2026-01-01T00:00:01.5Z stdout F one\n" +
	"2026-01-01T00:00:02Z stderr F two\n" +
	"2026-01-01T00:00:03Z stdout P thr\n" +
	"2026-01-01T00:00:03.1Z stdout F ee\n" +
	"2026-01-01T00:00:04Z stdout F \n"

func TestCopyLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(sample), 0o644); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"":                               "one\ntwo\nthree\n\n",
		"tailLines=2":                    "ee\n\n",
		"tailLines=0":                    "",
		"tailLines=100":                  "one\ntwo\nthree\n\n",
		"limitBytes=5":                   "one\nt",
		"stream=Stderr":                  "two\n",
		"sinceTime=2026-01-01T00:00:03Z": "three\n\n",
		"timestamps=true&tailLines=1":    "2026-01-01T00:00:04Z \n",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		o, err := parseLogOptions(q, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = copyLog(t.Context(), path, o, &limited{w: &out, left: o.limit}, func() bool { return false })
		if (err != nil && !errors.Is(err, errLimit)) || out.String() != want {
			t.Errorf("%q: %q, %v, want %q", query, out.String(), err, want)
		}
	}
	for _, bad := range []string{"tailLines=-1", "tailLines=x", "limitBytes=0", "sinceSeconds=0", "sinceTime=now", "stream=both"} {
		q, _ := url.ParseQuery(bad)
		if _, err := parseLogOptions(q, time.Now()); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

// TestFollowAcrossRotation: nothing is lost and nothing comes twice when the file is renamed and made anew.
func TestFollowAcrossRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	write := func(p, text string) {
		t.Helper()
		f, err := os.OpenFile(p, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	line := func(s string) string { return "2026-01-01T00:00:01Z stdout F " + s + "\n" }
	write(path, line("a"))
	var running atomic.Bool
	running.Store(true)
	step := 0
	var out strings.Builder
	err := copyLog(context.Background(), path, logOptions{follow: true, tail: -1}, &limited{w: &out, left: -1}, func() bool {
		switch step++; step {
		case 1:
			write(path, line("b"))
			if err := os.Rename(path, path+".1"); err != nil {
				t.Error(err)
			}
			write(path+".1", line("late")) // the runtime has not reopened yet
			write(path, line("c"))
		case 3:
			write(path, line("d"))
			running.Store(false)
		}
		return running.Load()
	})
	if err != nil || out.String() != "a\nb\nlate\nc\nd\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestLogContainer(t *testing.T) {
	end := &corev1.ContainerStateTerminated{ContainerID: "containerd://old"}
	tests := map[string]struct {
		c        corev1.ContainerStatus
		previous bool
		id, err  string
	}{
		"running":             {corev1.ContainerStatus{ContainerID: "containerd://1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}, false, "1", ""},
		"ended":               {corev1.ContainerStatus{State: corev1.ContainerState{Terminated: end}}, false, "old", ""},
		"in a crash loop":     {corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, LastTerminationState: corev1.ContainerState{Terminated: end}}, false, "old", ""},
		"the previous one":    {corev1.ContainerStatus{LastTerminationState: corev1.ContainerState{Terminated: end}}, true, "old", ""},
		"no previous one":     {corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}, true, "", `previous terminated container "c" in pod "p" not found`},
		"the image is absent": {corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}}}, false, "", `container "c" in pod "p" is waiting to start: image can't be pulled`},
		"creating":            {corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}, false, "", `container "c" in pod "p" is waiting to start: ContainerCreating`},
	}
	for name, tc := range tests {
		tc.c.Name = "c"
		id, err := logContainer("p", &corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{tc.c}}, "c", tc.previous)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if id != tc.id || text != tc.err {
			t.Errorf("%s: %q, %q, want %q, %q", name, id, text, tc.id, tc.err)
		}
	}
}

func FuzzEmit(f *testing.F) {
	f.Add([]byte("2026-01-01T00:00:01Z stdout F x\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var out bytes.Buffer
		if err := emit(&limited{w: &out, left: -1}, line, logOptions{timestamps: true, since: time.Unix(1, 0)}); err != nil || out.Len() > len(line)+2 {
			t.Errorf("%q became %q, %v", line, out.String(), err)
		}
	})
}
