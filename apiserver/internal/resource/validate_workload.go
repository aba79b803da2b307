package resource

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const notMatching = "`selector` does not match template `labels`"

// template checks a pod template.
func (c *checks) template(t *corev1.PodTemplateSpec, p *field.Path) {
	c.add(unversioned.ValidateLabels(t.Labels, p.Child("labels")))
	c.add(apivalidation.ValidateAnnotations(t.Annotations, p.Child("annotations")))
	c.podAnnotations(t.Annotations, &t.Spec, p.Child("annotations"))
	c.podSpec(&t.Spec, nil, p.Child("spec"), false)
	if len(t.Spec.EphemeralContainers) > 0 {
		c.forbidden(p.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template")
	}
}

// alwaysRunning wants a template for pods that do not end; owner names the
// kind in the error.
func (c *checks) alwaysRunning(t *corev1.PodTemplateSpec, p *field.Path, owner string) {
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		c.list = append(c.list, field.NotSupported(p.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		c.forbidden(p.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+owner+" is not Supported")
	}
}

// selected checks a required selector and whether it selects the template's
// pods; owner names the kind in the error about an empty one.
func (c *checks) selected(s *metav1.LabelSelector, t *corev1.PodTemplateSpec, p *field.Path, owner, unreadable string) bool {
	if s == nil {
		c.required(p.Child("selector"), "")
	} else {
		c.selector(p.Child("selector"), s)
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			c.invalid(p.Child("selector"), s, "empty selector is invalid for "+owner)
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		c.invalid(p.Child("selector"), s, unreadable)
		return false
	}
	if !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		c.invalid(p.Child("template", "metadata", "labels"), t.Labels, notMatching)
	}
	return true
}

// replicated checks what deployments and replica sets have in common.
func (c *checks) replicated(s *metav1.LabelSelector, t *corev1.PodTemplateSpec, replicas *int32, ready int32, p *field.Path) {
	if replicas != nil {
		c.nonNegative(p.Child("replicas"), int64(*replicas))
	}
	c.nonNegative(p.Child("minReadySeconds"), int64(ready))
	if c.selected(s, t, p, "deployment", "invalid label selector") {
		c.template(t, p.Child("template"))
		c.alwaysRunning(t, p.Child("template"), "ReplicaSet")
	}
}

func validateReplicaSet(r *appsv1.ReplicaSet) field.ErrorList {
	c := &checks{}
	c.replicated(r.Spec.Selector, &r.Spec.Template, r.Spec.Replicas, r.Spec.MinReadySeconds, root("spec"))
	return c.list
}

func validateReplicaSetUpdate(r, old *appsv1.ReplicaSet) field.ErrorList {
	c := &checks{list: validateReplicaSet(r)}
	c.immutableSelector(r.Spec.Selector, old.Spec.Selector)
	return c.list
}

func (c *checks) immutableSelector(s, old *metav1.LabelSelector) {
	c.add(apivalidation.ValidateImmutableField(s, old, root("spec", "selector")))
}

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &d.Spec
	c.replicated(s.Selector, &s.Template, s.Replicas, s.MinReadySeconds, p)
	at := p.Child("strategy")
	switch r := s.Strategy.RollingUpdate; s.Strategy.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if r != nil {
			c.forbidden(at.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'")
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		if r == nil {
			c.required(at.Child("rollingUpdate"), "this should be defaulted and never be nil")
			break
		}
		c.intOrPercent(r.MaxUnavailable, at.Child("rollingUpdate", "maxUnavailable"))
		c.intOrPercent(r.MaxSurge, at.Child("rollingUpdate", "maxSurge"))
		if amount(r.MaxUnavailable) == 0 && amount(r.MaxSurge) == 0 {
			c.invalid(at.Child("rollingUpdate", "maxUnavailable"), r.MaxUnavailable, "may not be 0 when `maxSurge` is 0")
		}
		c.atMostAll(r.MaxUnavailable, at.Child("rollingUpdate", "maxUnavailable"))
	default:
		c.list = append(c.list, field.NotSupported(at, shown(s.Strategy), []string{"Recreate", "RollingUpdate"}))
	}
	if s.RevisionHistoryLimit != nil {
		c.nonNegative(p.Child("revisionHistoryLimit"), int64(*s.RevisionHistoryLimit))
	}
	if s.ProgressDeadlineSeconds != nil {
		c.nonNegative(p.Child("progressDeadlineSeconds"), int64(*s.ProgressDeadlineSeconds))
		if *s.ProgressDeadlineSeconds <= s.MinReadySeconds {
			c.invalid(p.Child("progressDeadlineSeconds"), s.ProgressDeadlineSeconds, "must be greater than minReadySeconds")
		}
	}
	return c.list
}

func validateDeploymentUpdate(d, old *appsv1.Deployment) field.ErrorList {
	c := &checks{list: validateDeployment(d)}
	c.immutableSelector(d.Spec.Selector, old.Spec.Selector)
	return c.list
}

// percent is a value such as "25%", and whether it is one.
func percent(v *intstr.IntOrString) (int, bool) {
	if v == nil || v.Type != intstr.String || len(validation.IsValidPercent(v.StrVal)) > 0 {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	return n, err == nil
}

func amount(v *intstr.IntOrString) int {
	if n, ok := percent(v); ok {
		return n
	}
	if v == nil {
		return 0
	}
	return v.IntValue()
}

func (c *checks) intOrPercent(v *intstr.IntOrString, p *field.Path) {
	switch {
	case v == nil:
	case v.Type == intstr.String:
		c.invalid(p, v, validation.IsValidPercent(v.StrVal)...)
	default:
		c.nonNegative(p, int64(v.IntValue()))
	}
}

func (c *checks) atMostAll(v *intstr.IntOrString, p *field.Path) {
	if n, ok := percent(v); ok && n > 100 {
		c.invalid(p, v, "must not be greater than 100%")
	}
}

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &d.Spec
	c.selector(p.Child("selector"), s.Selector)
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		c.invalid(p.Child("template", "metadata", "labels"), s.Template.Labels, notMatching)
	}
	if s.Selector != nil && len(s.Selector.MatchLabels)+len(s.Selector.MatchExpressions) == 0 {
		c.invalid(p.Child("selector"), s.Selector, "empty selector is invalid for daemonset")
	}
	c.template(&s.Template, p.Child("template"))
	c.alwaysRunning(&s.Template, p.Child("template"), "DaemonSet")
	c.nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))
	at := p.Child("updateStrategy")
	switch r := s.UpdateStrategy.RollingUpdate; s.UpdateStrategy.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
	case appsv1.RollingUpdateDaemonSetStrategyType:
		at := at.Child("rollingUpdate")
		if r == nil {
			c.required(at, "")
			break
		}
		for name, v := range map[string]*intstr.IntOrString{"maxUnavailable": r.MaxUnavailable, "maxSurge": r.MaxSurge} {
			c.intOrPercent(v, at.Child(name))
			c.atMostAll(v, at.Child(name))
		}
		switch gone, more := amount(r.MaxUnavailable) != 0, amount(r.MaxSurge) != 0; {
		case gone && more:
			c.invalid(at.Child("maxSurge"), r.MaxSurge, "may not be set when maxUnavailable is non-zero")
		case !gone && !more:
			c.required(at.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0")
		}
	default:
		c.list = append(c.list, field.NotSupported(at, shown(s.UpdateStrategy), []string{"RollingUpdate", "OnDelete"}))
	}
	if s.RevisionHistoryLimit != nil {
		c.nonNegative(p.Child("revisionHistoryLimit"), int64(*s.RevisionHistoryLimit))
	}
	return c.list
}

