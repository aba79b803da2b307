package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
)

// emptyDir makes the folder, on tmpfs where the medium is memory. It is idempotent.
func (m *Manager) emptyDir(pod *corev1.Pod, s *corev1.EmptyDirVolumeSource, dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	switch {
	case s.Medium == corev1.StorageMediumMemory:
		if !isMounted(dir) {
			opts := ""
			if size := m.memorySize(pod, s); size > 0 {
				opts = fmt.Sprintf("size=%d", size)
			}
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, opts); err != nil {
				return fmt.Errorf("mount tmpfs: %w", err)
			}
		}
	case s.Medium == corev1.StorageMediumHugePages || strings.HasPrefix(string(s.Medium), string(corev1.StorageMediumHugePagesPrefix)):
		return fmt.Errorf("emptyDir medium %q is not supported by this kubelet", s.Medium)
	case s.Medium != corev1.StorageMediumDefault:
		return fmt.Errorf("unknown storage medium %q", s.Medium)
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm() != 0o777 {
		if err := os.Chmod(dir, info.Mode()|0o777); err != nil {
			return err
		}
	}
	return m.applyGroup(pod, dir)
}

// memorySize bounds a memory-backed volume: its own limit, the pod's memory limit, the node's allocatable memory.
func (m *Manager) memorySize(pod *corev1.Pod, s *corev1.EmptyDirVolumeSource) int64 {
	alloc := m.deps.Allocatable()
	size := alloc.Memory().Value()
	every := true
	podspec.Visit(pod, func(c *corev1.Container, _ podspec.Kind) bool {
		every = every && !c.Resources.Limits.Memory().IsZero()
		return every
	})
	limits := podspec.Limits(pod)
	if n := limits.Memory().Value(); every && n > 0 && (size == 0 || n < size) {
		size = n
	}
	if s.SizeLimit != nil && s.SizeLimit.Value() > 0 && (size == 0 || s.SizeLimit.Value() < size) {
		size = s.SizeLimit.Value()
	}
	return size
}

// applyGroup gives the volume to the pod's fsGroup, where it has one.
func (m *Manager) applyGroup(pod *corev1.Pod, dir string) error {
	sc := pod.Spec.SecurityContext
	if sc == nil || sc.FSGroup == nil || groupIs(dir, *sc.FSGroup) {
		return nil
	}
	return setGroup(dir, *sc.FSGroup, false)
}

// hostPath checks the path against its type, and creates it where the type says so.
func hostPath(s *corev1.HostPathVolumeSource) error {
	want := corev1.HostPathUnset
	if s.Type != nil {
		want = *s.Type
	}
	if want == corev1.HostPathUnset {
		return nil
	}
	info, err := os.Stat(s.Path)
	missing := errors.Is(err, os.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	switch want {
	case corev1.HostPathDirectoryOrCreate:
		if missing {
			return os.MkdirAll(s.Path, 0o755)
		}
		want = corev1.HostPathDirectory
	case corev1.HostPathFileOrCreate:
		if missing {
			f, err := os.OpenFile(s.Path, os.O_CREATE, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}
		want = corev1.HostPathFile
	}
	checks := map[corev1.HostPathType]struct {
		name string
		ok   func(os.FileMode) bool
	}{
		corev1.HostPathDirectory: {"directory", os.FileMode.IsDir},
		corev1.HostPathFile:      {"file", os.FileMode.IsRegular},
		corev1.HostPathSocket:    {"socket file", func(m os.FileMode) bool { return m&os.ModeSocket != 0 }},
		corev1.HostPathCharDev:   {"character device", func(m os.FileMode) bool { return m&os.ModeCharDevice != 0 }},
		corev1.HostPathBlockDev:  {"block device", func(m os.FileMode) bool { return m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0 }},
	}
	check, known := checks[want]
	if !known {
		return fmt.Errorf("%s is an invalid volume type", want)
	}
	if missing || !check.ok(info.Mode()) {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", filepath.Clean(s.Path), check.name)
	}
	return nil
}
