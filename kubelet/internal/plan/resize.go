package plan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// Actuated is the resources that containers run with and that the pod's cgroup has, as far as they are known.
type Actuated struct {
	Containers map[string]corev1.ResourceRequirements
	Pod        *corev1.ResourceRequirements
}

// Resize is a running container whose resources are to be changed where it runs.
type Resize struct{ ID, Name string }

// need is what matters of resources: millicores and bytes.
type need struct{ cpuRequest, cpuLimit, memRequest, memLimit int64 }

func needOf(pod, c *corev1.ResourceRequirements) need {
	limits := podspec.EffectiveLimits(pod, c)
	return need{c.Requests.Cpu().MilliValue(), limits.Cpu().MilliValue(), c.Requests.Memory().Value(), limits.Memory().Value()}
}

func (n need) grows(than need) bool {
	// No limit is the largest one.
	larger := func(a, b int64) bool { return b != 0 && (a == 0 || a > b) }
	return n.cpuRequest > than.cpuRequest || n.memRequest > than.memRequest || larger(n.cpuLimit, than.cpuLimit) || larger(n.memLimit, than.memLimit)
}

// planResize compares what a running container has with what it was granted, and reports whether it is kept as it is:
// its resize policy may want it restarted.
func planResize(in Input, c *corev1.Container, last *podstate.Container, a *Actions) (keep bool) {
	if in.Actuated == nil || last.State != podstate.Running {
		return true
	}
	actual := in.Actuated.Containers[c.Name]
	want, have := needOf(in.Pod.Spec.Resources, &c.Resources), needOf(in.Actuated.Pod, &actual)
	if want == have {
		return true
	}
	a.ResizePod = true
	cpu := want.cpuRequest != have.cpuRequest || want.cpuLimit != have.cpuLimit
	memory := want.memRequest != have.memRequest || want.memLimit != have.memLimit
	for _, p := range c.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer && ((p.ResourceName == corev1.ResourceCPU && cpu) || (p.ResourceName == corev1.ResourceMemory && memory)) {
			a.Kill = append(a.Kill, Kill{last.ID, c.Name, fmt.Sprintf("Container %s resize requires restart", c.Name), ByChange})
			return false
		}
	}
	r := Resize{last.ID, c.Name}
	if want.grows(have) {
		a.Resize = append(a.Resize, r)
	} else { // what shrinks makes room for what grows
		a.Resize = append([]Resize{r}, a.Resize...)
	}
	return true
}

// planPodResize compares the resources of the pod as a whole.
func planPodResize(in Input, a *Actions) {
	if in.Actuated == nil || in.Pod.Spec.Resources == nil {
		return
	}
	none := &corev1.ResourceRequirements{}
	have := in.Actuated.Pod
	if have == nil {
		have = none
	}
	if needOf(none, in.Pod.Spec.Resources) != needOf(none, have) {
		a.ResizePod = true
	}
}

// Resizing reports whether a running container, or the pod as a whole, does not have yet what it was granted.
func Resizing(in Input) bool {
	var a Actions
	podspec.Visit(in.Pod, func(c *corev1.Container, kind podspec.Kind) bool {
		if last := in.State.Latest(c.Name); kind != podspec.Ephemeral && last != nil {
			planResize(in, c, last, &a)
		}
		return true
	})
	planPodResize(in, &a)
	return a.ResizePod
}