func validateDaemonSetUpdate(d, old *appsv1.DaemonSet) field.ErrorList {
	c := &checks{}
	c.immutableSelector(d.Spec.Selector, old.Spec.Selector)
	c.add(validateDaemonSet(d))
	return c.list
}

func validateStatefulSet(x *appsv1.StatefulSet) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &x.Spec
	c.statefulSpec(p, s)
	for i := range s.VolumeClaimTemplates {
		c.claimSpec(&s.VolumeClaimTemplates[i].Spec, p.Child("volumeClaimTemplates").Index(i).Child("spec"), true)
	}
	if s.ServiceName != "" {
		c.label(p.Child("serviceName"), s.ServiceName)
	}
	return c.list
}

// statefulSpec checks what is also checked on an update: not what cannot change.
func (c *checks) statefulSpec(p *field.Path, s *appsv1.StatefulSetSpec) {
	if s.PodManagementPolicy != appsv1.OrderedReadyPodManagement && s.PodManagementPolicy != appsv1.ParallelPodManagement {
		c.invalid(p.Child("podManagementPolicy"), s.PodManagementPolicy, "must be 'OrderedReady' or 'Parallel'")
	}
	c.statefulStrategy(&s.UpdateStrategy, p.Child("updateStrategy"))
	if r := s.PersistentVolumeClaimRetentionPolicy; r != nil {
		at := p.Child("persistentVolumeClaimRetentionPolicy")
		oneOfListed(c, at.Child("whenDeleted"), r.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType)
		oneOfListed(c, at.Child("whenScaled"), r.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType)
	}
	if s.Replicas != nil {
		c.nonNegative(p.Child("replicas"), int64(*s.Replicas))
	}
	c.nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))
	if s.Ordinals != nil {
		c.nonNegative(p.Child("ordinals.start"), int64(s.Ordinals.Start))
	}
	if c.selected(s.Selector, &s.Template, p, "statefulset", "") {
		t, at := identified(s), p.Child("template")
		c.template(t, at)
	}
	c.alwaysRunning(&s.Template, p.Child("template"), "StatefulSet")
}

