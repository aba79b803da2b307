package admission

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// PodSecurity holds pods to the Pod Security Standard that their namespace's labels ask for.
type PodSecurity struct {
	operations
	namespace func(ctx context.Context, name string) (*corev1.Namespace, error)
	pods      func(ctx context.Context, namespace string) ([]*corev1.Pod, error)
	now       func() time.Time
	podSecurityConfig
	metrics *podSecurityMetrics // nil counts nothing

	once      sync.Once // builds checks
	checks    policy.Evaluator
	checksErr error
}

// Bounds of the look at a namespace's pods when its level is raised.
const (
	podSecurityMaxPods = 3000
	podSecurityTimeout = time.Second
)

func (p *PodSecurity) evaluator() (policy.Evaluator, error) {
	p.once.Do(func() { p.checks, p.checksErr = policy.NewEvaluator(policy.DefaultChecks(), nil) })
	return p.checks, p.checksErr
}

// Validate implements Validator.
func (p *PodSecurity) Validate(ctx context.Context, a *Attributes) error {
	switch {
	case a.Is("", "namespaces", ""):
		return p.level(ctx, a)
	case a.Resource.Group == "" && a.Resource.Resource == "pods":
		return p.pod(ctx, a)
	case a.Subresource == "":
		if m, spec := podTemplate(a.Object); spec != nil {
			return p.controller(ctx, a, m, spec)
		}
	}
	return nil
}

// podTemplate returns the pod that a controller's object would create.
func podTemplate(o runtime.Object) (*metav1.ObjectMeta, *corev1.PodSpec) {
	var t *corev1.PodTemplateSpec
	switch o := o.(type) {
	case *corev1.PodTemplate:
		t = &o.Template
	case *corev1.ReplicationController:
		t = o.Spec.Template
	case *appsv1.ReplicaSet:
		t = &o.Spec.Template
	case *appsv1.Deployment:
		t = &o.Spec.Template
	case *appsv1.DaemonSet:
		t = &o.Spec.Template
	case *appsv1.StatefulSet:
		t = &o.Spec.Template
	case *batchv1.Job:
		t = &o.Spec.Template
	case *batchv1.CronJob:
		t = &o.Spec.JobTemplate.Spec.Template
	}
	if t == nil {
		return nil, nil
	}
	return &t.ObjectMeta, &t.Spec
}

// level judges a namespace's labels, and warns of pods that a stricter level would refuse.
func (p *PodSecurity) level(ctx context.Context, a *Attributes) error {
	ns, ok := a.Object.(*corev1.Namespace)
	if !ok {
		return apierrors.NewBadRequest("failed to decode namespace")
	}
	now, errs := api.PolicyToEvaluate(ns.Labels, p.defaults)
	if a.Operation == Create {
		if len(errs) > 0 {
			return apierrors.NewInvalid(a.Kind.GroupKind(), objectName(a), errs)
		}
		p.ignored(a, ns, now)
		return nil
	}
	old, ok := a.OldObject.(*corev1.Namespace)
	if !ok {
		return apierrors.NewBadRequest("failed to decode  old namespace")
	}
	before, oldErrs := api.PolicyToEvaluate(old.Labels, p.defaults)
	if len(errs) > 0 && (len(oldErrs) == 0 || !reflect.DeepEqual(errs, oldErrs)) {
		return apierrors.NewInvalid(a.Kind.GroupKind(), objectName(a), errs)
	}
	if now.Enforce == before.Enforce || now.Enforce.Level == api.LevelPrivileged ||
		now.Enforce.Version == before.Enforce.Version && api.CompareLevels(now.Enforce.Level, before.Enforce.Level) < 1 {
		return nil
	}
	if p.exemptNamespace(ns.Name) {
		p.ignored(a, ns, now)
		return nil
	}
	return p.existing(ctx, a, ns.Name, now.Enforce)
}

func (p *PodSecurity) exemptNamespace(name string) bool {
	return slices.Contains(p.exempt.Namespaces, name)
}

