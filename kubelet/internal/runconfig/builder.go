package runconfig

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/podspec"
)

// Config is the node's settings that shape pods. It must not change after New.
type Config struct {
	PodsDir   string // holds one folder per pod UID
	LogsDir   string // /var/log/pods
	DNS       func() DNSRules
	Resources ResourceRules
	Security  SecurityRules
	Sysctls   map[string]string // defaults for every pod
	// RecursiveReadOnly reports a runtime that makes what lies below a read-only mount read-only too.
	RecursiveReadOnly func() bool
}

// VolumePaths finds the mounted volumes of a pod.
type VolumePaths interface {
	// HostPath is where the named volume is; ok is false when it is not mounted.
	HostPath(pod *corev1.Pod, volume string) (path string, ok bool)
	// SubPath prepares a path below a volume for a container and returns what to mount.
	SubPath(pod *corev1.Pod, volume, container string, index int, volumePath, sub string) (string, error)
	// Open opens a file below a volume, without following a link out of it.
	Open(pod *corev1.Pod, volume, path string) (io.ReadCloser, error)
}

// Deps is what a Builder asks.
type Deps struct {
	Volumes      VolumePaths
	Objects      Objects
	Services     func(namespace string) []*corev1.Service
	Allocatable  func() corev1.ResourceList
	CgroupParent func(pod *corev1.Pod) string
}

// Builder makes CRI configurations. It is safe for concurrent use.
type Builder struct {
	cfg  Config
	deps Deps
}

// New returns a Builder.
func New(cfg Config, deps Deps) *Builder { return &Builder{cfg: cfg, deps: deps} }

// LogDirectory is where the pod's container logs go.
func (b *Builder) LogDirectory(pod *corev1.Pod) string {
	return b.LogFolder(pod.Namespace, pod.Name, string(pod.UID))
}

// LogFolder is LogDirectory for a pod of which only the names are known.
func (b *Builder) LogFolder(namespace, name, uid string) string {
	return filepath.Join(b.cfg.LogsDir, fmt.Sprintf("%s_%s_%s", namespace, name, uid))
}

// Sandbox builds the sandbox configuration of the pod's given attempt.
func (b *Builder) Sandbox(pod *corev1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	labels := map[string]string{}
	for k, v := range pod.Labels {
		labels[k] = v
	}
	labels[podspec.LabelPodName], labels[podspec.LabelPodNamespace], labels[podspec.LabelPodUID] = pod.Name, pod.Namespace, string(pod.UID)
	rules := b.cfg.DNS()
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		Labels:       labels,
		Annotations:  pod.Annotations,
		DnsConfig:    DNS(pod, rules),
		LogDirectory: b.LogDirectory(pod),
	}
	if !pod.Spec.HostNetwork {
		host, err := kernelHostname(pod, rules.ClusterDomain)
		if err != nil {
			return nil, err
		}
		cfg.Hostname = host
	}
	podspec.Visit(pod, func(c *corev1.Container, kind podspec.Kind) bool {
		if kind == podspec.Regular || (kind == podspec.Init && podspec.IsRestartableInit(c)) {
			cfg.PortMappings = append(cfg.PortMappings, portMappings(c)...)
		}
		return true
	})
	ns, err := Namespaces(pod)
	if err != nil {
		return nil, err
	}
	sc := &runtimeapi.LinuxSandboxSecurityContext{
		Privileged: podspec.HasPrivileged(pod), NamespaceOptions: ns,
		Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
	}
	cfg.Linux = &runtimeapi.LinuxPodSandboxConfig{CgroupParent: b.deps.CgroupParent(pod), SecurityContext: sc, Sysctls: map[string]string{}}
	if !pod.Spec.HostNetwork {
		for k, v := range b.cfg.Sysctls {
			cfg.Linux.Sysctls[k] = v
		}
	}
	if p := pod.Spec.SecurityContext; p != nil {
		for _, s := range p.Sysctls {
			cfg.Linux.Sysctls[s.Name] = s.Value
		}
		if p.RunAsUser != nil {
			sc.RunAsUser = &runtimeapi.Int64Value{Value: *p.RunAsUser}
		}
		if p.RunAsGroup != nil {
			sc.RunAsGroup = &runtimeapi.Int64Value{Value: *p.RunAsGroup}
		}
		if sc.SupplementalGroups, sc.SupplementalGroupsPolicy, err = groups(pod); err != nil {
			return nil, err
		}
		sc.SelinuxOptions = selinux(p.SELinuxOptions)
	}
	return cfg, nil
}

