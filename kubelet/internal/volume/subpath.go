package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// SubPath opens sub below the volume without ever following a link out of it, creates it as a folder when it is missing,
// and bind-mounts it at a path of its own, which the container gets: whoever changes the volume afterwards cannot make
// the mount point elsewhere.
func (m *Manager) SubPath(pod *corev1.Pod, volume, container string, index int, volumePath, sub string) (string, error) {
	if filepath.IsAbs(sub) {
		return "", fmt.Errorf("subPath %q must not be an absolute path", sub)
	}
	for _, p := range strings.Split(sub, "/") {
		if p == ".." {
			return "", fmt.Errorf("subPath %q must not contain '..'", sub)
		}
	}
	fd, err := openBelow(volumePath, sub)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	target := filepath.Join(m.podDir(pod.UID), "volume-subpaths", volume, container, strconv.Itoa(index))
	if isMounted(target) {
		if sameFile(fd, target) {
			return target, nil
		}
		if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return "", fmt.Errorf("unmount stale subPath %s: %w", target, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fmt.Errorf("stat subPath: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return "", fmt.Errorf("create subPath folder: %w", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.MkdirAll(target, 0o750); err != nil {
			return "", fmt.Errorf("create subPath mount point: %w", err)
		}
	} else {
		f, err := os.OpenFile(target, os.O_CREATE, 0o640)
		if err != nil {
			return "", fmt.Errorf("create subPath mount point: %w", err)
		}
		f.Close()
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("bind subPath: %w", err)
	}
	return target, nil
}

// Open opens a file below a volume without ever following a link out of it.
func (m *Manager) Open(pod *corev1.Pod, volume, path string) (io.ReadCloser, error) {
	root, ok := m.HostPath(pod, volume)
	if !ok {
		return nil, fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", volume)
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Open(path)
}

// openBelow walks to sub component by component beneath root and creates missing folders with root's mode. Symbolic
// links are followed only while they stay beneath root (RESOLVE_IN_ROOT would change their meaning; BENEATH refuses).
func openBelow(root, sub string) (int, error) {
	rootFd, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open volume: %w", err)
	}
	defer unix.Close(rootFd)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(rootFd, filepath.Clean(sub), how)
	if err == nil {
		return fd, nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("open subPath %q: %w", sub, err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return -1, fmt.Errorf("stat volume: %w", err)
	}
	current := ""
	for _, part := range strings.Split(filepath.Clean(sub), "/") {
		parent := rootFd
		if current != "" {
			if parent, err = unix.Openat2(rootFd, current, how); err != nil {
				return -1, fmt.Errorf("open subPath %q: %w", current, err)
			}
		}
		err = unix.Mkdirat(parent, part, uint32(info.Mode().Perm()))
		made := err == nil
		if parent != rootFd {
			unix.Close(parent)
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, fmt.Errorf("create subPath %q: %w", sub, err)
		}
		current = filepath.Join(current, part)
		if made {
			if f, err := unix.Openat2(rootFd, current, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: how.Resolve}); err == nil {
				mode := uint32(info.Mode().Perm())
				if info.Mode()&os.ModeSetgid != 0 {
					mode |= unix.S_ISGID
				}
				_ = unix.Fchmod(f, mode)
				unix.Close(f)
			}
		}
	}
	fd, err = unix.Openat2(rootFd, current, how)
	if err != nil {
		return -1, fmt.Errorf("open subPath %q: %w", sub, err)
	}
	return fd, nil
}

func sameFile(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Stat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}
