package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"flagship/hack/compare/lab"
)

// session is a file of commands, one a line, run by a shell with each server.
type session struct {
	name        string
	commands    int
	differences []difference
	// explained are the differences that are meant.
	explained []difference
}

type difference struct{ command, diff string }

// command is one of a session; meant says why its output differs, empty where it does not.
type command struct{ text, meant string }

// step is a command and what it said, with its exit code.
type step struct{ command, said string }

func runSessions(ctx context.Context, o *options) ([]*session, error) {
	files, err := filepath.Glob(filepath.Join(o.testdata, "*.session"))
	if err != nil {
		return nil, err
	}
	var out []*session
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".session")
		if !strings.Contains(name, o.only) {
			continue
		}
		s, err := runSession(ctx, o, name, f)
		if err != nil {
			return nil, fmt.Errorf("session %s: %w", name, err)
		}
		fmt.Printf("PROGRESS session %s: %d of %d commands say the same\n", name, s.commands-len(s.differences), s.commands)
		out = append(out, s)
	}
	return out, nil
}

func runSession(ctx context.Context, o *options, name, file string) (*session, error) {
	commands, err := read(file)
	if err != nil {
		return nil, err
	}
	l, err := lab.New(o.upstream, o.ours)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var steps [2][]step
	for i, side := range []string{"upstream", "ours"} {
		if steps[i], err = play(ctx, o, l, side, commands); err != nil {
			return nil, err
		}
		var log strings.Builder
		for _, st := range steps[i] {
			log.WriteString("$ " + st.command + "\n" + st.said + "\n")
		}
		if err := os.WriteFile(filepath.Join(o.out, side+"-"+name+".log"), []byte(log.String()), 0o644); err != nil {
			return nil, err
		}
	}
	s := &session{name: name, commands: len(commands)}
	for i, c := range commands {
		switch d := cmp.Diff(strings.Split(steps[0][i].said, "\n"), strings.Split(steps[1][i].said, "\n")); {
		case d != "" && c.meant != "":
			s.explained = append(s.explained, difference{c.text, c.meant})
		case d != "":
			s.differences = append(s.differences, difference{c.text, d})
		}
	}
	return s, nil
}

// read returns the commands of a file: lines, of which those that begin with # are not, and those that end with \ go on. A line that begins with #= says why the output of
// the next command differs.
func read(file string) ([]command, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var out []command
	part, meant := "", ""
	for in := bufio.NewScanner(f); in.Scan(); {
		line := in.Text()
		if text, ok := strings.CutPrefix(line, "#="); ok {
			meant = strings.TrimSpace(text)
		}
		if part == "" && (strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#")) {
			continue
		}
		if text, more := strings.CutSuffix(line, `\`); more {
			part += text + "\n"
			continue
		}
		out = append(out, command{part + line, meant})
		part, meant = "", ""
	}
	return out, nil
}

// play runs the commands with one server.
func play(ctx context.Context, o *options, l *lab.Lab, side string, commands []command) ([]step, error) {
	bin := map[string]string{"upstream": l.Upstream, "ours": l.Ours}[side]
	_, store, err := l.Store(ctx, side)
	if err != nil {
		return nil, err
	}
	server, err := l.Serve(ctx, side, bin, "--etcd-servers="+store, "--disable-admission-plugins=ServiceAccount")
	if err != nil {
		return nil, err
	}
	defer server.Proc.Stop()
	kubeconfig, err := l.Kubeconfig(server)
	if err != nil {
		return nil, err
	}
	work := l.Path("work-" + side)
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	env := append(os.Environ(), "KUBECONFIG="+kubeconfig, "HOME="+work, "CLIENTS="+o.clients, "PATH="+filepath.Join(o.clients, "bin")+":"+l.Upstream+":"+os.Getenv("PATH"), "TZ=UTC", "LC_ALL=C")
	ports, err := lab.FreePorts(2) // for what a session starts
	if err != nil {
		return nil, err
	}
	addresses := []string{strings.TrimPrefix(server.Base, "https://")}
	for i, p := range ports {
		env = append(env, fmt.Sprintf("PORT%d=%d", i+1, p))
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", p))
	}
	var out []step
	for _, c := range commands {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		cmd := exec.CommandContext(ctx, "/bin/bash", "-c", c.text)
		cmd.Dir, cmd.Env = work, env
		said, err := cmd.CombinedOutput()
		cancel()
		text := plain(string(said), addresses)
		if err != nil {
			text += "\n(" + err.Error() + ")"
		}
		out = append(out, step{c.text, text})
	}
	return out, nil
}

// masks are what differs from run to run.
var masks = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| ?[+-]\d{2}:?\d\d)?( UTC)?`), "TIME"},
	{regexp.MustCompile(`[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d( UTC)? \d{4}`), "TIME"},
	{regexp.MustCompile(`[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`("?resourceVersion"?: ?"?)\d+`), "${1}N"},
	{regexp.MustCompile(`(Resource Version: +)\d+`), "${1}N"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|s|m\d+s)\b`), "AGE"},
	{regexp.MustCompile(`\brevision=\d+`), "revision=N"},
	{regexp.MustCompile(`:3[0-2]\d{3}/TCP`), ":PORT/TCP"},
	{regexp.MustCompile(`\b10\.96\.\d+\.\d+\b`), "IP"},
	{regexp.MustCompile(`/tmp/[A-Za-z0-9./_-]+`), "FILE"},
	{regexp.MustCompile(`eyJ[A-Za-z0-9._-]+`), "TOKEN"},
	{regexp.MustCompile(`(v1\.37\.2)\+flagship`), "$1"},
	{regexp.MustCompile(` +`), " "},
}

// plain masks a text, and the addresses of this run in it.
func plain(text string, addresses []string) string {
	for _, a := range addresses {
		text = strings.ReplaceAll(text, a, "SERVER")
	}
	for _, m := range masks {
		text = m.what.ReplaceAllString(text, m.by)
	}
	return sorted(strings.TrimRight(text, "\n"))
}

// sorted puts what is wrong with an object, which upstream finds in the order of a Go map, in that of the alphabet.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		j := i
		for j < len(lines) && strings.HasPrefix(lines[j], "* ") {
			j++
		}
		slices.Sort(lines[i:j])
		i = max(i, j-1)
	}
	return strings.Join(lines, "\n")
}
