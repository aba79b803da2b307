package queue

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/scheduler/internal/snapshot"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts' answers anew")

// world runs a transcript: lines of commands, each followed by what the queue answered, after "> ".
type world struct {
	now   time.Time
	q     *Queue
	items map[string]*Item
	out   []string
}

func newWorld() *world {
	w := &world{now: time.Unix(0, 0), items: map[string]*Item{}}
	w.q = New(Config{InitialBackoff: time.Second, MaxBackoff: 10 * time.Second, MaxUnschedulable: 5 * time.Minute},
		func(p *snapshot.Pod) bool { return len(p.Spec.SchedulingGates) > 0 },
		func(m Move) { w.out = append(w.out, fmt.Sprintf("%s to %s by %s", m.Pod.Name, m.To, m.Event)) })
	return w
}

func pod(args []string) *snapshot.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: args[0], UID: types.UID(args[0]), Labels: map[string]string{}}}
	for _, a := range args[1:] {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "priority":
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil {
				panic(err)
			}
			v := int32(n)
			p.Spec.Priority = &v
		case "gate":
			p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: value}}
		case "label":
			p.Labels["l"] = value
		default:
			panic("pod: unknown argument " + a)
		}
	}
	out, err := snapshot.NewPod(p)
	if err != nil {
		panic(err)
	}
	return out
}

func (w *world) do(line string) {
	f := strings.Fields(line)
	switch f[0] {
	case "add", "update":
		w.q.Update(pod(f[1:]), w.now)
	case "remove":
		w.q.Remove(types.UID(f[1]))
	case "pop":
		it := w.q.Pop(w.now)
		if it == nil {
			w.out = append(w.out, "nothing")
			return
		}
		w.items[it.Pod.Name] = it
		w.out = append(w.out, fmt.Sprintf("%s, attempt %d", it.Pod.Name, it.Attempts))
	case "reject":
		w.q.Reject(w.items[f[1]], f[2:], w.now)
	case "fail":
		w.q.Fail(w.items[f[1]], w.now)
	case "event":
		w.q.Wake(f[1], func(plugin string, _ *snapshot.Pod) bool { return slices.Contains(f[2:], plugin) }, w.now)
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			panic(err)
		}
		w.now = w.now.Add(d)
		w.q.Flush(w.now)
	case "next":
		at, ok := w.q.Next()
		w.out = append(w.out, fmt.Sprintf("%v %v", at.Sub(w.now), ok))
	case "count":
		n := w.q.Count()
		w.out = append(w.out, fmt.Sprintf("active %d backoff %d unschedulable %d gated %d", n[Active], n[Backoff], n[Unschedulable], n[Gated]))
	default:
		panic("unknown command " + line)
	}
}

// TestTranscripts runs testdata/*.txt, a state machine's documentation and test at once.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld()
			var got strings.Builder
			for lines := bufio.NewScanner(strings.NewReader(string(data))); lines.Scan(); {
				line := lines.Text()
				if strings.HasPrefix(line, "> ") {
					continue
				}
				got.WriteString(line + "\n")
				if line == "" || strings.HasPrefix(line, "#") {
					continue
				}
				w.out = nil
				w.do(line)
				for _, o := range w.out {
					got.WriteString("> " + o + "\n")
				}
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(data), got.String()); d != "" {
				t.Errorf("transcript differs (-want +got):\n%s", d)
			}
		})
	}
}
