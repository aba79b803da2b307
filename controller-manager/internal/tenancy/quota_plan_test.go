package tenancy

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"flagship/internal/quota"
)

func TestRecounts(t *testing.T) {
	quota := func(spec, hard, used string) *corev1.ResourceQuota {
		list := func(s string) corev1.ResourceList { return corev1.ResourceList{"pods": resource.MustParse(s)} }
		return &corev1.ResourceQuota{
			Spec: corev1.ResourceQuotaSpec{Hard: list(spec)}, Status: corev1.ResourceQuotaStatus{Hard: list(hard), Used: list(used)},
		}
	}
	for scenario, c := range map[string]struct {
		old, now *corev1.ResourceQuota
		want     bool
	}{
		"new":             {nil, quota("5", "5", "0"), true},
		"limit changed":   {quota("5", "5", "1"), quota("6", "5", "1"), true},
		"status disputed": {quota("5", "5", "1"), quota("5", "9", "1"), true},
		"charged":         {quota("5", "5", "1"), quota("5", "5", "2"), false},
	} {
		t.Run(scenario, func(t *testing.T) {
			if got := recounts(c.old, c.now); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	pod := func(cpu, gpus string, seconds *int64) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{ActiveDeadlineSeconds: seconds, Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			"cpu": resource.MustParse(cpu), "example.com/gpu": resource.MustParse(gpus),
		}}}}}}
	}
	claim := func(class string, n int64) *resourcev1.ResourceClaim {
		return &resourcev1.ResourceClaim{Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{
			Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: n},
		}}}}}
	}
	groups := []group{
		{quota.Pods(time.Time{}), slices.Values([]runtime.Object{pod("1", "2", nil), pod("500m", "1", new(int64(9)))})},
		{quota.Services(), slices.Values([]runtime.Object{&corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: make([]corev1.ServicePort, 2)}}})},
		{
			quota.Claims(quota.Devices{Classes: []*resourcev1.DeviceClass{{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: new("example.com/gpu")}}}}),
			slices.Values([]runtime.Object{claim("gpu", 3), claim("nic", 4)}),
		},
	}
	for scenario, c := range map[string]struct {
		hard  []corev1.ResourceName
		scope corev1.ResourceQuotaScope
		want  string
	}{
		"pods":                     {[]corev1.ResourceName{"pods", "requests.cpu", "limits.cpu"}, "", "limits.cpu=0 pods=2 requests.cpu=1500m "},
		"of a scope":               {[]corev1.ResourceName{"pods", "requests.example.com/gpu"}, corev1.ResourceQuotaScopeTerminating, "pods=1 requests.example.com/gpu=1 "},
		"services":                 {[]corev1.ResourceName{"services.nodeports", "count/services"}, "", "count/services=1 services.nodeports=2 "},
		"of pods and of claims":    {[]corev1.ResourceName{"requests.example.com/gpu", "requests.example.com/nic"}, "", "requests.example.com/gpu=6 requests.example.com/nic=0 "},
		"claims":                   {[]corev1.ResourceName{"count/resourceclaims.resource.k8s.io", "nic.deviceclass.resource.k8s.io/devices", "none.deviceclass.resource.k8s.io/devices"}, "", "count/resourceclaims.resource.k8s.io=2 nic.deviceclass.resource.k8s.io/devices=4 none.deviceclass.resource.k8s.io/devices=0 "},
		"what nothing here counts": {[]corev1.ResourceName{"count/configmaps", "example.com/gpu"}, "", ""},
	} {
		t.Run(scenario, func(t *testing.T) {
			q := &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{}}}
			for _, n := range c.hard {
				q.Spec.Hard[n] = resource.MustParse("10")
			}
			if c.scope != "" {
				q.Spec.Scopes = []corev1.ResourceQuotaScope{c.scope}
			}
			used, got := usage(q, groups), ""
			for _, n := range slices.Sorted(maps.Keys(used)) {
				v := used[n]
				got += string(n) + "=" + v.String() + " "
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestCountedResource(t *testing.T) {
	for name, want := range map[corev1.ResourceName]string{
		"secrets": "secrets", "count/deployments.apps": "deployments.apps", "count/secrets": "secrets",
		"count/pods": "", "count/resourceclaims.resource.k8s.io": "", "requests.cpu": "",
	} {
		res, group, ok := countedResource(name)
		got := res
		if group != "" {
			got += "." + group
		}
		if got != want || ok != (want != "") {
			t.Errorf("%s: got %s, %v", name, got, ok)
		}
	}
}
