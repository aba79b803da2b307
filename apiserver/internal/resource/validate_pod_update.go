package resource

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// updatable are the fields of a pod's spec that an update may change.
const updatable = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	c := &checks{}
	if !apiequality.Semantic.DeepEqual(p.Spec.EphemeralContainers, old.Spec.EphemeralContainers) {
		return validateEphemeralUpdate(p, old)
	}
	c.pod(p)
	c.podAnnotationsKept(p, old)
	spec := root("spec")
	if !c.containersKept(p.Spec.Containers, old.Spec.Containers, spec.Child("containers")) ||
		!c.containersKept(p.Spec.InitContainers, old.Spec.InitContainers, spec.Child("initContainers")) ||
		!c.deadlineKept(p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds, spec.Child("activeDeadlineSeconds")) {
		return c.list
	}
	c.tolerationsKept(p, old, spec.Child("tolerations"))
	was := map[string]bool{}
	for _, g := range old.Spec.SchedulingGates {
		was[g.Name] = true
	}
	for i, g := range p.Spec.SchedulingGates {
		if !was[g.Name] {
			c.forbidden(spec.Child("schedulingGates").Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name))
		}
	}
	if apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
		return c.list
	}
	n := c.withoutUpdatable(p, old)
	if !apiequality.Semantic.DeepEqual(n, old.Spec) {
		c.forbidden(spec, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatable, diff.Diff(old.Spec, n)))
	}
	return c.list
}

// validatePodPart checks a change through binding, ephemeralcontainers or
// resize.
func validatePodPart(sub string, p, old *corev1.Pod) field.ErrorList {
	switch sub {
	case "ephemeralcontainers":
		return validateEphemeralUpdate(p, old)
	case "resize":
		return validatePodResize(p, old)
	}
	return nil
}

func (c *checks) podAnnotationsKept(p, old *corev1.Pod) {
	at := root("metadata", "annotations")
	armor := func(k string) bool {
		return strings.HasPrefix(k, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix)
	}
	for k, v := range old.Annotations {
		if n, ok := p.Annotations[k]; ok && n == v {
			continue
		}
		if armor(k) {
			c.forbidden(at.Key(k), "may not remove or update AppArmor annotations")
		}
		if k == corev1.MirrorPodAnnotationKey {
			c.forbidden(at.Key(k), "may not remove or update mirror pod annotation")
		}
	}
	for k := range p.Annotations {
		if _, ok := old.Annotations[k]; ok {
			continue
		}
		if armor(k) {
			c.forbidden(at.Key(k), "may not add AppArmor annotations")
		}
		if k == corev1.MirrorPodAnnotationKey {
			c.forbidden(at.Key(k), "may not add mirror pod annotation")
		}
	}
}

// containersKept is whether the containers can be compared one by one.
func (c *checks) containersKept(list, old []corev1.Container, p *field.Path) bool {
	if len(list) != len(old) {
		c.forbidden(p, "pod updates may not add or remove containers")
	}
	return len(list) == len(old)
}

func (c *checks) deadlineKept(n, old *int64, p *field.Path) bool {
	switch {
	case n == nil && old != nil:
		c.invalid(p, n, "must not update from a positive integer to nil value")
	case n == nil:
	case *n < 0 || *n > math.MaxInt32:
		c.invalid(p, *n, validation.InclusiveRangeError(0, math.MaxInt32))
		return false
	case old != nil && *old < *n:
		c.invalid(p, *n, "must be less than or equal to previous value")
		return false
	}
	return true
}

// tolerationsKept lets tolerations be added, and their seconds change.
func (c *checks) tolerationsKept(p, old *corev1.Pod, at *field.Path) {
	for _, o := range old.Spec.Tolerations {
		found := false
		for _, n := range p.Spec.Tolerations {
			o.TolerationSeconds = n.TolerationSeconds
			found = found || reflect.DeepEqual(o, n)
		}
		if !found {
			c.forbidden(at, "existing toleration can not be modified except its tolerationSeconds")
			return
		}
	}
	c.tolerations(p.Spec.Tolerations, at)
}

