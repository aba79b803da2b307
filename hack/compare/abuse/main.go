package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"flagship/hack/compare/lab"
)

// options are the command line.
type options struct {
	upstream, ours, report, only string
	both                         bool
}

// errFailed is the end of a run in which an attack failed.
var errFailed = errors.New("attacks failed")

func main() {
	var o options
	flag.StringVar(&o.upstream, "upstream", "bin/upstream", "folder of upstream's etcd, and of its kube-apiserver with -both")
	flag.StringVar(&o.ours, "ours", "bin", "folder of our kube-apiserver")
	flag.BoolVar(&o.both, "both", false, "attack upstream's kube-apiserver too, to have its answers beside ours")
	flag.StringVar(&o.report, "report", "", "file of the report, empty for none")
	flag.StringVar(&o.only, "only", "", "run the attacks alone whose group and name have this in them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := attackServers(ctx, o)
	if err == errFailed { //nolint:errorlint // beside another error it is not the end
		stop()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "abuse:", err)
		stop()
		os.Exit(1)
	}
}

func attackServers(ctx context.Context, o options) error {
	l, err := lab.New(o.upstream, o.ours)
	if err != nil {
		return err
	}
	defer l.Close()
	begin := time.Now()
	ours, err := attackServer(ctx, l, "ours", l.Ours, o.only)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	var up map[string]result
	if o.both {
		list, err := attackServer(ctx, l, "upstream", l.Upstream, o.only)
		if err != nil {
			return err
		}
		up = map[string]result{}
		for _, r := range list {
			up[r.attack.id()] = r
		}
	}
	if o.report != "" {
		f, err := os.Create(o.report)
		if err != nil {
			return err
		}
		report(f, ours, up, took)
		if err := f.Close(); err != nil {
			return err
		}
	}
	failed := 0
	for _, r := range ours {
		if len(r.faults) > 0 {
			failed++
		}
	}
	fmt.Printf("attacks %d, failed %d, in %.0f s\n", len(ours), failed, took.Seconds())
	if failed > 0 {
		return errFailed
	}
	return nil
}

// attackServer runs every attack on one server, with an etcd of its own.
func attackServer(ctx context.Context, l *lab.Lab, name, bin, only string) ([]result, error) {
	t, err := newTarget(ctx, l, name, bin)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.furnish(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf("PROGRESS abuse: %s is ready\n", name)
	var out []result
	for _, a := range attacks() {
		if !strings.Contains(a.id(), only) {
			continue
		}
		r, err := t.suffer(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, a.id(), err)
		}
		fmt.Println(r.line(name))
		out = append(out, r)
	}
	return out, nil
}
