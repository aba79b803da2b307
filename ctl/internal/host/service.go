package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"flagship/manifests"
)

const (
	unitPath   = "/etc/systemd/system/kubelet.service"
	dropInPath = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"
)

// Systemd says whether PID 1 is systemd.
func Systemd() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// FindKubelet is the kubelet beside this program, or the one on the PATH.
func FindKubelet() (string, error) {
	if self, err := os.Executable(); err == nil {
		if p := filepath.Join(filepath.Dir(self), "kubelet"); regular(p) {
			return p, nil
		}
	}
	return exec.LookPath("kubelet")
}

// InstallBinaries copies the kubelet and this program to BinDir, and links ctl into /usr/local/bin where nothing is.
func InstallBinaries(s *State, kubelet string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for from, to := range map[string]string{kubelet: "kubelet", self: "ctl"} {
		if err := install(from, filepath.Join(BinDir, to)); err != nil {
			return fmt.Errorf("install %s: %w", to, err)
		}
	}
	link := "/usr/local/bin/ctl"
	if _, err := os.Lstat(link); err == nil {
		return nil
	}
	if err := os.Symlink(filepath.Join(BinDir, "ctl"), link); err != nil {
		return err
	}
	s.Own(link)
	return nil
}

func install(from, to string) error {
	if from == to {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

// StartKubelet starts the kubelet's service and says what it is.
func StartKubelet(ctx context.Context, s *State) (string, error) {
	binary := filepath.Join(BinDir, "kubelet")
	if !Systemd() {
		argv := []string{
			binary, "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf", "--kubeconfig=/etc/kubernetes/kubelet.conf",
			"--config=/var/lib/kubelet/config.yaml",
		}
		err := startSupervised("kubelet", []string{"/var/lib/kubelet/kubeadm-flags.env", "/etc/default/kubelet"}, argv)
		return "a supervised background process, since PID 1 is not systemd (log: " + LogFile("kubelet") + ")", err
	}
	for path, template := range map[string]string{unitPath: "systemd/kubelet.service", dropInPath: "systemd/10-kubeadm.conf"} {
		text, err := manifests.Render(template, manifests.Values{KubeletBinary: binary})
		if err != nil {
			return "", err
		}
		if err := WriteFile(path, text, 0o644); err != nil {
			return "", err
		}
		s.Own(path)
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", "kubelet"}, {"restart", "kubelet"}} {
		if err := run(ctx, "systemctl", args...); err != nil {
			return "", err
		}
	}
	return "the systemd unit kubelet.service (log: journalctl -u kubelet)", nil
}

// StopKubelet stops the kubelet's service and removes the unit where it is ours.
func StopKubelet(ctx context.Context, s *State) error {
	if err := stopSupervised(ctx, "kubelet"); err != nil {
		return err
	}
	if !Systemd() || !regular(unitPath) {
		return nil
	}
	if err := run(ctx, "systemctl", "stop", "kubelet"); err != nil {
		return err
	}
	for _, f := range s.Files {
		if f == unitPath {
			if err := run(ctx, "systemctl", "disable", "kubelet"); err != nil {
				return err
			}
			_ = os.Remove(unitPath)
			_ = os.RemoveAll(filepath.Dir(dropInPath))
			return run(ctx, "systemctl", "daemon-reload")
		}
	}
	return nil
}

// run runs a command; its error has the output.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func regular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
