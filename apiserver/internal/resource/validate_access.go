package resource

import (
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validServiceName wants a DNS label, which may begin with a digit, KEP-5311.
func validServiceName(name string, prefix bool) []string {
	return apivalidation.NameIsDNSLabel(name, prefix)
}

func (c *checks) policyRules(rules []rbacv1.PolicyRule, namespaced bool) {
	for i, r := range rules {
		p := root("rules").Index(i)
		if len(r.Verbs) == 0 {
			c.required(p.Child("verbs"), "")
		}
		if len(r.NonResourceURLs) > 0 {
			at := p.Child("nonResourceURLs")
			if namespaced {
				c.invalid(at, r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs")
			}
			if len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames) > 0 {
				c.invalid(at, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs")
			}
			continue
		}
		if len(r.APIGroups) == 0 {
			c.required(p.Child("apiGroups"), "resource rules must supply at least one api group")
		}
		if len(r.Resources) == 0 {
			c.required(p.Child("resources"), "resource rules must supply at least one resource")
		}
	}
}

func validateRole(r *rbacv1.Role) field.ErrorList {
	c := &checks{}
	c.policyRules(r.Rules, true)
	return c.list
}

func validateClusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	c := &checks{}
	c.policyRules(r.Rules, false)
	if a := r.AggregationRule; a != nil {
		at := root("aggregationRule", "clusterRoleSelectors")
		if len(a.ClusterRoleSelectors) == 0 {
			c.required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil")
		}
		for i := range a.ClusterRoleSelectors {
			c.selector(at.Index(i), &a.ClusterRoleSelectors[i])
			if _, err := metav1.LabelSelectorAsSelector(&a.ClusterRoleSelectors[i]); err != nil {
				c.invalid(at.Index(i), nil, "invalid label selector.")
			}
		}
	}
	return c.list
}

func (c *checks) binding(r rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool, kinds ...string) {
	p := root("roleRef")
	oneOfListed(c, p.Child("apiGroup"), r.APIGroup, rbacv1.GroupName)
	oneOfListed(c, p.Child("kind"), r.Kind, kinds...)
	c.requiredOr(p.Child("name"), r.Name, func(p *field.Path, s string) { c.invalid(p, s, path.IsValidPathSegmentName(s)...) })
	for i, s := range subjects {
		at := root("subjects").Index(i)
		c.needed(at.Child("name"), s.Name)
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			if s.Name != "" {
				c.invalid(at.Child("name"), s.Name, apivalidation.ValidateServiceAccountName(s.Name, false)...)
			}
			oneOfListed(c, at.Child("apiGroup"), s.APIGroup, "")
			if !namespaced && s.Namespace == "" {
				c.required(at.Child("namespace"), "")
			}
		case rbacv1.UserKind, rbacv1.GroupKind:
			oneOfListed(c, at.Child("apiGroup"), s.APIGroup, rbacv1.GroupName)
		default:
			oneOfListed(c, at.Child("kind"), s.Kind, rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind)
		}
	}
}

func validateRoleBinding(b *rbacv1.RoleBinding) field.ErrorList {
	c := &checks{}
	c.binding(b.RoleRef, b.Subjects, true, "Role", "ClusterRole")
	return c.list
}

func validateRoleBindingUpdate(b, old *rbacv1.RoleBinding) field.ErrorList {
	c := &checks{list: validateRoleBinding(b)}
	c.same(root("roleRef"), b.RoleRef, old.RoleRef)
	return c.list
}

func validateClusterRoleBinding(b *rbacv1.ClusterRoleBinding) field.ErrorList {
	c := &checks{}
	c.binding(b.RoleRef, b.Subjects, false, "ClusterRole")
	return c.list
}

func validateClusterRoleBindingUpdate(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
	c := &checks{list: validateClusterRoleBinding(b)}
	c.same(root("roleRef"), b.RoleRef, old.RoleRef)
	return c.list
}

