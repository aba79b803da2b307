package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"flagship/hack/compare/lab"
)

// options are the command line.
type options struct {
	upstream, ours, golden, testdata string
	report, full, only, ranges       string
	seed                             uint64
	mutations                        int
}

// errDifferent is the end of a run that found differences without a reason.
var errDifferent = errors.New("there are differences")

func main() {
	var o options
	flag.StringVar(&o.upstream, "upstream", "", "folder of upstream's kube-apiserver and etcd")
	flag.StringVar(&o.ours, "ours", "bin", "folder of our kube-apiserver")
	flag.StringVar(&o.golden, "golden", "", "folder of the golden objects, k8s.io/api/testdata/HEAD")
	flag.StringVar(&o.testdata, "testdata", "hack/compare/diff/testdata", "folder of the cases and of explained.yaml")
	flag.StringVar(&o.report, "report", "", "file of the report, empty for none")
	flag.StringVar(&o.full, "full", "bin/diff.txt", "file of all differences")
	flag.StringVar(&o.only, "kind", "", "compare this kind alone")
	flag.StringVar(&o.ranges, "ranges", "10.96.0.0/16", "service addresses of both servers; 10.96.0.0/16,fd00:10:96::/112 compares dual stack")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of the mutations, 0 for one of the clock")
	flag.IntVar(&o.mutations, "mutations", 30, "mutations of each valid object")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := compareServers(ctx, o)
	if err == errDifferent { //nolint:errorlint // beside another error it is not the end
		stop()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "diff:", err)
		stop()
		os.Exit(1)
	}
}

func compareServers(ctx context.Context, o options) error {
	l, err := lab.New(o.upstream, o.ours)
	if err != nil {
		return err
	}
	defer l.Close()
	up, err := serve(ctx, l, "upstream", l.Upstream, "upstream", o.ranges)
	if err != nil {
		return err
	}
	defer up.Proc.Stop()
	our, err := serve(ctx, l, "ours", l.Ours, "ours", o.ranges)
	if err != nil {
		return err
	}
	defer our.Proc.Stop()
	r, err := newRun(ctx, up, our, o.only, filepath.Join(o.testdata, "explained.yaml"))
	if err != nil {
		return err
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano() % 1e6)
	}
	fmt.Printf("PROGRESS diff: both servers are ready; seed %d (again: -seed=%d)\n", o.seed, o.seed)
	if err := r.all(ctx, o); err != nil {
		return err
	}
	up.Proc.Stop()
	our.Proc.Stop()
	// What was compared is told even where the stores could not be.
	if err := exchange(ctx, l, r, o.ranges); err != nil {
		return errors.Join(err, r.finish(o))
	}
	return r.finish(o)
}

// serve starts an API server on a store.
func serve(ctx context.Context, l *lab.Lab, name, bin, store, ranges string) (*side, error) {
	_, url, err := l.Store(ctx, store)
	if err != nil {
		return nil, err
	}
	s, err := l.Serve(ctx, name, bin, "--etcd-servers="+url, "--service-cluster-ip-range="+ranges)
	if err != nil {
		return nil, err
	}
	return &side{s}, nil
}

// all sends every sort of request.
func (r *run) all(ctx context.Context, o options) error {
	suites, err := loadSuites(filepath.Join(o.testdata, "suites"))
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(o.seed, 0))
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"golden objects", func() error { return r.golden(ctx, o.golden) }},
		{"cases", func() error {
			for _, s := range suites {
				if err := r.suite(ctx, s); err != nil {
					return err
				}
			}
			return nil
		}},
		{"mutations", func() error {
			for _, s := range suites {
				if err := r.mutations(ctx, rnd, s.Base, o.mutations); err != nil {
					return err
				}
			}
			return nil
		}},
		{"subresources", func() error { return r.parts(ctx) }},
		{"lists and watches", func() error { return r.lists(ctx) }},
		{"malformed requests", func() error { return r.malformed(ctx) }},
		{"documents", func() error { return r.documents(ctx) }},
	} {
		begin := time.Now()
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		all := r.totals()
		fmt.Printf("PROGRESS diff: %s took %.0f s; compared %d so far, equal %d\n", step.name, time.Since(begin).Seconds(), all.compared, all.equal)
	}
	return nil
}

// finish writes the reports.
func (r *run) finish(o options) error {
	full, err := os.Create(o.full)
	if err != nil {
		return err
	}
	r.full(full)
	if err := full.Close(); err != nil {
		return err
	}
	if o.report != "" {
		f, err := os.Create(o.report)
		if err != nil {
			return err
		}
		r.summary(f, fmt.Sprintf("Written by `make diff SEED=%d`, not by hand; upstream is v1.37.2, each server on an etcd of its own.", o.seed))
		if err := f.Close(); err != nil {
			return err
		}
	}
	all := r.totals()
	different := all.compared - all.equal - all.explained
	fmt.Printf("compared %d, equal %d, different for a reason %d, different %d; all differences: %s\n", all.compared, all.equal, all.explained, different, o.full)
	if different > 0 {
		return errDifferent
	}
	return nil
}
