package resource

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/runconfig"
)

// Limits are what a cgroup enforces; zero means no limit, for Shares the least.
type Limits struct {
	Shares        int64            // cgroup v1 units
	Quota, Period int64            // microseconds
	Memory, Pids  int64            // bytes, processes
	Huge          map[string]int64 // bytes by page size, such as 2MB; a size that is not named is not limited
}

// wider is the limits that allow whatever one of the two allows.
func (l Limits) wider(o Limits) Limits {
	larger := func(a, b int64) int64 {
		if a == 0 || b == 0 {
			return 0
		}
		return max(a, b)
	}
	out := l
	out.Shares, out.Quota, out.Memory, out.Pids = max(l.Shares, o.Shares), larger(l.Quota, o.Quota), larger(l.Memory, o.Memory), larger(l.Pids, o.Pids)
	out.Period = max(l.Period, o.Period)
	return out
}

// file is one value of a cgroup.
type file struct{ controller, name, value string }

// v1Files is how cgroup v1 is told the limits.
func v1Files(l Limits) []file {
	out := []file{{"cpu", "cpu.shares", strconv.FormatInt(l.Shares, 10)}}
	if l.Quota > 0 {
		out = append(out, file{"cpu", "cpu.cfs_period_us", strconv.FormatInt(l.Period, 10)})
	}
	out = append(out, file{"cpu", "cpu.cfs_quota_us", orNone(l.Quota, "-1")}, file{"memory", "memory.limit_in_bytes", orNone(l.Memory, "-1")},
		file{"pids", "pids.max", orNone(l.Pids, "max")})
	for _, size := range sortedSizes(l.Huge) {
		out = append(out, file{"hugetlb", "hugetlb." + size + ".limit_in_bytes", strconv.FormatInt(l.Huge[size], 10)})
	}
	return out
}

// v2Files is how cgroup v2 is told the limits.
func v2Files(l Limits) []file {
	quota := "max"
	if l.Quota > 0 {
		quota = fmt.Sprintf("%d %d", l.Quota, l.Period)
	}
	out := []file{
		{"cpu", "cpu.weight", strconv.FormatInt(weightOf(l.Shares), 10)},
		{"cpu", "cpu.max", quota},
		{"memory", "memory.max", orNone(l.Memory, "max")},
		{"pids", "pids.max", orNone(l.Pids, "max")},
	}
	for _, size := range sortedSizes(l.Huge) {
		out = append(out, file{"hugetlb", "hugetlb." + size + ".max", strconv.FormatInt(l.Huge[size], 10)})
	}
	return out
}

func orNone(n int64, none string) string {
	if n <= 0 {
		return none
	}
	return strconv.FormatInt(n, 10)
}

func sortedSizes(m map[string]int64) []string { return slices.Sorted(maps.Keys(m)) }

// hugeLimits is what the pod may use of each size of huge page that the machine has: what it requests, else nothing.
func hugeLimits(pod *corev1.Pod, sizes []string) map[string]int64 {
	out := map[string]int64{}
	for _, s := range sizes {
		out[s] = 0
	}
	for name, q := range podspec.Requests(pod) {
		if size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); ok {
			if n, err := resource.ParseQuantity(size); err == nil {
				if _, has := out[runconfig.PageSize(n.Value())]; has {
					out[runconfig.PageSize(n.Value())] = q.Value()
				}
			}
		}
	}
	return out
}

// Name is a cgroup's path as parts, such as kubepods, burstable, podUID; the drivers write it differently.
type Name []string

// podName is where the pod's cgroup is.
func podName(root Name, uid types.UID, class corev1.PodQOSClass) Name {
	n := append(Name{}, root...)
	switch class {
	case corev1.PodQOSBurstable:
		n = append(n, "burstable")
	case corev1.PodQOSBestEffort:
		n = append(n, "besteffort")
	}
	return append(n, "pod"+string(uid))
}

// Cgroupfs writes the name as the cgroupfs driver does: /kubepods/burstable/podUID.
func (n Name) Cgroupfs() string { return "/" + path.Join(n...) }

