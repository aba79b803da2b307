package e2e

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// packages are what the machine is born with: those of `make up`, and an init.
var packages = []string{
	"systemd", "systemd-sysv", "udev", "dbus", "iproute2", "procps", "kmod", "containerd", "runc", "iptables", "nftables",
	"conntrack", "containernetworking-plugins", "ca-certificates", "curl",
}

const (
	cache = "/var/cache/flagship"
	// rootName changes with what is in the root.
	rootName = "rootfs-2"
)

// The machines' own network: one link to this host each. FLAGSHIP_E2E_NET, a
// number below 256, moves it, so that two runs can be on one host.
var (
	network        = cmp.Or(os.Getenv("FLAGSHIP_E2E_NET"), "51")
	machineName    = "fse2e" + network
	hostAddress    = "198.18." + network + ".1"
	machineAddress = "198.18." + network + ".2"
	secondAddress  = "198.18." + network + ".4"
)

// machine is a booted test host.
type machine struct {
	name string
	dir  string // what a run writes, thrown away at the end
	root string
	boot *exec.Cmd
	log  *os.File
	init int // the process id of the machine's init
}

// sh runs a command on this host.
func sh(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// rootfs makes the machine's root, once.
func rootfs(ctx context.Context) (string, error) {
	root := filepath.Join(cache, rootName)
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cache, "debootstrap-")
	if err != nil {
		return "", err
	}
	fmt.Println("PROGRESS making the test machine's root from Debian's packages (once)")
	if _, err := sh(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), "bookworm", tmp); err != nil {
		return "", err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	return root, os.Rename(tmp, root)
}

// machineExec is bash that becomes systemd-nspawn by hack/nspawn.sh.
const machineExec = `. "$0"; machine_exec "$@"`

// bootMachine boots a machine with the binaries of this checkout in /opt/src.
func bootMachine(ctx context.Context, t *testing.T, name, binaries string) *machine {
	t.Helper()
	lower, err := rootfs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{name: name}
	if m.dir, err = os.MkdirTemp(cache, name+"-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.down(t) })
	m.root = filepath.Join(m.dir, "root")
	args := []string{"-c", machineExec, "../nspawn.sh", name, "-b", "-D", m.root, "--bind-ro=" + binaries + ":/opt/src"}
	for _, d := range []string{"root", "upper", "work", "containerd"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// An overlay cannot lie on an overlay: what containers are made of has a
	// folder of its own.
	args = append(args, "--bind="+filepath.Join(m.dir, "containerd")+":/var/lib/containerd")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work"))
	if err := syscall.Mount("overlay", m.root, "overlay", 0, options); err != nil {
		t.Fatalf("mount the machine's root: %v", err)
	}
	if m.log, err = os.Create(filepath.Join(m.dir, "console.log")); err != nil {
		t.Fatal(err)
	}
	m.boot = exec.Command("bash", args...)
	m.boot.Stdout, m.boot.Stderr = m.log, m.log
	m.boot.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := m.boot.Start(); err != nil {
		t.Fatal(err)
	}
	if err := m.await(ctx); err != nil {
		console, _ := os.ReadFile(m.log.Name())
		t.Fatalf("%v\nconsole:\n%s", err, console)
	}
	return m
}

// await waits until the machine has booted, and gives it its network.
func (m *machine) await(ctx context.Context) error {
	err := poll(ctx, time.Minute, func() error {
		// Before it is systemd-nspawn, its children are machine_exec's.
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.boot.Process.Pid))
		if err != nil {
			return err
		}
		if c := strings.TrimSpace(string(comm)); c != "systemd-nspawn" {
			return fmt.Errorf("%s runs, not yet systemd-nspawn", c)
		}
		out, err := sh(ctx, "pgrep", "-P", fmt.Sprint(m.boot.Process.Pid))
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(out, &m.init)
		return err
	})
	if err != nil {
		return fmt.Errorf("find the machine's init: %w", err)
	}
	if err := poll(ctx, time.Minute, func() error {
		out, err := m.run(ctx, "systemctl", "is-system-running")
		if s := strings.TrimSpace(out); s == "running" || s == "degraded" {
			return nil
		}
		return fmt.Errorf("systemctl is-system-running: %q, %v", out, err)
	}); err != nil {
		return fmt.Errorf("boot the machine: %w", err)
	}
	link := "ve-" + m.name
	for _, cmd := range [][]string{
		{"ip", "addr", "replace", hostAddress + "/30", "dev", link}, {"ip", "link", "set", link, "up"},
	} {
		if _, err := sh(ctx, cmd[0], cmd[1:]...); err != nil {
			return err
		}
	}
	setup := "ip addr add " + machineAddress + "/30 dev host0; ip link set host0 up; ip route add default via " + hostAddress + "; " +
		// The controllers of cgroup v1 come read-only: containers need to write.
		"for c in pids devices memory cpu cpuset blkio cpuacct freezer; do [ -d /sys/fs/cgroup/$c ] && mount -o remount,bind,rw /sys/fs/cgroup/$c; done; true"
	if _, err = m.run(ctx, "sh", "-c", setup); err != nil {
		return fmt.Errorf("set the machine up: %w", err)
	}
	return nil
}

// run runs a command in the machine.
func (m *machine) run(ctx context.Context, args ...string) (string, error) {
	return m.command(ctx, args...).output()
}

type command struct{ *exec.Cmd }

func (m *machine) command(ctx context.Context, args ...string) *command {
	c := exec.CommandContext(ctx, "nsenter", append([]string{"-t", fmt.Sprint(m.init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"}, args...)...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"}
	c.WaitDelay = 5 * time.Second
	return &command{c}
}

func (c *command) output() (string, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.String(), err
}

// down stops the machine and throws away what it wrote.
func (m *machine) down(t *testing.T) {
	if m.boot != nil && m.boot.Process != nil {
		// SIGRTMIN+4 asks systemd-nspawn's init to power off.
		if m.init > 0 {
			_ = syscall.Kill(m.init, syscall.Signal(34+4))
		}
		done := make(chan error, 1)
		go func() { done <- m.boot.Wait() }()
		select {
		case <-done:
		case <-time.After(40 * time.Second):
			_ = m.boot.Process.Kill()
			<-done
		}
	}
	if m.log != nil {
		_ = m.log.Close()
	}
	if _, err := sh(context.Background(), "bash", "-c", `. "$0"; machine_cgroups_remove "$1"`, "../nspawn.sh", m.name); err != nil {
		t.Error(err)
	}
	_ = syscall.Unmount(m.root, syscall.MNT_DETACH)
	if os.Getenv("FLAGSHIP_E2E_KEEP") != "" {
		t.Logf("kept: %s", m.dir)
		return
	}
	if err := os.RemoveAll(m.dir); err != nil {
		t.Errorf("clean up: %v", err)
	}
}

// poll calls f every quarter of a second until it succeeds or the limit is
// reached, and returns its last error.
func poll(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, err)
		case <-tick.C:
		}
	}
}
