package resource

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Use is what a cgroup has used: CPU nanoseconds since it was made, memory in bytes, processes.
type Use struct {
	CPU                                   uint64
	Memory, WorkingSet, RSS, Cache, Limit uint64
	PageFaults, MajorFaults               uint64
	Pids                                  uint64
}

// ReadUse reads a cgroup below the mount; path starts with a slash. Missing files leave zeros.
func ReadUse(mount, path string, v2 bool) Use {
	var u Use
	if v2 {
		dir := filepath.Join(mount, path)
		u.CPU = keyed(filepath.Join(dir, "cpu.stat"))["usage_usec"] * 1000
		u.Memory = number(filepath.Join(dir, "memory.current"))
		st := keyed(filepath.Join(dir, "memory.stat"))
		u.WorkingSet, u.RSS, u.Cache = less(u.Memory, st["inactive_file"]), st["anon"], st["file"]
		u.PageFaults, u.MajorFaults = st["pgfault"], st["pgmajfault"]
		u.Limit = number(filepath.Join(dir, "memory.max"))
		u.Pids = number(filepath.Join(dir, "pids.current"))
		return u
	}
	u.CPU = number(filepath.Join(mount, "cpuacct", path, "cpuacct.usage"))
	dir := filepath.Join(mount, "memory", path)
	u.Memory = number(filepath.Join(dir, "memory.usage_in_bytes"))
	st := keyed(filepath.Join(dir, "memory.stat"))
	u.WorkingSet, u.RSS, u.Cache = less(u.Memory, st["total_inactive_file"]), st["total_rss"], st["total_cache"]
	u.PageFaults, u.MajorFaults = st["total_pgfault"], st["total_pgmajfault"]
	u.Limit = number(filepath.Join(dir, "memory.limit_in_bytes"))
	u.Pids = number(filepath.Join(mount, "pids", path, "pids.current"))
	return u
}

// MemoryWorkingSet is the memory of a cgroup that cannot be dropped, in bytes.
func MemoryWorkingSet(mount, path string, v2 bool) int64 {
	return int64(ReadUse(mount, path, v2).WorkingSet)
}

func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

func number(path string) uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n
}

func keyed(path string) map[string]uint64 {
	out := map[string]uint64{}
	b, err := os.ReadFile(path)
	if err != nil {
		return out
	}
	for _, line := range strings.Split(string(b), "\n") {
		k, v, ok := strings.Cut(line, " ")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64); err == nil {
			out[k] = n
		}
	}
	return out
}
