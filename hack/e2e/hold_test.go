package e2e

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// TestHold keeps a machine with a cluster up until it is interrupted, for work on a component (make machine). The file
// that FLAGSHIP_E2E_HOLD names gets the process ID of the machine's init, by which hack/machine.sh enters it.
func TestHold(t *testing.T) {
	path := os.Getenv("FLAGSHIP_E2E_HOLD")
	if path == "" {
		t.Skip("make machine runs this")
	}
	binaries, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m := bootMachine(ctx, t, machineName, binaries)
	(&cluster{t: t, ctx: ctx, m: m}).bringUp()
	if err := os.WriteFile(path, fmt.Appendln(nil, m.init), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	fmt.Println("PROGRESS the machine is up: hack/machine.sh ctl get pods -A")
	<-ctx.Done()
}

// TestScenario runs the scenario that FLAGSHIP_E2E_SCENARIO names on the machine that TestHold keeps up.
func TestScenario(t *testing.T) {
	name, path := os.Getenv("FLAGSHIP_E2E_SCENARIO"), os.Getenv("FLAGSHIP_E2E_HOLD")
	if name == "" || path == "" {
		t.Skip("for work on a scenario")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{name: machineName}
	if _, err := fmt.Sscan(string(raw), &m.init); err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios {
		if s.name == name {
			s.run(&cluster{t: t, ctx: t.Context(), m: m})
			return
		}
	}
	t.Fatalf("no scenario %q", name)
}