func validateBudget(b *policyv1.PodDisruptionBudget) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &b.Spec
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		c.invalid(p, shown(*s), "minAvailable and maxUnavailable cannot be both set")
	}
	c.intOrPercent(s.MinAvailable, p.Child("minAvailable"))
	c.atMostAll(s.MinAvailable, p.Child("minAvailable"))
	c.intOrPercent(s.MaxUnavailable, p.Child("maxUnavailable"))
	c.atMostAll(s.MaxUnavailable, p.Child("maxUnavailable"))
	c.selector(p.Child("selector"), s.Selector)
	if s.UnhealthyPodEvictionPolicy != nil {
		oneOf(c, p.Child("unhealthyPodEvictionPolicy"), *s.UnhealthyPodEvictionPolicy, policyv1.AlwaysAllow, policyv1.IfHealthyBudget)
	}
	return c.list
}

func validateBudgetStatus(b, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	c := &checks{}
	s, p := &b.Status, root("status")
	c.add(unversioned.ValidateConditions(s.Conditions, p.Child("conditions")))
	c.counts(p, []count{
		{"disruptionsAllowed", int64(s.DisruptionsAllowed), false},
		{"currentHealthy", int64(s.CurrentHealthy), false},
		{"desiredHealthy", int64(s.DesiredHealthy), false},
		{"expectedPods", int64(s.ExpectedPods), false},
	})
	return c.list
}