func portMappings(c *corev1.Container) []*runtimeapi.PortMapping {
	var out []*runtimeapi.PortMapping
	for _, p := range c.Ports {
		proto := runtimeapi.Protocol_TCP
		switch p.Protocol {
		case corev1.ProtocolUDP:
			proto = runtimeapi.Protocol_UDP
		case corev1.ProtocolSCTP:
			proto = runtimeapi.Protocol_SCTP
		}
		out = append(out, &runtimeapi.PortMapping{HostIp: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: proto})
	}
	return out
}

// ContainerInput is one container to be created.
type ContainerInput struct {
	Pod          *corev1.Pod // status holds the pod's and the host's addresses
	Container    *corev1.Container
	RestartCount int
	ImageRef     string
	User         ImageUser
	PodIPs       []string
	TargetID     string                           // container whose processes an ephemeral container shares, or ""
	Images       map[string]*runtimeapi.ImageSpec // by name of the volume that shows them
}

// Container builds the configuration and the files it mounts.
func (b *Builder) Container(ctx context.Context, in ContainerInput) (*runtimeapi.ContainerConfig, error) {
	pod, c := in.Pod, in.Container
	env, err := Env(ctx, EnvInput{
		Pod: pod, Container: c, Services: b.deps.Services(pod.Namespace), Objects: b.deps.Objects, Allocatable: b.deps.Allocatable(),
		File: func(volume, path string) (io.ReadCloser, error) { return b.deps.Volumes.Open(pod, volume, path) },
	})
	if err != nil {
		return nil, err
	}
	if err := VerifyNonRoot(pod, c, in.User); err != nil {
		return nil, err
	}
	sc, err := Security(pod, c, in.User, b.cfg.Security)
	if err != nil {
		return nil, err
	}
	if in.TargetID != "" && sc.NamespaceOptions.Pid == runtimeapi.NamespaceMode_CONTAINER {
		sc.NamespaceOptions.Pid, sc.NamespaceOptions.TargetId = runtimeapi.NamespaceMode_TARGET, in.TargetID
	}
	values := make(map[string]string, len(env))
	cfg := &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: uint32(in.RestartCount)},
		Image:       &runtimeapi.ImageSpec{Image: in.ImageRef, UserSpecifiedImage: c.Image},
		WorkingDir:  c.WorkingDir,
		Labels:      map[string]string{podspec.LabelPodName: pod.Name, podspec.LabelPodNamespace: pod.Namespace, podspec.LabelPodUID: string(pod.UID), podspec.LabelContainerName: c.Name},
		Annotations: annotations(pod, c, in.RestartCount),
		LogPath:     filepath.Join(c.Name, strconv.Itoa(in.RestartCount)+".log"),
		Stdin:       c.Stdin, StdinOnce: c.StdinOnce, Tty: c.TTY,
		Linux: &runtimeapi.LinuxContainerConfig{Resources: LinuxResources(pod, c, b.cfg.Resources), SecurityContext: sc},
	}
	for _, e := range env {
		values[e.Name] = e.Value
		cfg.Envs = append(cfg.Envs, &runtimeapi.KeyValue{Key: e.Name, Value: []byte(e.Value)})
	}
	lookup := func(n string) (string, bool) { v, ok := values[n]; return v, ok }
	for _, s := range c.Command {
		cfg.Command = append(cfg.Command, Expand(s, lookup))
	}
	for _, s := range c.Args {
		cfg.Args = append(cfg.Args, Expand(s, lookup))
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		v, ok := runtimeapi.Signal_value["SIGNAL_"+string(*c.Lifecycle.StopSignal)]
		if !ok {
			return nil, fmt.Errorf("unsupported stop signal %s", *c.Lifecycle.StopSignal)
		}
		cfg.StopSignal = runtimeapi.Signal(v)
	}
	if err := os.MkdirAll(filepath.Join(b.LogDirectory(pod), c.Name), 0o755); err != nil {
		return nil, fmt.Errorf("create container log directory for container %s failed: %w", c.Name, err)
	}
	if cfg.Mounts, err = b.mounts(in, lookup); err != nil {
		return nil, err
	}
	return cfg, nil
}

// Resources is what the runtime is asked to enforce for a container that runs already.
func (b *Builder) Resources(pod *corev1.Pod, c *corev1.Container) *runtimeapi.LinuxContainerResources {
	return LinuxResources(pod, c, b.cfg.Resources)
}

