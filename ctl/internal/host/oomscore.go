package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// containerdFile is the configuration of the containerd that systemd runs.
const containerdFile = "/etc/containerd/config.toml"

// ContainerdUnit says whether the machine's containerd is a unit of systemd, with its usual configuration file.
func ContainerdUnit(ctx context.Context) bool {
	return Systemd() && run(ctx, "systemctl", "is-active", "--quiet", "containerd") == nil
}

// RestrictOOM tells the machine's containerd not to lower the OOM score of containers, for a machine that may not, and
// restarts it; containers run on. Reset puts the file back.
func RestrictOOM(ctx context.Context, s *State) error {
	old, err := os.ReadFile(containerdFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	backup := filepath.Join(StateDir, "containerd-config.toml")
	if !regular(backup) {
		if err := WriteFile(backup, old, 0o644); err != nil {
			return err
		}
	}
	if s.Edited == nil {
		s.Edited = map[string]string{}
	}
	s.Edited[containerdFile] = backup
	if err := s.Save(); err != nil {
		return err
	}
	if err := WriteFile(containerdFile, []byte(restrictedConfig(string(old))), 0o644); err != nil {
		return err
	}
	if err := run(ctx, "systemctl", "restart", "containerd"); err != nil {
		return err
	}
	err = poll(ctx, 30*time.Second, func() (bool, error) {
		r, err := Connect(ctx, DefaultSocket)
		if err != nil {
			return false, nil
		}
		defer r.Close()
		info, err := r.Info(ctx)
		return err == nil && info.RestrictOOM, nil
	})
	if err != nil {
		return fmt.Errorf("containerd with restrict_oom_score_adj = true in %s: %w", containerdFile, err)
	}
	return nil
}

// restrictedConfig sets restrict_oom_score_adj in the CRI section of a containerd configuration of version 2 or 3, and leaves
// all else as it was. An empty one is of version 2, which every containerd since 1.3 reads.
func restrictedConfig(text string) string {
	const key, value = "restrict_oom_score_adj", "restrict_oom_score_adj = true"
	section := `io.containerd.grpc.v1.cri`
	if strings.Contains(strings.ReplaceAll(text, " ", ""), "version=3") {
		section = `io.containerd.cri.v1.runtime`
	}
	var out []string
	inside, done := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "[") {
			name := strings.NewReplacer(`"`, "", "'", "", " ", "").Replace(trimmed)
			inside = name == "[plugins."+section+"]"
			out = append(out, line)
			if inside && !done {
				out = append(out, "  "+value)
				done = true
			}
			continue
		}
		if name, _, ok := strings.Cut(trimmed, "="); inside && ok && strings.TrimSpace(name) == key {
			continue
		}
		out = append(out, line)
	}
	if strings.TrimSpace(text) == "" {
		out = []string{"version = 2"}
	}
	if !done {
		out = append(out, "", `[plugins."`+section+`"]`, "  "+value)
	}
	return strings.Join(out, "\n") + "\n"
}

// putBack restores the files that were edited, where nobody has changed them since.
func (s *State) putBack(ctx context.Context) error {
	var errs []error
	for path, backup := range s.Edited {
		old, err := os.ReadFile(backup)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		now, err := os.ReadFile(path)
		if err != nil || string(now) != restrictedConfig(string(old)) {
			continue
		}
		if len(old) == 0 {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, old, 0o644)
		}
		errs = append(errs, err, run(ctx, "systemctl", "restart", "containerd"))
	}
	return errors.Join(errs...)
}
