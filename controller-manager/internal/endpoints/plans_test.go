package endpoints

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(target intstr.IntOrString) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec: corev1.ServiceSpec{
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, ClusterIP: "10.96.0.9",
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: target}},
		},
	}
}

func newPod(i int, ready bool) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint("u", i))},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "named", ContainerPort: int32(8000 + i%2)}}}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprint("10.0.0.", i), PodIPs: []corev1.PodIP{{IP: fmt.Sprint("10.0.0.", i)}}},
	}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func pods(n int) (out []*corev1.Pod) {
	for i := range n {
		out = append(out, newPod(i+1, true))
	}
	return out
}

func frameOf(svc *corev1.Service, limit int) frame {
	return frame{labels: serviceLabels(svc, sliceManager), limit: limit, families: []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}, fresh: fresh(svc, sliceManager)}
}

func noZone(string) string { return "" }

// made turns what a plan creates and updates into what the cache shows afterwards.
func made(plan slicePlan, have []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	byName := map[string]*discoveryv1.EndpointSlice{}
	for _, s := range have {
		byName[s.Name] = s
	}
	for _, s := range plan.remove {
		delete(byName, s.Name)
	}
	for _, s := range plan.update {
		byName[s.Name] = s
	}
	for i, s := range plan.create {
		s.Name = fmt.Sprintf("new-%d-%d", len(have), i)
		byName[s.Name] = s
	}
	var out []*discoveryv1.EndpointSlice
	for _, s := range byName {
		out = append(out, s)
	}
	return out
}

func shape(plan slicePlan) string {
	sizes := func(list []*discoveryv1.EndpointSlice) (out []int) {
		for _, s := range list {
			out = append(out, len(s.Endpoints))
		}
		return out
	}
	return fmt.Sprintf("create %v update %v remove %v", sizes(plan.create), sizes(plan.update), sizes(plan.remove))
}

func TestPlanSlices(t *testing.T) {
	svc := service(intstr.FromInt32(8080))
	f := frameOf(svc, 2)
	plan := planSlices(groupPods(svc, nil, noZone), nil, f)
	if got := shape(plan); got != "create [0] update [] remove []" {
		t.Fatalf("no pods: %s: want a placeholder", got)
	}
	have := made(plan, nil)
	for _, step := range []struct {
		pods []*corev1.Pod
		want string
	}{
		{pods(3), "create [2 1] update [] remove [0]"},
		{pods(3), "create [] update [] remove []"},
		{pods(4), "create [] update [2] remove []"},
		{pods(4)[1:], "create [] update [1] remove []"},
		{nil, ""},
	} {
		plan := planSlices(groupPods(svc, step.pods, noZone), have, f)
		if got := shape(plan); step.want != "" && got != step.want {
			t.Errorf("%d pods: %s, want %s", len(step.pods), got, step.want)
		}
		have = made(plan, have)
		n := 0
		for _, s := range have {
			n += len(s.Endpoints)
		}
		if n != len(step.pods) {
			t.Errorf("%d endpoints, want %d", n, len(step.pods))
		}
	}
	if len(have) != 1 {
		t.Errorf("%d slices without pods, want the placeholder only", len(have))
	}
}

func TestGroupPods(t *testing.T) {
	if n := len(groupPods(service(intstr.FromString("named")), pods(4), noZone)); n != 2 {
		t.Errorf("a named port with two numbers: %d groups, want 2", n)
	}
	going := newPod(1, true)
	going.DeletionTimestamp = &metav1.Time{}
	ended := newPod(2, false)
	ended.Status.Phase = corev1.PodSucceeded
	svc := service(intstr.FromInt32(80))
	for _, g := range groupPods(svc, []*corev1.Pod{going, ended}, func(string) string { return "z1" }) {
		if len(g.endpoints) != 1 {
			t.Fatalf("%d endpoints, want the terminating one only", len(g.endpoints))
		}
		e := g.endpoints[0]
		if *e.Conditions.Ready || !*e.Conditions.Serving || !*e.Conditions.Terminating || *e.Zone != "z1" {
			t.Errorf("got %+v", e)
		}
	}
}

func TestSubsetsOf(t *testing.T) {
	svc := service(intstr.FromString("named"))
	var got []string
	for _, s := range subsetsOf(svc, append(pods(3), newPod(5, false))) {
		got = append(got, fmt.Sprintf("%d ready %d not port %d", len(s.Addresses), len(s.NotReadyAddresses), s.Ports[0].Port))
	}
	if diff := cmp.Diff([]string{"1 ready 0 not port 8000", "2 ready 1 not port 8001"}, got); diff != "" {
		t.Error(diff)
	}
	cut, did := truncate(subsetsOf(service(intstr.FromInt32(1)), append(pods(3), newPod(5, false))), 3)
	if !did || len(cut[0].Addresses) != 3 || len(cut[0].NotReadyAddresses) != 0 {
		t.Errorf("truncated to %+v", cut)
	}
}
