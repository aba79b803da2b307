package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program that a lab started.
type Process struct {
	cmd *exec.Cmd
	log string
}

// Start runs a program, whose output goes to NAME.log in the lab's folder.
func (l *Lab) Start(ctx context.Context, name, bin string, args ...string) (*Process, error) {
	log := filepath.Join(l.dir, name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.dir, out, out
	// What outlives this program by accident ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &Process{cmd: cmd, log: log}, nil
}

// Stop ends a process as an operator does, and waits for it. It may be called again.
func (p *Process) Stop() {
	if p == nil || p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

// Tail is the end of the process's output.
func (p *Process) Tail() string {
	data, _ := os.ReadFile(p.log)
	return string(data[max(0, len(data)-2000):])
}

// Usage is what a process has taken of the machine so far.
type Usage struct {
	// CPU is user and system time, also of programs that it ran and that have ended, in steps of 10 ms.
	CPU time.Duration
	// RSS and Anon are bytes that are resident, and those of them that are not of a file.
	RSS, Anon int64
}

// Add sums the use of processes that do one job.
func (u Usage) Add(v Usage) Usage {
	return Usage{CPU: u.CPU + v.CPU, RSS: u.RSS + v.RSS, Anon: u.Anon + v.Anon}
}

// clockTick is the unit of times in /proc/PID/stat (USER_HZ, which is 100 on every architecture of Linux that Go has).
const clockTick = 10 * time.Millisecond

// Usage reads /proc.
func (p *Process) Usage() (Usage, error) {
	dir := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Usage{}, err
	}
	// The second field is the name in parentheses, with spaces perhaps: user and system time are the 12th and 13th after it, and those of its
	// children that it has waited for the next two.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 15 {
		return Usage{}, fmt.Errorf("%s/stat has %d fields", dir, len(fields))
	}
	var u Usage
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return Usage{}, err
		}
		u.CPU += time.Duration(n) * clockTick
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return Usage{}, err
	}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		to := map[string]*int64{"VmRSS": &u.RSS, "RssAnon": &u.Anon}[name]
		if to == nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("%s: %q: %w", name, rest, err)
		}
		*to = n << 10
	}
	return u, nil
}

// FreePorts are ports that nobody listened on a moment ago.
func FreePorts(n int) ([]int, error) {
	out := make([]int, n)
	for i := range out {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it takes a moment
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		out[i] = l.Addr().(*net.TCPAddr).Port
	}
	return out, nil
}

// FreePort is a port that nobody listened on a moment ago.
func FreePort() (int, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return 0, err
	}
	return ports[0], nil
}
