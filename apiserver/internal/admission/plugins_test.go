package admission

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testdata/plugins.txt is AllOrderedPlugins and DefaultOffAdmissionPlugins of Kubernetes v1.37.2.
func TestPlugins(t *testing.T) {
	want, err := os.ReadFile("testdata/plugins.txt")
	if err != nil {
		t.Fatal(err)
	}
	var extra []Plugin
	for _, name := range []string{"MutatingAdmissionPolicy", "MutatingAdmissionWebhook", "ValidatingAdmissionPolicy", "ValidatingAdmissionWebhook"} {
		extra = append(extra, operations{name: name})
	}
	table, err := plugins(Config{}, Deps{Extra: extra})
	if err != nil {
		t.Fatal(err)
	}
	var have strings.Builder
	for _, e := range table {
		fmt.Fprintln(&have, e.plugin.Name(), map[bool]string{true: "on", false: "off"}[e.on])
	}
	if d := cmp.Diff(string(want), have.String()); d != "" {
		t.Error(d)
	}
	_, err = New(Config{Enable: []string{"Nonsense", "Priority", "AlwaysDeny"}, Disable: []string{"priority", "Priority", "AlwaysDeny", "MutatingAdmissionPolicy"}}, Deps{Extra: extra})
	wantError(t, "wrong names", err, `enable-admission-plugins plugin "Nonsense" is unknown
disable-admission-plugins plugin "priority" is unknown
[AlwaysDeny Priority] in enable-admission-plugins and disable-admission-plugins overlapped`)
}

// resized is an update that makes a pod what the YAML of its spec says, from what another says.
func resized(t *testing.T, subresource, was, is string) *Attributes {
	t.Helper()
	a := createPod(t, is)
	a.Operation, a.Subresource, a.Name = Update, subresource, "p"
	a.OldObject = createPod(t, was).Object
	if was != is {
		a.Object.(*corev1.Pod).Generation++
	}
	return a
}

func containers(cpu, memory string) string {
	return fmt.Sprintf("containers: [{name: a, resources: {requests: {cpu: %s, memory: %s}}}]", cpu, memory)
}

func TestNodeFeatures(t *testing.T) {
	const pod, initial = "{nodeName: one, resources: {requests: {cpu: %s}}}", "{nodeName: one, initContainers: [{name: i, resources: {requests: {cpu: %s}}}]}"
	const refused = `pods "p" is forbidden: pod update requires features %s which are not available on node "one"`
	for name, x := range map[string]struct {
		subresource, was, is string
		features             []string
		err                  string
	}{
		"nothing is needed":     {"resize", "{nodeName: one, " + containers("1", "1") + "}", "{nodeName: one, " + containers("2", "1") + "}", nil, ""},
		"the pod's, undeclared": {"resize", fmt.Sprintf(pod, "1"), fmt.Sprintf(pod, "2"), []string{"InPlacePodVerticalScalingInitContainers"}, fmt.Sprintf(refused, "InPlacePodLevelResourcesVerticalScaling")},
		"the pod's, declared":   {"resize", fmt.Sprintf(pod, "1"), fmt.Sprintf(pod, "2"), []string{"InPlacePodLevelResourcesVerticalScaling"}, ""},
		"an init container's":   {"resize", fmt.Sprintf(initial, "1"), fmt.Sprintf(initial, "2"), nil, fmt.Sprintf(refused, "InPlacePodVerticalScalingInitContainers")},
		"both": {
			"", strings.Replace(fmt.Sprintf(pod, "1"), "{", "{initContainers: [{name: i}], ", 1), strings.Replace(fmt.Sprintf(pod, "2"), "{", "{initContainers: [{name: i, resources: {limits: {cpu: 1}}}], ", 1), nil,
			fmt.Sprintf(refused, "InPlacePodLevelResourcesVerticalScaling, InPlacePodVerticalScalingInitContainers"),
		},
		"a sidecar's":       {"resize", "{nodeName: one, initContainers: [{name: i, restartPolicy: Always}]}", "{nodeName: one, initContainers: [{name: i, restartPolicy: Always, resources: {limits: {cpu: 1}}}]}", nil, ""},
		"unbound":           {"resize", "{resources: {limits: {cpu: 1}}}", "{resources: {limits: {cpu: 2}}}", nil, ""},
		"no such node":      {"resize", "{nodeName: none, resources: {limits: {cpu: 1}}}", "{nodeName: none, resources: {limits: {cpu: 2}}}", nil, `pods "p" is forbidden: node "none" not found`},
		"unchanged":         {"resize", fmt.Sprintf(pod, "1"), fmt.Sprintf(pod, "1"), nil, ""},
		"of other business": {"status", fmt.Sprintf(pod, "1"), fmt.Sprintf(pod, "2"), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cluster{node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Status: corev1.NodeStatus{DeclaredFeatures: x.features}}}
			wantError(t, name, run(t, testChain(t, c, "NodeDeclaredFeatureValidator"), resized(t, x.subresource, x.was, x.is)), x.err)
		})
	}
}

func TestPodResize(t *testing.T) {
	allocatable := parse[corev1.NodeStatus](t, "allocatable: {cpu: 2, memory: 1Gi}")
	const refused = `pods "p" is forbidden: node didn't have enough allocatable resources: `
	for name, x := range map[string]struct {
		subresource, node, cpu, memory, os, err string
		cause                                   metav1.CauseType
	}{
		"fits":              {"resize", "one", "2", "1Gi", "linux", "", ""},
		"too much CPU":      {"resize", "one", "2001m", "1", "linux", refused + "cpu, requested: 2001, allocatable: 2000", "NodeCapacity"},
		"too much of both":  {"resize", "one", "3", "2Gi", "", refused + "cpu, requested: 3000, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824", "NodeCapacity"},
		"Windows":           {"resize", "one", "2", "1", "windows", `pods "p" is forbidden: pod resize is only supported on linux nodes, node "one" is "windows"`, "UnsupportedPlatform"},
		"no such node":      {"resize", "none", "2", "1", "", `pods "p" is forbidden: node "none" not found`, ""},
		"unbound":           {"resize", "''", "3", "1", "windows", "", ""},
		"unchanged":         {"resize", "one", "1", "1", "windows", "", ""},
		"of other business": {"", "one", "3", "1", "windows", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cluster{node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Status: *allocatable}}
			if x.os != "" {
				c.node.Labels = map[string]string{corev1.LabelOSStable: x.os}
			}
			spec := func(cpu, memory string) string { return "{nodeName: " + x.node + ", " + containers(cpu, memory) + "}" }
			err := run(t, testChain(t, c, "PodResizeValidator"), resized(t, x.subresource, spec("1", "1"), spec(x.cpu, x.memory)))
			wantError(t, name, err, x.err)
			if x.cause != "" && !apierrors.HasStatusCause(err, x.cause) {
				t.Errorf("%v has no cause %s", err, x.cause)
			}
		})
	}
}
