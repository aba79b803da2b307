package resource

import (
	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// set fills a pointer that the client left out.
func set[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

// fill fills a value that the client left at zero.
func fill[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// defaultPodSpec fills in a pod's or a template's spec, as upstream's
// pkg/apis/core/v1/defaults.go does.
func defaultPodSpec(s *corev1.PodSpec) {
	fill(&s.DNSPolicy, corev1.DNSClusterFirst)
	fill(&s.RestartPolicy, corev1.RestartPolicyAlways)
	fill(&s.SchedulerName, corev1.DefaultSchedulerName)
	set(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	// Scheduling groups are behind a gate that is off.
	s.SchedulingGroup = nil
	if s.SecurityContext == nil {
		s.SecurityContext = &corev1.PodSecurityContext{}
	}
	if s.ServiceAccountName != "" {
		s.DeprecatedServiceAccount = s.ServiceAccountName
	} else {
		s.ServiceAccountName = s.DeprecatedServiceAccount
	}
	for i := range s.Volumes {
		defaultVolume(&s.Volumes[i])
	}
	for i := range s.InitContainers {
		defaultContainer(&s.InitContainers[i], s.HostNetwork)
	}
	for i := range s.Containers {
		defaultContainer(&s.Containers[i], s.HostNetwork)
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		defaultContainer(&c, s.HostNetwork)
		s.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
}

// defaultPod adds what holds for pods and not for templates.
func defaultPod(p *corev1.Pod) {
	defaultPodSpec(&p.Spec)
	set(&p.Spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	for i := range p.Spec.InitContainers {
		defaultRequests(&p.Spec.InitContainers[i])
	}
	for i := range p.Spec.Containers {
		defaultRequests(&p.Spec.Containers[i])
	}
	if p.Spec.HostNetwork {
		hostPorts(p.Spec.Containers)
		hostPorts(p.Spec.InitContainers)
	}
}

// defaultRequests takes missing requests from the limits.
func defaultRequests(c *corev1.Container) {
	if len(c.Resources.Limits) == 0 {
		return
	}
	if c.Resources.Requests == nil {
		c.Resources.Requests = corev1.ResourceList{}
	}
	for name, q := range c.Resources.Limits {
		if _, ok := c.Resources.Requests[name]; !ok {
			c.Resources.Requests[name] = q.DeepCopy()
		}
	}
}

func hostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			p := &containers[i].Ports[j]
			fill(&p.HostPort, p.ContainerPort)
		}
	}
}

func defaultContainer(c *corev1.Container, hostNetwork bool) {
	fill(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	fill(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = pullPolicy(c.Image)
	}
	for i := range c.Ports {
		fill(&c.Ports[i].Protocol, corev1.ProtocolTCP)
		if hostNetwork {
			fill(&c.Ports[i].HostPort, c.Ports[i].ContainerPort)
		}
	}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil {
			continue
		}
		if from.FieldRef != nil {
			fill(&from.FieldRef.APIVersion, "v1")
		}
		if from.FileKeyRef != nil {
			set(&from.FileKeyRef.Optional, false)
		}
	}
	roundUp(c.Resources.Limits)
	roundUp(c.Resources.Requests)
	defaultProbe(c.LivenessProbe)
	defaultProbe(c.ReadinessProbe)
	defaultProbe(c.StartupProbe)
	// The stop signal and the options of bind mounts are behind gates that are
	// off, so they are dropped.
	for i := range c.VolumeMounts {
		c.VolumeMounts[i].BindMountOptions = nil
	}
	if c.Lifecycle != nil {
		c.Lifecycle.StopSignal = nil
		if *c.Lifecycle == (corev1.Lifecycle{}) {
			c.Lifecycle = nil
		}
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTPGet(h.HTTPGet)
			}
		}
	}
}

// pullPolicy is Always for an image that is tagged latest, or has neither tag nor digest. What is no image is not pulled anyway.
func pullPolicy(image string) corev1.PullPolicy {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return corev1.PullIfNotPresent
	}
	if reference.IsNameOnly(named) {
		return corev1.PullAlways
	}
	if tagged, ok := named.(reference.Tagged); ok && tagged.Tag() == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// roundUp raises quantities below one thousandth to one thousandth.
func roundUp(list corev1.ResourceList) {
	for name, q := range list {
		q.RoundUp(-3)
		list[name] = q
	}
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	fill(&p.TimeoutSeconds, 1)
	fill(&p.PeriodSeconds, 10)
	fill(&p.SuccessThreshold, 1)
	fill(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil {
		p.GRPC.Mode = nil
		set(&p.GRPC.Service, "")
	}
}

func defaultHTTPGet(h *corev1.HTTPGetAction) {
	if h == nil {
		return
	}
	h.Protocol = nil
	fill(&h.Path, "/")
	fill(&h.Scheme, corev1.URISchemeHTTP)
}

func defaultVolume(v *corev1.Volume) {
	const mode = corev1.ConfigMapVolumeSourceDefaultMode
	src := &v.VolumeSource
	if *src == (corev1.VolumeSource{}) {
		src.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	switch {
	case src.Secret != nil:
		set(&src.Secret.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	case src.ConfigMap != nil:
		set(&src.ConfigMap.DefaultMode, mode)
	case src.DownwardAPI != nil:
		set(&src.DownwardAPI.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		defaultDownward(src.DownwardAPI.Items)
	case src.Projected != nil:
		set(&src.Projected.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
		for i := range src.Projected.Sources {
			p := &src.Projected.Sources[i]
			if p.ServiceAccountToken != nil {
				set(&p.ServiceAccountToken.ExpirationSeconds, 60*60)
			}
			if p.DownwardAPI != nil {
				defaultDownward(p.DownwardAPI.Items)
			}
		}
	case src.HostPath != nil:
		set(&src.HostPath.Type, corev1.HostPathUnset)
	case src.ISCSI != nil:
		fill(&src.ISCSI.ISCSIInterface, "default")
	case src.RBD != nil:
		fill(&src.RBD.RBDPool, "rbd")
		fill(&src.RBD.RadosUser, "admin")
		fill(&src.RBD.Keyring, "/etc/ceph/keyring")
	case src.AzureDisk != nil:
		defaultAzureDisk(src.AzureDisk)
	case src.ScaleIO != nil:
		fill(&src.ScaleIO.StorageMode, "ThinProvisioned")
		fill(&src.ScaleIO.FSType, "xfs")
	case src.Ephemeral != nil && src.Ephemeral.VolumeClaimTemplate != nil:
		set(&src.Ephemeral.VolumeClaimTemplate.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	case src.Image != nil:
		if src.Image.PullPolicy == "" {
			src.Image.PullPolicy = pullPolicy(src.Image.Reference)
		}
	}
}

func defaultAzureDisk(d *corev1.AzureDiskVolumeSource) {
	set(&d.CachingMode, corev1.AzureDataDiskCachingReadWrite)
	set(&d.Kind, corev1.AzureSharedBlobDisk)
	set(&d.FSType, "ext4")
	set(&d.ReadOnly, false)
}

func defaultDownward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if items[i].FieldRef != nil {
			fill(&items[i].FieldRef.APIVersion, "v1")
		}
	}
}

func defaultService(s *corev1.Service) {
	fill(&s.Spec.SessionAffinity, corev1.ServiceAffinityNone)
	if s.Spec.SessionAffinity == corev1.ServiceAffinityNone {
		s.Spec.SessionAffinityConfig = nil
	} else if c := s.Spec.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
		seconds := corev1.DefaultClientIPServiceAffinitySeconds
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
	fill(&s.Spec.Type, corev1.ServiceTypeClusterIP)
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		fill(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer || len(s.Spec.ExternalIPs) > 0 && s.Spec.Type == corev1.ServiceTypeClusterIP {
		fill(&s.Spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		set(&s.Spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		set(&s.Spec.AllocateLoadBalancerNodePorts, true)
		for i := range s.Status.LoadBalancer.Ingress {
			if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" {
				set(&in.IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
}
