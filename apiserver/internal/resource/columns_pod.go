package resource

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func podTable() table {
	return table{columns: columns(`
Name
Ready            | The aggregate readiness state of this pod for accepting traffic.
Status           | The aggregate status of the containers in this pod.
Restarts         | The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.
Age
+IP              | @PodStatus.podIP
+Node            | @PodSpec.nodeName
+Nominated Node  | @PodStatus.nominatedNodeName
+Readiness Gates | @PodSpec.readinessGates
`), row: rowOf(func(p *corev1.Pod) []any {
		s := summarize(p)
		ip := ""
		if len(p.Status.PodIPs) > 0 {
			ip = p.Status.PodIPs[0].IP
		}
		return []any{
			p.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.reason, s.restarts.String(), p.CreationTimestamp,
			orNone(ip), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), readinessGates(p),
		}
	}), conditions: podEnded, fields: []string{
		"metadata.name", "metadata.creationTimestamp", "metadata.deletionTimestamp",
		"spec.nodeName", "spec.readinessGates", "spec.containers.name", "spec.initContainers.name", "spec.initContainers.restartPolicy",
		"status.phase", "status.reason", "status.conditions", "status.podIPs", "status.nominatedNodeName",
		"status.containerStatuses", "status.initContainerStatuses",
	}}
}

// podEnded are the conditions of a row, by which kubectl may leave out pods
// that have ended.
func podEnded(obj runtime.Object) []metav1.TableRowCondition {
	c := metav1.TableRowCondition{Type: metav1.RowCompleted, Status: metav1.ConditionTrue}
	switch obj.(*corev1.Pod).Status.Phase {
	case corev1.PodSucceeded:
		c.Reason, c.Message = string(corev1.PodSucceeded), "The pod has completed successfully."
	case corev1.PodFailed:
		c.Reason, c.Message = string(corev1.PodFailed), "The pod failed."
	default:
		return nil
	}
	return []metav1.TableRowCondition{c}
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	n := 0
	for _, g := range p.Spec.ReadinessGates {
		if podIs(p, g.ConditionType) {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(p.Spec.ReadinessGates))
}

// podIs says whether the first condition of the type is true.
func podIs(p *corev1.Pod, t corev1.PodConditionType) bool {
	i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == t })
	return i >= 0 && p.Status.Conditions[i].Status == corev1.ConditionTrue
}

func sidecar(p *corev1.Pod, name string) bool {
	// A later container of the same name counts, which no valid pod has.
	for _, c := range slices.Backward(p.Spec.InitContainers) {
		if c.Name == name {
			return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		}
	}
	return false
}

// restartCount is how often containers started again, and when the last did.
type restartCount struct {
	n    int
	last metav1.Time
}

func (r *restartCount) add(s *corev1.ContainerStatus) {
	r.n += int(s.RestartCount)
	if t := s.LastTerminationState.Terminated; t != nil && r.last.Before(&t.FinishedAt) {
		r.last = t.FinishedAt
	}
}

func (r *restartCount) String() string {
	if r.n == 0 || r.last.IsZero() {
		return strconv.Itoa(r.n)
	}
	return fmt.Sprintf("%d (%s ago)", r.n, sinceText(r.last))
}

// podSummary is what a row says of a pod's containers; sidecars count as such.
type podSummary struct {
	ready, total int
	restarts     restartCount
	reason       string
}

func summarize(p *corev1.Pod) podSummary {
	s := podSummary{total: len(p.Spec.Containers), reason: string(p.Status.Phase)}
	if p.Status.Reason != "" {
		s.reason = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.reason = corev1.PodReasonSchedulingGated
		}
	}
	for i := range p.Spec.InitContainers {
		if sidecar(p, p.Spec.InitContainers[i].Name) {
			s.total++
		}
	}
	initializing, sidecars := s.initContainers(p)
	if !initializing || podIs(p, corev1.PodInitialized) {
		s.restarts = sidecars
		s.containers(p)
	}
	ended := p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
	switch {
	case p.DeletionTimestamp == nil:
	case p.Status.Reason == "NodeLost":
		s.reason = "Unknown"
	case !ended:
		s.reason = "Terminating"
	}
	return s
}

// initContainers looks at them up to the one that the pod waits for, and
// counts the restarts of the sidecars among them apart.
func (s *podSummary) initContainers(p *corev1.Pod) (waits bool, sidecars restartCount) {
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		beside := sidecar(p, c.Name)
		s.restarts.add(c)
		if beside {
			sidecars.add(c)
		}
		switch ended := c.State.Terminated; {
		case ended != nil && ended.ExitCode == 0:
			continue
		case beside && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case ended != nil:
			s.reason = "Init:" + terminated(ended)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			s.reason = "Init:" + c.State.Waiting.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true, sidecars
	}
	return false, sidecars
}

func (s *podSummary) containers(p *corev1.Pod) {
	running, failure := false, ""
	for i := range slices.Backward(p.Status.ContainerStatuses) {
		c := &p.Status.ContainerStatuses[i]
		s.restarts.add(c)
		switch ended := c.State.Terminated; {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.reason = c.State.Waiting.Reason
		case ended != nil:
			s.reason = terminated(ended)
			if ended.ExitCode != 0 {
				failure = s.reason
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason != "Completed" {
		return
	}
	// A container that is done does not make the pod so.
	ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	switch {
	case running && ready:
		s.reason = "Running"
	case failure != "":
		s.reason = failure
	case running:
		s.reason = "NotReady"
	}
}

func terminated(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}
