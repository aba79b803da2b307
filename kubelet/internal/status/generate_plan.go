package status

import (
	"fmt"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/kubelet/internal/allocate"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
)

// Failure is why a container could not be started the last time.
type Failure struct{ Reason, Message string }

// ProbeView is what the probes say about a container instance; known is false when its probe has not concluded, as after
// a restart of the kubelet, and then what the old status said of the same instance stands.
type ProbeView struct {
	Started func(c *corev1.Container, id string) (value, known bool)
	Ready   func(c *corev1.Container, id string) (value, known bool)
}

// Input is everything a status depends on.
type Input struct {
	Pod       *corev1.Pod
	Old       corev1.PodStatus // the last one generated, or the API's
	State     *podstate.Pod
	Failures  map[string]Failure // by container name
	Probes    ProbeView
	Terminal  bool // the pod's containers will not be started again
	HostIPs   []string
	Runtime   string   // scheme of container IDs
	Forced    *Failure // the pod is failed for this reason (evicted, deadline, rejected)
	Now       time.Time
	Resize    []corev1.PodCondition // that tell of a resize
	Recursive bool                  // the runtime makes what lies below a read-only mount read-only too
	Actuated  allocate.Info         // what took effect of the pod's resources
}

// Generate makes the pod's status.
func Generate(in Input) corev1.PodStatus {
	pod, state := in.Pod, in.State
	s := corev1.PodStatus{
		QOSClass: podspec.QOS(pod), StartTime: in.Old.StartTime, ObservedGeneration: pod.Generation,
		NominatedNodeName: pod.Status.NominatedNodeName, ResourceClaimStatuses: pod.Status.ResourceClaimStatuses, Resize: pod.Status.Resize,
		ExtendedResourceClaimStatus: pod.Status.ExtendedResourceClaimStatus,
	}
	if s.StartTime == nil {
		now := metav1.NewTime(in.Now)
		s.StartTime = &now
	}
	setAddresses(&s, in)
	s.InitContainerStatuses = containers(in, pod.Spec.InitContainers, in.Old.InitContainerStatuses, len(pod.Spec.InitContainers) > 0, podspec.Init)
	s.ContainerStatuses = containers(in, pod.Spec.Containers, in.Old.ContainerStatuses, len(pod.Spec.InitContainers) > 0, podspec.Regular)
	if n := len(pod.Spec.EphemeralContainers); n > 0 {
		list := make([]corev1.Container, n)
		for i := range list {
			list[i] = *podspec.EphemeralContainer(&pod.Spec.EphemeralContainers[i])
		}
		s.EphemeralContainerStatuses = containers(in, list, in.Old.EphemeralContainerStatuses, len(pod.Spec.InitContainers) > 0, podspec.Ephemeral)
	}
	setPhase(&s, in)
	setProbes(&s, in)
	s.AllocatedResources = podspec.Requests(pod)
	s.Resources = podResources(in, s.AllocatedResources)
	s.Conditions = append(conditions(pod, &s, state), in.Resize...)
	if podspec.MayRestartPod(pod) {
		s.Conditions = append(s.Conditions, restarting(in, s.Phase))
	}
	keepTransitions(&s, in.Old, in.Now)
	return s
}

