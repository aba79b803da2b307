package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
		"--e2e-output-dir="+o.out,
	)
	cmd := exec.CommandContext(ctx, s.path("ginkgo"), args...)
	cmd.Dir = s.dir
	prog := &progress{to: log, part: p.name, start: time.Now()}
	cmd.Stdout, cmd.Stderr = prog, prog
	// ginkgo cleans up after an interrupt.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	stop := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error { prog.say(stop); return nil })
	runErr := cmd.Run() // tests that fail are an error here: the report says which
	close(stop)
	_ = g.Wait()
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

// progress writes ginkgo's output to the log, and counts the tests that ended: ginkgo sets a mark for each.
type progress struct {
	to    io.Writer
	part  string
	start time.Time

	mu           sync.Mutex // guards what follows
	line         []byte     // the end of the output, not whole
	done, failed int
}

// The marks of a test that ended, and what follows it where the test failed.
const (
	endMark  = "•"
	failMark = endMark + " [FAILED]"
)

// Write takes a piece of ginkgo's output.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range b {
		if c != '\n' {
			p.line = append(p.line, c)
			continue
		}
		p.take()
	}
	return p.to.Write(b)
}

// take counts the marks of a line.
func (p *progress) take() {
	p.done += bytes.Count(p.line, []byte(endMark))
	p.failed += bytes.Count(p.line, []byte(failMark))
	p.line = p.line[:0]
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
			done, failed := p.done+bytes.Count(p.line, []byte(endMark)), p.failed
			fmt.Printf("PROGRESS conformance, %s: %d tests done, %d failed, %.0f s\n", p.part, done, failed, time.Since(p.start).Seconds())
			p.mu.Unlock()
		}
	}
}