// Systemd writes the name as the path of nested slices: /kubepods.slice/kubepods-burstable.slice/….
func (n Name) Systemd() string {
	out, unit := "", ""
	for _, part := range n {
		part = strings.ReplaceAll(part, "-", "_")
		if unit != "" {
			unit += "-"
		}
		unit += part
		out += "/" + unit + ".slice"
	}
	if out == "" {
		return "/"
	}
	return out
}

// Slice is the last slice of the name.
func (n Name) Slice() string { return path.Base(n.Systemd()) }

// uidOf reads a pod UID from the last part of a cgroup path, of either driver; "" for other cgroups.
func uidOf(base string) types.UID {
	if s, ok := strings.CutSuffix(base, ".slice"); ok {
		i := strings.LastIndex(s, "-pod")
		if i < 0 {
			return ""
		}
		return types.UID(strings.ReplaceAll(s[i+len("-pod"):], "_", "-"))
	}
	if s, ok := strings.CutPrefix(base, "pod"); ok {
		return types.UID(s)
	}
	return ""
}

// podLimits is what the pod's own cgroup enforces: shares of all requests; a quota or memory limit only where every
// container has one.
func podLimits(pod *corev1.Pod, cfsQuota bool, period, pids int64) Limits {
	requests, limits := podspec.Requests(pod), podspec.Limits(pod)
	l := Limits{Shares: runconfig.SharesOf(requests.Cpu().MilliValue()), Pids: pids}
	if _, ok := requests[corev1.ResourceCPU]; !ok && !limits.Cpu().IsZero() {
		l.Shares = runconfig.SharesOf(limits.Cpu().MilliValue())
	}
	cpu, memory := true, true
	podspec.Visit(pod, func(c *corev1.Container, kind podspec.Kind) bool {
		if kind != podspec.Ephemeral {
			cpu = cpu && !c.Resources.Limits.Cpu().IsZero()
			memory = memory && !c.Resources.Limits.Memory().IsZero()
		}
		return true
	})
	if r := pod.Spec.Resources; r != nil {
		cpu = cpu || !r.Limits.Cpu().IsZero()
		memory = memory || !r.Limits.Memory().IsZero()
	}
	if cpu && cfsQuota {
		l.Quota, l.Period = runconfig.QuotaOf(limits.Cpu().MilliValue(), period), period
	}
	if memory {
		l.Memory = limits.Memory().Value()
	}
	return l
}

// weightOf converts shares (2…262144) to a cgroup v2 weight (1…10000), by the formula runc uses.
func weightOf(shares int64) int64 {
	if shares == 0 {
		return 0
	}
	return 1 + (min(max(shares, 2), 262144)-2)*9999/262142
}

// property is one setting of a slice.
type property struct {
	name  string
	value any
}

// sliceProperties is how systemd is told the limits.
func sliceProperties(l Limits, v2 bool) []property {
	const none = math.MaxUint64 // what systemd calls infinity
	orNone := func(n int64) uint64 {
		if n <= 0 {
			return none
		}
		return uint64(n)
	}
	out := []property{{"MemoryAccounting", true}, {"CPUAccounting", true}, {"TasksAccounting", true}}
	memory := "MemoryLimit"
	if v2 {
		out, memory = append(out, property{"CPUWeight", uint64(weightOf(l.Shares))}), "MemoryMax"
	} else {
		out = append(out, property{"CPUShares", uint64(l.Shares)})
	}
	quota := uint64(none)
	if l.Quota > 0 {
		// systemd rounds to whole percents: never below what was asked for, as runc does.
		quota = uint64((l.Quota*1000000/l.Period + 9999) / 10000 * 10000)
		out = append(out, property{"CPUQuotaPeriodUSec", uint64(l.Period)})
	}
	return append(out, property{"CPUQuotaPerSecUSec", quota}, property{memory, orNone(l.Memory)}, property{"TasksMax", orNone(l.Pids)})
}
