package node

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"flagship/kubelet/internal/podspec"
)

// ReasonNodeAffinity is that of a pod whose selector or affinity the node's labels do not match.
const ReasonNodeAffinity = "NodeAffinity"

// AdmitInput is everything an admission depends on.
type AdmitInput struct {
	Pod           *corev1.Pod
	Others        []*corev1.Pod // admitted and not finished
	Node          *corev1.Node
	Allocatable   corev1.ResourceList
	Pressure      []string // conditions of the node that keep new pods away
	UnsafeSysctls []string // allowed ones; may end in *
	StrictGroups  bool     // the runtime knows the Strict policy of supplemental groups
}

func safeSysctls() []string {
	return []string{
		"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
		"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
		"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
	}
}

// Admit says why the pod cannot run on the node; an empty reason admits it. A critical pod is not kept away for lack of
// cpu or memory.
func Admit(in AdmitInput) (reason, message string) {
	pod := in.Pod
	critical := podspec.IsCritical(pod)
	if len(in.Pressure) > 0 && !critical {
		if !(len(in.Pressure) == 1 && in.Pressure[0] == "MemoryPressure" && podspec.QOS(pod) != corev1.PodQOSBestEffort) {
			return "Evicted", fmt.Sprintf("The node had condition: %v. ", in.Pressure)
		}
	}
	for _, check := range []func(AdmitInput) (string, string){sysctls, platform} {
		if reason, message = check(in); reason != "" {
			return reason, message
		}
	}
	if reason, message = resources(in, critical); reason != "" {
		return reason, message
	}
	if pod.Spec.NodeName != "" && in.Node.Name != "" && !strings.EqualFold(pod.Spec.NodeName, in.Node.Name) {
		return "NodeName", "Predicate NodeName failed: node(s) didn't match the requested node name"
	}
	if !podspec.IsStatic(pod) && !matchesNode(pod, in.Node) {
		return ReasonNodeAffinity, "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
	}
	if conflict(pod, in.Others) {
		return "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
	}
	return "", ""
}

// platform checks what the pod asks of the operating system and the runtime.
func platform(in AdmitInput) (reason, message string) {
	pod := in.Pod
	if v, ok := pod.Labels[corev1.LabelOSStable]; ok && v != "linux" {
		return "PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
	}
	if pod.Spec.OS != nil && pod.Spec.OS.Name != corev1.Linux {
		return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
	}
	sc := pod.Spec.SecurityContext
	if sc != nil && sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict && !in.StrictGroups {
		return "SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"
	}
	return "", ""
}

// hostNamespace names the namespace of a sysctl if the pod shares the node's, and else is "".
func hostNamespace(pod *corev1.Pod, name string) string {
	ipc := name == "kernel.sem" || strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || strings.HasPrefix(name, "fs.mqueue.")
	switch {
	case strings.HasPrefix(name, "net.") && pod.Spec.HostNetwork:
		return "Net"
	case ipc && pod.Spec.HostIPC:
		return "IPC"
	}
	return ""
}

func sysctls(in AdmitInput) (reason, message string) {
	if in.Pod.Spec.SecurityContext == nil {
		return "", ""
	}
	for _, s := range in.Pod.Spec.SecurityContext.Sysctls {
		name := strings.ReplaceAll(s.Name, "/", ".")
		if ns := hostNamespace(in.Pod, name); ns != "" {
			return "SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q not allowed with host %s enabled", name, ns)
		}
		allowed := slices.Contains(safeSysctls(), name)
		for _, u := range in.UnsafeSysctls {
			prefix, wild := strings.CutSuffix(u, "*")
			allowed = allowed || u == name || (wild && strings.HasPrefix(name, prefix))
		}
		if !allowed {
			return "SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q not allowlisted", s.Name)
		}
	}
	return "", ""
}

func resources(in AdmitInput, critical bool) (reason, message string) {
	short := func(name string, requested, used, capacity int64) (string, string) {
		return "OutOf" + name, fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity)
	}
	pods := in.Allocatable[corev1.ResourcePods]
	if n := int64(len(in.Others)); n+1 > pods.Value() {
		return short("pods", 1, n, pods.Value())
	}
	if critical {
		return "", ""
	}
	for name, want := range podspec.Requests(in.Pod) {
		if _, known := in.Allocatable[name]; want.IsZero() || (!known && strings.Contains(string(name), "/")) {
			continue // an extended resource that the node does not know is the cluster's
		}
		value := func(l corev1.ResourceList) int64 {
			q := l[name]
			if name == corev1.ResourceCPU {
				return q.MilliValue()
			}
			return q.Value()
		}
		used := int64(0)
		for _, o := range in.Others {
			used += value(podspec.Requests(o))
		}
		have := value(in.Allocatable)
		if n := value(corev1.ResourceList{name: want}); used+n > have {
			return short(string(name), n, used, have)
		}
	}
	return "", ""
}

// matchesNode checks the node selector and the required node affinity.
func matchesNode(pod *corev1.Pod, node *corev1.Node) bool {
	if node == nil {
		return true
	}
	if !labels.SelectorFromSet(pod.Spec.NodeSelector).Matches(labels.Set(node.Labels)) {
		return false
	}
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
			continue
		}
		ok := true
		for _, e := range term.MatchExpressions {
			v, has := node.Labels[e.Key]
			ok = ok && matches(e, v, has)
		}
		for _, e := range term.MatchFields {
			ok = ok && e.Key == metav1.ObjectNameField && matches(e, node.Name, true)
		}
		if ok {
			return true
		}
	}
	return false
}

func matches(e corev1.NodeSelectorRequirement, v string, has bool) bool {
	switch e.Operator {
	case corev1.NodeSelectorOpIn:
		return has && slices.Contains(e.Values, v)
	case corev1.NodeSelectorOpNotIn:
		return !has || !slices.Contains(e.Values, v)
	case corev1.NodeSelectorOpExists:
		return has
	case corev1.NodeSelectorOpDoesNotExist:
		return !has
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if !has || len(e.Values) != 1 {
			return false
		}
		a, err1 := strconv.ParseInt(v, 10, 64)
		b, err2 := strconv.ParseInt(e.Values[0], 10, 64)
		return err1 == nil && err2 == nil && ((e.Operator == corev1.NodeSelectorOpGt && a > b) || (e.Operator == corev1.NodeSelectorOpLt && a < b))
	}
	return false
}

type hostPort struct {
	ip, proto string
	port      int32
}

func ports(pod *corev1.Pod) []hostPort {
	var out []hostPort
	podspec.Visit(pod, func(c *corev1.Container, kind podspec.Kind) bool {
		if kind == podspec.Ephemeral || (kind == podspec.Init && !podspec.IsRestartableInit(c)) {
			return true
		}
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				ip := p.HostIP
				if ip == "" {
					ip = "0.0.0.0"
				}
				out = append(out, hostPort{ip, string(p.Protocol), p.HostPort})
			}
		}
		return true
	})
	return out
}

func conflict(pod *corev1.Pod, others []*corev1.Pod) bool {
	mine := ports(pod)
	if len(mine) == 0 {
		return false
	}
	for _, o := range others {
		for _, a := range ports(o) {
			for _, b := range mine {
				if a.port == b.port && a.proto == b.proto && (a.ip == b.ip || a.ip == "0.0.0.0" || b.ip == "0.0.0.0") {
					return true
				}
			}
		}
	}
	return false
}
