package resource

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func deploymentTable() table {
	return table{columns: columns(`
Name
Ready       | Number of the pod with ready state
Up-to-date  | @DeploymentStatus.updatedReplicas
Available   | @DeploymentStatus.availableReplicas
Age
+Containers | Names of each container in the template.
+Images     | Images referenced by each container in the template.
+Selector   | @DeploymentSpec.selector
`), row: rowOf(func(d *appsv1.Deployment) []any {
		names, images := containers(&d.Spec.Template)
		// Unlike other kinds', this column is empty for an empty selector.
		selector := "<invalid>"
		if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil {
			selector = s.String()
		}
		return []any{
			d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, deref(d.Spec.Replicas)), int64(d.Status.UpdatedReplicas),
			int64(d.Status.AvailableReplicas), d.CreationTimestamp, names, images, selector,
		}
	})}
}

func replicaSetTable() table {
	return table{columns: columns(`
Name
Desired:integer | @ReplicaSetSpec.replicas
Current:integer | @ReplicaSetStatus.replicas
Ready:integer   | @ReplicaSetStatus.readyReplicas
Age
+Containers     | Names of each container in the template.
+Images         | Images referenced by each container in the template.
+Selector       | @ReplicaSetSpec.selector
`), row: rowOf(func(r *appsv1.ReplicaSet) []any {
		names, images := containers(&r.Spec.Template)
		return []any{r.Name, int64(deref(r.Spec.Replicas)), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), r.CreationTimestamp, names, images, selectorText(r.Spec.Selector)}
	})}
}

func daemonSetTable() table {
	return table{columns: columns(`
Name
Desired:integer    | @DaemonSetStatus.desiredNumberScheduled
Current:integer    | @DaemonSetStatus.currentNumberScheduled
Ready:integer      | @DaemonSetStatus.numberReady
Up-to-date:integer | @DaemonSetStatus.updatedNumberScheduled
Available:integer  | @DaemonSetStatus.numberAvailable
Node Selector      | @PodSpec.nodeSelector
Age
+Containers        | Names of each container in the template.
+Images            | Images referenced by each container in the template.
+Selector          | @DaemonSetSpec.selector
`), row: rowOf(func(d *appsv1.DaemonSet) []any {
		names, images := containers(&d.Spec.Template)
		s := d.Status
		return []any{
			d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady), int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable),
			labelText(d.Spec.Template.Spec.NodeSelector), d.CreationTimestamp, names, images, selectorText(d.Spec.Selector),
		}
	})}
}

func statefulSetTable() table {
	return table{columns: columns(`
Name
Ready       | Number of the pod with ready state
Age
+Containers | Names of each container in the template.
+Images     | Images referenced by each container in the template.
`), row: rowOf(func(s *appsv1.StatefulSet) []any {
		names, images := containers(&s.Spec.Template)
		return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, deref(s.Spec.Replicas)), s.CreationTimestamp, names, images}
	})}
}

func controllerRevisionTable() table {
	return table{columns: columns(`
Name
Controller | Controller of the object
Revision   | @ControllerRevision.revision
Age
`), row: rowOf(func(c *appsv1.ControllerRevision) []any {
		owner := "<none>"
		if o := metav1.GetControllerOf(c); o != nil {
			kind := schema.FromAPIVersionAndKind(o.APIVersion, o.Kind).GroupKind()
			owner = strings.ToLower(kind.String()) + "/" + o.Name
		}
		return []any{c.Name, owner, c.Revision, c.CreationTimestamp}
	})}
}

func jobTable() table {
	return table{columns: columns(`
Name
Status      | Status of the job.
Completions | @JobStatus.succeeded
Duration    | Time required to complete the job.
Age
+Containers | Names of each container in the template.
+Images     | Images referenced by each container in the template.
+Selector   | @JobSpec.selector
`), row: rowOf(func(j *batchv1.Job) []any {
		completions := fmt.Sprintf("%d/1", j.Status.Succeeded)
		if n := j.Spec.Completions; n != nil {
			completions = fmt.Sprintf("%d/%d", j.Status.Succeeded, *n)
		} else if n := deref(j.Spec.Parallelism); n > 1 {
			completions = fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, n)
		}
		duration := ""
		switch {
		case j.Status.StartTime == nil:
		case j.Status.CompletionTime == nil:
			duration = sinceText(*j.Status.StartTime)
		default:
			duration = durationText(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
		}
		names, images := containers(&j.Spec.Template)
		return []any{j.Name, jobStatus(j), completions, duration, j.CreationTimestamp, names, images, selectorText(j.Spec.Selector)}
	})}
}

