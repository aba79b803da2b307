package quota

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

// said writes amounts in order, one a line.
func said(l corev1.ResourceList) string {
	var out strings.Builder
	for _, n := range slices.Sorted(maps.Keys(l)) {
		v := l[n]
		fmt.Fprintf(&out, "%s=%s\n", n, v.String())
	}
	return out.String()
}

const requests = "{metadata: {name: c, namespace: ns}, spec: {devices: {requests: [%s]}}}"

func TestClaims(t *testing.T) {
	classes := []*resourcev1.DeviceClass{
		parse[resourcev1.DeviceClass](t, "{metadata: {name: gpu}, spec: {extendedResourceName: example.com/gpu}}"),
		parse[resourcev1.DeviceClass](t, "{metadata: {name: old-gpu}, spec: {extendedResourceName: example.com/gpu}}"),
		parse[resourcev1.DeviceClass](t, "{metadata: {name: nic}}"),
	}
	e := Claims(Devices{Classes: classes})
	const count = "count/resourceclaims.resource.k8s.io=1\n"
	class := func(name string, n int) string {
		return fmt.Sprintf("%s.deviceclass.resource.k8s.io/devices=%d\n", name, n)
	}
	implicit := func(name string, n int) string {
		return fmt.Sprintf("requests.deviceclass.resource.kubernetes.io/%s=%d\n", name, n)
	}
	for name, x := range map[string]struct{ requests, want string }{
		"none":             {"", count},
		"a class":          {"{name: r, exactly: {deviceClassName: nic, allocationMode: ExactCount, count: 2}}", count + class("nic", 2) + implicit("nic", 2)},
		"all of a class":   {"{name: r, exactly: {deviceClassName: nic, allocationMode: All}}", count + class("nic", 32) + implicit("nic", 32)},
		"an unknown mode":  {"{name: r, exactly: {deviceClassName: nic, allocationMode: Some}}", count + class("nic", 0)},
		"an unknown class": {"{name: r, exactly: {deviceClassName: x, allocationMode: ExactCount, count: 1}}", count + implicit("x", 1) + class("x", 1)},
		"an extended one":  {"{name: r, exactly: {deviceClassName: gpu, allocationMode: ExactCount, count: 1}}", count + class("gpu", 1) + implicit("gpu", 1) + "requests.example.com/gpu=1\n"},
		"twice": {
			"{name: r, exactly: {deviceClassName: nic, allocationMode: ExactCount, count: 1}}, {name: s, exactly: {deviceClassName: nic, allocationMode: ExactCount, count: 2}}",
			count + class("nic", 3) + implicit("nic", 3),
		},
		"one of several": {
			"{name: r, firstAvailable: [{name: a, deviceClassName: nic, allocationMode: ExactCount, count: 2}, {name: b, deviceClassName: nic, allocationMode: ExactCount, count: 1}, {name: c, deviceClassName: gpu, allocationMode: ExactCount, count: 4}]}",
			count + class("gpu", 4) + class("nic", 2) + implicit("gpu", 4) + implicit("nic", 2) + "requests.example.com/gpu=4\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			lines := strings.SplitAfter(x.want, "\n")
			slices.Sort(lines)
			if got := said(e.Of(parse[resourcev1.ResourceClaim](t, fmt.Sprintf(requests, x.requests)))); got != strings.Join(lines, "") {
				t.Errorf("got %s", got)
			}
		})
	}
	for n, want := range map[corev1.ResourceName]bool{
		"count/resourceclaims.resource.k8s.io": true, "x.deviceclass.resource.k8s.io/devices": true, "requests.example.com/gpu": true,
		"requests.deviceclass.resource.kubernetes.io/nic": true, "requests.deviceclass.resource.kubernetes.io/x": false,
		"requests.example.com/nic": false, "requests.cpu": false, "example.com/gpu": false, "count/pods": false,
	} {
		if len(e.Counted(corev1.ResourceList{n: one()})) > 0 != want {
			t.Errorf("%s is counted: %v", n, !want)
		}
	}
}

