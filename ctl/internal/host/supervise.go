package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds of the supervisor.
const (
	restartFirst = time.Second
	restartMost  = 30 * time.Second
	// steady is how long a process must have run for its next restart to come at once.
	steady   = time.Minute
	stopWait = 30 * time.Second
	logBytes = 64 << 20
)

// nextDelay is the wait before the next start, from the last wait and how long the process ran.
func nextDelay(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= steady {
		return restartFirst
	}
	return min(2*last, restartMost)
}

func pidFile(name string) string { return filepath.Join(RunDir, name+".pid") }

// LogFile is where a supervised process writes.
func LogFile(name string) string { return filepath.Join(LogDir, name+".log") }

// Supervise runs a command, restarts it with back-off when it ends, and stops it when ctx ends. envFile, where it is
// set, has KUBELET_KUBEADM_ARGS and KUBELET_EXTRA_ARGS, which are read before each start and added to the arguments.
func Supervise(ctx context.Context, name string, argv []string, envFiles []string) error {
	log, err := os.OpenFile(LogFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	if err := WriteFile(pidFile(name), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return err
	}
	defer func() { _ = os.Remove(pidFile(name)) }()
	var delay time.Duration
	for ctx.Err() == nil {
		start := time.Now()
		err := runOnce(ctx, log, append(append([]string(nil), argv...), argsFrom(envFiles)...))
		if ctx.Err() != nil {
			return nil
		}
		delay = nextDelay(delay, time.Since(start))
		fmt.Fprintf(log, "supervise: %s ended (%v) after %s; starting it again in %s\n", name, err, time.Since(start).Round(time.Millisecond), delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	return nil
}

func runOnce(ctx context.Context, log *os.File, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopWait
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		t := time.NewTicker(time.Minute)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				bound(log)
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	return err
}

// bound empties a log that has grown over its size, keeping one old copy. The file is open for appending, so that the
// process goes on at its new end.
func bound(log *os.File) {
	info, err := log.Stat()
	if err != nil || info.Size() < logBytes {
		return
	}
	if data, err := os.ReadFile(log.Name()); err == nil {
		_ = os.WriteFile(log.Name()+".1", data, 0o640)
	}
	_ = log.Truncate(0)
}

// argsFrom reads the arguments of systemd environment files: NAME="words".
func argsFrom(files []string) []string {
	var out []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok && (name == "KUBELET_KUBEADM_ARGS" || name == "KUBELET_EXTRA_ARGS") {
				out = append(out, strings.Fields(strings.Trim(value, `"`))...)
			}
		}
	}
	return out
}

// running is the pid of a supervisor, 0 where none runs.
func running(name string) int {
	data, err := os.ReadFile(pidFile(name))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return 0
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(cmdline), "supervise") {
		return 0
	}
	return pid
}

// startSupervised starts `ctl supervise` apart from this process.
func startSupervised(name string, envFiles, argv []string) error {
	if pid := running(name); pid != 0 {
		return nil
	}
	for _, d := range []string{RunDir, LogDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	args := []string{"supervise", "--name", name}
	for _, f := range envFiles {
		args = append(args, "--args-file", f)
	}
	cmd := exec.Command(filepath.Join(BinDir, "ctl"), append(append(args, "--"), argv...)...) //nolint:noctx // it outlives every context
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor of %s: %w", name, err)
	}
	// The supervisor outlives this process, which does not wait for it.
	return cmd.Process.Release()
}

// stopSupervised stops a supervisor and what it runs, and waits for it.
func stopSupervised(ctx context.Context, name string) error {
	pid := running(name)
	if pid == 0 {
		_ = os.Remove(pidFile(name))
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	err := poll(ctx, stopWait+5*time.Second, func() (bool, error) { return running(name) == 0, nil })
	if err != nil {
		return fmt.Errorf("stop %s (pid %d): %w", name, pid, err)
	}
	return nil
}

// poll asks four times a second until done or an error, the time is over, or ctx ends.
func poll(ctx context.Context, timeout time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}
