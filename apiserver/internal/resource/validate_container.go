package resource

import (
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podScope is a pod's spec with what its containers refer to.
type podScope struct {
	*checks
	spec      *corev1.PodSpec
	meta      *metav1.ObjectMeta
	volumes   map[string]corev1.VolumeSource
	claims    sets.Set[string]
	grace     *int64
	isPod     bool
	hostUsers bool
}

// hostPorts is the key of a port on the host.
func hostPortKey(p corev1.ContainerPort) string {
	return fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
}

func (v *podScope) hostPortConflicts(list []corev1.Container, p *field.Path) {
	seen := sets.Set[string]{}
	for i := range list {
		for j, port := range list[i].Ports {
			if port.HostPort == 0 {
				continue
			}
			if key := hostPortKey(port); seen.Has(key) {
				v.duplicate(p.Index(i).Child("ports").Index(j).Child("hostPort"), key)
			} else {
				seen.Insert(key)
			}
		}
	}
}

// hostNetworkPorts wants host ports to be the containers' on the host's
// network; templates may leave them out.
func (v *podScope) hostNetworkPorts(p *field.Path) {
	if !v.spec.HostNetwork {
		return
	}
	for i := range v.spec.Containers {
		for j, port := range v.spec.Containers[i].Ports {
			if (v.isPod || port.HostPort != 0) && port.HostPort != port.ContainerPort {
				v.invalid(p.Index(i).Child("ports").Index(j).Child("hostPort"), port.HostPort, "must match `containerPort` when `hostNetwork` is true")
			}
		}
	}
}

func (v *podScope) containers(p *field.Path) {
	if len(v.spec.Containers) == 0 {
		v.required(p, "")
		return
	}
	names := sets.Set[string]{}
	for i := range v.spec.Containers {
		x, at := &v.spec.Containers[i], p.Index(i)
		v.container(x, at)
		if names.Has(x.Name) {
			v.duplicate(at.Child("name"), x.Name)
		}
		names.Insert(x.Name)
		v.lifecycle(x.Lifecycle, at.Child("lifecycle"))
		v.probes(x, at)
		v.restartRules(x.RestartPolicy, x.RestartPolicyRules, at)
	}
	v.hostPortConflicts(v.spec.Containers, p)
}

func (v *podScope) initContainers(p *field.Path) {
	const only = "may not be set for init containers without restartPolicy=Always"
	names := sets.Set[string]{}
	for i := range v.spec.Containers {
		names.Insert(v.spec.Containers[i].Name)
	}
	for i := range v.spec.InitContainers {
		x, at := &v.spec.InitContainers[i], p.Index(i)
		v.container(x, at)
		v.restartRules(x.RestartPolicy, x.RestartPolicyRules, at)
		if names.Has(x.Name) {
			v.duplicate(at.Child("name"), x.Name)
		} else if x.Name != "" {
			names.Insert(x.Name)
		}
		v.hostPortConflicts(v.spec.InitContainers[i:i+1], p)
		if restartsAlways(x) {
			v.lifecycle(x.Lifecycle, at.Child("lifecycle"))
			v.probes(x, at)
			continue
		}
		for _, f := range []struct {
			name string
			set  bool
		}{{"lifecycle", x.Lifecycle != nil}, {"livenessProbe", x.LivenessProbe != nil}, {"readinessProbe", x.ReadinessProbe != nil}, {"startupProbe", x.StartupProbe != nil}} {
			if f.set {
				v.forbidden(at.Child(f.name), only)
			}
		}
		for j, r := range x.ResizePolicy {
			if r.RestartPolicy == corev1.RestartContainer {
				v.invalid(at.Child("resizePolicy").Index(j).Child("restartPolicy"), r.RestartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers")
			}
		}
	}
}

func restartsAlways(x *corev1.Container) bool {
	return x.RestartPolicy != nil && *x.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// ephemeralAllowed are the fields that an ephemeral container may have.
var ephemeralAllowed = sets.New("Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts", "VolumeDevices",
	"TerminationMessagePath", "TerminationMessagePolicy", "ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY")

func (v *podScope) ephemeralContainers(p *field.Path) {
	const not = "cannot be set for an Ephemeral Container"
	others, names := sets.Set[string]{}, sets.Set[string]{}
	for _, list := range [][]corev1.Container{v.spec.Containers, v.spec.InitContainers} {
		for i := range list {
			others.Insert(list[i].Name)
			names.Insert(list[i].Name)
		}
	}
	for i := range v.spec.EphemeralContainers {
		e, at := &v.spec.EphemeralContainers[i], p.Index(i)
		x := corev1.Container(e.EphemeralContainerCommon)
		v.container(&x, at)
		v.imageTrimmed(x.Image, at)
		if names.Has(x.Name) {
			v.duplicate(at.Child("name"), x.Name)
		}
		names.Insert(x.Name)
		if e.TargetContainerName != "" && !others.Has(e.TargetContainerName) {
			v.notFound(at.Child("targetContainerName"), e.TargetContainerName)
		}
		v.onlyFields(e.EphemeralContainerCommon, ephemeralAllowed, not, at)
		for j, m := range x.VolumeMounts {
			if m.SubPath != "" {
				v.forbidden(at.Child("volumeMounts").Index(j).Child("subPath"), not)
			}
			if m.SubPathExpr != "" {
				v.forbidden(at.Child("volumeMounts").Index(j).Child("subPathExpr"), not)
			}
		}
	}
}

// onlyFields forbids every field of a structure that is set and not allowed.
func (c *checks) onlyFields(value any, allowed sets.Set[string], detail string, p *field.Path) {
	x := reflect.ValueOf(value)
	for i := range x.NumField() {
		name := x.Type().Field(i).Name
		if !allowed.Has(name) && !x.Field(i).IsZero() {
			c.forbidden(p.Child(strings.ToLower(name[:1])+name[1:]), detail)
		}
	}
}

// container checks what all kinds of containers have in common.
func (v *podScope) container(x *corev1.Container, p *field.Path) {
	v.requiredOr(p.Child("name"), x.Name, v.label)
	v.needed(p.Child("image"), x.Image)
	oneOfRequired(v.checks, p.Child("terminationMessagePolicy"), x.TerminationMessagePolicy, corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	v.ports(x.Ports, p.Child("ports"))
	v.env(x.Env, p.Child("env"))
	v.envFrom(x.EnvFrom, p.Child("envFrom"))
	v.mounts(x, p.Child("volumeMounts"))
	v.devices(x, p.Child("volumeDevices"))
	v.pullPolicy(x.ImagePullPolicy, p.Child("imagePullPolicy"))
	v.resources(&x.Resources, v.claims, p.Child("resources"), v.containerResourceName)
	v.resizePolicies(x.ResizePolicy, p.Child("resizePolicy"))
	v.containerSecurity(x.SecurityContext, p.Child("securityContext"), v.hostUsers)
}

func (c *checks) pullPolicy(policy corev1.PullPolicy, p *field.Path) {
	oneOfRequired(c, p, policy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
}

func (v *podScope) ports(ports []corev1.ContainerPort, p *field.Path) {
	names := sets.Set[string]{}
	for i, port := range ports {
		at := p.Index(i)
		if port.Name != "" {
			if msgs := validation.IsValidPortName(port.Name); len(msgs) > 0 {
				v.invalid(at.Child("name"), port.Name, msgs...)
			} else if names.Has(port.Name) {
				v.duplicate(at.Child("name"), port.Name)
			}
			names.Insert(port.Name)
		}
		if port.ContainerPort == 0 {
			v.required(at.Child("containerPort"), "")
		} else {
			v.port(at.Child("containerPort"), port.ContainerPort)
		}
		if port.HostPort != 0 {
			v.port(at.Child("hostPort"), port.HostPort)
		}
		v.protocol(at.Child("protocol"), port.Protocol)
	}
}

func (c *checks) protocol(p *field.Path, v corev1.Protocol) {
	if v == "" {
		c.required(p, "")
		return
	}
	oneOf(c, p, v, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

func (v *podScope) resizePolicies(list []corev1.ContainerResizePolicy, p *field.Path) {
	seen := sets.Set[corev1.ResourceName]{}
	for i, r := range list {
		if seen.Has(r.ResourceName) {
			v.duplicate(p.Index(i), r.ResourceName)
		}
		seen.Insert(r.ResourceName)
		if r.ResourceName == "" {
			v.required(p, "")
		} else {
			oneOf(v.checks, p, r.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)
		}
		if r.RestartPolicy == "" {
			v.required(p, "")
		} else {
			oneOf(v.checks, p, r.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)
		}
		if v.spec.RestartPolicy == corev1.RestartPolicyNever && r.RestartPolicy != corev1.NotRequired {
			v.invalid(p, r.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")
		}
	}
}

func (v *podScope) restartRules(policy *corev1.ContainerRestartPolicy, rules []corev1.ContainerRestartRule, p *field.Path) {
	const maxRules, maxCodes = 20, 255
	switch {
	case policy == nil && len(rules) == 0:
		return
	case policy == nil:
		v.required(p.Child("restartPolicy"), "must specify restartPolicy when restart rules are used")
	default:
		oneOf(v.checks, p.Child("restartPolicy"), *policy, corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)
	}
	p = p.Child("restartPolicyRules")
	if len(rules) > maxRules {
		v.list = append(v.list, field.TooMany(p, len(rules), maxRules))
	}
	for i, r := range rules {
		at := p.Index(i)
		oneOf(v.checks, at.Child("action"), r.Action, corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)
		if r.ExitCodes == nil {
			v.required(at.Child("exitCodes"), "must be specified")
			continue
		}
		oneOf(v.checks, at.Child("exitCodes", "operator"), r.ExitCodes.Operator, corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
		if n := len(r.ExitCodes.Values); n > maxCodes {
			v.list = append(v.list, field.TooMany(at.Child("exitCodes", "values"), n, maxCodes))
		}
	}
}

// mounts checks a container's volume mounts; upstream names some of their
// fields without the index.
func (v *podScope) mounts(x *corev1.Container, p *field.Path) {
	names, paths, seen := sets.Set[string]{}, sets.Set[string]{}, sets.Set[string]{}
	for _, d := range x.VolumeDevices {
		names.Insert(d.Name)
		paths.Insert(d.DevicePath)
	}
	for i := range x.VolumeMounts {
		m, at := &x.VolumeMounts[i], p.Index(i)
		v.needed(at.Child("name"), m.Name)
		if _, ok := v.volumes[m.Name]; !ok {
			v.notFound(at.Child("name"), m.Name)
		}
		v.needed(at.Child("mountPath"), m.MountPath)
		if seen.Has(m.MountPath) {
			v.invalid(at.Child("mountPath"), m.MountPath, "must be unique")
		}
		seen.Insert(m.MountPath)
		if names.Has(m.Name) {
			v.invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices")
		}
		if paths.Has(m.MountPath) {
			v.invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices")
		}
		if m.SubPath != "" {
			v.descending(p.Child("subPath"), m.SubPath)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				v.invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
			}
			v.descending(p.Child("subPathExpr"), m.SubPathExpr)
		}
		v.mountOptions(x, m, p, at)
	}
}

func (v *podScope) mountOptions(x *corev1.Container, m *corev1.VolumeMount, p, at *field.Path) {
	if m.MountPropagation != nil {
		oneOf(v.checks, p.Child("mountPropagation"), *m.MountPropagation, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
		if *m.MountPropagation == corev1.MountPropagationBidirectional && !privileged(x.SecurityContext) {
			v.forbidden(p.Child("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers")
		}
	}
	if m.RecursiveReadOnly != nil {
		rro := p.Child("recursiveReadOnly")
		switch mode := *m.RecursiveReadOnly; {
		case mode == corev1.RecursiveReadOnlyDisabled:
		case !oneOf(v.checks, rro, mode, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyIfPossible, corev1.RecursiveReadOnlyEnabled):
		default:
			if !m.ReadOnly {
				v.forbidden(rro, "may only be specified when readOnly is true")
			}
			if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
				v.forbidden(rro, "may only be specified when mountPropagation is None or not specified")
			}
		}
	}
}

func privileged(s *corev1.SecurityContext) bool {
	return s != nil && s.Privileged != nil && *s.Privileged
}

func (v *podScope) devices(x *corev1.Container, p *field.Path) {
	mounts, mountPaths := sets.Set[string]{}, sets.Set[string]{}
	for _, m := range x.VolumeMounts {
		mounts.Insert(m.Name)
		mountPaths.Insert(m.MountPath)
	}
	names, paths := sets.Set[string]{}, sets.Set[string]{}
	for i, d := range x.VolumeDevices {
		name, path := p.Index(i).Child("name"), p.Index(i).Child("devicePath")
		v.needed(name, d.Name)
		if names.Has(d.Name) {
			v.invalid(name, d.Name, "must be unique")
		}
		source, ok := v.volumes[d.Name]
		if !ok {
			v.notFound(name, d.Name)
		} else if source.PersistentVolumeClaim == nil && source.Ephemeral == nil {
			v.invalid(name, d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode")
		}
		v.needed(path, d.DevicePath)
		if paths.Has(d.DevicePath) {
			v.invalid(path, d.DevicePath, "must be unique")
		}
		if contains(strings.Split(d.DevicePath, "/"), "..") {
			v.invalid(path, d.DevicePath, "can not contain backsteps ('..')")
		} else {
			paths.Insert(d.DevicePath)
		}
		if mounts.Has(d.Name) {
			v.invalid(name, d.Name, "must not already exist in volumeMounts")
		}
		if mountPaths.Has(d.DevicePath) {
			v.invalid(path, d.DevicePath, "must not already exist as a path in volumeMounts")
		}
		if d.Name != "" {
			names.Insert(d.Name)
		}
	}
}
