package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"flagship/kube-proxy/internal/rules"
	"flagship/kube-proxy/internal/track"
)

// IPTables applies one family's rules by iptables-restore.
type IPTables struct {
	cfg         rules.Config
	command     string // iptables or ip6tables
	filter, nat rules.Chains
}

// NewIPTables finds the commands. It changes nothing.
func NewIPTables(cfg rules.Config) (*IPTables, error) {
	t := &IPTables{cfg: cfg, command: "iptables"}
	if cfg.IPv6 {
		t.command = "ip6tables"
	}
	for _, name := range []string{t.command, t.command + "-restore", t.command + "-save"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
	}
	return t, nil
}

// run runs a command that waits for the lock of the tables.
func run(ctx context.Context, stdin string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(problem.String()))
	}
	return out.String(), nil
}

// Sync commits the rules for a snapshot, which is of all services, and says how many lines it wrote.
func (t *IPTables) Sync(ctx context.Context, s *track.Snapshot, local rules.LocalTraffic) (int, error) {
	cfg := t.cfg
	cfg.Local = local
	filter, nat := rules.IPTables(cfg, s)
	first := t.filter == nil
	hadFilter, hadNAT := t.filter, t.nat
	if first {
		// What an earlier process left counts as committed, with contents that are not known: it is emptied and dropped.
		var err error
		if hadFilter, hadNAT, err = t.leftovers(ctx, filter, nat); err != nil {
			return 0, err
		}
	}
	input := rules.Restore("filter", hadFilter, filter) + rules.Restore("nat", hadNAT, nat)
	if input != "" {
		if _, err := run(ctx, input, t.command+"-restore", "-w", "5", "--noflush", "--counters"); err != nil {
			t.filter, t.nat = nil, nil
			return 0, err
		}
	}
	if first {
		if err := t.jumps(ctx); err != nil {
			return 0, err
		}
	}
	t.filter, t.nat = filter, nat
	return strings.Count(input, "\n"), nil
}

// leftovers finds our chains in the kernel. Those that are still wanted are left out, so that they are written anew.
func (t *IPTables) leftovers(ctx context.Context, filter, nat rules.Chains) (oldFilter, oldNAT rules.Chains, err error) {
	out := [2]rules.Chains{{}, {}}
	for i, table := range []string{"filter", "nat"} {
		names, err := t.chains(ctx, table)
		if err != nil {
			return nil, nil, err
		}
		want := [2]rules.Chains{filter, nat}[i]
		for _, name := range names {
			if _, wanted := want[name]; !wanted {
				out[i][name] = nil
			}
		}
	}
	return out[0], out[1], nil
}

// chains lists our chains of a table. Chains of the kubelet and of CNI plugins are not ours.
func (t *IPTables) chains(ctx context.Context, table string) ([]string, error) {
	saved, err := run(ctx, "", t.command+"-save", "-t", table)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(saved) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, ":"), " ")
		if strings.HasPrefix(line, ":KUBE-") && ours(name) {
			out = append(out, name)
		}
	}
	return out, nil
}

func ours(name string) bool {
	for _, prefix := range []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-OUT-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-FORWARD", "KUBE-PROXY-FIREWALL",
		"KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-PROXY-CANARY":
		return true
	}
	return false
}

func spec(j rules.Jump) []string {
	return append(append(append([]string{}, j.Match...), "-m", "comment", "--comment", j.Comment), "-j", j.To)
}

// jumps makes the kernel's chains lead to ours, ours first.
func (t *IPTables) jumps(ctx context.Context) error {
	list := rules.Jumps()
	for i := len(list) - 1; i >= 0; i-- {
		j := list[i]
		if _, err := run(ctx, "", t.command, append([]string{"-w", "5", "-t", j.Table, "-C", j.From}, spec(j)...)...); err == nil {
			continue
		}
		if _, err := run(ctx, "", t.command, append([]string{"-w", "5", "-t", j.Table, "-I", j.From}, spec(j)...)...); err != nil {
			return err
		}
	}
	return nil
}

// Cleanup removes the jumps and our chains. It goes on after an error. Where none of our chains is, there is no jump to one.
func (t *IPTables) Cleanup(ctx context.Context) error {
	t.filter, t.nat = nil, nil
	var errs []error
	for _, table := range []string{"filter", "nat"} {
		names, err := t.chains(ctx, table)
		if err == nil && len(names) > 0 {
			t.dropJumps(ctx, table)
			var b strings.Builder
			fmt.Fprintf(&b, "*%s\n", table)
			for _, name := range names {
				fmt.Fprintf(&b, ":%s - [0:0]\n", name)
			}
			for _, name := range names {
				fmt.Fprintf(&b, "-X %s\n", name)
			}
			b.WriteString("COMMIT\n")
			_, err = run(ctx, b.String(), t.command+"-restore", "-w", "5", "--noflush")
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// dropJumps removes each jump as often as it is there.
func (t *IPTables) dropJumps(ctx context.Context, table string) {
	for _, j := range rules.Jumps() {
		for err := error(nil); err == nil && j.Table == table; {
			_, err = run(ctx, "", t.command, append([]string{"-w", "5", "-t", j.Table, "-D", j.From}, spec(j)...)...)
		}
	}
}
