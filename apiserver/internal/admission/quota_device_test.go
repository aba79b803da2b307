package admission

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
)

func TestDeviceQuota(t *testing.T) {
	const gpu = "requests.example.com/gpu"
	claim := func(meta, class string) *Attributes {
		return create(parse[resourcev1.ResourceClaim](t, "{metadata: {name: c, namespace: ns"+meta+"}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: "+class+", allocationMode: ExactCount, count: 2}}]}}}"),
			"resource.k8s.io", "resourceclaims", "ResourceClaim")
	}
	pod := "{containers: [{name: a, resources: {requests: {example.com/gpu: 2, deviceclass.resource.kubernetes.io/gpu: 2}}}]}"
	const mine = ", annotations: {resource.kubernetes.io/extended-resource-claim: 'true'}, ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: u, controller: true}]"
	for name, x := range map[string]struct {
		hard string
		of   *Attributes
		want string
	}{
		"by class": {
			"gpu.deviceclass.resource.k8s.io/devices: 1", claim("", "gpu"),
			`resourceclaims.resource.k8s.io "c" is forbidden: exceeded quota: q, requested: gpu.deviceclass.resource.k8s.io/devices=2, used: gpu.deviceclass.resource.k8s.io/devices=0, limited: gpu.deviceclass.resource.k8s.io/devices=1`,
		},
		"enough":           {"gpu.deviceclass.resource.k8s.io/devices: 2", claim("", "gpu"), ""},
		"of another class": {"gpu.deviceclass.resource.k8s.io/devices: 1", claim("", "nic"), ""},
		"by extended resource": {
			gpu + ": 1", claim("", "gpu"),
			`resourceclaims.resource.k8s.io "c" is forbidden: exceeded quota: q, requested: requests.example.com/gpu=2, used: requests.example.com/gpu=0, limited: requests.example.com/gpu=1`,
		},
		"charged to its pod":        {gpu + ": 1", claim(mine, "gpu"), ""},
		"of a class without a name": {"requests.example.com/nic: 1", claim("", "nic"), ""},
		"by number": {
			"count/resourceclaims.resource.k8s.io: 0", claim("", "nic"),
			`resourceclaims.resource.k8s.io "c" is forbidden: exceeded quota: q, requested: count/resourceclaims.resource.k8s.io=1, used: count/resourceclaims.resource.k8s.io=0, limited: count/resourceclaims.resource.k8s.io=0`,
		},
		"a pod by class": {
			"requests.deviceclass.resource.kubernetes.io/gpu: 1", createPod(t, pod),
			`pods "p" is forbidden: exceeded quota: q, requested: requests.deviceclass.resource.kubernetes.io/gpu=2, used: requests.deviceclass.resource.kubernetes.io/gpu=0, limited: requests.deviceclass.resource.kubernetes.io/gpu=1`,
		},
		"a pod by extended resource": {
			gpu + ": 1", createPod(t, pod),
			`pods "p" is forbidden: exceeded quota: q, requested: requests.example.com/gpu=2, used: requests.example.com/gpu=0, limited: requests.example.com/gpu=1`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cluster{
				classes: []*resourcev1.DeviceClass{
					parse[resourcev1.DeviceClass](t, "{metadata: {name: gpu}, spec: {extendedResourceName: example.com/gpu}}"),
					parse[resourcev1.DeviceClass](t, "{metadata: {name: nic}}"),
				},
				pods:   []*corev1.Pod{parse[corev1.Pod](t, "{metadata: {name: p, namespace: ns, uid: u}, spec: "+pod+"}")},
				quotas: []*corev1.ResourceQuota{parse[corev1.ResourceQuota](t, "{metadata: {name: q, namespace: ns}, status: {hard: {"+x.hard+"}}}")},
			}
			q := c.quotas[0]
			q.Status.Used = corev1.ResourceList{}
			for n := range q.Status.Hard {
				q.Status.Used[n] = apiresource.MustParse("0")
			}
			chain := testChain(t, c, "ResourceQuota")
			wantError(t, name, run(t, chain, x.of), x.want)
		})
	}
}
