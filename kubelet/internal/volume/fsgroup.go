package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// setGroup gives the tree to the group, group-readable and (unless read-only) group-writable, folders set-gid: what the
// API documents for fsGroup.
func setGroup(dir string, gid int64, readOnly bool) error {
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(path, -1, int(gid)); err != nil {
			return err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return nil
		}
		mask := os.FileMode(0o660)
		if readOnly {
			mask = 0o440
		}
		if info.IsDir() {
			return os.Chmod(path, info.Mode()|mask|0o110|os.ModeSetgid)
		}
		return os.Chmod(path, info.Mode()|mask)
	})
	if err != nil {
		return fmt.Errorf("set group %d of volume: %w", gid, err)
	}
	return nil
}

// groupIs reports whether the top of the tree already belongs to the group with the right mode, for OnRootMismatch.
func groupIs(dir string, gid int64) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(st.Gid) == gid && info.Mode()&os.ModeSetgid != 0 && info.Mode().Perm()&0o070 == 0o070
}