// untyped are claims without their kind, which not every encoding keeps.
func untyped(list []corev1.PersistentVolumeClaim) []corev1.PersistentVolumeClaim {
	out := slices.Clone(list)
	for i := range out {
		out[i].TypeMeta = metav1.TypeMeta{}
	}
	return out
}

// identified is the template with what the controller gives each pod: its
// name, its domain and the volumes of its claims.
func identified(s *appsv1.StatefulSetSpec) *corev1.PodTemplateSpec {
	t := s.Template.DeepCopy()
	t.Spec.Subdomain, t.Spec.Hostname = "", ""
	own := map[string]bool{}
	var volumes []corev1.Volume
	for i := range s.VolumeClaimTemplates {
		name := s.VolumeClaimTemplates[i].Name
		if own[name] {
			continue
		}
		own[name] = true
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
	}
	for _, v := range t.Spec.Volumes {
		if !own[v.Name] {
			volumes = append(volumes, v)
		}
	}
	t.Spec.Volumes = volumes
	return t
}

func (c *checks) statefulStrategy(s *appsv1.StatefulSetUpdateStrategy, p *field.Path) {
	r, at := s.RollingUpdate, p.Child("rollingUpdate")
	switch s.Type {
	case "":
		c.required(p, "")
	case appsv1.OnDeleteStatefulSetStrategyType:
		if r != nil {
			c.invalid(at, shown(r), "only allowed for updateStrategy 'RollingUpdate'")
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if r == nil {
			return
		}
		if r.Partition != nil {
			c.nonNegative(at.Child("partition"), int64(*r.Partition))
		}
		if r.MaxUnavailable != nil {
			at := at.Child("maxUnavailable")
			c.intOrPercent(r.MaxUnavailable, at)
			if amount(r.MaxUnavailable) == 0 {
				c.invalid(at, r.MaxUnavailable, "cannot be 0")
			}
			c.atMostAll(r.MaxUnavailable, at)
		}
	default:
		c.invalid(p, shown(*s), "must be 'RollingUpdate' or 'OnDelete'")
	}
}

func validateStatefulSetUpdate(x, old *appsv1.StatefulSet) field.ErrorList {
	c := &checks{}
	p, n, o := root("spec"), &x.Spec, &old.Spec
	c.statefulSpec(p, n)
	c.immutableSelector(n.Selector, o.Selector)
	c.same(p.Child("volumeClaimTemplates"), untyped(n.VolumeClaimTemplates), untyped(o.VolumeClaimTemplates))
	c.same(p.Child("serviceName"), n.ServiceName, o.ServiceName)
	c.same(p.Child("podManagementPolicy"), n.PodManagementPolicy, o.PodManagementPolicy)
	return c.list
}

// counts are the numbers of a status: none is negative, none of bounded is more
// than replicas.
type count struct {
	name    string
	value   int64
	bounded bool
}

func (c *checks) counts(p *field.Path, list []count) {
	for _, x := range list {
		c.nonNegative(p.Child(x.name), x.value)
	}
	for _, x := range list {
		if x.bounded && x.value > list[0].value {
			c.invalid(p.Child(x.name), x.value, "cannot be greater than status.replicas")
		}
	}
}

func (c *checks) available(p *field.Path, available, ready int32, than string) {
	if available > ready {
		c.invalid(p.Child("availableReplicas"), available, "cannot be greater than "+than)
	}
}

// collisions wants a hash collision count that only grows.
func (c *checks) collisions(p *field.Path, n, old *int32) {
	value := int32(0)
	if n != nil {
		value = *n
		c.nonNegative(p.Child("collisionCount"), int64(value))
	}
	if old != nil && value < *old {
		c.invalid(p.Child("collisionCount"), value, "cannot be decremented")
	}
}

func validateReplicaSetStatus(r, _ *appsv1.ReplicaSet) field.ErrorList {
	c := &checks{}
	s, p := &r.Status, root("status")
	c.counts(p, []count{
		{"replicas", int64(s.Replicas), false},
		{"fullyLabeledReplicas", int64(s.FullyLabeledReplicas), true},
		{"readyReplicas", int64(s.ReadyReplicas), true},
		{"availableReplicas", int64(s.AvailableReplicas), true},
		{"observedGeneration", s.ObservedGeneration, false},
	})
	c.available(p, s.AvailableReplicas, s.ReadyReplicas, "readyReplicas")
	return c.list
}

func validateDeploymentStatus(d, old *appsv1.Deployment) field.ErrorList {
	c := &checks{}
	s, p := &d.Status, root("status")
	c.counts(p, []count{
		{"replicas", int64(s.Replicas), false},
		{"updatedReplicas", int64(s.UpdatedReplicas), true},
		{"readyReplicas", int64(s.ReadyReplicas), true},
		{"availableReplicas", int64(s.AvailableReplicas), true},
		{"unavailableReplicas", int64(s.UnavailableReplicas), false},
		{"observedGeneration", s.ObservedGeneration, false},
	})
	c.available(p, s.AvailableReplicas, s.ReadyReplicas, "readyReplicas")
	c.collisions(p, s.CollisionCount, old.Status.CollisionCount)
	return c.list
}

func validateStatefulSetStatus(x, old *appsv1.StatefulSet) field.ErrorList {
	c := &checks{}
	s, p := &x.Status, root("status")
	c.counts(p, []count{
		{"replicas", int64(s.Replicas), false},
		{"readyReplicas", int64(s.ReadyReplicas), true},
		{"currentReplicas", int64(s.CurrentReplicas), true},
		{"updatedReplicas", int64(s.UpdatedReplicas), true},
		{"availableReplicas", int64(s.AvailableReplicas), true},
		{"observedGeneration", s.ObservedGeneration, false},
	})
	c.available(p, s.AvailableReplicas, s.ReadyReplicas, "status.readyReplicas")
	c.collisions(p, s.CollisionCount, old.Status.CollisionCount)
	return c.list
}

func validateDaemonSetStatus(d, old *appsv1.DaemonSet) field.ErrorList {
	c := &checks{}
	s, p := &d.Status, root("status")
	c.counts(p, []count{
		{"currentNumberScheduled", int64(s.CurrentNumberScheduled), false},
		{"numberMisscheduled", int64(s.NumberMisscheduled), false},
		{"desiredNumberScheduled", int64(s.DesiredNumberScheduled), false},
		{"numberReady", int64(s.NumberReady), false},
		{"observedGeneration", s.ObservedGeneration, false},
		{"updatedNumberScheduled", int64(s.UpdatedNumberScheduled), false},
		{"numberAvailable", int64(s.NumberAvailable), false},
		{"numberUnavailable", int64(s.NumberUnavailable), false},
	})
	c.collisions(p, s.CollisionCount, old.Status.CollisionCount)
	return c.list
}

func validateReplicationController(r *corev1.ReplicationController) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &r.Spec
	c.nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))
	if len(s.Selector) == 0 {
		c.required(p.Child("selector"), "")
	}
	if s.Replicas == nil {
		c.required(p.Child("replicas"), "")
	} else {
		c.nonNegative(p.Child("replicas"), int64(*s.Replicas))
	}
	if s.Template == nil {
		c.required(p.Child("template"), "")
		return c.list
	}
	if len(s.Selector) > 0 && !labels.SelectorFromSet(s.Selector).Matches(labels.Set(s.Template.Labels)) {
		c.invalid(p.Child("template", "metadata", "labels"), s.Template.Labels, notMatching)
	}
	c.template(s.Template, p.Child("template"))
	c.alwaysRunning(s.Template, p.Child("template"), "ReplicationController")
	return c.list
}

