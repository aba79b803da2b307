package host

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Unmount unmounts everything below a folder, the deepest first.
func Unmount(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.HasPrefix(f[4]+"/", dir+"/") {
			found = append(found, strings.NewReplacer(`\040`, " ", `\011`, "\t").Replace(f[4]))
		}
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	var errs []error
	for _, m := range found {
		if err := syscall.Unmount(m, 0); err != nil {
			if err = syscall.Unmount(m, syscall.MNT_DETACH); err != nil {
				errs = append(errs, &os.PathError{Op: "unmount", Path: m, Err: err})
			}
		}
	}
	return errors.Join(errs...)
}

// cgroupRetry is the pause between two tries to remove cgroups.
const cgroupRetry = 50 * time.Millisecond

// RemoveCgroups removes the kubelet's cgroups, those of pods that are gone. v1 and v2, both drivers. It tries until
// they are gone or the patience is over: the kernel reaps a pod's last processes in its own time.
func RemoveCgroups(patience time.Duration) {
	for deadline := time.Now().Add(patience); ; time.Sleep(cgroupRetry) {
		left := 0
		for _, pattern := range []string{"/sys/fs/cgroup/kubepods*", "/sys/fs/cgroup/*/kubepods*", "/sys/fs/cgroup/kubelet", "/sys/fs/cgroup/*/kubelet"} {
			found, _ := filepath.Glob(pattern)
			for _, root := range found {
				left += removeCgroup(root)
			}
		}
		if left == 0 || time.Now().After(deadline) {
			return
		}
	}
}

// removeCgroup removes what nobody uses of a tree of cgroups, from its leaves on, and says how many it could not remove.
func removeCgroup(root string) int {
	var dirs []string
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	left := len(dirs)
	for _, d := range unused(dirs, hasProcesses) {
		if err := syscall.Rmdir(d); err == nil || errors.Is(err, syscall.ENOENT) {
			left--
		}
	}
	return left
}

// unused selects the cgroups below which no process is, the deepest first. dirs are in the order of a walk. Those above
// the pods' are left where the tree is in use: it is then another kubelet's too.
func unused(dirs []string, used func(string) bool) []string {
	busy := map[string]bool{}
	for _, d := range dirs {
		if !used(d) {
			continue
		}
		for p := d; strings.HasPrefix(p, dirs[0]); p = filepath.Dir(p) {
			busy[p] = true
		}
	}
	var out []string
	for _, d := range slices.Backward(dirs) {
		if !busy[d] && (!busy[dirs[0]] || strings.Contains(d, "/pod") || strings.Contains(d, "-pod")) {
			out = append(out, d)
		}
	}
	return out
}

func hasProcesses(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	return err != nil || len(data) > 0
}

// RemoveProxyRules removes what kube-proxy wrote: its nftables tables, the KUBE- chains of iptables, and the routes to
// other nodes' pods, which it marks with their protocol number.
func RemoveProxyRules(ctx context.Context) {
	for _, family := range []string{"ip", "ip6"} {
		_ = run(ctx, "nft", "delete", "table", family, "kube-proxy")
		_ = run(ctx, "nft", "delete", "table", family, "flagship-pods")
	}
	for _, family := range []string{"-4", "-6"} {
		_ = run(ctx, "ip", family, "route", "flush", "proto", "75")
	}
	removeChains(ctx, func(chain, _ string) bool { return strings.HasPrefix(chain, "KUBE-") })
}