func setAddresses(s *corev1.PodStatus, in Input) {
	ips := in.State.IPs
	if in.Pod.Spec.HostNetwork {
		ips = in.HostIPs
	} else if len(ips) == 0 && podspec.IsTerminal(in.Old.Phase) {
		for _, ip := range in.Old.PodIPs {
			ips = append(ips, ip.IP)
		}
	}
	for _, ip := range ips {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(ips) > 0 {
		s.PodIP = ips[0]
	}
	for _, ip := range in.HostIPs {
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(in.HostIPs) > 0 {
		s.HostIP = in.HostIPs[0]
	}
}

func setPhase(s *corev1.PodStatus, in Input) {
	all := append(append([]corev1.ContainerStatus{}, s.InitContainerStatuses...), s.ContainerStatuses...)
	started := false
	for i := range in.Pod.Spec.Containers {
		if c := in.State.LatestActive(in.Pod.Spec.Containers[i].Name); c != nil && c.State != podstate.Created {
			started = true
		}
	}
	s.Phase = phase(in.Pod, all, in.Terminal, started)
	if !podspec.IsTerminal(s.Phase) {
		if podspec.IsTerminal(in.Old.Phase) {
			s.Phase = in.Old.Phase
		} else if podspec.IsTerminal(in.Pod.Status.Phase) {
			s.Phase = in.Pod.Status.Phase
		}
	}
	if s.Phase == in.Old.Phase {
		s.Reason, s.Message = in.Old.Reason, in.Old.Message
	}
	if in.Forced != nil {
		s.Phase, s.Reason, s.Message = corev1.PodFailed, in.Forced.Reason, in.Forced.Message
	}
	if api := in.Pod.Status.Phase; podspec.IsTerminal(api) {
		s.Phase = api
	}
}

func setProbes(s *corev1.PodStatus, in Input) {
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			st := &list[i]
			c, kind := podspec.Find(in.Pod, st.Name)
			id := strings.TrimPrefix(st.ContainerID, in.Runtime+"://")
			sidecar := kind == podspec.Init && podspec.IsRestartableInit(c)
			if kind == podspec.Init && !sidecar {
				done := st.State.Terminated != nil && st.State.Terminated.ExitCode == 0
				st.Ready = done
				f := false
				st.Started = &f
				if st.State.Running != nil {
					t := true
					st.Started = &t
				}
				continue
			}
			old := oldStatus(in.Old, st)
			started, known := in.Probes.Started(c, id)
			if !known && old != nil {
				started = old.Started != nil && *old.Started
			}
			started = started && st.State.Running != nil
			st.Started = &started
			ready, known := in.Probes.Ready(c, id)
			if !known && old != nil {
				ready = old.Ready
			}
			st.Ready = started && ready
		}
	}
}

// oldStatus is the old status of the same container instance, or nil.
func oldStatus(old corev1.PodStatus, st *corev1.ContainerStatus) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{old.InitContainerStatuses, old.ContainerStatuses} {
		if o := find(list, st.Name); o != nil && o.ContainerID == st.ContainerID {
			return o
		}
	}
	return nil
}

// keepTransitions carries over the time of the last change of each condition that did not change.
func keepTransitions(s *corev1.PodStatus, old corev1.PodStatus, now time.Time) {
	for i := range s.Conditions {
		c := &s.Conditions[i]
		if !owned(c.Type) || !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = metav1.NewTime(now)
		for _, o := range old.Conditions {
			if o.Type == c.Type && o.Status == c.Status && !o.LastTransitionTime.IsZero() {
				c.LastTransitionTime = o.LastTransitionTime
			}
		}
	}
}

// containers builds the statuses of one of the pod's lists.
func containers(in Input, list []corev1.Container, old []corev1.ContainerStatus, hasInit bool, kind podspec.Kind) []corev1.ContainerStatus {
	out := make([]corev1.ContainerStatus, 0, len(list))
	for i := range list {
		out = append(out, one(in, &list[i], find(old, list[i].Name), hasInit, kind))
	}
	if kind != podspec.Init {
		sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	}
	return out
}

func one(in Input, c *corev1.Container, old *corev1.ContainerStatus, hasInit bool, kind podspec.Kind) corev1.ContainerStatus {
	st := corev1.ContainerStatus{Name: c.Name, Image: c.Image, VolumeMounts: mountStatuses(c, in.Recursive)}
	reason := "ContainerCreating"
	if hasInit {
		reason = "PodInitializing"
	}
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	var instances []*podstate.Container
	for i := range in.State.Containers {
		if in.State.Containers[i].Name == c.Name && len(instances) < 2 {
			instances = append(instances, &in.State.Containers[i])
		}
	}
	if len(instances) == 0 {
		return missing(in, c, old, st, waiting, kind)
	}
	cur := instances[0]
	fill(&st, in, cur)
	st.State = stateOf(cur, in.Runtime, old, &st)
	if len(instances) > 1 {
		st.LastTerminationState = stateOf(instances[1], in.Runtime, nil, nil)
		if st.LastTerminationState.Terminated == nil {
			st.LastTerminationState = corev1.ContainerState{}
		}
	} else if old != nil && old.ContainerID != st.ContainerID && old.State.Terminated != nil {
		st.LastTerminationState.Terminated = old.State.Terminated
	} else if old != nil && old.LastTerminationState.Terminated != nil {
		st.LastTerminationState = old.LastTerminationState
	}
	if kind != podspec.Ephemeral {
		st.AllocatedResources = c.Resources.Requests
		st.Resources = resources(c, cur, old, in.Actuated.ContainerResources[c.Name], st.ContainerID)
	}
	if kind == podspec.Init && cur.State == podstate.Exited && cur.ExitCode == 0 && !podspec.IsRestartableInit(c) {
		return st
	}
	f, failed := in.Failures[c.Name]
	if !failed || cur.State == podstate.Running || !mayStart(in, c, cur) {
		return st
	}
	if st.State.Terminated != nil {
		st.LastTerminationState = st.State
	}
	st.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}}
	return st
}

