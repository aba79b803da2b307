package resource

import (
	"maps"
	"reflect"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagship/apiserver/internal/wire"
)

func controllerRevision() Strategy {
	return Strategy{Validate: checked(validateControllerRevision), ValidateUpdate: checked2(validateControllerRevisionUpdate), Unconditional: true}
}

func quarter() intstr.IntOrString { return intstr.FromString("25%") }

func daemonSet() Strategy {
	return Strategy{
		Warn:     warned(warnDaemonSet),
		Validate: checked(validateDaemonSet), ValidateUpdate: checked2(validateDaemonSetUpdate), ValidateStatus: checked2(validateDaemonSetStatus),
		Unconditional: true, Generation: true,
		Default: typed(func(d *appsv1.DaemonSet) {
			defaultPodSpec(&d.Spec.Template.Spec)
			fill(&d.Spec.UpdateStrategy.Type, appsv1.RollingUpdateDaemonSetStrategyType)
			if d.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
				set(&d.Spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
				set(&d.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
				set(&d.Spec.UpdateStrategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
			}
			set(&d.Spec.RevisionHistoryLimit, 10)
			// Whoever writes a daemon set owns the annotation in which it is a field no more.
			if _, ok := d.Annotations[appsv1.DeprecatedTemplateGeneration]; !ok {
				templateGeneration(d, 0)
			}
		}),
		PrepareCreate: typed(func(d *appsv1.DaemonSet) {
			d.Status = appsv1.DaemonSetStatus{}
			templateGeneration(d, 1)
		}),
		PrepareUpdate: typed2(func(d, old *appsv1.DaemonSet) {
			n := templateGenerationOf(old)
			if !apiequality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
				n++
			}
			templateGeneration(d, n)
		}),
		PrepareStatus: typed2(func(d, old *appsv1.DaemonSet) { templateGeneration(d, templateGenerationOf(old)) }),
	}
}

// templateGenerationOf is 0 for a daemon set that has none or what is no number.
func templateGenerationOf(d *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// templateGeneration counts the changes of a daemon set's template in the
// annotation that took the place of a field.
func templateGeneration(d *appsv1.DaemonSet, n int64) {
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
}

func deployment() Strategy {
	return Strategy{
		Warn:     warned(warnDeployment),
		Validate: checked(validateDeployment), ValidateUpdate: checked2(validateDeploymentUpdate), ValidateStatus: checked2(validateDeploymentStatus),
		Unconditional: true, Generation: true,
		Default: typed(func(d *appsv1.Deployment) {
			defaultPodSpec(&d.Spec.Template.Spec)
			set(&d.Spec.Replicas, 1)
			fill(&d.Spec.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
			if d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
				set(&d.Spec.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
				set(&d.Spec.Strategy.RollingUpdate.MaxUnavailable, quarter())
				set(&d.Spec.Strategy.RollingUpdate.MaxSurge, quarter())
			}
			set(&d.Spec.RevisionHistoryLimit, 10)
			set(&d.Spec.ProgressDeadlineSeconds, 600)
		}),
		PrepareCreate: typed(func(d *appsv1.Deployment) { d.Status = appsv1.DeploymentStatus{} }),
	}
}

func replicaSet() Strategy {
	return Strategy{
		Warn:     warned(warnReplicaSet),
		Validate: checked(validateReplicaSet), ValidateUpdate: checked2(validateReplicaSetUpdate), ValidateStatus: checked2(validateReplicaSetStatus),
		Unconditional: true, Generation: true,
		Default: typed(func(r *appsv1.ReplicaSet) {
			defaultPodSpec(&r.Spec.Template.Spec)
			set(&r.Spec.Replicas, 1)
		}),
		PrepareCreate: typed(func(r *appsv1.ReplicaSet) { r.Status = appsv1.ReplicaSetStatus{} }),
		FieldNames:    []string{"status.replicas"},
		Fields: fielded(func(r *appsv1.ReplicaSet) map[string]string {
			return map[string]string{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
		}),
	}
}

func statefulSet() Strategy {
	return Strategy{
		Warn:     warned(warnStatefulSet),
		Validate: checked(validateStatefulSet), ValidateUpdate: checked2(validateStatefulSetUpdate), ValidateStatus: checked2(validateStatefulSetStatus), ValidName: validStatefulName,
		Unconditional: true, Generation: true,
		Default: typed(func(s *appsv1.StatefulSet) {
			defaultPodSpec(&s.Spec.Template.Spec)
			fill(&s.Spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
			fill(&s.Spec.UpdateStrategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
			if s.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
				set(&s.Spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
				set(&s.Spec.UpdateStrategy.RollingUpdate.Partition, 0)
				set(&s.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
			}
			set(&s.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
			fill(&s.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
			fill(&s.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
			set(&s.Spec.Replicas, 1)
			set(&s.Spec.RevisionHistoryLimit, 10)
			for i := range s.Spec.VolumeClaimTemplates {
				c := &s.Spec.VolumeClaimTemplates[i]
				c.APIVersion, c.Kind = "v1", "PersistentVolumeClaim"
				fill(&c.Status.Phase, corev1.ClaimPending)
				set(&c.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
			}
		}),
		PrepareCreate: typed(func(s *appsv1.StatefulSet) { s.Status = appsv1.StatefulSetStatus{} }),
		Embedded:      []wire.Embedded{{Type: reflect.TypeFor[corev1.PersistentVolumeClaim](), APIVersion: "v1", Kind: "PersistentVolumeClaim"}},
	}
}

// jobLabels are the labels of a job's pods, the old names beside the new.
const (
	legacyJobName = "job-name"
	legacyJobUID  = "controller-uid"
)

func defaultJobSpec(s *batchv1.JobSpec) {
	defaultPodSpec(&s.Template.Spec)
	if s.Completions == nil && s.Parallelism == nil {
		set(&s.Completions, 1)
	}
	set(&s.Parallelism, 1)
	set(&s.CompletionMode, batchv1.NonIndexedCompletion)
	if s.BackoffLimit == nil {
		limit := int32(6)
		if s.BackoffLimitPerIndex != nil {
			limit = 1<<31 - 1
		}
		s.BackoffLimit = &limit
	}
	set(&s.Suspend, false)
	if s.PodFailurePolicy != nil {
		for i := range s.PodFailurePolicy.Rules {
			for j := range s.PodFailurePolicy.Rules[i].OnPodConditions {
				fill(&s.PodFailurePolicy.Rules[i].OnPodConditions[j].Status, corev1.ConditionTrue)
			}
		}
	}
	if s.PodReplacementPolicy == nil {
		policy := batchv1.TerminatingOrFailed
		if s.PodFailurePolicy != nil {
			policy = batchv1.Failed
		}
		s.PodReplacementPolicy = &policy
	}
}

func job() Strategy {
	return Strategy{
		Warn:     warned(warnJob),
		Validate: checked(validateJob), ValidateUpdate: checked2(validateJobUpdate), ValidateStatus: checked2(validateJobStatus),
		Unconditional: true, Generation: true, Orphans: true,
		Default: typed(func(j *batchv1.Job) {
			defaultJobSpec(&j.Spec)
			set(&j.Spec.ManualSelector, false)
			// The very map, as upstream has it: labels that the template gets for its selector are the job's too.
			if len(j.Labels) == 0 {
				j.Labels = j.Spec.Template.Labels
			}
		}),
		PrepareCreate: typed(func(j *batchv1.Job) {
			j.Status = batchv1.JobStatus{}
			if j.Spec.ManualSelector == nil || !*j.Spec.ManualSelector {
				selectOwnPods(j)
			}
		}),
		Canonicalize: typed(func(j *batchv1.Job) {
			if len(j.Labels) == 0 {
				j.Labels = maps.Clone(j.Spec.Template.Labels)
			}
		}),
		PrepareUpdate: typed2(func(j, old *batchv1.Job) { j.Status = old.Status }),
		FieldNames:    []string{"status.successful"},
		Fields: fielded(func(j *batchv1.Job) map[string]string {
			return map[string]string{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
		}),
	}
}

// selectOwnPods makes a job's selector from its UID, so that no two jobs share
// pods.
func selectOwnPods(j *batchv1.Job) {
	t := &j.Spec.Template
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	uid := string(j.UID)
	for k, v := range map[string]string{
		legacyJobName: j.Name, batchv1.JobNameLabel: j.Name, legacyJobUID: uid, batchv1.ControllerUidLabel: uid,
	} {
		if _, ok := t.Labels[k]; !ok {
			t.Labels[k] = v
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, ok := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = uid
	}
}

func cronJob() Strategy {
	return Strategy{
		Warn:     warned(warnCronJob),
		Validate: checked(validateCronJob), ValidateUpdate: checked2(validateCronJobUpdate),
		Unconditional: true, Generation: true,
		Default: typed(func(c *batchv1.CronJob) {
			fill(&c.Spec.ConcurrencyPolicy, batchv1.AllowConcurrent)
			set(&c.Spec.Suspend, false)
			set(&c.Spec.SuccessfulJobsHistoryLimit, 3)
			set(&c.Spec.FailedJobsHistoryLimit, 1)
			defaultPodSpec(&c.Spec.JobTemplate.Spec.Template.Spec)
		}),
		PrepareCreate: typed(func(c *batchv1.CronJob) { c.Status = batchv1.CronJobStatus{} }),
	}
}

func autoscaler() Strategy {
	return Strategy{
		Validate:      checked(validateAutoscaler),
		Unconditional: true, Generation: true,
		Default: typed(func(h *autoscalingv2.HorizontalPodAutoscaler) {
			set(&h.Spec.MinReplicas, 1)
			defaultBehavior(h.Spec.Behavior)
			if len(h.Spec.Metrics) == 0 {
				percent := int32(80)
				h.Spec.Metrics = []autoscalingv2.MetricSpec{{
					Type: autoscalingv2.ResourceMetricSourceType,
					Resource: &autoscalingv2.ResourceMetricSource{
						Name:   corev1.ResourceCPU,
						Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
					},
				}}
			}
		}),
		PrepareCreate: typed(func(h *autoscalingv2.HorizontalPodAutoscaler) {
			h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
		}),
	}
}

// defaultBehavior fills in how fast an autoscaler goes up (double or four pods in
// 15 seconds) and down (to the least at once).
func defaultBehavior(b *autoscalingv2.HorizontalPodAutoscalerBehavior) {
	if b == nil {
		return
	}
	const period = 15
	all := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: period}
	if b.ScaleUp == nil {
		b.ScaleUp = &autoscalingv2.HPAScalingRules{}
	}
	set(&b.ScaleUp.StabilizationWindowSeconds, 0)
	set(&b.ScaleUp.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if b.ScaleUp.Policies == nil {
		b.ScaleUp.Policies = []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: period}, all}
	}
	if b.ScaleDown == nil {
		b.ScaleDown = &autoscalingv2.HPAScalingRules{}
	}
	set(&b.ScaleDown.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if b.ScaleDown.Policies == nil {
		b.ScaleDown.Policies = []autoscalingv2.HPAScalingPolicy{all}
	}
}

func autoscalerV1() Strategy {
	return Strategy{
		Validate:      checked(validateAutoscalerV1),
		Unconditional: true,
		Default:       typed(func(h *autoscalingv1.HorizontalPodAutoscaler) { set(&h.Spec.MinReplicas, 1) }),
		PrepareCreate: typed(func(h *autoscalingv1.HorizontalPodAutoscaler) {
			h.Status = autoscalingv1.HorizontalPodAutoscalerStatus{}
		}),
	}
}

func disruptionBudget() Strategy {
	return Strategy{
		Validate: checked(validateBudget), ValidateStatus: checked2(validateBudgetStatus), ValidName: segmentName,
		Generation:    true,
		PrepareCreate: typed(func(p *policyv1.PodDisruptionBudget) { p.Status = policyv1.PodDisruptionBudgetStatus{} }),
	}
}
