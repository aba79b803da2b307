package runconfig

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/kubelet/internal/podspec"
)

// Kernel bounds of cpu.shares and of a CFS quota, in shares and microseconds.
const (
	minShares = 2
	maxShares = 262144
	minQuota  = 1000
)

// SharesOf converts a CPU request in millicores to cgroup v1 shares.
func SharesOf(milli int64) int64 {
	if milli == 0 {
		return minShares
	}
	return min(max(milli*1024/1000, minShares), maxShares)
}

// QuotaOf converts a CPU limit in millicores to a CFS quota in microseconds per period; 0 means none.
func QuotaOf(milli, period int64) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*period/1000, minQuota)
}

// ResourceRules are the node's settings that shape container resources.
type ResourceRules struct {
	CPUCFSQuota      bool
	CFSPeriod        int64 // microseconds
	MemoryCapacity   int64 // bytes
	CgroupV2         bool
	SingleProcessOOM bool
}

// LinuxResources is what the runtime is asked to enforce for the container.
func LinuxResources(pod *corev1.Pod, c *corev1.Container, rules ResourceRules) *runtimeapi.LinuxContainerResources {
	limits := podspec.EffectiveLimits(pod.Spec.Resources, &c.Resources)
	cpuLimit, memLimit := limits.Cpu(), limits.Memory()
	out := &runtimeapi.LinuxContainerResources{OomScoreAdj: podspec.OOMScoreAdj(pod, c, rules.MemoryCapacity)}
	if request, ok := c.Resources.Requests[corev1.ResourceCPU]; ok {
		out.CpuShares = SharesOf(request.MilliValue())
	} else {
		out.CpuShares = SharesOf(cpuLimit.MilliValue())
	}
	out.MemoryLimitInBytes = memLimit.Value()
	if rules.CPUCFSQuota {
		if out.CpuQuota = QuotaOf(cpuLimit.MilliValue(), rules.CFSPeriod); out.CpuQuota != 0 {
			out.CpuPeriod = rules.CFSPeriod
		}
	}
	for name, q := range c.Resources.Limits {
		if size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); ok {
			if n, err := resource.ParseQuantity(size); err == nil {
				out.HugepageLimits = append(out.HugepageLimits, &runtimeapi.HugepageLimit{PageSize: PageSize(n.Value()), Limit: uint64(q.Value())})
			}
		}
	}
	if rules.CgroupV2 {
		out.Unified = map[string]string{"memory.high": "max"}
		if !rules.SingleProcessOOM {
			out.Unified["memory.oom.group"] = "1"
		}
	}
	return out
}

// PageSize names a size of huge page as cgroups do, such as 2MB.
func PageSize(n int64) string {
	for _, u := range []struct {
		shift int
		name  string
	}{{30, "GB"}, {20, "MB"}, {10, "KB"}} {
		if n>>u.shift > 0 {
			return fmt.Sprintf("%d%s", n>>u.shift, u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// ResourceValue reads a downward API resource of a container, in units of the divisor, rounded up. A limit that is not
// set is the node's allocatable.
func ResourceValue(ref *corev1.ResourceFieldSelector, pod *corev1.Pod, own *corev1.Container, allocatable corev1.ResourceList) (string, error) {
	c := own
	if ref.ContainerName != "" {
		if c, _ = podspec.Find(pod, ref.ContainerName); c == nil {
			return "", fmt.Errorf("container %s not found", ref.ContainerName)
		}
	}
	if c == nil {
		return "", fmt.Errorf("resource %s names no container", ref.Resource)
	}
	kind, name, ok := strings.Cut(ref.Resource, ".")
	if !ok || (kind != "limits" && kind != "requests") {
		return "", fmt.Errorf("unsupported container resource: %v", ref.Resource)
	}
	key := corev1.ResourceName(name)
	list := c.Resources.Requests
	if kind == "limits" {
		list = c.Resources.Limits
	}
	q, set := list[key]
	if kind == "limits" && (!set || q.IsZero()) {
		q = allocatable[key]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if key == corev1.ResourceCPU {
		return strconv.FormatInt(int64(math.Ceil(float64(q.MilliValue())/float64(divisor.MilliValue()))), 10), nil
	}
	return strconv.FormatInt(int64(math.Ceil(float64(q.Value())/float64(divisor.Value()))), 10), nil
}