// withoutUpdatable is the new spec with the fields that may change taken from
// the old one.
func (c *checks) withoutUpdatable(p, old *corev1.Pod) corev1.PodSpec {
	n := *p.Spec.DeepCopy()
	for i := range n.Containers {
		n.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range n.InitContainers {
		n.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	n.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	n.SchedulingGates = old.Spec.SchedulingGates
	n.Tolerations = old.Spec.Tolerations
	if was, is := old.Spec.TerminationGracePeriodSeconds, n.TerminationGracePeriodSeconds; was != nil && *was < 0 && is != nil && *is == 1 {
		n.TerminationGracePeriodSeconds = was
	}
	if len(old.Spec.SchedulingGates) > 0 {
		c.gatedChanges(&n, &old.Spec, root("spec"))
	}
	return n
}

// gatedChanges lets a gated pod's node selector and affinity become narrower.
func (c *checks) gatedChanges(n, old *corev1.PodSpec, p *field.Path) {
	if !apiequality.Semantic.DeepEqual(n.NodeSelector, old.NodeSelector) {
		for k, v := range old.NodeSelector {
			if n.NodeSelector[k] != v {
				c.invalid(p.Child("nodeSelector"), n.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)")
				break
			}
		}
		n.NodeSelector = old.NodeSelector
	}
	affinity := func(s *corev1.PodSpec) *corev1.NodeAffinity {
		if s.Affinity == nil {
			return nil
		}
		return s.Affinity.NodeAffinity
	}
	was, is := affinity(old), affinity(n)
	if apiequality.Semantic.DeepEqual(was, is) {
		return
	}
	c.nodeAffinityKept(is, was, p.Child("affinity", "nodeAffinity", requiredTerms, "nodeSelectorTerms"))
	switch {
	case n.Affinity == nil && was != nil:
		n.Affinity = &corev1.Affinity{NodeAffinity: was}
	case old.Affinity == nil && n.Affinity.PodAffinity == nil && n.Affinity.PodAntiAffinity == nil:
		n.Affinity = nil
	default:
		n.Affinity.NodeAffinity = was
	}
}

func (c *checks) nodeAffinityKept(is, was *corev1.NodeAffinity, p *field.Path) {
	terms := func(a *corev1.NodeAffinity) []corev1.NodeSelectorTerm {
		if a == nil || a.RequiredDuringSchedulingIgnoredDuringExecution == nil {
			return nil
		}
		return a.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	o, n := terms(was), terms(is)
	if len(o) > 0 && len(o) != len(n) {
		c.invalid(p, shown(n), "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
		return
	}
	for i := range o {
		if !narrower(n[i], o[i]) {
			c.invalid(p.Index(i), shown(n[i]), "only additions are allowed (no mutations or deletions)")
		}
	}
}

// narrower is whether a term only gained requirements; an empty term, which
// matches nothing, may gain none.
func narrower(n, o corev1.NodeSelectorTerm) bool {
	if len(o.MatchExpressions)+len(o.MatchFields) == 0 {
		return len(n.MatchExpressions)+len(n.MatchFields) == 0
	}
	starts := func(n, o []corev1.NodeSelectorRequirement) bool {
		return len(n) >= len(o) && (len(o) == 0 || apiequality.Semantic.DeepEqual(n[:len(o)], o))
	}
	return starts(n.MatchExpressions, o.MatchExpressions) && starts(n.MatchFields, o.MatchFields)
}

// validateEphemeralUpdate lets ephemeral containers be added only.
func validateEphemeralUpdate(p, old *corev1.Pod) field.ErrorList {
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	c := &checks{}
	c.pod(p)
	c.podAnnotationsKept(p, old)
	now := map[string]*corev1.EphemeralContainer{}
	for i := range p.Spec.EphemeralContainers {
		now[p.Spec.EphemeralContainers[i].Name] = &p.Spec.EphemeralContainers[i]
	}
	at := root("spec", "ephemeralContainers")
	for _, o := range old.Spec.EphemeralContainers {
		if n := now[o.Name]; n == nil {
			c.forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", o.Name))
		} else if !apiequality.Semantic.DeepEqual(o, *n) {
			c.forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", o.Name, diff.Diff(o, *n)))
		}
	}
	return c.list
}

func validatePodStatus(p, old *corev1.Pod) field.ErrorList {
	c := &checks{}
	c.podAnnotationsKept(p, old)
	c.podAnnotations(p.Annotations, &p.Spec, root("metadata", "annotations"))
	at := root("status")
	for i, x := range p.Status.Conditions {
		if x.ObservedGeneration < 0 {
			c.invalid(at.Child("conditions").Index(i).Child("observedGeneration"), x.ObservedGeneration, "must be a non-negative integer")
		}
		c.qualified(at.Child("conditions").Index(i).Child("Type"), string(x.Type))
	}
	if n := p.Status.NominatedNodeName; n != "" && n != old.Status.NominatedNodeName {
		c.subdomain(at.Child("nominatedNodeName"), n)
		if old.Spec.NodeName != "" {
			c.forbidden(at.Child("nominatedNodeName"), "may not be set on pods that are already bound to a node")
		}
	}
	if p.Status.ObservedGeneration < 0 {
		c.invalid(at.Child("observedGeneration"), p.Status.ObservedGeneration, "must be a non-negative integer")
	}
	c.add(apivalidation.ValidateImmutableField(p.Status.QOSClass, old.Status.QOSClass, at.Child("qosClass")))
	c.restarts(p.Status.ContainerStatuses, old.Status.ContainerStatuses, old.Spec.Containers, &old.Spec, at.Child("containerStatuses"))
	c.restarts(p.Status.InitContainerStatuses, old.Status.InitContainerStatuses, old.Spec.InitContainers, &old.Spec, at.Child("initContainerStatuses"))
	c.statusIPs(p)
	return c.list
}

// restarts forbids a container that ended for good to be anything else. Where one container's end may restart all, none
// ends for good.
func (c *checks) restarts(list, old []corev1.ContainerStatus, containers []corev1.Container, s *corev1.PodSpec, p *field.Path) {
	all := func(x corev1.Container) bool {
		return slices.ContainsFunc(x.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	}
	if slices.ContainsFunc(s.InitContainers, all) || slices.ContainsFunc(s.Containers, all) {
		return
	}
	specs := map[string]*corev1.Container{}
	for i := range containers {
		specs[containers[i].Name] = &containers[i]
	}
	for i, o := range old {
		t := o.State.Terminated
		if t == nil {
			continue
		}
		policy := s.RestartPolicy
		if x := specs[o.Name]; x != nil && x.RestartPolicy != nil {
			policy = corev1.RestartPolicy(*x.RestartPolicy)
		}
		if policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && t.ExitCode != 0 {
			continue
		}
		if x := specs[o.Name]; x != nil && restartsOn(x, t.ExitCode) {
			continue
		}
		for _, n := range list {
			if n.Name == o.Name && n.State.Terminated == nil {
				c.forbidden(p.Index(i).Child("state"), "may not be transitioned to non-terminated state")
			}
		}
	}
}

// restartsOn is whether the first rule about an exit code restarts the container.
func restartsOn(x *corev1.Container, code int32) bool {
	for _, r := range x.RestartPolicyRules {
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, code)
		if in == (r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return r.Action == corev1.ContainerRestartRuleActionRestart
		}
	}
	return false
}

// statusIPs checks a pod's and its host's addresses: at most one per family,
// the first being the single one.
func (c *checks) statusIPs(p *corev1.Pod) {
	at := root("status", "podIPs")
	ips := make([]string, len(p.Status.PodIPs))
	for i, x := range p.Status.PodIPs {
		ips[i] = x.IP
		c.ip(at.Index(i), x.IP)
	}
	if len(ips) > 1 && !dualStack(ips) {
		c.invalid(at, shown(p.Status.PodIPs), "may specify no more than one IP for each IP family")
	}
	switch one := p.Status.PodIP; {
	case (one != "") != (len(ips) > 0):
		c.invalid(at, shown(p.Status.PodIPs), "podIP and podIPs must either both be set or both be unset")
	case len(ips) > 0 && ips[0] != one:
		c.invalid(at.Index(0).Child("ip"), ips[0], "must be equal to `podIP`")
	}
	at = root("status", "hostIPs")
	hosts := make([]string, len(p.Status.HostIPs))
	for i, x := range p.Status.HostIPs {
		hosts[i] = x.IP
		c.ip(at.Index(i), x.IP)
	}
	if len(hosts) > 0 && hosts[0] != p.Status.HostIP {
		c.invalid(at.Index(0).Child("ip"), hosts[0], "must be equal to `hostIP`")
	}
	if len(hosts) > 1 && !dualStack(hosts) {
		c.invalid(at, shown(p.Status.HostIPs), "may specify no more than one IP for each IP family")
	}
}

// podIPsFrom makes podIP and podIPs agree, as the conversion to upstream's
// internal type does.
func podIPsFrom(p *corev1.Pod) {
	if p.Status.PodIP != "" && (len(p.Status.PodIPs) == 0 || p.Status.PodIPs[0].IP != p.Status.PodIP) {
		p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	if p.Status.PodIP == "" && len(p.Status.PodIPs) > 0 {
		p.Status.PodIP = p.Status.PodIPs[0].IP
	}
}