func jobStatus(j *batchv1.Job) string {
	has := func(t batchv1.JobConditionType) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == t {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	}
	switch {
	case has(batchv1.JobComplete):
		return "Complete"
	case has(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case has(batchv1.JobSuspended):
		return "Suspended"
	case has(batchv1.JobFailureTarget):
		return "FailureTarget"
	case has(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func cronJobTable() table {
	return table{columns: columns(`
Name
Schedule        | @CronJobSpec.schedule
Timezone        | @CronJobSpec.timeZone
Suspend:boolean | @CronJobSpec.suspend
Active:integer  | @CronJobStatus.active
Last Schedule   | @CronJobStatus.lastScheduleTime
Age
+Containers     | Names of each container in the template.
+Images         | Images referenced by each container in the template.
+Selector       | @JobSpec.selector
`), row: rowOf(func(c *batchv1.CronJob) []any {
		last, suspended := "<none>", "<unset>"
		if c.Status.LastScheduleTime != nil {
			last = sinceText(*c.Status.LastScheduleTime)
		}
		if s := c.Spec.Suspend; s != nil && *s {
			suspended = "True"
		} else if s != nil {
			suspended = "False"
		}
		names, images := containers(&c.Spec.JobTemplate.Spec.Template)
		return []any{
			c.Name, c.Spec.Schedule, orElse(c.Spec.TimeZone, "<none>"), suspended, int64(len(c.Status.Active)), last, c.CreationTimestamp,
			names, images, selectorText(c.Spec.JobTemplate.Spec.Selector),
		}
	})}
}

func autoscalerTable() table {
	return table{columns: columns(`
Name
Reference | @HorizontalPodAutoscalerSpec.scaleTargetRef
Targets   | @HorizontalPodAutoscalerSpec.metrics
MinPods   | @HorizontalPodAutoscalerSpec.minReplicas
MaxPods   | @HorizontalPodAutoscalerSpec.maxReplicas
Replicas  | @HorizontalPodAutoscalerStatus.currentReplicas
Age
`), row: rowOf(func(h *autoscalingv2.HorizontalPodAutoscaler) []any {
		least := "<unset>"
		if h.Spec.MinReplicas != nil {
			least = strconv.Itoa(int(*h.Spec.MinReplicas))
		}
		return []any{h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name, metricsText(h), least, int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), h.CreationTimestamp}
	})}
}

func metricsText(h *autoscalingv2.HorizontalPodAutoscaler) string {
	if len(h.Spec.Metrics) == 0 {
		return "<none>"
	}
	var list []string
	for i := range h.Spec.Metrics {
		var now autoscalingv2.MetricStatus
		if i < len(h.Status.CurrentMetrics) {
			now = h.Status.CurrentMetrics[i]
		}
		list = append(list, metricText(&h.Spec.Metrics[i], &now))
	}
	if len(list) > 2 {
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:2], ", "), len(list)-2)
	}
	return strings.Join(list, ", ")
}

// metricText is a metric's current value and its target. A source that is not
// there is as if empty, which no valid metric's is.
func metricText(m *autoscalingv2.MetricSpec, now *autoscalingv2.MetricStatus) string {
	switch m.Type {
	case autoscalingv2.ExternalMetricSourceType:
		var current *autoscalingv2.MetricValueStatus
		if now.External != nil {
			current = &now.External.Current
		}
		return totalText(deref(m.External).Target, current)
	case autoscalingv2.ObjectMetricSourceType:
		var current *autoscalingv2.MetricValueStatus
		if now.Object != nil {
			current = &now.Object.Current
		}
		return totalText(deref(m.Object).Target, current)
	case autoscalingv2.PodsMetricSourceType:
		current := "<unknown>"
		if now.Pods != nil {
			current = now.Pods.Current.AverageValue.String()
		}
		return current + "/" + deref(m.Pods).Target.AverageValue.String()
	case autoscalingv2.ResourceMetricSourceType:
		var current *autoscalingv2.MetricValueStatus
		if now.Resource != nil {
			current = &now.Resource.Current
		}
		return shareText(deref(m.Resource).Name, deref(m.Resource).Target, current)
	case autoscalingv2.ContainerResourceMetricSourceType:
		var current *autoscalingv2.MetricValueStatus
		if now.ContainerResource != nil {
			current = &now.ContainerResource.Current
		}
		return shareText(deref(m.ContainerResource).Name, deref(m.ContainerResource).Target, current)
	}
	return "<unknown type>"
}

// totalText is a metric that is not of the pods themselves.
func totalText(target autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) string {
	current := "<unknown>"
	if target.AverageValue == nil {
		if now != nil {
			current = now.Value.String()
		}
		return current + "/" + target.Value.String()
	}
	if now != nil && now.AverageValue != nil {
		current = now.AverageValue.String()
	}
	return current + "/" + target.AverageValue.String() + " (avg)"
}

// shareText is a metric of a resource that the pods request.
func shareText(name corev1.ResourceName, target autoscalingv2.MetricTarget, now *autoscalingv2.MetricValueStatus) string {
	current, want := "<unknown>", "<auto>"
	if target.AverageValue != nil {
		want = target.AverageValue.String()
		if now != nil {
			current = now.AverageValue.String()
		}
		return fmt.Sprintf("%s: %s/%s", name, current, want)
	}
	if target.AverageUtilization != nil {
		want = fmt.Sprintf("%d%%", *target.AverageUtilization)
	}
	if now != nil && now.AverageUtilization != nil {
		current = fmt.Sprintf("%d%%", *now.AverageUtilization)
	}
	return fmt.Sprintf("%s: %s/%s", name, current, want)
}
