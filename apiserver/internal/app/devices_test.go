package app

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/rest"
)

// granted allows what it lists, as subresource, namespace, name and verb.
type granted map[string]bool

func (g granted) Authorize(_ context.Context, a authz.Attributes) (authz.Decision, string, error) {
	if g[fmt.Sprintf("%s %s/%s %s", a.Subresource, a.Namespace, a.Name, a.Verb)] {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

func TestForbidsClaims(t *testing.T) {
	yes := true
	claim := func(admin bool, driver string) *resourcev1.ResourceClaim {
		c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "plain", Name: "c"}}
		result := resourcev1.DeviceRequestAllocationResult{Driver: "d"}
		if admin {
			result.AdminAccess = &yes
		}
		c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{result}}}
		c.Status.Allocation.NodeSelector = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
			{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}},
		}}}}
		if driver != "" {
			c.Status.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: driver}}
		}
		return c
	}
	bind, onAny, onOwn := "binding / update", "driver plain/d arbitrary-node:update", "driver plain/d associated-node:update"
	for name, tc := range map[string]struct {
		c, old  *resourcev1.ResourceClaim
		granted []string
		node    string
		want    []string
	}{
		"no change":      {c: claim(false, "d"), old: claim(false, "d")},
		"may bind":       {c: claim(false, ""), old: &resourcev1.ResourceClaim{}, granted: []string{bind}},
		"may not bind":   {c: claim(false, ""), old: &resourcev1.ResourceClaim{}, want: []string{"status.allocation"}},
		"admin":          {c: claim(true, ""), old: &resourcev1.ResourceClaim{}, granted: []string{bind}, want: []string{"status.allocation.devices.results[0].adminAccess"}},
		"admin already":  {c: claim(true, "d"), old: claim(true, ""), granted: []string{onAny}},
		"any node":       {c: claim(false, "d"), old: claim(false, ""), granted: []string{onAny}},
		"own node":       {c: claim(false, "d"), old: claim(false, ""), granted: []string{onOwn}, node: "n1"},
		"another's node": {c: claim(false, "d"), old: claim(false, ""), granted: []string{onOwn}, node: "n2", want: []string{"status.devices"}},
		"removed":        {c: claim(false, ""), old: claim(false, "d"), want: []string{"status.devices"}},
	} {
		g := granted{}
		for _, x := range tc.granted {
			g[x] = true
		}
		h := hooks{authz: g, namespace: func(context.Context, string) (*corev1.Namespace, error) { return &corev1.Namespace{}, nil }}
		u := &authn.Identity{Name: "system:serviceaccount:a:b", Extra: map[string][]string{authn.NodeNameKey: {tc.node}}}
		var got []string
		for _, e := range h.Forbids(rest.WithUser(context.Background(), u), "update", "status", tc.c, tc.old) {
			got = append(got, e.Field)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
