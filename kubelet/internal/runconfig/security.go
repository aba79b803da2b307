package runconfig

import (
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/kubelet/internal/podspec"
)

// ImageUser is the user an image runs as; at most one of the two is set.
type ImageUser struct {
	UID  *int64
	Name string
}

// SecurityRules are the node's settings that shape security contexts.
type SecurityRules struct {
	SeccompDefault bool
	SeccompRoot    string // where localhost profiles are
}

func maskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// Namespaces is which namespaces the pod's processes share.
func Namespaces(pod *corev1.Pod) (*runtimeapi.NamespaceOption, error) {
	if pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers {
		return nil, fmt.Errorf("user namespaces (hostUsers: false) are not supported by this kubelet")
	}
	out := &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_POD, Pid: runtimeapi.NamespaceMode_CONTAINER, Ipc: runtimeapi.NamespaceMode_POD}
	if pod.Spec.HostIPC {
		out.Ipc = runtimeapi.NamespaceMode_NODE
	}
	if pod.Spec.HostNetwork {
		out.Network = runtimeapi.NamespaceMode_NODE
	}
	if pod.Spec.HostPID {
		out.Pid = runtimeapi.NamespaceMode_NODE
	} else if pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace {
		out.Pid = runtimeapi.NamespaceMode_POD
	}
	return out, nil
}

// effective merges the pod's security context into the container's: the container's own fields win.
func effective(pod *corev1.Pod, c *corev1.Container) *corev1.SecurityContext {
	out := &corev1.SecurityContext{}
	if c.SecurityContext != nil {
		out = c.SecurityContext.DeepCopy()
	}
	p := pod.Spec.SecurityContext
	if p == nil {
		return out
	}
	if out.RunAsUser == nil {
		out.RunAsUser = p.RunAsUser
	}
	if out.RunAsGroup == nil {
		out.RunAsGroup = p.RunAsGroup
	}
	if out.RunAsNonRoot == nil {
		out.RunAsNonRoot = p.RunAsNonRoot
	}
	if out.SELinuxOptions == nil {
		out.SELinuxOptions = p.SELinuxOptions
	}
	if out.SeccompProfile == nil {
		out.SeccompProfile = p.SeccompProfile
	}
	if out.AppArmorProfile == nil {
		out.AppArmorProfile = p.AppArmorProfile
	}
	return out
}

// VerifyNonRoot refuses a container that must not run as root and would.
func VerifyNonRoot(pod *corev1.Pod, c *corev1.Container, user ImageUser) error {
	sc := effective(pod, c)
	if sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot {
		return nil
	}
	who := fmt.Sprintf("(pod: %q, container: %s)", podspec.Describe(pod), c.Name)
	switch {
	case sc.RunAsUser != nil:
		if *sc.RunAsUser == 0 {
			return fmt.Errorf("container's runAsUser breaks non-root policy %s", who)
		}
	case user.UID != nil && *user.UID == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", who)
	case user.UID == nil && user.Name != "":
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", user.Name, who)
	}
	return nil
}

// Security is the container's effective Linux security context.
func Security(pod *corev1.Pod, c *corev1.Container, user ImageUser, rules SecurityRules) (*runtimeapi.LinuxContainerSecurityContext, error) {
	ns, err := Namespaces(pod)
	if err != nil {
		return nil, err
	}
	sc := effective(pod, c)
	out := &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: ns, MaskedPaths: maskedPaths(), ReadonlyPaths: readonlyPaths()}
	switch {
	case sc.RunAsUser != nil:
		out.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
	case user.UID != nil:
		out.RunAsUser = &runtimeapi.Int64Value{Value: *user.UID}
	default:
		out.RunAsUsername = user.Name
	}
	if sc.RunAsGroup != nil {
		out.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
	}
	if sc.Privileged != nil {
		out.Privileged = *sc.Privileged
	}
	if sc.ReadOnlyRootFilesystem != nil {
		out.ReadonlyRootfs = *sc.ReadOnlyRootFilesystem
	}
	out.NoNewPrivs = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
	if sc.Capabilities != nil {
		out.Capabilities = &runtimeapi.Capability{}
		for _, v := range sc.Capabilities.Add {
			out.Capabilities.AddCapabilities = append(out.Capabilities.AddCapabilities, string(v))
		}
		for _, v := range sc.Capabilities.Drop {
			out.Capabilities.DropCapabilities = append(out.Capabilities.DropCapabilities, string(v))
		}
	}
	if sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount {
		out.MaskedPaths, out.ReadonlyPaths = nil, nil
	}
	if out.SupplementalGroups, out.SupplementalGroupsPolicy, err = groups(pod); err != nil {
		return nil, err
	}
	out.SelinuxOptions = selinux(sc.SELinuxOptions)
	if out.Seccomp, err = seccomp(sc, out.Privileged, rules); err != nil {
		return nil, err
	}
	out.Apparmor = apparmor(pod, c, sc)
	return out, nil
}

func groups(pod *corev1.Pod) (ids []int64, policy runtimeapi.SupplementalGroupsPolicy, err error) {
	p := pod.Spec.SecurityContext
	if p == nil {
		return nil, 0, nil
	}
	if p.FSGroup != nil {
		ids = append(ids, *p.FSGroup)
	}
	ids = append(ids, p.SupplementalGroups...)
	if p.SupplementalGroupsPolicy != nil {
		v, ok := runtimeapi.SupplementalGroupsPolicy_value[string(*p.SupplementalGroupsPolicy)]
		if !ok {
			return nil, 0, fmt.Errorf("unsupported supplementalGroupsPolicy: %s", *p.SupplementalGroupsPolicy)
		}
		policy = runtimeapi.SupplementalGroupsPolicy(v)
	}
	return ids, policy, nil
}

func selinux(o *corev1.SELinuxOptions) *runtimeapi.SELinuxOption {
	if o == nil {
		return nil
	}
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

func seccomp(sc *corev1.SecurityContext, privileged bool, rules SecurityRules) (*runtimeapi.SecurityProfile, error) {
	unconfined := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	standard := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	if privileged {
		return unconfined, nil
	}
	if sc.SeccompProfile == nil {
		if rules.SeccompDefault {
			return standard, nil
		}
		return unconfined, nil
	}
	switch sc.SeccompProfile.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return standard, nil
	case corev1.SeccompProfileTypeLocalhost:
		if sc.SeccompProfile.LocalhostProfile == nil || *sc.SeccompProfile.LocalhostProfile == "" {
			return nil, fmt.Errorf("localhostProfile must be set if seccompProfile type is Localhost")
		}
		return &runtimeapi.SecurityProfile{
			ProfileType:  runtimeapi.SecurityProfile_Localhost,
			LocalhostRef: filepath.Join(rules.SeccompRoot, *sc.SeccompProfile.LocalhostProfile),
		}, nil
	}
	return unconfined, nil
}

func apparmor(pod *corev1.Pod, c *corev1.Container, sc *corev1.SecurityContext) *runtimeapi.SecurityProfile {
	profile := sc.AppArmorProfile
	if profile == nil {
		switch v := pod.Annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]; {
		case v == "":
			return nil
		case v == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
			return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
		case v == corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
			return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
		default:
			return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: v}
		}
	}
	switch profile.Type {
	case corev1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	case corev1.AppArmorProfileTypeLocalhost:
		if profile.LocalhostProfile != nil {
			return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "localhost/" + *profile.LocalhostProfile}
		}
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
}
