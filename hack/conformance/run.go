package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/onsi/ginkgo/v2/types"
	"golang.org/x/sync/errgroup"
)

// part is tests that run in one go.
type part struct {
	name, labels string
	procs        int
}

// run runs the tests: those that bear company first, then the others alone.
func (s *suite) run(ctx context.Context, o options) ([]types.Report, error) {
	parts := []part{
		{"parallel", "Conformance && !(Serial || Disruptive)", o.procs},
		{"serial", "Conformance && (Serial || Disruptive)", 1},
	}
	var out []types.Report
	for _, p := range parts {
		reports, err := s.runPart(ctx, o, p)
		if err != nil {
			return nil, err
		}
		out = append(out, reports...)
	}
	return out, nil
}

func (s *suite) runPart(ctx context.Context, o options, p part) ([]types.Report, error) {
	log, err := os.Create(filepath.Join(o.out, p.name+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	result := filepath.Join(o.out, p.name+".json")
	_ = os.Remove(result)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for progress: %w", err)
	}
	args := []string{
		"--no-color", "--keep-going", "--procs=" + fmt.Sprint(p.procs), "--timeout=" + o.timeout.String(), "--label-filter=" + p.labels,
		"--json-report=" + filepath.Base(result), "--output-dir=" + o.out,
	}
	if o.focus != "" {
		args = append(args, "--focus="+o.focus)
	}
	if o.skip != "" {
		args = append(args, "--skip="+o.skip)
	}
	args = append(
		args, s.path("e2e.test"), "--", "--kubeconfig="+o.kubeconfig, "--provider=local", "--kubectl-path="+o.kubectl, "--disable-log-dump",
		"--e2e-output-dir="+o.out, "--progress-report-url=http://"+l.Addr().String(),
	)
	cmd := exec.CommandContext(ctx, s.path("ginkgo"), args...)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = log, log
	// ginkgo cleans up after an interrupt.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	var runErr error
	prog := &progress{part: p.name, start: time.Now()}
	server := &http.Server{Handler: prog, ReadHeaderTimeout: time.Minute}
	stop := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error { prog.say(stop); return nil })
	g.Go(func() error {
		runErr = cmd.Run()
		close(stop)
		return server.Close()
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	data, err := os.ReadFile(result)
	if err != nil {
		return nil, fmt.Errorf("the %s tests did not run: %w (log: %s)", p.name, errors.Join(runErr, err), log.Name())
	}
	var reports []types.Report
	if err := json.Unmarshal(data, &reports); err != nil {
		return nil, fmt.Errorf("read %s: %w", result, err)
	}
	return reports, nil
}

// progress hears from the suite what has ended.
type progress struct {
	part  string
	start time.Time

	mu           sync.Mutex // guards what follows
	total        int
	done, failed int
}

// ServeHTTP takes the messages of upstream's progress reporter. Each process of a parallel run sends its own counts, so
// that the ends are counted by message.
func (p *progress) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var m struct {
		Message string `json:"msg"`
		Total   int    `json:"total"`
	}
	if json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20)).Decode(&m) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = max(p.total, m.Total)
	name, failed := strings.CutPrefix(m.Message, "FAILED ")
	switch {
	case failed:
		p.failed++
		p.done++
		fmt.Println("FAILED", name)
	case strings.HasPrefix(m.Message, "PASSED "):
		p.done++
	}
}

// say tells how far the run is, every half a minute, until stop is closed.
func (p *progress) say(stop <-chan struct{}) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			p.mu.Lock()
			fmt.Printf("PROGRESS conformance, %s: %d of %d done, %d failed, %.0f s\n", p.part, p.done, p.total, p.failed, time.Since(p.start).Seconds())
			p.mu.Unlock()
		}
	}
}
