package plan

import (
	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// Reset is a container instance to remove, and to kill before that if it runs.
type Reset struct {
	ID, Name string
	Kill     bool
}

// planReset lists every instance of the pod's containers once one has exited whose rule restarts the whole pod. Those
// that gave the reason come last: were the kubelet killed on the way, the reason would still be there.
func planReset(in Input) []Reset {
	if !podspec.MayRestartPod(in.Pod) {
		return nil
	}
	caused := false
	var targets, sources []Reset
	podspec.Visit(in.Pod, func(c *corev1.Container, kind podspec.Kind) bool {
		if kind == podspec.Ephemeral {
			return true
		}
		if last := in.State.Latest(c.Name); last != nil && last.State == podstate.Exited && podspec.RestartsPod(c, last.ExitCode) {
			caused = true
		}
		for _, k := range in.State.Containers {
			switch {
			case k.Name != c.Name:
			case k.State == podstate.Exited && podspec.RestartsPod(c, k.ExitCode):
				sources = append(sources, Reset{k.ID, c.Name, false})
			default:
				targets = append(targets, Reset{k.ID, c.Name, k.State != podstate.Exited})
			}
		}
		return true
	})
	if !caused {
		return nil
	}
	return append(targets, sources...)
}
