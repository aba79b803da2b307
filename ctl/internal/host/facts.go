package host

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	cgroup2Magic   = 0x63677270
	capSysResource = 24
)

// CgroupV1 says whether the machine's controllers are on cgroup v1.
func CgroupV1() bool {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return false
	}
	return fs.Type != cgroup2Magic
}

// SysResource says whether this process may lower OOM scores.
func SysResource() bool {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err != nil || caps&(1<<capSysResource) != 0
		}
	}
	return true
}