func validatePriorityClass(x *schedulingv1.PriorityClass) field.ErrorList {
	const prefix, highest = "system-", 1_000_000_000
	c := &checks{}
	system := map[string]int32{"system-node-critical": 2*highest + 1000, "system-cluster-critical": 2 * highest}
	if strings.HasPrefix(x.Name, prefix) {
		value, known := system[x.Name]
		why := ""
		switch {
		case !known:
			why = fmt.Sprintf("%v is not a known system priority class", x.Name)
		case x.Value != value:
			why = fmt.Sprintf("value of %v PriorityClass must be %v", x.Name, value)
		case x.GlobalDefault:
			why = fmt.Sprintf("globalDefault of %v PriorityClass must be %v", x.Name, false)
		}
		if why != "" {
			c.forbidden(root("metadata", "name"), "priority class names with '"+prefix+"' prefix are reserved for system use only. error: "+why)
		}
	} else if x.Value > highest {
		c.forbidden(root("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", highest))
	}
	if x.PreemptionPolicy != nil {
		oneOfRequired(c, root("preemptionPolicy"), *x.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
	return c.list
}

func validatePriorityClassUpdate(x, old *schedulingv1.PriorityClass) field.ErrorList {
	c := &checks{}
	if x.Value != old.Value {
		c.forbidden(root("value"), "may not be changed in an update.")
	}
	c.same(root("preemptionPolicy"), x.PreemptionPolicy, old.PreemptionPolicy)
	return c.list
}

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &l.Spec
	if s.LeaseDurationSeconds != nil && *s.LeaseDurationSeconds <= 0 {
		c.invalid(p.Child("leaseDurationSeconds"), s.LeaseDurationSeconds, "must be greater than 0")
	}
	if s.LeaseTransitions != nil && *s.LeaseTransitions < 0 {
		c.invalid(p.Child("leaseTransitions"), s.LeaseTransitions, "must be greater than or equal to 0")
	}
	if s.Strategy != nil {
		at := p.Child("strategy", "strategy")
		if strings.Contains(string(*s.Strategy), "/") {
			c.invalid(at, *s.Strategy, validation.IsQualifiedName(string(*s.Strategy))...)
		} else {
			oneOf(c, at, *s.Strategy, coordinationv1.OldestEmulationVersion)
		}
	}
	if s.PreferredHolder != nil && *s.PreferredHolder != "" && (s.Strategy == nil || *s.Strategy == "") {
		c.forbidden(p.Child("preferredHolder"), "may only be specified if `strategy` is defined")
	}
	return c.list
}

func validateRuntimeClass(r *nodev1.RuntimeClass) field.ErrorList {
	c := &checks{}
	c.requiredOr(root("handler"), r.Handler, func(p *field.Path, v string) { c.invalid(p, v, content.IsDNS1123Label(v)...) })
	if r.Overhead != nil {
		c.resources(&corev1.ResourceRequirements{Limits: r.Overhead.PodFixed}, nil, root("overhead"), c.containerResourceName)
	}
	if s := r.Scheduling; s != nil {
		c.add(unversioned.ValidateLabels(s.NodeSelector, root("scheduling", "nodeSelector")))
		at := root("scheduling", "tolerations")
		c.tolerations(s.Tolerations, at)
		seen := map[corev1.Toleration]bool{}
		for i, t := range s.Tolerations {
			key := t
			key.TolerationSeconds = nil
			if seen[key] {
				c.duplicate(at.Index(i), shown(t))
			}
			seen[key] = true
		}
	}
	return c.list
}

func validateRuntimeClassUpdate(r, old *nodev1.RuntimeClass) field.ErrorList {
	c := &checks{}
	if r.Handler != old.Handler {
		c.requiredOr(root("handler"), r.Handler, c.label)
	}
	c.frozen(root("handler"), r.Handler, old.Handler)
	return c.list
}

// classParameters bounds what a class tells its driver: how many parameters, and
// the bytes of all.
func (c *checks) classParameters(params map[string]string) {
	const most, largest = 512, 256 << 10
	size := 0
	for k, v := range params {
		if k == "" {
			c.invalid(root("parameters"), k, "field can not be empty.")
		}
		size += len(k) + len(v)
	}
	if len(params) > most {
		c.list = append(c.list, field.TooLong(root("parameters"), "", most))
	} else if size > largest {
		c.list = append(c.list, field.TooLong(root("parameters"), "", largest))
	}
}

func validateVolumeAttributesClass(v *storagev1.VolumeAttributesClass) field.ErrorList {
	c := &checks{}
	c.requiredOr(root("driverName"), strings.ToLower(v.DriverName), c.qualified)
	c.classParameters(v.Parameters)
	if len(v.Parameters) == 0 {
		c.required(root("parameters"), "must contain at least one key/value pair")
	}
	return c.list
}

func validateVolumeAttributesClassUpdate(v, old *storagev1.VolumeAttributesClass) field.ErrorList {
	c := &checks{list: validateVolumeAttributesClass(v)}
	if v.DriverName != old.DriverName {
		c.forbidden(root("driverName"), "updates to driverName are forbidden.")
	}
	if !apiequality.Semantic.DeepEqual(v.Parameters, old.Parameters) {
		c.forbidden(root("parameters"), "updates to parameters are forbidden.")
	}
	return c.list
}

func validateStorageVersionMigration(m *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	c := &checks{}
	p, r := root("spec", "resource"), m.Spec.Resource
	if r.Resource == "" {
		c.required(p.Child("resource"), "resource is required to be set")
	} else {
		c.joined(p.Child("resource"), r.Resource, "", validation.IsDNS1035Label(r.Resource))
	}
	if r.Group != "" {
		c.joined(p.Child("group"), r.Group, "", validation.IsDNS1123Subdomain(r.Group))
	}
	return c.list
}

func validateStorageVersionMigrationUpdate(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	c := &checks{list: validateStorageVersionMigration(m)}
	c.same(root("spec"), m.Spec, old.Spec)
	return c.list
}

func validateStorageClass(s *storagev1.StorageClass) field.ErrorList {
	c := &checks{}
	c.requiredOr(root("provisioner"), strings.ToLower(s.Provisioner), c.qualified)
	c.classParameters(s.Parameters)
	c.classModes(s)
	for i, t := range s.AllowedTopologies {
		keys := sets.Set[string]{}
		for j, e := range t.MatchLabelExpressions {
			at := root("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j)
			if len(e.Values) == 0 {
				c.required(at.Child("values"), "")
			}
			values := sets.Set[string]{}
			for k, v := range e.Values {
				if values.Has(v) {
					c.duplicate(at.Child("values").Index(k), v)
				}
				values.Insert(v)
			}
			c.labelName(at.Child("key"), e.Key)
			if keys.Has(e.Key) {
				c.duplicate(at.Child("key"), e.Key)
			}
			keys.Insert(e.Key)
		}
	}
	return c.list
}

// classModes checks what a class says of its volumes.
func (c *checks) classModes(s *storagev1.StorageClass) {
	if r := s.ReclaimPolicy; r != nil && *r != "" {
		oneOf(c, root("reclaimPolicy"), *r, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)
	}
	if s.VolumeBindingMode == nil {
		c.required(root("volumeBindingMode"), "")
	} else {
		oneOf(c, root("volumeBindingMode"), *s.VolumeBindingMode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)
	}
}

func validateStorageClassUpdate(s, old *storagev1.StorageClass) field.ErrorList {
	c := &checks{}
	c.classModes(s)
	c.frozen(root("parameters"), s.Parameters, old.Parameters)
	if s.Provisioner != old.Provisioner {
		c.requiredOr(root("provisioner"), strings.ToLower(s.Provisioner), c.qualified)
	}
	c.frozen(root("provisioner"), s.Provisioner, old.Provisioner)
	c.frozen(root("reclaimPolicy"), s.ReclaimPolicy, old.ReclaimPolicy)
	c.frozen(root("volumeBindingMode"), s.VolumeBindingMode, old.VolumeBindingMode)
	return c.list
}

func validateAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &h.Spec
	if s.MinReplicas != nil && *s.MinReplicas < 0 {
		c.invalid(p.Child("minReplicas"), *s.MinReplicas, "must be greater than or equal to 0")
	}
	if s.MinReplicas != nil && *s.MinReplicas == 0 {
		outside := false
		for i := range s.Metrics {
			outside = outside || s.Metrics[i].Type == autoscalingv2.ObjectMetricSourceType || s.Metrics[i].Type == autoscalingv2.ExternalMetricSourceType
		}
		if !outside {
			c.forbidden(p.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas")
		}
	}
	if s.MaxReplicas == 0 {
		c.required(p.Child("maxReplicas"), "")
	} else if s.MaxReplicas < 0 {
		c.invalid(p.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to 1")
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		c.invalid(p.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`")
	}
	c.scaleTarget(s.ScaleTargetRef, p.Child("scaleTargetRef"))
	if gv, err := schema.ParseGroupVersion(s.ScaleTargetRef.APIVersion); err == nil && gv.Group == "" && s.ScaleTargetRef.Kind != "ReplicationController" {
		c.invalid(p.Child("scaleTargetRef", "apiVersion"), s.ScaleTargetRef.APIVersion, "apiVersion must specify API group")
	}
	for i := range s.Metrics {
		c.metric(&s.Metrics[i], p.Child("metrics").Index(i))
	}
	if b := s.Behavior; b != nil {
		c.scalingRules(b.ScaleUp, p.Child("behavior", "scaleUp"))
		c.scalingRules(b.ScaleDown, p.Child("behavior", "scaleDown"))
	}
	return c.list
}

func (c *checks) scaleTarget(r autoscalingv2.CrossVersionObjectReference, p *field.Path) {
	segment := func(p *field.Path, s string) { c.invalid(p, s, path.IsValidPathSegmentName(s)...) }
	c.requiredOr(p.Child("kind"), r.Kind, segment)
	c.requiredOr(p.Child("name"), r.Name, segment)
	if _, err := schema.ParseGroupVersion(r.APIVersion); err != nil {
		c.invalid(p.Child("apiVersion"), r.APIVersion, err.Error())
	}
}

func (c *checks) scalingRules(r *autoscalingv2.HPAScalingRules, p *field.Path) {
	const longestWindow, longestPeriod = 3600, 1800
	if r == nil {
		return
	}
	if w := r.StabilizationWindowSeconds; w != nil && *w < 0 {
		c.invalid(p.Child("stabilizationWindowSeconds"), w, "must be greater than or equal to zero")
	} else if w != nil && *w > longestWindow {
		c.invalid(p.Child("stabilizationWindowSeconds"), w, fmt.Sprintf("must be less than or equal to %v", longestWindow))
	}
	if r.SelectPolicy != nil {
		oneOf(c, p.Child("selectPolicy"), *r.SelectPolicy, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)
	}
	if len(r.Policies) == 0 {
		c.required(p.Child("policies"), "must specify at least one Policy")
	}
	for i, x := range r.Policies {
		at := p.Child("policies").Index(i)
		oneOf(c, at.Child("type"), x.Type, autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy)
		c.positive(at.Child("value"), int64(x.Value))
		c.positive(at.Child("periodSeconds"), int64(x.PeriodSeconds))
		if x.PeriodSeconds > longestPeriod {
			c.invalid(at.Child("periodSeconds"), x.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", longestPeriod))
		}
	}
	if r.Tolerance != nil {
		c.quantityNotNegative(p.Child("tolerance"), *r.Tolerance)
	}
}

func (c *checks) metric(m *autoscalingv2.MetricSpec, p *field.Path) {
	if m.Type == "" {
		c.required(p.Child("type"), "must specify a metric source type")
	}
	oneOf(c, p.Child("type"), m.Type, autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType,
		autoscalingv2.ExternalMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType)
	present := sets.Set[string]{}
	one := func(name string, set bool, check func(*field.Path)) {
		if !set {
			return
		}
		present.Insert(name)
		if len(present) == 1 {
			check(p.Child(name))
		}
	}
	one("object", m.Object != nil, func(p *field.Path) {
		c.scaleTarget(m.Object.DescribedObject, p.Child("describedObject"))
		c.metricName(m.Object.Metric, p.Child("metric"))
		c.metricTarget(m.Object.Target, p.Child("target"))
	})
	one("external", m.External != nil, func(p *field.Path) {
		c.metricName(m.External.Metric, p.Child("metric"))
		c.metricTarget(m.External.Target, p.Child("target"))
		switch t := m.External.Target; {
		case t.Value == nil && t.AverageValue == nil:
			c.required(p.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target")
		case t.Value != nil && t.AverageValue != nil:
			c.forbidden(p.Child("target", "value"), "may not set both a target value for metric and a per-pod target")
		}
	})
	one("pods", m.Pods != nil, func(p *field.Path) {
		c.metricName(m.Pods.Metric, p.Child("metric"))
		c.metricTarget(m.Pods.Target, p.Child("target"))
		if m.Pods.Target.AverageValue == nil {
			c.required(p.Child("target", "averageValue"), "must specify a positive target averageValue")
		}
	})
	one("containerResource", m.ContainerResource != nil, func(p *field.Path) {
		c.resourceMetric(string(m.ContainerResource.Name), m.ContainerResource.Target, p)
		if m.ContainerResource.Container == "" {
			c.required(p.Child("container"), "must specify a container")
		}
	})
	one("resource", m.Resource != nil, func(p *field.Path) { c.resourceMetric(string(m.Resource.Name), m.Resource.Target, p) })
	expected := map[autoscalingv2.MetricSourceType]string{"Object": "object", "External": "external", "Pods": "pods", "Resource": "resource", "ContainerResource": "containerResource"}[m.Type]
	if expected != "" && !present.Has(expected) {
		c.required(p.Child(expected), "must populate information for the given metric source")
	}
	if len(present) != 1 {
		present.Delete(expected)
		for name := range present {
			c.forbidden(p.Child(name), "must populate the given metric source only")
		}
	}
}

func (c *checks) resourceMetric(name string, t autoscalingv2.MetricTarget, p *field.Path) {
	if name == "" {
		c.required(p.Child("name"), "must specify a resource name")
	}
	c.metricTarget(t, p.Child("target"))
	at := p.Child("target")
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		c.required(at.Child("averageUtilization"), "must set either a target raw value or a target utilization")
	case t.AverageUtilization != nil && t.AverageValue != nil:
		c.forbidden(at.Child("averageValue"), "may not set both a target raw value and a target utilization")
	}
}

func (c *checks) metricName(m autoscalingv2.MetricIdentifier, p *field.Path) {
	if m.Name == "" {
		c.required(p.Child("name"), "must specify a metric name")
		return
	}
	c.invalid(p.Child("name"), m.Name, path.IsValidPathSegmentName(m.Name)...)
}

func (c *checks) metricTarget(t autoscalingv2.MetricTarget, p *field.Path) {
	if t.Type == "" {
		c.required(p.Child("type"), "must specify a metric target type")
	}
	if t.Type != autoscalingv2.UtilizationMetricType && t.Type != autoscalingv2.ValueMetricType && t.Type != autoscalingv2.AverageValueMetricType {
		c.invalid(p.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue")
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		c.invalid(p.Child("value"), t.Value, "must be positive")
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		c.invalid(p.Child("averageValue"), t.AverageValue, "must be positive")
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		c.invalid(p.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0")
	}
}

// validateAutoscalerV1 checks the older version by the same rules; its metrics
// are the one percentage.
func validateAutoscalerV1(h *autoscalingv1.HorizontalPodAutoscaler) field.ErrorList {
	t := h.Spec.ScaleTargetRef
	n := &autoscalingv2.HorizontalPodAutoscaler{Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: t.Kind, Name: t.Name, APIVersion: t.APIVersion},
		MinReplicas:    h.Spec.MinReplicas, MaxReplicas: h.Spec.MaxReplicas,
	}}
	return validateAutoscaler(n)
}