// A pod is charged for two GPUs as it is created; a claim for them is charged only where it is not the pod's.
func TestClaimsOfPods(t *testing.T) {
	const three = "{name: r, exactly: {deviceClassName: gpu, allocationMode: ExactCount, count: 3}}"
	const owned = "{metadata: {name: %s, namespace: ns, creationTimestamp: '%s', annotations: {resource.kubernetes.io/extended-resource-claim: 'true'}, ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: %s, controller: true}]}, spec: {devices: {requests: [" + three + "]}}}"
	claim := func(name, created, uid string) *resourcev1.ResourceClaim {
		return parse[resourcev1.ResourceClaim](t, fmt.Sprintf(owned, name, created, uid))
	}
	const early, late = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
	for name, x := range map[string]struct {
		claim  *resourcev1.ResourceClaim
		others []*resourcev1.ResourceClaim
		status string
		err    error
		want   string
	}{
		"the pod's":             {claim("c", early, "u"), nil, "{extendedResourceClaimStatus: {resourceClaimName: c}}", nil, "1"},
		"not the pod's":         {claim("c", early, "u"), nil, "{extendedResourceClaimStatus: {resourceClaimName: d}}", nil, "3"},
		"the only one":          {claim("c", early, "u"), []*resourcev1.ResourceClaim{claim("c", early, "u"), claim("b", early, "v")}, "{}", nil, "1"},
		"the first one":         {claim("c", early, "u"), []*resourcev1.ResourceClaim{claim("b", late, "u")}, "{}", nil, "1"},
		"the second one":        {claim("c", late, "u"), []*resourcev1.ResourceClaim{claim("d", early, "u")}, "{}", nil, "3"},
		"the second by name":    {claim("c", early, "u"), []*resourcev1.ResourceClaim{claim("b", early, "u")}, "{}", nil, "3"},
		"one of another pod":    {claim("c", early, "v"), nil, "{}", nil, "3"},
		"a user's":              {parse[resourcev1.ResourceClaim](t, fmt.Sprintf(requests, three)), nil, "{}", nil, "3"},
		"of a pod at its end":   {claim("c", early, "u"), nil, "{phase: Succeeded}", nil, "3"},
		"where that is unknown": {claim("c", early, "u"), nil, "{}", errors.New("no"), "3"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := parse[corev1.Pod](t, "{metadata: {name: p, uid: u}, spec: {containers: [{name: a, resources: {requests: {example.com/gpu: 2}}}]}, status: "+x.status+"}")
			used := Claims(Devices{
				Classes: []*resourcev1.DeviceClass{parse[resourcev1.DeviceClass](t, "{metadata: {name: gpu}, spec: {extendedResourceName: example.com/gpu}}")},
				Pod:     func(string, string) *corev1.Pod { return pod },
				Claims:  func(string) ([]*resourcev1.ResourceClaim, error) { return x.others, x.err },
				Pods:    Pods(time.Time{}),
			}).Of(x.claim)
			if v := used["requests.example.com/gpu"]; v.String() != x.want {
				t.Errorf("%s more, want %s", v.String(), x.want)
			}
			if v := used["gpu.deviceclass.resource.k8s.io/devices"]; v.String() != "3" {
				t.Errorf("%s devices of the class", v.String())
			}
		})
	}
}

func TestFrees(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	quota := parse[corev1.ResourceQuota](t, "{spec: {scopes: [NotTerminating]}, status: {hard: {requests.cpu: 9, pods: 9}}}")
	running := parse[corev1.Pod](t, "{spec: {containers: [{name: a, resources: {requests: {cpu: 2}}}]}, status: {phase: Running}}")
	with := func(change func(p *corev1.Pod)) *corev1.Pod {
		p := running.DeepCopy()
		change(p)
		return p
	}
	for name, x := range map[string]struct {
		quota    *corev1.ResourceQuota
		old, now *corev1.Pod
		want     bool
	}{
		"gone":       {quota, running, nil, true},
		"at its end": {quota, running, with(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), true},
		"ready":      {quota, running, with(func(p *corev1.Pod) { p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady}} }), false},
		"larger": {quota, running, with(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("4")}
		}), false},
		"smaller": {quota, running, with(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}), true},
		"of less memory":   {quota, with(func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["memory"] = resource.MustParse("1") }), running, false},
		"out of the scope": {quota, running, with(func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(5)) }), true},
		"never in scope":   {quota, with(func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(5)) }), nil, false},
		"beyond its grace": {quota, running, with(func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now.Add(-time.Minute)}, new(int64(30))
		}), true},
		"within its grace": {quota, running, with(func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now.Add(-time.Second)}, new(int64(30))
		}), false},
		"of other business": {parse[corev1.ResourceQuota](t, "status: {hard: {services: 9}}"), running, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			var is runtime.Object
			if x.now != nil {
				is = x.now
			}
			if got := Pods(now).Frees(x.quota, x.old, is); got != x.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