// RemoveNetworkRules removes the CNI plugins' chains of our network, which pods that ended badly leave.
func RemoveNetworkRules(ctx context.Context) {
	removeChains(ctx, func(chain, rule string) bool {
		return strings.HasPrefix(chain, "CNI-") && strings.Contains(strings.ReplaceAll(rule, `\`, ""), `name: "flagship"`)
	})
	// The portmap plugin's own chains are shared by all networks: they go when no pod has a chain there any more.
	if out, err := exec.CommandContext(ctx, "iptables-save", "-t", "nat").Output(); err == nil && !strings.Contains(string(out), ":CNI-DN-") {
		removeChains(ctx, func(chain, _ string) bool { return strings.HasPrefix(chain, "CNI-HOSTPORT-") })
	}
}

// removeChains removes the chains that ours selects by their names and the rules that lead to them.
func removeChains(ctx context.Context, ours func(chain, rule string) bool) {
	for _, tool := range []string{"iptables", "ip6tables"} {
		for _, table := range []string{"nat", "filter", "mangle"} {
			out, err := exec.CommandContext(ctx, tool+"-save", "-t", table).Output()
			if err != nil {
				continue
			}
			input := removal(string(out), table, ours)
			if input == "" {
				continue
			}
			cmd := exec.CommandContext(ctx, tool+"-restore", "--noflush")
			cmd.Stdin = strings.NewReader(input)
			_ = cmd.Run()
		}
	}
}

// removal is the input of iptables-restore that removes the selected chains, from the output of iptables-save; empty
// where there is nothing to remove. A chain is selected by its own name or by a rule that jumps to it.
func removal(save, table string, ours func(chain, rule string) bool) string {
	chains := map[string]bool{}
	var jumps []string
	for s := bufio.NewScanner(strings.NewReader(save)); s.Scan(); {
		line := s.Text()
		switch {
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			if ours(name, "") {
				chains[name] = true
			}
		case strings.HasPrefix(line, "-A "):
			f := strings.Fields(line)
			target := ""
			if i := slices.Index(f, "-j"); i >= 0 && i+1 < len(f) {
				target = f[i+1]
			}
			if target != "" && ours(target, line) {
				chains[target] = true
				jumps = append(jumps, line)
			}
		}
	}
	if len(chains) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("*" + table + "\n")
	names := make([]string, 0, len(chains))
	for c := range chains {
		names = append(names, c)
	}
	slices.Sort(names)
	for _, c := range names {
		b.WriteString(":" + c + " - [0:0]\n")
	}
	for _, j := range jumps {
		if f := strings.Fields(j); !chains[f[1]] {
			b.WriteString("-D " + strings.TrimPrefix(j, "-A ") + "\n")
		}
	}
	for _, c := range names {
		b.WriteString("-X " + c + "\n")
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// RemoveNetwork removes the bridge and the address reservations of our network.
func RemoveNetwork(ctx context.Context) {
	_ = os.RemoveAll("/var/lib/cni/networks/flagship")
	found, _ := filepath.Glob("/var/lib/cni/results/flagship-*")
	for _, f := range found {
		_ = os.Remove(f)
	}
	for _, d := range []string{"/var/lib/cni/networks", "/var/lib/cni/results", "/var/lib/cni", "/etc/cni/net.d", "/etc/cni"} {
		_ = os.Remove(d) // only where it is empty
	}
	if _, err := os.Stat("/sys/class/net/" + Bridge); err == nil {
		_ = run(ctx, "ip", "link", "delete", Bridge)
	}
}

// StopContainerd stops the runtime where ctl started it, and removes its folders.
func StopContainerd(ctx context.Context, s *State) error {
	if !s.Containerd {
		return nil
	}
	if err := stopSupervised(ctx, "containerd"); err != nil {
		return err
	}
	for _, f := range []string{"containerd.sock", "containerd.sock.ttrpc"} {
		_ = os.Remove(filepath.Join("/run/containerd", f))
	}
	for _, d := range []string{"/run/containerd/s", "/run/containerd/runc/k8s.io", "/run/containerd/runc", "/run/containerd"} {
		_ = os.Remove(d) // only where it is empty
	}
	// A shim that is still going down holds its mounts for a moment.
	return poll(ctx, 10*time.Second, func() (bool, error) {
		return errors.Join(Unmount(filepath.Join(RunDir, "containerd")), Unmount(filepath.Join(StateDir, "containerd"))) == nil, nil
	})
}

// RemoveOwn removes our own folders, the files that the record names, and sets sysctls and edited files back.
func (s *State) RemoveOwn(ctx context.Context) error {
	errs := []error{s.putBack(ctx)}
	for name, old := range s.Sysctls {
		errs = append(errs, os.WriteFile(filepath.Join("/proc/sys", name), []byte(old), 0))
	}
	for _, f := range s.Files {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, d := range []string{RunDir, LogDir, StateDir, BinDir} {
		errs = append(errs, os.RemoveAll(d))
	}
	_ = os.Remove(filepath.Dir(BinDir))
	return errors.Join(errs...)
}
