package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"flagship/hack/compare/lab"
)

// options are the command line.
type options struct {
	upstream, ours, report, only, idle, profiles string
	pods, many, nodes, replicas                  int
}

// bench is one run.
type bench struct {
	options
	rows []row
}

// row is one comparison.
type row struct {
	group, name, unit string
	up, our           float64
	// goal is the ratio that the project sets itself, 0 for none.
	goal float64
	// note says what a reader has to know.
	note string
}

func (r row) ratio() float64 {
	if r.up == 0 {
		return 0
	}
	return r.our / r.up
}

// part is one group of comparisons.
type part struct {
	name string
	run  func(b *bench, ctx context.Context) error
}

var parts = []part{{"api", (*bench).api}, {"memory", (*bench).memory}, {"scheduler", (*bench).scheduler}, {"controllers", (*bench).controllers}, {"proxy", (*bench).proxy}, {"pods", (*bench).podStarts}}

func main() {
	var o options
	flag.StringVar(&o.upstream, "upstream", "bin/upstream", "folder of upstream's binaries and etcd")
	flag.StringVar(&o.ours, "ours", "bin", "folder of our binaries")
	flag.StringVar(&o.report, "report", "", "file of the report, empty for none")
	flag.StringVar(&o.only, "only", "", "run these parts alone, by commas: api, memory, scheduler, controllers, proxy, pods")
	flag.StringVar(&o.idle, "idle", "", "file with what hack/bench.sh said of an idle cluster, for the report")
	flag.StringVar(&o.profiles, "profiles", "", "folder for processor profiles of our API server, one for each of its loads that can be repeated; empty for none")
	flag.IntVar(&o.pods, "pods", 5000, "pods of about 3 KiB that the API servers are loaded with")
	flag.IntVar(&o.many, "many", 50000, "pods that the memory of concurrent lists is measured with")
	flag.IntVar(&o.nodes, "nodes", 5000, "nodes that the schedulers choose from")
	flag.IntVar(&o.replicas, "replicas", 3000, "replicas that a Deployment is scaled to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := (&bench{options: o}).run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) error {
	var errs []error
	for _, p := range parts {
		if b.only != "" && !slices.Contains(strings.Split(b.only, ","), p.name) {
			continue
		}
		fmt.Printf("PROGRESS bench: %s\n", p.name)
		begin := time.Now()
		// A part that fails does not take the others' figures with it.
		if err := p.run(b, ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", p.name, err)
		}
		fmt.Printf("PROGRESS bench: %s took %.0f s\n", p.name, time.Since(begin).Seconds())
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(b.rows) > 0 {
		b.print(os.Stdout)
	}
	if b.report != "" {
		errs = append(errs, b.write(b.report, errs))
	}
	return errors.Join(errs...)
}

// add notes a comparison and says it.
func (b *bench) add(r row) {
	b.rows = append(b.rows, r)
	fmt.Printf("%-12s %-52s %12.3f %12.3f %-10s %6.1f%%%s\n", r.group, r.name, r.up, r.our, r.unit, 100*r.ratio(), verdict(r))
}

// newLab is a lab whose stores write through to the disk.
func (b *bench) newLab() (*lab.Lab, error) {
	l, err := lab.New(b.upstream, b.ours)
	if err != nil {
		return nil, err
	}
	l.Sync = true
	return l, nil
}
