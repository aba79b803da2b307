package podspec

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/dump"
)

// Annotations that tie a static pod to its mirror, as upstream names them.
const (
	ConfigSourceAnnotation = "kubernetes.io/config.source"
	ConfigMirrorAnnotation = "kubernetes.io/config.mirror"
	ConfigHashAnnotation   = "kubernetes.io/config.hash"
	ConfigSeenAnnotation   = "kubernetes.io/config.seen"

	SourceAPI  = "api"
	SourceFile = "file"
	SourceHTTP = "http"
)

// Labels that a runtime object carries.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"
)

// SystemCriticalPriority is the lowest priority value of a critical pod.
const SystemCriticalPriority int32 = 2000000000

// Kind says which of a pod's three container lists a container stands in.
type Kind int

// The kinds of container.
const (
	Init Kind = iota
	Regular
	Ephemeral
)

// FullName is the pod's name_namespace, unique among the pods of one node at a time.
func FullName(pod *corev1.Pod) string { return pod.Name + "_" + pod.Namespace }

// Describe renders name_namespace(uid) as upstream's messages do.
func Describe(pod *corev1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}

// Source is where the pod came from: api, file or http.
func Source(pod *corev1.Pod) string {
	if s, ok := pod.Annotations[ConfigSourceAnnotation]; ok {
		return s
	}
	return SourceAPI
}

// IsMirror reports whether an API pod is the reflection of a static one.
func IsMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[ConfigMirrorAnnotation]
	return ok
}

// IsStatic reports whether the pod came from a file or URL.
func IsStatic(pod *corev1.Pod) bool { return Source(pod) != SourceAPI }

// IsCritical reports whether the pod must be admitted and is evicted last.
func IsCritical(pod *corev1.Pod) bool {
	return IsStatic(pod) || IsMirror(pod) || (pod.Spec.Priority != nil && *pod.Spec.Priority >= SystemCriticalPriority)
}

// IsRestartableInit reports whether an init container is a sidecar.
func IsRestartableInit(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// IsHostNetwork reports whether the pod uses the node's network namespace.
func IsHostNetwork(pod *corev1.Pod) bool { return pod.Spec.HostNetwork }

// IsTerminal reports a phase that never changes again.
func IsTerminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodFailed || phase == corev1.PodSucceeded
}

// EphemeralContainer views an ephemeral container as a container.
func EphemeralContainer(e *corev1.EphemeralContainer) *corev1.Container {
	return (*corev1.Container)(&e.EphemeralContainerCommon)
}

// Visit calls f for every container in start order (init, regular, ephemeral) until f returns false.
func Visit(pod *corev1.Pod, f func(*corev1.Container, Kind) bool) {
	for i := range pod.Spec.InitContainers {
		if !f(&pod.Spec.InitContainers[i], Init) {
			return
		}
	}
	for i := range pod.Spec.Containers {
		if !f(&pod.Spec.Containers[i], Regular) {
			return
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if !f(EphemeralContainer(&pod.Spec.EphemeralContainers[i]), Ephemeral) {
			return
		}
	}
}

// Find returns the container of that name and its kind, or nil.
func Find(pod *corev1.Pod, name string) (found *corev1.Container, kind Kind) {
	Visit(pod, func(c *corev1.Container, k Kind) bool {
		if c.Name == name {
			found, kind = c, k
			return false
		}
		return true
	})
	return found, kind
}

// FieldPath is the event field path of a container, such as spec.containers{web}.
func FieldPath(pod *corev1.Pod, name string) string {
	_, kind := Find(pod, name)
	list := map[Kind]string{Init: "initContainers", Regular: "containers", Ephemeral: "ephemeralContainers"}[kind]
	return fmt.Sprintf("spec.%s{%s}", list, name)
}

// HasPrivileged reports whether any container is privileged.
func HasPrivileged(pod *corev1.Pod) bool {
	found := false
	Visit(pod, func(c *corev1.Container, _ Kind) bool {
		found = c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
		return !found
	})
	return found
}

// HashContainer hashes the fields whose change restarts a container (name and image), with upstream's function, so that
// a kubelet of either kind leaves the other's containers running.
func HashContainer(c *corev1.Container) uint64 {
	raw, err := json.Marshal(map[string]string{"name": c.Name, "image": c.Image})
	if err != nil {
		panic(err) // two strings always marshal
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%v", dump.ForHash(raw))
	return uint64(h.Sum32())
}

// HashDeclaration hashes everything that the container declares.
func HashDeclaration(c *corev1.Container) uint32 {
	raw, err := json.Marshal(c)
	if err != nil {
		panic(err) // API types always marshal
	}
	h := fnv.New32a()
	h.Write(raw)
	return h.Sum32()
}

// RestartAllowed says whether a container that exited with the code is started again by its policy and rules.
func RestartAllowed(pod *corev1.Pod, c *corev1.Container, exitCode int32) bool {
	if c.RestartPolicy == nil {
		return policyAllows(string(pod.Spec.RestartPolicy), exitCode)
	}
	if action := ruleFor(c, exitCode); action != "" {
		return action == corev1.ContainerRestartRuleActionRestart || action == corev1.ContainerRestartRuleActionRestartAllContainers
	}
	return policyAllows(string(*c.RestartPolicy), exitCode)
}

// ruleFor is the action of the first rule that the exit code meets, "" for none.
func ruleFor(c *corev1.Container, exitCode int32) corev1.ContainerRestartRuleAction {
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil {
			continue
		}
		in := slices.Contains(rule.ExitCodes.Values, exitCode)
		if (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn && in) ||
			(rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpNotIn && !in) {
			return rule.Action
		}
	}
	return ""
}

// RestartsPod says whether a container that exited with the code makes all of its pod's containers run anew.
func RestartsPod(c *corev1.Container, exitCode int32) bool {
	return ruleFor(c, exitCode) == corev1.ContainerRestartRuleActionRestartAllContainers
}

// MayRestartPod reports a pod with a container whose exit could make all containers run anew.
func MayRestartPod(pod *corev1.Pod) bool {
	may := false
	Visit(pod, func(c *corev1.Container, _ Kind) bool {
		may = slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
		return !may
	})
	return may
}

func policyAllows(policy string, exitCode int32) bool {
	switch policy {
	case "Never":
		return false
	case "OnFailure":
		return exitCode != 0
	default:
		return true
	}
}

// RestartsAfterKill says whether a container killed by a probe comes back.
func RestartsAfterKill(pod *corev1.Pod, c *corev1.Container) bool {
	if c.RestartPolicy != nil {
		return *c.RestartPolicy != corev1.ContainerRestartPolicyNever
	}
	return pod.Spec.RestartPolicy != corev1.RestartPolicyNever
}

// Reference is the object reference that events about the pod, or about one of its containers, point at.
func Reference(pod *corev1.Pod, container string) *corev1.ObjectReference {
	ref := &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion,
	}
	if container != "" {
		ref.FieldPath = FieldPath(pod, container)
	}
	return ref
}
