package resource

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePod(p *corev1.Pod) field.ErrorList {
	c := &checks{}
	c.pod(p)
	spec := root("spec")
	if len(p.Spec.EphemeralContainers) > 0 {
		c.forbidden(spec.Child("ephemeralContainers"), "cannot be set on create")
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		c.forbidden(spec.Child("nodeName"), "cannot be set until all schedulingGates have been cleared")
	}
	c.statusIPs(p)
	return c.list
}

// pod checks what holds on a creation and on every update.
func (c *checks) pod(p *corev1.Pod) {
	spec := root("spec")
	c.podAnnotations(p.Annotations, &p.Spec, root("metadata", "annotations"))
	c.podSpec(&p.Spec, &p.ObjectMeta, spec, true)
	if p.Spec.ServiceAccountName == "" {
		for i, v := range p.Spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for j, s := range v.Projected.Sources {
				if s.ServiceAccountToken != nil {
					c.forbidden(spec.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"), "must not be specified when serviceAccountName is not set")
				}
			}
		}
	}
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		c.nonNegative(spec.Child("terminationGracePeriodSeconds"), *s)
	}
	c.imagesTrimmed(p.Spec.Containers, spec.Child("containers"))
	c.imagesTrimmed(p.Spec.InitContainers, spec.Child("initContainers"))
}

func (c *checks) imagesTrimmed(list []corev1.Container, p *field.Path) {
	for i := range list {
		c.imageTrimmed(list[i].Image, p.Index(i))
	}
}

func (c *checks) imageTrimmed(image string, p *field.Path) {
	if strings.TrimSpace(image) != image {
		c.invalid(p.Child("image"), image, "must not have leading or trailing whitespace")
	}
}

