package track

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestChanged names what each change concerns.
func TestChanged(t *testing.T) {
	calls := 0
	tr := New("n", func() { calls++ })
	svc := func(name, ip string) *v1.Service {
		return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: v1.ServiceSpec{ClusterIP: ip, Ports: []v1.ServicePort{{Port: 80}}}}
	}
	node := func(zone string) *v1.Node {
		return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{v1.LabelTopologyZone: zone}}}
	}
	a, six := svc("a", "10.0.0.1"), svc("six", "fd00::1")
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a-x", Labels: map[string]string{discoveryv1.LabelServiceName: "a"}}}
	for _, c := range []struct {
		what   string
		change func()
		all    bool     // everything is concerned
		want   []string // else these services
		calls  int
		ports  []string // services with ports in the snapshot of what changed
	}{
		{what: "the first time", change: func() { tr.SetService(a, false) }, all: true, calls: 1, ports: []string{"a"}},
		{what: "nothing", change: func() {}},
		{what: "a service of the other family", change: func() { tr.SetService(six, false) }, want: []string{"six"}, calls: 1},
		{what: "the same again", change: func() { tr.SetService(a, false) }},
		{what: "a slice", change: func() { tr.SetSlice(slice, false) }, want: []string{"a"}, calls: 1, ports: []string{"a"}},
		{what: "the same slice again", change: func() { tr.SetSlice(slice, false) }},
		{what: "the node's zone", change: func() { tr.SetNode(node("z")) }, all: true, calls: 1, ports: []string{"a"}},
		{what: "the node's heartbeat", change: func() { tr.SetNode(node("z")) }},
		{what: "a service and a slice are gone", change: func() { tr.SetSlice(slice, true); tr.SetService(a, true) }, want: []string{"a"}, calls: 2},
	} {
		calls = 0
		c.change()
		if calls != c.calls {
			t.Errorf("%s: told %d times, want %d", c.what, calls, c.calls)
		}
		changed := tr.Changed()
		want := Names{}
		for _, name := range c.want {
			want[types.NamespacedName{Namespace: "ns", Name: name}] = struct{}{}
		}
		if (changed == nil) != c.all || changed != nil && !maps.Equal(changed, want) {
			t.Errorf("%s: %v changed (nil: all), want %v", c.what, changed, want)
		}
		var ports []string
		for _, p := range tr.Snapshot(false, changed).Ports {
			ports = append(ports, p.Service.Name)
		}
		if d := cmp.Diff(c.ports, ports); d != "" {
			t.Errorf("%s: ports (-want +got):\n%s", c.what, d)
		}
	}
}

// TestOrder has snapshots sorted by service.
func TestOrder(t *testing.T) {
	tr := New("n", func() {})
	for _, name := range []string{"b", "a-b", "a", "c"} {
		tr.SetService(&v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: v1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []v1.ServicePort{{Port: 80}}}}, false)
	}
	s := tr.Snapshot(false, nil)
	if !slices.IsSortedFunc(s.Ports, func(a, b Port) int { return Compare(a.Service, b.Service) }) || len(s.Ports) != 4 {
		t.Errorf("not sorted: %v", s.Ports)
	}
}