func annotations(pod *corev1.Pod, c *corev1.Container, restarts int) map[string]string {
	out := map[string]string{
		cri.AnnotationHash:              strconv.FormatUint(podspec.HashContainer(c), 16),
		cri.AnnotationRestartCount:      strconv.Itoa(restarts),
		cri.AnnotationTerminationPath:   c.TerminationMessagePath,
		cri.AnnotationTerminationPolicy: string(c.TerminationMessagePolicy),
	}
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		out[cri.AnnotationDeletionGrace] = strconv.FormatInt(*g, 10)
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		out[cri.AnnotationTerminationGrace] = strconv.FormatInt(*g, 10)
	}
	asJSON := func(key string, v any) {
		if raw, err := json.Marshal(v); err == nil {
			out[key] = string(raw)
		}
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		asJSON(cri.AnnotationPreStop, c.Lifecycle.PreStop)
	}
	if len(c.Ports) > 0 {
		asJSON(cri.AnnotationPorts, c.Ports)
	}
	return out
}

func (b *Builder) podDir(pod *corev1.Pod) string {
	return filepath.Join(b.cfg.PodsDir, string(pod.UID))
}

func (b *Builder) mounts(in ContainerInput, lookup func(string) (string, bool)) ([]*runtimeapi.Mount, error) {
	pod, c := in.Pod, in.Container
	if len(c.VolumeDevices) > 0 {
		return nil, fmt.Errorf("block volumes (volumeDevices) are not supported by this kubelet")
	}
	var out []*runtimeapi.Mount
	hosts := len(in.PodIPs) > 0 || pod.Spec.HostNetwork
	for i, m := range c.VolumeMounts {
		hosts = hosts && m.MountPath != "/etc/hosts"
		if img, ok := in.Images[m.Name]; ok {
			out = append(out, &runtimeapi.Mount{ContainerPath: absolute(m.MountPath), Readonly: true, Image: img, ImageSubPath: m.SubPath})
			continue
		}
		path, ok := b.deps.Volumes.HostPath(pod, m.Name)
		if !ok {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", m.Name, c.Name)
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			var err error
			if sub, err = expandAll(m.SubPathExpr, lookup); err != nil {
				return nil, fmt.Errorf("failed to expand subPathExpr of volumeMount %q of container %q: %w", m.Name, c.Name, err)
			}
		}
		if sub != "" {
			var err error
			if path, err = b.deps.Volumes.SubPath(pod, m.Name, c.Name, i, path, sub); err != nil {
				return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
			}
		}
		recursive, err := podspec.RecursiveReadOnly(&m, b.cfg.RecursiveReadOnly())
		if err != nil {
			return nil, err
		}
		mount := &runtimeapi.Mount{RecursiveReadOnly: recursive, ContainerPath: absolute(m.MountPath), HostPath: path, Readonly: m.ReadOnly, Propagation: propagation(m.MountPropagation)}
		out = append(out, mount)
	}
	if hosts {
		path, err := b.writeHosts(pod, in.PodIPs)
		if err != nil {
			return nil, err
		}
		out = append(out, &runtimeapi.Mount{ContainerPath: "/etc/hosts", HostPath: path, SelinuxRelabel: true})
	}
	if c.TerminationMessagePath != "" {
		path, err := b.terminationLog(pod, c)
		if err != nil {
			return nil, err
		}
		out = append(out, &runtimeapi.Mount{ContainerPath: c.TerminationMessagePath, HostPath: path, SelinuxRelabel: true})
	}
	return out, nil
}

func absolute(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join("/", path)
}

func propagation(mode *corev1.MountPropagationMode) runtimeapi.MountPropagation {
	if mode == nil {
		return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
	}
	switch *mode {
	case corev1.MountPropagationHostToContainer:
		return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	case corev1.MountPropagationBidirectional:
		return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}
	return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
}

func (b *Builder) writeHosts(pod *corev1.Pod, ips []string) (string, error) {
	path := filepath.Join(b.podDir(pod), "etc-hosts")
	host := ""
	if pod.Spec.HostNetwork {
		data, err := os.ReadFile("/etc/hosts")
		if err != nil {
			return "", fmt.Errorf("read the node's hosts file: %w", err)
		}
		host = string(data)
	}
	text := HostsFile(pod, ips, b.cfg.DNS().ClusterDomain, host)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return "", fmt.Errorf("write hosts file of the pod: %w", err)
	}
	return path, os.Chmod(path, 0o644)
}

func (b *Builder) terminationLog(pod *corev1.Pod, c *corev1.Container) (string, error) {
	dir := filepath.Join(b.podDir(pod), "containers", c.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("create container directory: %w", err)
	}
	path := filepath.Join(dir, strconv.FormatInt(time.Now().UnixNano()&0xffffffff, 16))
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return "", fmt.Errorf("create termination log of container %s: %w", c.Name, err)
	}
	return path, os.Chmod(path, 0o666) // umask must not narrow it: any user in the container writes here
}