func (p *PodSecurity) exemptRuntimeClass(name *string) bool {
	return name != nil && slices.Contains(p.exempt.RuntimeClasses, *name)
}

// exempted is whether a request is not looked at, and says so.
func (p *PodSecurity) exempted(a *Attributes) bool {
	by := ""
	switch {
	case p.exemptNamespace(a.Namespace):
		by = "namespace"
	case slices.Contains(p.exempt.Usernames, a.User.Name):
		by = "user"
	default:
		return false
	}
	a.Annotate(api.AuditAnnotationPrefix+api.ExemptionReasonAnnotationKey, by)
	p.metrics.exempted(a)
	return true
}

// ignored warns of labels that do nothing since their namespace is exempt.
func (p *PodSecurity) ignored(a *Attributes, ns *corev1.Namespace, now api.Policy) {
	if !p.exemptNamespace(ns.Name) || now.FullyPrivileged() || now.Equivalent(&p.defaults) {
		return
	}
	var set []string
	for _, x := range []struct {
		name, level, version string
		is                   api.LevelVersion
	}{
		{"enforce", api.EnforceLevelLabel, api.EnforceVersionLabel, now.Enforce},
		{"audit", api.AuditLevelLabel, api.AuditVersionLabel, now.Audit},
		{"warn", api.WarnLevelLabel, api.WarnVersionLabel, now.Warn},
	} {
		_, level := ns.Labels[x.level]
		_, version := ns.Labels[x.version]
		if x.is.Level != api.LevelPrivileged && (level || version) {
			set = append(set, x.name+"="+x.is.String())
		}
	}
	a.Warn("namespace %q is exempt from Pod Security, and the policy (%s) will be ignored", ns.Name, strings.Join(set, ", "))
}

