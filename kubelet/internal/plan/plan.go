package plan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// Result is the outcome of a probe for one container instance.
type Result int

// Probe results; Unset means that the probe has not concluded.
const (
	Unset Result = iota
	Success
	Failure
)

// Probes holds the verdicts that matter to a plan, by container ID.
type Probes struct{ Liveness, Startup map[string]Result }

// Input is everything a plan depends on.
type Input struct {
	Pod      *corev1.Pod // with the resources it was granted
	State    *podstate.Pod
	Probes   Probes
	Actuated *Actuated // nil where resources are not compared
}

// KillReason says what killed a container.
type KillReason string

// Reasons to kill.
const (
	ByLiveness KillReason = "LivenessProbe"
	ByStartup  KillReason = "StartupProbe"
	ByUnknown  KillReason = "Unknown"
	ByChange   KillReason = ""
)

// Kill is one container instance to stop.
type Kill struct {
	ID, Name, Message string
	Reason            KillReason
}

// Actions is what to do, in the order of the fields.
type Actions struct {
	KillPod       bool    // stop everything, sandbox included
	PurgeInit     bool    // remove all finished init containers: they run anew in the new sandbox
	CreateSandbox bool    // only after KillPod
	SandboxID     string  // the sandbox to use when none is made
	Attempt       uint32  // of the sandbox to make
	Reset         []Reset // all containers run anew in the same sandbox; nothing else is done
	Kill          []Kill
	// The next three are indices into the pod's lists, in start order.
	StartEphemeral, StartInit, Start []int
	Resize                           []Resize // in order: what shrinks first
	ResizePod                        bool     // the pod's cgroup is to be set anew: before what grows, after what shrinks
}

// Empty reports that the pod is as it should be.
func (a *Actions) Empty() bool {
	return !a.KillPod && !a.CreateSandbox && !a.ResizePod && len(a.Reset) == 0 &&
		len(a.Kill)+len(a.StartEphemeral)+len(a.StartInit)+len(a.Start)+len(a.Resize) == 0
}

// SandboxChanged says whether the pod needs a new sandbox, which attempt it is, the current sandbox's ID, and why.
func SandboxChanged(pod *corev1.Pod, state *podstate.Pod) (needed bool, attempt uint32, id, reason string) {
	if len(state.Sandboxes) == 0 {
		return true, 0, "", "No sandbox for pod can be found. Need to start a new one"
	}
	ready := 0
	for _, s := range state.Sandboxes {
		if s.Ready {
			ready++
		}
	}
	latest := state.Sandboxes[0]
	switch {
	case ready > 1:
		return true, latest.Attempt + 1, latest.ID, "Multiple sandboxes are ready for Pod. Need to reconcile them"
	case !latest.Ready:
		return true, latest.Attempt + 1, latest.ID, "No ready sandbox for pod can be found. Need to start a new one"
	case latest.HostNetwork != podspec.IsHostNetwork(pod):
		return true, latest.Attempt + 1, "", "Sandbox for pod has changed. Need to start a new one"
	case !podspec.IsHostNetwork(pod) && len(latest.IPs) == 0:
		return true, latest.Attempt + 1, latest.ID, "Sandbox for pod has no IP address. Need to start a new one"
	}
	return false, latest.Attempt, latest.ID, ""
}

// Compute decides what to do with a pod that should be running.
func Compute(in Input) Actions {
	needed, attempt, id, _ := SandboxChanged(in.Pod, in.State)
	a := Actions{KillPod: needed, CreateSandbox: needed, SandboxID: id, Attempt: attempt}
	if needed {
		planSandbox(in, &a)
		return a
	}
	if a.Reset = planReset(in); len(a.Reset) > 0 {
		return a
	}
	for i := range in.Pod.Spec.EphemeralContainers {
		if in.State.Latest(in.Pod.Spec.EphemeralContainers[i].Name) == nil {
			a.StartEphemeral = append(a.StartEphemeral, i)
		}
	}
	if initialized := planInit(in, &a); a.KillPod || !initialized {
		return a
	}
	keep := 0
	for i := range in.Pod.Spec.Containers {
		if planContainer(in, i, &a) {
			keep++
		}
	}
	if keep == 0 && len(a.Start) == 0 {
		a.KillPod, a.StartInit = true, nil
	}
	planPodResize(in, &a)
	return a
}

// planSandbox decides what runs in a sandbox yet to be made, and whether to make it at all.
func planSandbox(in Input, a *Actions) {
	if in.Pod.Spec.RestartPolicy == corev1.RestartPolicyNever && a.Attempt != 0 && len(in.State.Containers) != 0 {
		a.CreateSandbox = false // the pod is done: restarting is not allowed
		return
	}
	for i := range in.Pod.Spec.Containers {
		c := &in.Pod.Spec.Containers[i]
		last := in.State.Latest(c.Name)
		if last != nil && last.State == podstate.Exited && last.ExitCode == 0 && onlyOnFailure(in.Pod, c) {
			continue
		}
		a.Start = append(a.Start, i)
	}
	if len(a.Start) == 0 && anyRegular(in) {
		a.CreateSandbox = false
		return
	}
	if len(in.Pod.Spec.InitContainers) > 0 {
		a.PurgeInit, a.Start, a.StartInit = true, nil, []int{0}
	}
}

func onlyOnFailure(pod *corev1.Pod, c *corev1.Container) bool {
	if c.RestartPolicy != nil {
		return *c.RestartPolicy == corev1.ContainerRestartPolicyOnFailure
	}
	return pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
}