// podSpec checks a pod's spec, or a template's, which has no name (meta nil)
// and may leave host ports to be filled in later.
func (c *checks) podSpec(s *corev1.PodSpec, meta *metav1.ObjectMeta, p *field.Path, isPod bool) {
	if s.TerminationGracePeriodSeconds == nil {
		c.required(p.Child("terminationGracePeriodSeconds"), "")
	}
	v := &podScope{
		checks: c, spec: s, meta: meta, claims: sets.Set[string]{}, isPod: isPod,
		hostUsers: s.HostUsers == nil || *s.HostUsers, grace: s.TerminationGracePeriodSeconds,
	}
	v.volumes = v.namedVolumes(p.Child("volumes"))
	for _, claim := range s.ResourceClaims {
		if claim.Name != "" {
			v.claims.Insert(claim.Name)
		}
	}
	v.resourceClaims(p.Child("resourceClaims"))
	v.containers(p.Child("containers"))
	v.initContainers(p.Child("initContainers"))
	v.ephemeralContainers(p.Child("ephemeralContainers"))
	v.podResources(p)
	v.hostNetworkPorts(p.Child("containers"))
	oneOfRequired(c, p.Child("restartPolicy"), s.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	oneOfRequired(c, p.Child("dnsPolicy"), s.DNSPolicy, corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	c.add(unversioned.ValidateLabels(s.NodeSelector, p.Child("nodeSelector")))
	c.podSecurity(s, p.Child("securityContext"))
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		c.invalid(p.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled")
	}
	c.affinity(s.Affinity, p.Child("affinity"))
	c.dnsConfig(s, p.Child("dnsConfig"))
	for i, g := range s.ReadinessGates {
		c.qualified(p.Child("readinessGates").Index(i).Child("conditionType"), string(g.ConditionType))
	}
	seen := sets.Set[string]{}
	for i, g := range s.SchedulingGates {
		at := p.Child("schedulingGates").Index(i)
		c.qualified(at, g.Name)
		if seen.Has(g.Name) {
			c.duplicate(at, g.Name)
		}
		seen.Insert(g.Name)
	}
	c.topologySpread(s.TopologySpreadConstraints, p.Child("topologySpreadConstraints"))
	c.hostProcess(s, p)
	v.userNamespace(p)
	c.podNames(s, p)
	c.podRest(s, p)
	v.fileKeyVolumes(p)
}

// podNames checks the fields of a pod's spec that name something.
func (c *checks) podNames(s *corev1.PodSpec, p *field.Path) {
	if s.HostnameOverride != nil {
		at := p.Child("hostnameOverride")
		if s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN {
			c.forbidden(at, "may not be specified when setHostnameAsFQDN is true")
		}
		if s.HostNetwork {
			c.forbidden(at, "may not be specified when hostNetwork is true")
		}
		if len(*s.HostnameOverride) > 64 {
			c.list = append(c.list, field.TooLong(at, "", 64))
		}
		c.subdomain(at, *s.HostnameOverride)
	}
	if s.ServiceAccountName != "" {
		c.invalid(p.Child("serviceAccountName"), s.ServiceAccountName, apivalidation.ValidateServiceAccountName(s.ServiceAccountName, false)...)
	}
	if s.DeprecatedServiceAccount != s.ServiceAccountName {
		c.invalid(p.Child("deprecatedServiceAccount"), s.DeprecatedServiceAccount, fmt.Sprintf("must be the same as serviceAccountName: %q", s.ServiceAccountName))
	}
	if s.NodeName != "" {
		c.subdomain(p.Child("nodeName"), s.NodeName)
	}
	if s.ActiveDeadlineSeconds != nil {
		c.between(p.Child("activeDeadlineSeconds"), *s.ActiveDeadlineSeconds, 1, math.MaxInt32)
	}
	if s.Hostname != "" {
		c.label(p.Child("hostname"), s.Hostname)
	}
	if s.Subdomain != "" {
		c.label(p.Child("subdomain"), s.Subdomain)
	}
	c.tolerations(s.Tolerations, p.Child("tolerations"))
	for i, a := range s.HostAliases {
		at := p.Child("hostAliases").Index(i)
		c.ip(at.Child("ip"), a.IP)
		for j, name := range a.Hostnames {
			c.subdomain(at.Child("hostnames").Index(j), name)
		}
	}
	if s.PriorityClassName != "" {
		c.subdomain(p.Child("priorityClassName"), s.PriorityClassName)
	}
	if s.RuntimeClassName != nil {
		c.subdomain(p.Child("runtimeClassName"), *s.RuntimeClassName)
	}
}

// podRest checks preemption, overhead, operating system and group.
func (c *checks) podRest(s *corev1.PodSpec, p *field.Path) {
	if s.PreemptionPolicy != nil {
		oneOfRequired(c, p.Child("preemptionPolicy"), *s.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
	if s.Overhead != nil {
		c.resources(&corev1.ResourceRequirements{Limits: s.Overhead}, nil, p.Child("overhead"), c.containerResourceName)
	}
	if s.OS != nil {
		switch s.OS.Name {
		case "":
			c.required(p.Child("os", "name"), "")
		case corev1.Linux:
			c.linuxPod(s, p)
		case corev1.Windows:
			c.windowsPod(s, p)
		default:
			oneOf(c, p.Child("os"), s.OS.Name, corev1.Linux, corev1.Windows)
		}
	}
	if g := s.SchedulingGroup; g != nil {
		at := p.Child("schedulingGroup", "podGroupName")
		if g.PodGroupName == nil {
			c.invalid(at, g.PodGroupName, "must specify one of: `podGroupName`")
		} else {
			c.subdomain(at, *g.PodGroupName)
		}
	}
}

// dnsConfig bounds a resolver's configuration as libc does: three servers,
// 32 search paths, 2048 characters.
func (c *checks) dnsConfig(s *corev1.PodSpec, p *field.Path) {
	const servers, paths, chars = 3, 32, 2048
	d := s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone {
		if d == nil {
			c.required(p, "must provide `dnsConfig` when `dnsPolicy` is None")
			return
		}
		if len(d.Nameservers) == 0 {
			c.required(p.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None")
			return
		}
	}
	if d == nil {
		return
	}
	if len(d.Nameservers) > servers {
		c.invalid(p.Child("nameservers"), d.Nameservers, fmt.Sprintf("must not have more than %d nameservers", servers))
	}
	for i, ns := range d.Nameservers {
		c.ip(p.Child("nameservers").Index(i), ns)
	}
	if len(d.Searches) > paths {
		c.invalid(p.Child("searches"), d.Searches, fmt.Sprintf("must not have more than %d search paths", paths))
	}
	if len(strings.Join(d.Searches, " ")) > chars {
		c.invalid(p.Child("searches"), d.Searches, fmt.Sprintf("must not have more than %d characters (including spaces) in the search list", chars))
	}
	for i, search := range d.Searches {
		if search == "." {
			continue
		}
		search = strings.TrimSuffix(search, ".")
		c.invalid(p.Child("searches").Index(i), search, validation.IsDNS1123SubdomainWithUnderscore(search)...)
	}
	for i, o := range d.Options {
		if o.Name == "" {
			c.required(p.Child("options").Index(i), "must not be empty")
		}
	}
}

func (c *checks) tolerations(list []corev1.Toleration, p *field.Path) {
	for i, t := range list {
		at := p.Index(i)
		if t.Key != "" {
			c.labelName(at.Child("key"), t.Key)
		}
		if t.Key == "" && t.Operator != corev1.TolerationOpExists {
			c.invalid(at.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			c.invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
		}
		switch t.Operator {
		case corev1.TolerationOpEqual, "":
			if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
				c.invalid(at.Child("operator"), t.Value, strings.Join(msgs, ";"))
			}
		case corev1.TolerationOpExists:
			if t.Value != "" {
				c.invalid(at.Child("operator"), t.Value, "value must be empty when `operator` is 'Exists'")
			}
		case corev1.TolerationOpLt, corev1.TolerationOpGt:
			// The comparison operators are behind a gate that is off.
			c.list = append(c.list, field.NotSupported(at.Child("operator"), t.Operator, []corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpLt, corev1.TolerationOpGt}))
		default:
			c.list = append(c.list, field.NotSupported(at.Child("operator"), t.Operator, []corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists}))
		}
		if t.Effect != "" {
			c.taintEffect(at.Child("effect"), t.Effect)
		}
	}
}

func (c *checks) taintEffect(p *field.Path, effect corev1.TaintEffect) {
	oneOfRequired(c, p, effect, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
}

// podAnnotations checks the annotations that mean something to the cluster.
func (c *checks) podAnnotations(a map[string]string, s *corev1.PodSpec, p *field.Path) {
	if v, ok := a[corev1.MirrorPodAnnotationKey]; ok && s.NodeName == "" {
		c.invalid(p.Key(corev1.MirrorPodAnnotationKey), v, "must set spec.nodeName if mirror pod annotation is set")
	}
	if v, ok := a[corev1.PodDeletionCost]; ok && !deletionCost(v) {
		c.invalid(p.Key(corev1.PodDeletionCost), v, "must be a 32bit integer")
	}
	if v, ok := a[corev1.SeccompPodAnnotationKey]; ok {
		c.seccompName(v, p.Child(corev1.SeccompPodAnnotationKey))
	}
	for k, v := range a {
		if strings.HasPrefix(k, corev1.SeccompContainerAnnotationKeyPrefix) {
			c.seccompName(v, p.Child(k))
		}
		name, ok := strings.CutPrefix(k, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix)
		if !ok {
			continue
		}
		if !hasContainer(s, name) {
			c.invalid(p.Key(k), name, "container not found")
		}
		if v != "" && v != corev1.DeprecatedAppArmorBetaProfileRuntimeDefault && v != corev1.DeprecatedAppArmorBetaProfileNameUnconfined && !strings.HasPrefix(v, corev1.DeprecatedAppArmorBetaProfileNamePrefix) {
			c.invalid(p.Key(k), v, fmt.Sprintf("invalid AppArmor profile name: %q", v))
		}
	}
}

// deletionCost is whether v is a 32-bit integer as it would be printed.
func deletionCost(v string) bool {
	if v == "" || v[0] == '+' || len(v) > 1 && v[0] == '0' {
		return v == "0"
	}
	_, err := strconv.ParseInt(v, 10, 32)
	return err == nil
}

func (c *checks) seccompName(v string, p *field.Path) {
	switch {
	case v == corev1.SeccompProfileRuntimeDefault, v == corev1.DeprecatedSeccompProfileDockerDefault, v == corev1.SeccompProfileNameUnconfined:
	case strings.HasPrefix(v, corev1.SeccompLocalhostProfileNamePrefix):
		c.descending(p, strings.TrimPrefix(v, corev1.SeccompLocalhostProfileNamePrefix))
	default:
		c.invalid(p, v, "must be a valid seccomp profile")
	}
}

func hasContainer(s *corev1.PodSpec, name string) bool {
	found := false
	eachContainer(s, nil, func(x *corev1.Container, _ *field.Path) { found = found || x.Name == name })
	return found
}

// eachContainer visits every container of a spec with its path.
func eachContainer(s *corev1.PodSpec, p *field.Path, f func(*corev1.Container, *field.Path)) {
	for i := range s.InitContainers {
		f(&s.InitContainers[i], p.Child("initContainers").Index(i))
	}
	for i := range s.Containers {
		f(&s.Containers[i], p.Child("containers").Index(i))
	}
	for i := range s.EphemeralContainers {
		x := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		f(&x, p.Child("ephemeralContainers").Index(i))
	}
}