// existing warns of the pods that are there already.
func (p *PodSecurity) existing(ctx context.Context, a *Attributes, namespace string, level api.LevelVersion) error {
	checks, err := p.evaluator()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	all, err := p.pods(ctx, namespace)
	if err != nil {
		a.Warn("failed to list pods while checking new PodSecurity enforce level")
		return nil //nolint:nilerr // the warning is all that this is for
	}
	type count struct {
		first string
		n     int
	}
	counts := map[string]count{}
	var reasons []string
	checked, deadline := 0, p.now().Add(podSecurityTimeout)
	for _, pod := range p.prioritize(all) {
		if checked == podSecurityMaxPods || ctx.Err() != nil || p.now().After(deadline) {
			break
		}
		checked++
		r := policy.AggregateCheckResults(checks.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
		if r.Allowed {
			continue
		}
		reason := r.ForbiddenReason()
		c, seen := counts[reason]
		if !seen {
			reasons = append(reasons, reason)
		}
		if !seen || pod.Name < c.first {
			c.first = pod.Name
		}
		c.n++
		counts[reason] = c
	}
	if checked < len(all) {
		a.Warn("new PodSecurity enforce level only checked against the first %d of %d existing pods", checked, len(all))
	}
	if len(reasons) > 0 {
		a.Warn("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, level.String())
	}
	for i, reason := range reasons {
		c := counts[reason]
		switch c.n {
		case 1:
			reasons[i] = fmt.Sprintf("%s: %s", c.first, reason)
		case 2:
			reasons[i] = fmt.Sprintf("%s (and 1 other pod): %s", c.first, reason)
		default:
			reasons[i] = fmt.Sprintf("%s (and %d other pods): %s", c.first, c.n-1, reason)
		}
	}
	slices.Sort(reasons)
	a.Warnings = append(a.Warnings, reasons...)
	return nil
}

// prioritize puts one pod of each controller before its siblings.
func (p *PodSecurity) prioritize(pods []*corev1.Pod) []*corev1.Pod {
	var first, rest []*corev1.Pod
	seen := map[types.UID]bool{}
	for _, pod := range pods {
		if p.exemptRuntimeClass(pod.Spec.RuntimeClassName) {
			continue
		}
		if c := metav1.GetControllerOfNoCopy(pod); c != nil {
			if seen[c.UID] {
				rest = append(rest, pod)
				continue
			}
			seen[c.UID] = true
		}
		first = append(first, pod)
	}
	return append(first, rest...)
}

func (p *PodSecurity) pod(ctx context.Context, a *Attributes) error {
	switch a.Subresource {
	case "exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status":
		return nil
	}
	if p.exempted(a) {
		return nil
	}
	ns, err := p.namespace(ctx, a.Namespace)
	if err != nil {
		p.metrics.failed(a, true)
		return apierrors.NewInternalError(fmt.Errorf("failed to lookup namespace %q", a.Namespace))
	}
	levels, errs := api.PolicyToEvaluate(ns.Labels, p.defaults)
	if len(errs) == 0 && levels.FullyPrivileged() {
		a.Annotate(api.AuditAnnotationPrefix+api.EnforcedPolicyAnnotationKey, levels.Enforce.String())
		p.metrics.evaluated(a, "enforce", levels.Enforce, true)
		return nil
	}
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		p.metrics.failed(a, true)
		return apierrors.NewBadRequest("failed to decode pod")
	}
	if old, ok := a.OldObject.(*corev1.Pod); ok && a.Operation == Update && !significant(pod, old) {
		return nil
	}
	return p.evaluate(a, levels, errs.ToAggregate(), &pod.ObjectMeta, &pod.Spec, true)
}

// significant says whether an update changes what the standards look at: containers come or images change.
func significant(pod, old *corev1.Pod) bool {
	same := func(x, y corev1.Container) bool { return x.Image == y.Image }
	if !slices.EqualFunc(pod.Spec.Containers, old.Spec.Containers, same) || !slices.EqualFunc(pod.Spec.InitContainers, old.Spec.InitContainers, same) {
		return true
	}
	for _, c := range pod.Spec.EphemeralContainers {
		if !slices.ContainsFunc(old.Spec.EphemeralContainers, func(o corev1.EphemeralContainer) bool { return o.Name == c.Name && o.Image == c.Image }) {
			return true
		}
	}
	return false
}

// controller audits and warns; only pods themselves are refused.
func (p *PodSecurity) controller(ctx context.Context, a *Attributes, m *metav1.ObjectMeta, spec *corev1.PodSpec) error {
	if p.exempted(a) {
		return nil
	}
	ns, err := p.namespace(ctx, a.Namespace)
	if err != nil {
		p.metrics.failed(a, true)
		a.Annotate(api.AuditAnnotationPrefix+"error", fmt.Sprintf("failed to lookup namespace %q: %v", a.Namespace, err))
		return nil
	}
	levels, errs := api.PolicyToEvaluate(ns.Labels, p.defaults)
	if len(errs) == 0 && levels.Warn.Level == api.LevelPrivileged && levels.Audit.Level == api.LevelPrivileged {
		return nil
	}
	return p.evaluate(a, levels, errs.ToAggregate(), m, spec, false)
}

func (p *PodSecurity) evaluate(a *Attributes, levels api.Policy, labelsErr error, m *metav1.ObjectMeta, spec *corev1.PodSpec, enforce bool) error {
	checks, err := p.evaluator()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	note := func(key, value string) { a.Annotate(api.AuditAnnotationPrefix+key, value) }
	if p.exemptRuntimeClass(spec.RuntimeClassName) {
		note(api.ExemptionReasonAnnotationKey, "runtimeClass")
		p.metrics.exempted(a)
		return nil
	}
	if labelsErr != nil {
		note("error", fmt.Sprintf("Failed to parse policy: %v", labelsErr))
		p.metrics.failed(a, false)
	}
	judge := func(level api.LevelVersion) policy.AggregateCheckResult {
		return policy.AggregateCheckResults(checks.EvaluatePod(level, m, spec))
	}
	var refusal error
	if enforce {
		note(api.EnforcedPolicyAnnotationKey, levels.Enforce.String())
		r := judge(levels.Enforce)
		p.metrics.evaluated(a, "enforce", levels.Enforce, r.Allowed)
		if !r.Allowed {
			refusal = Forbidden(a, errors.New(violation("violates", levels.Enforce, r)))
		}
	}
	if r := judge(levels.Audit); !r.Allowed {
		p.metrics.evaluated(a, "audit", levels.Audit, false)
		note(api.AuditViolationsAnnotationKey, violation("would violate", levels.Audit, r))
	}
	if refusal == nil {
		if r := judge(levels.Warn); !r.Allowed {
			p.metrics.evaluated(a, "warn", levels.Warn, false)
			a.Warn("%s", violation("would violate", levels.Warn, r))
		}
	}
	return refusal
}

func violation(verb string, level api.LevelVersion, r policy.AggregateCheckResult) string {
	return fmt.Sprintf("%s PodSecurity %q: %s", verb, level.String(), r.ForbiddenDetail())
}

// podSecurityMetrics are upstream's.
type podSecurityMetrics struct {
	evaluations, exemptions, errors *prometheus.CounterVec
	version                         api.Version
	// privileged are the evaluations that nearly all clusters have for every pod.
	privileged map[Operation]prometheus.Counter // read only
}

// CountPodSecurity has the plugin PodSecurity count, if it is in the chain. version is this server's; policies of later ones are all "future".
func (c Chain) CountPodSecurity(reg prometheus.Registerer, version api.Version) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: "pod_security", Name: name, Help: help}, append(labels, "request_operation", "resource", "subresource"))
		reg.MustRegister(v)
		return v
	}
	for _, plugin := range c.Plugins {
		p, ok := plugin.(*PodSecurity)
		if !ok {
			continue
		}
		m := &podSecurityMetrics{
			version: version, privileged: map[Operation]prometheus.Counter{},
			evaluations: counter("evaluations_total", "[ALPHA] Number of policy evaluations that occurred, not counting ignored or exempt requests.", "decision", "policy_level", "policy_version", "mode"),
			exemptions:  counter("exemptions_total", "[ALPHA] Number of exempt requests, not counting ignored or out of scope requests."),
			errors:      counter("errors_total", "[ALPHA] Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile being used for evaluation.", "fatal"),
		}
		for _, op := range []Operation{Create, Update} {
			m.privileged[op] = m.evaluations.WithLabelValues("allow", string(api.LevelPrivileged), "latest", "enforce", strings.ToLower(string(op)), "pod", "")
			for _, resource := range []string{"pod", "controller"} {
				m.exemptions.WithLabelValues(strings.ToLower(string(op)), resource, "")
			}
		}
		p.metrics = m
	}
}

