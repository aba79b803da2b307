package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// packages are those of controller-runtime whose tests start an API server.
var packages = []string{
	"pkg/envtest", "pkg/client", "pkg/client/apiutil", "pkg/cache", "pkg/manager", "pkg/manager/internal/integration", "pkg/controller", "pkg/builder", "pkg/webhook",
	"pkg/source", "pkg/cluster", "pkg/metrics/filters", "pkg/internal/controller", "pkg/internal/recorder", "pkg/internal/source", "pkg/internal/testing/controlplane",
}

// suite is one package, with each server.
type suite struct {
	name  string
	sides [2]outcome
}

type outcome struct {
	ran, passed int
	failures    []string
	took        time.Duration
}

// worse are the tests that fail with ours alone.
func (s *suite) worse() []string {
	var out []string
	for _, f := range s.sides[1].failures {
		if !slices.Contains(s.sides[0].failures, f) {
			out = append(out, f)
		}
	}
	return out
}

func runSuites(ctx context.Context, o *options) ([]*suite, error) {
	var assets [2]string
	for i, server := range []string{filepath.Join(o.upstream, "kube-apiserver"), filepath.Join(o.ours, "kube-apiserver")} {
		assets[i] = filepath.Join(o.out, []string{"upstream", "ours"}[i])
		if err := os.MkdirAll(assets[i], 0o755); err != nil {
			return nil, err
		}
		for name, target := range map[string]string{"kube-apiserver": server, "etcd": filepath.Join(o.upstream, "etcd"), "kubectl": filepath.Join(o.upstream, "kubectl")} {
			link := filepath.Join(assets[i], name)
			_ = os.Remove(link)
			if err := os.Symlink(target, link); err != nil {
				return nil, err
			}
		}
	}
	var out []*suite
	for _, p := range packages {
		if !strings.Contains(p, o.only) {
			continue
		}
		s := &suite{name: p}
		for i := range s.sides {
			var err error
			if s.sides[i], err = test(ctx, o, p, assets[i]); err != nil {
				return nil, err
			}
		}
		fmt.Printf("PROGRESS %s: %d of %d passed with upstream's, %d with ours\n", p, s.sides[0].passed, s.sides[0].ran, s.sides[1].passed)
		out = append(out, s)
	}
	return out, nil
}

// What ginkgo says of a suite: its Go test is one, of many specs.
var (
	colour  = regexp.MustCompile(`\x1b\[[0-9;]*m`)
	ranOf   = regexp.MustCompile(`^Ran (\d+) of \d+ Specs`)
	passed  = regexp.MustCompile(`^(?:FAIL!|SUCCESS!) -- (\d+) Passed`)
	failure = regexp.MustCompile(`^  \[(?:FAIL|PANICKED!|TIMEDOUT)\] (.*)$`)
)

// event is a line of go test -json.
type event struct{ Action, Test, Output string }

// test runs a package's tests. That some fail is no error; that there are none is.
func test(ctx context.Context, o *options, pkg, assets string) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-vet=off", "-count=1", "-timeout=18m", "./"+pkg)
	cmd.Dir = filepath.Join(o.clients, "controller-runtime")
	cmd.Env = append(os.Environ(), "KUBEBUILDER_ASSETS="+assets, "GOWORK=off", "GOFLAGS=-mod=mod")
	start := time.Now()
	data, failed := cmd.Output()
	out := outcome{took: time.Since(start)}
	var text bytes.Buffer
	suite := map[string]bool{} // the Go tests that are ginkgo's
	for in := json.NewDecoder(bytes.NewReader(data)); ; {
		var e event
		if err := in.Decode(&e); err != nil {
			break
		}
		out.take(&e, suite)
		text.WriteString(e.Output)
	}
	log := filepath.Join(o.out, filepath.Base(assets)+"-"+strings.ReplaceAll(pkg, "/", "_")+".log")
	if err := os.WriteFile(log, text.Bytes(), 0o644); err != nil {
		return outcome{}, err
	}
	if out.ran == 0 {
		return out, fmt.Errorf("%s with %s: no test ran: %w, see %s", pkg, filepath.Base(assets), failed, log)
	}
	return out, nil
}

// take adds what an event tells.
func (o *outcome) take(e *event, suite map[string]bool) {
	line := strings.TrimRight(colour.ReplaceAllString(e.Output, ""), "\n")
	if m := ranOf.FindStringSubmatch(line); m != nil {
		suite[e.Test] = true
		o.ran += number(m[1])
	}
	if m := passed.FindStringSubmatch(line); m != nil {
		o.passed += number(m[1])
	}
	if m := failure.FindStringSubmatch(line); m != nil {
		o.failures = append(o.failures, strings.TrimSpace(m[1]))
	}
	if e.Test == "" || suite[e.Test] {
		return
	}
	switch e.Action {
	case "pass":
		o.ran, o.passed = o.ran+1, o.passed+1
	case "fail":
		o.ran, o.failures = o.ran+1, append(o.failures, e.Test)
	}
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}
