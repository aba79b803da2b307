package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"flagship/hack/conformance/list"
	"flagship/hack/conformance/report"
)

// options are the flags.
type options struct {
	focus, skip, kubeconfig, kubectl string
	tests                            string // file of test names, in place of focus
	cache, out, report               string
	upstream, images                 string // folders of modules
	nodes                            string // folder of machines
	procs                            int
	timeout                          time.Duration
	prepare, host                    bool
}

func main() {
	var o options
	flag.StringVar(&o.focus, "focus", "", "run only tests whose names match this expression")
	flag.StringVar(&o.skip, "skip", "", "leave out tests whose names match this expression")
	flag.StringVar(&o.tests, "tests", "", "run only the tests that this file names, one per line, without the tags in brackets at the end; one that did not run is an error")
	flag.IntVar(&o.procs, "procs", 4, "processes that run tests at the same time")
	flag.DurationVar(&o.timeout, "timeout", 3*time.Hour, "time that each of the two parts may take")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "/etc/kubernetes/admin.conf", "kubeconfig of the cluster")
	flag.StringVar(&o.kubectl, "kubectl", "bin/ctl", "the kubectl that tests use")
	flag.StringVar(&o.cache, "cache", "/var/cache/flagship/conformance", "folder of what is built once")
	flag.StringVar(&o.out, "out", "bin/conformance", "folder of logs and reports")
	flag.StringVar(&o.report, "report", "docs/conformance.md", "file that a run of all tests writes")
	flag.StringVar(&o.upstream, "upstream", "hack/upstream", "module with which upstream's programs are built")
	flag.StringVar(&o.images, "images", "hack/images", "module of Flagship's images")
	flag.StringVar(&o.nodes, "nodes", "/var/cache/flagship/nodes", "folder of the machines that make up made nodes")
	flag.BoolVar(&o.host, "host", true, "let this machine's own containerd have the images; false leaves it alone, for a cluster that is only of -nodes")
	flag.BoolVar(&o.prepare, "prepare", false, "only build the suite and the images")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
	if failed > 0 {
		os.Exit(2)
	}
}

// run does it all. The answer is the number of failed tests.
func run(ctx context.Context, o options) (int, error) {
	for _, p := range []*string{&o.kubectl, &o.cache, &o.out, &o.upstream, &o.images, &o.report} {
		var err error
		if *p, err = filepath.Abs(*p); err != nil {
			return 0, err
		}
	}
	var names []string
	if o.tests != "" {
		var err error
		if names, err = list.Read(o.tests); err != nil {
			return 0, err
		}
		o.focus = list.Focus(names)
	}
	for _, d := range []string{o.cache, o.out} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return 0, err
		}
	}
	if !o.prepare {
		if _, err := os.Stat(o.kubeconfig); err != nil {
			return 0, fmt.Errorf("there is no cluster (%w): make up brings one up", err)
		}
	}
	s, err := buildSuite(ctx, o)
	if err != nil {
		return 0, err
	}
	reg, err := startRegistry(ctx, filepath.Join(o.cache, "registry"))
	if err != nil {
		return 0, err
	}
	defer reg.stop()
	if err := pushImages(ctx, o, s, reg.address); err != nil {
		return 0, err
	}
	if o.prepare {
		return 0, nil
	}
	if err := reg.mirror(ctx, o.host, o.nodes); err != nil {
		return 0, err
	}
	start, at := time.Now(), commit()
	results, err := s.run(ctx, o)
	if err != nil {
		return 0, err
	}
	sum := report.Summarize(results)
	failed, err := conclude(o, sum, at, time.Since(start))
	if _, missing := list.Pick(names, sum); err == nil && len(missing) > 0 {
		err = fmt.Errorf("the suite has not the tests of %s: %s", o.tests, strings.Join(missing, "; "))
	}
	return failed, err
}

// conclude prints the report of a run that began at a commit and writes it where it belongs.
func conclude(o options, sum report.Summary, at string, took time.Duration) (int, error) {
	if sum.Total() == 0 {
		return 0, errors.New("no test matches")
	}
	text := sum.Markdown(report.Header{
		Version: version, Commit: at, Date: time.Now().UTC(), Procs: o.procs, Took: took, Focus: o.focus, Skip: o.skip,
	})
	file := filepath.Join(o.out, "report.md")
	if o.focus == "" && o.skip == "" {
		file = o.report
	}
	fmt.Print("\n", sum.Text(), "\n")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return 0, err
	}
	where, err := filepath.Rel(mustGetwd(), file)
	if err != nil {
		where = file
	}
	fmt.Printf("The report is %s; logs are in %s.\n", where, strings.TrimPrefix(o.out, mustGetwd()+"/"))
	return sum.Failed(), nil
}

func mustGetwd() string {
	d, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return d
}
