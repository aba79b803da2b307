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
)

// options are the command line.
type options struct {
	upstream, ours, clients, testdata, report, out string
	only                                           string
}

func main() {
	var o options
	flag.StringVar(&o.upstream, "upstream", "bin/upstream", "folder of upstream's kube-apiserver, etcd and kubectl")
	flag.StringVar(&o.ours, "ours", "bin", "folder of our kube-apiserver and ctl")
	flag.StringVar(&o.clients, "clients", "bin/clients", "folder of what hack/clients.sh makes")
	flag.StringVar(&o.testdata, "testdata", "hack/compare/clients/testdata", "folder of the sessions")
	flag.StringVar(&o.out, "out", "bin/clients/logs", "folder of the logs")
	flag.StringVar(&o.report, "report", "", "file of the report, empty for none")
	flag.StringVar(&o.only, "only", "", "run what has this in its name alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := run(ctx, &o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		stop()
		os.Exit(1)
	}
	if failed > 0 {
		stop()
		os.Exit(2)
	}
}

// run runs all, writes the report, and returns how much is worse with ours.
func run(ctx context.Context, o *options) (failed int, err error) {
	for _, p := range []*string{&o.upstream, &o.ours, &o.clients, &o.testdata, &o.out} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return 0, err
			}
		}
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return 0, err
	}
	suites, err := runSuites(ctx, o)
	if err != nil {
		return 0, err
	}
	sessions, err := runSessions(ctx, o)
	if err != nil {
		return 0, err
	}
	text := reportOf(o, suites, sessions)
	fmt.Print(text)
	for _, s := range suites {
		failed += len(s.worse())
	}
	for _, s := range sessions {
		failed += len(s.differences)
	}
	if o.report != "" && o.only == "" {
		return failed, os.WriteFile(o.report, []byte(text), 0o644)
	}
	if len(suites)+len(sessions) == 0 {
		return 0, errors.New("nothing has that in its name")
	}
	return failed, nil
}

// versions are those of the clients, which hack/clients.sh leaves beside them.
func versions(o *options) string {
	files, _ := filepath.Glob(filepath.Join(o.clients, "*.version")) // the pattern is a good one
	var out []string
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil {
			out = append(out, strings.TrimSpace(string(data)))
		}
	}
	return strings.Join(out, ", ")
}

func reportOf(o *options, suites []*suite, sessions []*session) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Real clients, with upstream's kube-apiserver and with ours\n\nWritten by `make clients`, not by hand. %s, %s.\n", versions(o), time.Now().UTC().Format(time.DateOnly))
	if len(suites) > 0 {
		b.WriteString("\n## controller-runtime's own tests\n\nWith each kube-apiserver as that of envtest (KUBEBUILDER_ASSETS), upstream's etcd and kubectl.\n\n")
		b.WriteString("| package | tests run | passed with upstream's | passed with ours | seconds, upstream's | seconds, ours |\n|---|---:|---:|---:|---:|---:|\n")
		for _, s := range suites {
			fmt.Fprintf(&b, "| %s | %d | %d | %d | %.0f | %.0f |\n", s.name, s.sides[1].ran, s.sides[0].passed, s.sides[1].passed, s.sides[0].took.Seconds(), s.sides[1].took.Seconds())
		}
		for _, s := range suites {
			for _, f := range s.worse() {
				fmt.Fprintf(&b, "\n- %s: fails with ours alone: %s", s.name, f)
			}
		}
	}
	if len(sessions) > 0 {
		b.WriteString("\n\n## Sessions of commands\n\nThe same commands with both, of which the output is compared, but for times, unique names and addresses.\n\n| session | commands | same output | other output, as is meant |\n|---|---:|---:|---:|\n")
		for _, s := range sessions {
			fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", s.name, s.commands, s.commands-len(s.differences)-len(s.explained), len(s.explained))
		}
		for _, s := range sessions {
			for _, d := range s.explained {
				fmt.Fprintf(&b, "\n- %s, `%s`: %s", s.name, d.command, d.diff)
			}
		}
		for _, s := range sessions {
			for _, d := range s.differences {
				fmt.Fprintf(&b, "\n%s, `%s`:\n\n```diff\n%s```\n", s.name, d.command, d.diff)
			}
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