// request are the labels of a request.
func (*podSecurityMetrics) request(a *Attributes, before ...string) []string {
	resource := "controller"
	if a.Resource.Group == "" && a.Resource.Resource == "pods" {
		resource = "pod"
	}
	return append(before, strings.ToLower(string(a.Operation)), resource, a.Subresource)
}

func (m *podSecurityMetrics) evaluated(a *Attributes, mode string, level api.LevelVersion, allowed bool) {
	if m == nil {
		return
	}
	version, decision := level.Version.String(), "deny"
	switch {
	case level.Version.Latest(), level.Level == api.LevelPrivileged:
		version = "latest"
	case m.version.Older(level.Version):
		version = "future"
	}
	if allowed {
		decision = "allow"
	}
	if allowed && level.Level == api.LevelPrivileged && mode == "enforce" && a.Is("", "pods", "") {
		m.privileged[a.Operation].Inc()
		return
	}
	m.evaluations.WithLabelValues(m.request(a, decision, string(level.Level), version, mode)...).Inc()
}

func (m *podSecurityMetrics) exempted(a *Attributes) {
	if m != nil {
		m.exemptions.WithLabelValues(m.request(a)...).Inc()
	}
}

func (m *podSecurityMetrics) failed(a *Attributes, fatal bool) {
	if m != nil {
		m.errors.WithLabelValues(m.request(a, strconv.FormatBool(fatal))...).Inc()
	}
}