func mayStart(in Input, c *corev1.Container, cur *podstate.Container) bool {
	if in.Terminal || in.Pod.DeletionTimestamp != nil {
		return false
	}
	return cur.State != podstate.Exited || podspec.RestartAllowed(in.Pod, c, cur.ExitCode)
}

// missing is the status of a container of which the runtime has no instance.
func missing(in Input, c *corev1.Container, old *corev1.ContainerStatus, st corev1.ContainerStatus, waiting corev1.ContainerState, kind podspec.Kind) corev1.ContainerStatus {
	st.State = waiting
	if old != nil {
		if kind != podspec.Ephemeral && old.State.Waiting == nil && podRestarts(in) {
			return removed(st, old)
		}
		if old.State.Terminated != nil {
			kept := *old
			return kept
		}
		st.RestartCount, st.LastTerminationState = old.RestartCount, old.LastTerminationState
		if old.State.Running != nil && st.LastTerminationState.Terminated == nil {
			st.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
				Reason: "ContainerStatusUnknown", ExitCode: 137,
				Message: "The container could not be located when the pod was deleted.  The container used to be Running",
			}
			if in.Pod.DeletionTimestamp == nil {
				st.RestartCount++
			}
		}
		if in.Terminal && old.State.Running != nil {
			st.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: "ContainerStatusUnknown", Message: "The container could not be located when the pod was terminated", ExitCode: 137,
			}}
			return st
		}
	}
	if kind == podspec.Init && !podspec.IsRestartableInit(c) {
		for i := range in.Pod.Spec.Containers {
			if in.State.Latest(in.Pod.Spec.Containers[i].Name) != nil {
				st.Ready = true
				st.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					Reason:  "Completed",
					Message: "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally",
				}}
				return st
			}
		}
	}
	if f, ok := in.Failures[c.Name]; ok && !in.Terminal {
		st.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}}
	}
	return st
}

func fill(st *corev1.ContainerStatus, in Input, cur *podstate.Container) {
	st.RestartCount = int32(cur.RestartCount)
	st.ContainerID = fmt.Sprintf("%s://%s", in.Runtime, cur.ID)
	st.ImageID = cur.ImageRef
	if cur.Image != "" {
		st.Image = cur.Image
	}
	if cur.UID != nil && cur.GID != nil {
		st.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: *cur.UID, GID: *cur.GID, SupplementalGroups: cur.SupplementalGroups}}
	}
	if cur.StopSignal != "" {
		sig := corev1.Signal(cur.StopSignal)
		st.StopSignal = &sig
	}
}

func stateOf(cur *podstate.Container, runtime string, old, st *corev1.ContainerStatus) corev1.ContainerState {
	switch cur.State {
	case podstate.Running:
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(cur.StartedAt)}}
	case podstate.Exited:
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: cur.ExitCode, Reason: cur.Reason, Message: cur.Message, StartedAt: metav1.NewTime(cur.StartedAt),
			FinishedAt: metav1.NewTime(cur.FinishedAt), ContainerID: fmt.Sprintf("%s://%s", runtime, cur.ID),
		}}
	case podstate.Unknown:
		if old != nil && old.State.Running != nil {
			st.RestartCount = old.RestartCount + 1
			return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: "ContainerStatusUnknown", Message: "The container could not be located when the pod was terminated", ExitCode: 137,
			}}
		}
	}
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
}

func mountStatuses(c *corev1.Container, recursive bool) []corev1.VolumeMountStatus {
	var out []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		v := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if on, err := podspec.RecursiveReadOnly(&m, recursive); on && err == nil {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			v.RecursiveReadOnly = &mode
		}
		out = append(out, v)
	}
	return out
}
