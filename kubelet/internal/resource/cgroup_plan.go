package resource

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/runconfig"
)

// Limits are what a cgroup enforces; zero means no limit, for Shares the least.
type Limits struct {
	Shares        int64 // cgroup v1 units
	Quota, Period int64 // microseconds
	Memory, Pids  int64 // bytes, processes
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