func anyRegular(in Input) bool {
	for i := range in.Pod.Spec.Containers {
		if in.State.Latest(in.Pod.Spec.Containers[i].Name) != nil {
			return true
		}
	}
	return false
}

// planContainer decides about one regular container and reports whether it is kept as it is.
func planContainer(in Input, i int, a *Actions) bool {
	c := &in.Pod.Spec.Containers[i]
	last := in.State.Latest(c.Name)
	if last == nil || last.State != podstate.Running {
		if ShouldRestart(in.Pod, c, last) {
			a.Start = append(a.Start, i)
			if last != nil && last.State == podstate.Unknown {
				a.Kill = append(a.Kill, Kill{last.ID, c.Name, fmt.Sprintf("Container is in %q state, try killing it before restart", last.State), ByUnknown})
			}
		}
		return false
	}
	restart := podspec.RestartsAfterKill(in.Pod, c)
	var message string
	var reason KillReason
	switch {
	case last.Hash != 0 && last.Hash != podspec.HashContainer(c):
		message, reason, restart = fmt.Sprintf("Container %s definition changed", c.Name), ByChange, true
	case in.Probes.Liveness[last.ID] == Failure:
		message, reason = fmt.Sprintf("Container %s failed liveness probe", c.Name), ByLiveness
	case in.Probes.Startup[last.ID] == Failure:
		message, reason = fmt.Sprintf("Container %s failed startup probe", c.Name), ByStartup
	default:
		if planResize(in, c, last, a) {
			return true
		}
		a.Start = append(a.Start, i)
		return false
	}
	if restart {
		message += ", will be restarted"
		a.Start = append(a.Start, i)
	}
	a.Kill = append(a.Kill, Kill{last.ID, c.Name, message, reason})
	return false
}

// ShouldRestart says whether a container that is not running is to be started; last is its newest instance or nil.
func ShouldRestart(pod *corev1.Pod, c *corev1.Container, last *podstate.Container) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	if last == nil {
		return true
	}
	switch last.State {
	case podstate.Running:
		return false
	case podstate.Created, podstate.Unknown:
		return true
	}
	return podspec.RestartAllowed(pod, c, last.ExitCode)
}

// planInit decides about the init containers, last to first since finished ones may have been removed, and reports
// whether initialization is complete.
func planInit(in Input, a *Actions) bool {
	list := in.Pod.Spec.InitContainers
	if len(list) == 0 {
		return true
	}
	initialized := regularStarted(in)
	previous := initialized
	for i := len(list) - 1; i >= 0; i-- {
		c := &list[i]
		st := in.State.LatestActive(c.Name)
		if st == nil {
			if previous && podspec.IsRestartableInit(c) {
				a.StartInit = append(a.StartInit, i)
			}
			continue
		}
		if previous && !podspec.IsRestartableInit(c) {
			continue
		}
		done, failed := planInitOne(in, i, st, previous, a)
		if failed {
			a.KillPod, a.StartInit = true, nil
			return false
		}
		if done && i == len(list)-1 {
			initialized = true
		}
		previous = true
	}
	if !previous {
		a.StartInit = append(a.StartInit, 0)
	}
	slices.Reverse(a.StartInit)
	return initialized
}

func regularStarted(in Input) bool {
	for i := range in.Pod.Spec.Containers {
		st := in.State.LatestActive(in.Pod.Spec.Containers[i].Name)
		if st != nil && (st.State == podstate.Running || st.State == podstate.Exited || !st.StartedAt.IsZero()) {
			return true
		}
	}
	return false
}

// planInitOne decides about the newest instance of init container i. done: the next may start; failed: the pod fails.
func planInitOne(in Input, i int, st *podstate.Container, previous bool, a *Actions) (done, failed bool) {
	c := &in.Pod.Spec.InitContainers[i]
	sidecar := podspec.IsRestartableInit(c)
	start := func() { a.StartInit = append(a.StartInit, i) }
	kill := func(reason KillReason, format string, args ...any) {
		a.Kill = append(a.Kill, Kill{st.ID, c.Name, fmt.Sprintf(format, args...), reason})
		start()
	}
	next := func() {
		if i < len(in.Pod.Spec.InitContainers)-1 && !previous {
			a.StartInit = append(a.StartInit, i+1)
		}
	}
	switch st.State {
	case podstate.Created:
		start()
	case podstate.Running:
		if !sidecar {
			planResize(in, c, st, a)
			return false, false
		}
		if c.StartupProbe != nil {
			switch in.Probes.Startup[st.ID] {
			case Failure:
				kill(ByStartup, "Init container %s failed startup probe", c.Name)
				return false, false
			case Unset:
				return false, false
			}
		}
		next()
		if st.Hash != 0 && st.Hash != podspec.HashContainer(c) {
			kill(ByChange, "Init container %s definition changed", c.Name)
		} else if in.Probes.Liveness[st.ID] == Failure {
			kill(ByLiveness, "Init container %s failed liveness probe", c.Name)
		} else if !planResize(in, c, st, a) {
			start()
		}
		return true, false
	case podstate.Exited:
		if sidecar {
			start()
			return false, false
		}
		if st.ExitCode != 0 {
			if !podspec.RestartAllowed(in.Pod, c, st.ExitCode) {
				return false, true
			}
			start()
			return false, false
		}
		next()
		return true, false
	default:
		if !sidecar && !podspec.RestartsAfterKill(in.Pod, c) {
			return false, true
		}
		kill(ByUnknown, "Init container is in %q state, try killing it before restart", st.State)
	}
	return false, false
}
