package resource

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func specOf(t *testing.T, text string) corev1.PodSpec {
	t.Helper()
	var s corev1.PodSpec
	if err := yaml.UnmarshalStrict([]byte(text), &s); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return s
}

func TestDefaultPodResources(t *testing.T) {
	const one, all = "containers: [{name: a, resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}}, {name: b, resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 1}}}]",
		"containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}], initContainers: [{name: i, resources: {limits: {cpu: 3}}}]"
	for scenario, c := range map[string]struct{ containers, resources, want string }{
		"none of its own":                  {one, "", ""},
		"empty":                            {one, "{}", "{}"},
		"requests of containers":           {one, "{limits: {cpu: 4}}", "{limits: {cpu: 4}, requests: {cpu: 2, memory: 1Gi}}"},
		"requests by limits":               {"containers: [{name: a}]", "{limits: {cpu: 4}}", "{limits: {cpu: 4}, requests: {cpu: 4}}"},
		"no limit where one has none":      {one, "{requests: {cpu: 3}}", "{requests: {cpu: 3, memory: 1Gi}}"},
		"limits of containers":             {all, "{requests: {memory: 1Gi}}", "{requests: {memory: 1Gi, cpu: 1}, limits: {cpu: 3}}"},
		"not below what is asked":          {all, "{requests: {cpu: 5}}", "{requests: {cpu: 5}, limits: {cpu: 5}}"},
		"a limit below stays, as an error": {all, "{requests: {cpu: 5}, limits: {cpu: 3}}", "{requests: {cpu: 5}, limits: {cpu: 3}}"},
		"huge pages are not overcommitted": {
			"containers: [{name: a, resources: {requests: {hugepages-2Mi: 4Mi}, limits: {hugepages-2Mi: 4Mi}}}]", "{requests: {cpu: 1}}",
			"{requests: {cpu: 1, hugepages-2Mi: 4Mi}, limits: {hugepages-2Mi: 4Mi}}",
		},
		"what is no pod's": {"containers: [{name: a, resources: {requests: {example.com/g: 1}, limits: {example.com/g: 1}}}]", "{requests: {cpu: 1}}", "{requests: {cpu: 1}}"},
	} {
		t.Run(scenario, func(t *testing.T) {
			spec := func(resources string) corev1.PodSpec {
				if resources == "" {
					return specOf(t, "{"+c.containers+"}")
				}
				return specOf(t, "{"+c.containers+", resources: "+resources+"}")
			}
			got, want := spec(c.resources), spec(c.want)
			defaultPodResources(&got)
			if d := cmp.Diff(want.Resources, got.Resources); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestResize(t *testing.T) {
	const old = "{containers: [{name: a, image: i, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}], initContainers: [{name: i, image: i, resources: {requests: {cpu: 1}}}]%s}"
	const spec = "{containers: [{name: a, image: i, resources: %s}], initContainers: [{name: i, image: i, resources: {requests: {cpu: 1}}}]}"
	for scenario, c := range map[string]struct {
		more string
		now  string
		want string
	}{
		"larger":              {"", "{containers: [{name: a, resources: {requests: {cpu: 2}, limits: {cpu: 2}}}], initContainers: [{name: i, resources: {requests: {cpu: 2}}}]}", ""},
		"of more":             {"", "{containers: [{name: a, resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 2}}}], initContainers: [{name: i, resources: {requests: {cpu: 1}}}]}", ""},
		"the pod":             {"", "{resources: {requests: {cpu: 2}}, containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}], initContainers: [{name: i, resources: {requests: {cpu: 1}}}]}", ""},
		"nothing else":        {"", strings.Replace(strings.Replace(spec, "%s", "{requests: {cpu: 1}, limits: {cpu: 2}}", 1), "image: i", "image: other", 1), ""},
		"without its limit":   {"", strings.Replace(spec, "%s", "{requests: {cpu: 1}}", 1), "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"},
		"another resource":    {"", strings.Replace(spec, "%s", "{requests: {cpu: 1, ephemeral-storage: 1}, limits: {cpu: 2}}", 1), "spec: Forbidden: only cpu and memory resources are mutable"},
		"another class":       {"", "{containers: [{name: a, image: i, resources: {requests: {cpu: 1, memory: 1}, limits: {cpu: 1, memory: 1}}}], initContainers: [{name: i, image: i, resources: {requests: {cpu: 1, memory: 1}, limits: {cpu: 1, memory: 1}}}]}", "Pod QOS Class may not change as a result of resizing"},
		"a container less":    {"", "{containers: [{name: a}]}", "spec.initContainers: Forbidden: initContainers may not be added or removed on resize"},
		"another container":   {"", "{containers: [{name: b}], initContainers: [{name: i}]}", "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"},
		"an init container's": {"", "{containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}], initContainers: [{name: i, resources: {requests: {cpu: 1, ephemeral-storage: 1}}}]}", "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable"},
		"its restart":         {"", "{containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}], initContainers: [{name: i, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}], resources: {requests: {cpu: 2}}}]}", "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"},
		"of Windows":          {", os: {name: windows}", strings.Replace(spec, "%s", "{requests: {cpu: 2}, limits: {cpu: 2}}", 1), "windows pods cannot be resized"},
		"the pod's other":     {", resources: {requests: {cpu: 2}}", "{resources: {requests: {cpu: 2, hugepages-2Mi: 2Mi}, limits: {hugepages-2Mi: 2Mi}}, containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}], initContainers: [{name: i, resources: {requests: {cpu: 1}}}]}", "spec: Forbidden: only cpu and memory resources are mutable at pod-level"},
	} {
		t.Run(scenario, func(t *testing.T) {
			was := &corev1.Pod{Spec: specOf(t, strings.Replace(old, "%s", c.more, 1))}
			defaultPod(was)
			defaultPodResources(&was.Spec)
			was.Status.QOSClass = QOS(was)
			now := was.DeepCopy()
			now.Spec = specOf(t, c.now)
			resized := Resized(now, was)
			defaultPod(resized)
			errs := validatePodResize(resized, was)
			if c.want == "" && len(errs) > 0 || c.want != "" && !strings.Contains(errs.ToAggregate().Error(), c.want) {
				t.Errorf("got %v, want %s", errs.ToAggregate(), c.want)
			}
			if c.want == "" && resized.Spec.Containers[0].Image != "i" {
				t.Error("the image changes")
			}
		})
	}
	was := &corev1.Pod{Spec: specOf(t, strings.Replace(old, "%s", "", 1)), Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}}
	if errs := validatePodResize(was, was); !strings.Contains(errs.ToAggregate().Error(), "Pod running on node without support for resize") {
		t.Errorf("where the node does not report resources: %v", errs)
	}
	was.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	if errs := validatePodResize(was, was); !strings.Contains(errs.ToAggregate().Error(), "static pods cannot be resized") {
		t.Errorf("a mirror pod: %v", errs)
	}
}
