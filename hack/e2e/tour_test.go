package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// secondName is the second machine's, which the tour's last part joins to the
// cluster.
const secondName = "node-2"

// block is one ```sh block of the tour.
type block struct {
	line   int  // where it begins in docs/tour.md
	second bool // it is typed on the second machine
	// The last line it prints is a command, to be typed on the second machine.
	printed bool
	script  string // what is typed
	// What the output must contain, from "# expect:" lines.
	expect []string
	// How long the block is repeated until it does what it says, from a line
	// "# within: 90s": zero for once.
	within time.Duration
}

// tour types every command of docs/tour.md, in its order, and checks what the
// text says of their output.
func tour(c *cluster) {
	text, err := os.ReadFile("../../docs/tour.md")
	if err != nil {
		c.t.Fatal(err)
	}
	blocks, err := parseTour(string(text))
	if err != nil {
		c.t.Fatal(err)
	}
	var second *machine
	for _, b := range blocks {
		m := c.m
		if b.second {
			if second == nil {
				second = secondMachine(c)
			}
			m = second
		}
		out := b.run(c, m)
		if b.printed {
			if second == nil {
				second = secondMachine(c)
			}
			lines := strings.Split(strings.TrimSpace(out), "\n")
			typed := block{line: b.line, script: "export PATH=$PATH:/opt/src; " + lines[len(lines)-1]}
			typed.run(c, second)
		}
	}
}

// run types a block on a machine, as a reader does, again while its time
// lasts, and returns what it printed.
func (b block) run(c *cluster, m *machine) string {
	c.t.Helper()
	begin := time.Now()
	var out string
	once := func() error {
		ctx, cancel := context.WithTimeout(c.ctx, 3*time.Minute)
		defer cancel()
		var err error
		if out, err = m.run(ctx, "bash", "-e", "-o", "pipefail", "-c", b.script); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		for _, want := range b.expect {
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %q in the output:\n%s", want, out)
			}
		}
		return nil
	}
	err := once()
	if err != nil && b.within > 0 {
		err = poll(c.ctx, b.within, once)
	}
	if err != nil {
		c.t.Fatalf("docs/tour.md:%d: %v\nthe block:\n%s", b.line, err, b.script)
	}
	c.t.Logf("docs/tour.md:%d: %s", b.line, time.Since(begin).Truncate(10*time.Millisecond))
	return out
}

var directive = regexp.MustCompile(`^<!-- (expect|within|on|printed for): (.+) -->$`)

// parseTour returns the ```sh blocks of a text. The comments after a block say
// what it is checked by: "expect: TEXT" the output contains it, "within: 60s"
// it is repeated until then, "on: node-2" it is typed there, "printed for: node-2" its last line
// is.
func parseTour(text string) ([]block, error) {
	var blocks []block
	inside := false
	var script strings.Builder
	for i, line := range strings.Split(text, "\n") {
		switch found := directive.FindStringSubmatch(line); {
		case inside && line == "```":
			inside = false
			blocks[len(blocks)-1].script = script.String()
		case inside:
			script.WriteString(line + "\n")
		case line == "```sh":
			inside = true
			script.Reset()
			blocks = append(blocks, block{line: i + 1})
		case found != nil:
			if len(blocks) == 0 {
				return nil, fmt.Errorf("line %d: %q comes before the first block", i+1, line)
			}
			if err := blocks[len(blocks)-1].direct(found[1], found[2]); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		case strings.HasPrefix(line, "<!--"):
			return nil, fmt.Errorf("line %d: %q is no comment that the tour's test knows", i+1, line)
		}
	}
	if inside {
		return nil, fmt.Errorf("line %d: the block has no end", blocks[len(blocks)-1].line)
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("no ```sh block")
	}
	return blocks, nil
}

func (b *block) direct(what, value string) (err error) {
	switch what {
	case "expect":
		b.expect = append(b.expect, value)
	case "within":
		b.within, err = time.ParseDuration(value)
	case "on":
		if value != secondName {
			return fmt.Errorf("there is no machine %q", value)
		}
		b.second = true
	case "printed for":
		if value != secondName {
			return fmt.Errorf("there is no machine %q", value)
		}
		b.printed = true
	}
	return err
}

// secondMachine boots one more machine, on one network with the cluster's, with
// what a reader has copied to it: the binaries, and the answer of `ctl token
// create --print-join-command`.
func secondMachine(c *cluster) *machine {
	c.t.Helper()
	binaries, err := filepath.Abs("../../bin")
	if err != nil {
		c.t.Fatal(err)
	}
	bridge := "br-" + c.m.name
	link := func(args ...string) {
		c.t.Helper()
		if _, err := sh(c.ctx, "ip", args...); err != nil {
			c.t.Fatal(err)
		}
	}
	_, _ = sh(c.ctx, "ip", "link", "del", bridge) // of a run that was killed
	link("link", "add", bridge, "type", "bridge")
	c.t.Cleanup(func() {
		_, _ = sh(context.Background(), "ip", "link", "del", bridge)
		_, _ = sh(context.Background(), "ip", "addr", "replace", hostAddress+"/30", "dev", "ve-"+c.m.name)
	})
	m := bootMachine(c.ctx, c.t, c.m.name+"-2", binaries)
	for _, name := range []string{m.name, c.m.name} {
		link("addr", "flush", "dev", "ve-"+name)
		link("link", "set", "ve-"+name, "master", bridge)
	}
	link("addr", "add", hostAddress+"/29", "dev", bridge)
	link("link", "set", bridge, "up")
	for _, step := range []struct {
		m      *machine
		script string
	}{
		{c.m, "ip route replace " + secondAddress + " dev host0"},
		{m, "ip addr flush dev host0; ip addr add " + secondAddress + "/29 dev host0; ip route add default via " + hostAddress +
			"; echo " + secondName + " > /etc/hostname; hostname " + secondName},
	} {
		if out, err := step.m.run(c.ctx, "sh", "-ec", step.script); err != nil {
			c.t.Fatalf("network of the second machine: %v: %s", err, out)
		}
	}
	return m
}

func TestParseTour(t *testing.T) {
	text := "# Tour\n\n```sh\necho a\necho b\n```\n<!-- expect: a -->\n<!-- within: 5s -->\n\nText.\n\n```sh\nid\n```\n<!-- on: node-2 -->\n"
	blocks, err := parseTour(text)
	if err != nil || len(blocks) != 2 {
		t.Fatalf("%v, %v", blocks, err)
	}
	if b := blocks[0]; b.line != 3 || b.script != "echo a\necho b\n" || b.expect[0] != "a" || b.within != 5*time.Second || b.second {
		t.Errorf("%+v", b)
	}
	if !blocks[1].second {
		t.Errorf("%+v", blocks[1])
	}
	for _, bad := range []string{"no block", "```sh\nno end", "<!-- expect: before -->", "```sh\n```\n<!-- expects: a -->", "```sh\n```\n<!-- on: node-9 -->"} {
		if _, err := parseTour(bad); err == nil {
			t.Errorf("%q has no error", bad)
		}
	}
	file, err := os.ReadFile("../../docs/tour.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseTour(string(file)); err != nil {
		t.Errorf("docs/tour.md: %v", err)
	}
}