func validateReplicationControllerStatus(r, _ *corev1.ReplicationController) field.ErrorList {
	c := &checks{}
	s, p := &r.Status, root("status")
	c.counts(p, []count{
		{"replicas", int64(s.Replicas), false},
		{"fullyLabeledReplicas", int64(s.FullyLabeledReplicas), true},
		{"readyReplicas", int64(s.ReadyReplicas), true},
		{"availableReplicas", int64(s.AvailableReplicas), true},
		{"observedGeneration", s.ObservedGeneration, false},
	})
	c.available(p, s.AvailableReplicas, s.ReadyReplicas, "readyReplicas")
	return c.list
}

func validatePodTemplate(t *corev1.PodTemplate) field.ErrorList {
	c := &checks{}
	c.template(&t.Template, root("template"))
	return c.list
}

func validateControllerRevision(r *appsv1.ControllerRevision) field.ErrorList {
	c := &checks{}
	c.nonNegative(root("revision"), r.Revision)
	var v any
	switch err := json.Unmarshal(r.Data.Raw, &v); {
	case r.Data.Raw == nil:
		c.required(root("data"), "data is mandatory")
	case err != nil:
		c.invalid(root("data"), "<value omitted>", fmt.Sprintf("error parsing data: %v", err))
	case v == nil:
		c.required(root("data"), "data is mandatory")
	default:
		if _, ok := v.(map[string]any); !ok {
			c.required(root("data"), "data must be a valid JSON object")
		}
	}
	return c.list
}

func validateControllerRevisionUpdate(r, old *appsv1.ControllerRevision) field.ErrorList {
	c := &checks{}
	c.nonNegative(root("revision"), r.Revision)
	if !apiequality.Semantic.DeepEqual(r.Data, old.Data) {
		c.invalid(root("data"), shown(r.Data), immutable)
	}
	return c.list
}

// validStatefulName wants a DNS label: pods are named after the set, and their
// hosts after them.
func validStatefulName(name string, prefix bool) []string {
	return apivalidation.NameIsDNSLabel(name, prefix)
}
