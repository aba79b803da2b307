package rest

import (
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"
)

func TestAutoscalerVersions(t *testing.T) {
	h := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := yaml.UnmarshalStrict([]byte(`
metadata: {name: h, annotations: {own: kept, autoscaling.alpha.kubernetes.io/metrics: stale}}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}
  minReplicas: 2
  maxReplicas: 5
  metrics:
  - {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 10Mi}}}
  - {type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: "3"}}}
  - {type: External, external: {metric: {name: e, selector: {matchLabels: {a: b}}}, target: {type: Value, value: "7"}}}
  - {type: Object, object: {describedObject: {kind: Ingress, name: i, apiVersion: networking.k8s.io/v1}, metric: {name: o}, target: {type: Value, value: "9"}}}
  - {type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: 60}}}
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}
  behavior: {scaleUp: {stabilizationWindowSeconds: 10, policies: [{type: Pods, value: 4, periodSeconds: 60}]}}
status:
  currentReplicas: 2
  desiredReplicas: 3
  conditions: [{type: AbleToScale, status: "True", reason: R, lastTransitionTime: "2026-01-02T03:04:05Z"}]
  currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 40, averageValue: 100m}}}]
`), h); err != nil {
		t.Fatal(err)
	}
	v1, err := autoscalerToV1(h)
	if err != nil {
		t.Fatal(err)
	}
	if p := v1.Spec.TargetCPUUtilizationPercentage; p == nil || *p != 50 {
		t.Errorf("target of the processor: %v", p)
	}
	for key, want := range map[string]string{
		metricsAnnotation:  `[{"type":"Resource","resource":{"name":"memory","targetAverageValue":"10Mi"}},{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"3"}},{"type":"External","external":{"metricName":"e",`,
		behaviorAnnotation: `{"ScaleUp":{"StabilizationWindowSeconds":10,"SelectPolicy":null,"Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":60}],"Tolerance":null},"ScaleDown":null}`,
		statusesAnnotation: `[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":40,"currentAverageValue":"100m"}}]`,
	} {
		if got := v1.Annotations[key]; !strings.HasPrefix(got, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", key, got, want)
		}
	}
	back, err := autoscalerToV2(v1)
	if err != nil {
		t.Fatal(err)
	}
	delete(h.Annotations, metricsAnnotation)
	if !apiequality.Semantic.DeepEqual(h, back) {
		t.Errorf("there and back:\ngot  %+v\nwant %+v", back, h)
	}
	v1.Annotations = map[string]string{metricsAnnotation: "{", behaviorAnnotation: "no"}
	v1.Spec.TargetCPUUtilizationPercentage = nil
	back, err = autoscalerToV2(v1)
	if err != nil || len(back.Spec.Metrics) != 1 || *back.Spec.Metrics[0].Resource.Target.AverageUtilization != 80 {
		t.Errorf("with annotations that cannot be read: %+v, %v", back, err)
	}
}
