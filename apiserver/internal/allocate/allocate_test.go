package allocate

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/resource"
)

// store is a few objects by kind and name.
type store map[string]map[string]runtime.Object

func (s store) add(objs ...runtime.Object) {
	for _, o := range objs {
		gvr := services
		switch o.(type) {
		case *networkingv1.IPAddress:
			gvr = addresses
		case *networkingv1.ServiceCIDR:
			gvr = serviceCIDRs
		}
		if s[gvr.Resource] == nil {
			s[gvr.Resource] = map[string]runtime.Object{}
		}
		s[gvr.Resource][o.(metav1.Object).GetName()] = o
	}
}

func (s store) Each(gvr schema.GroupVersionResource, _ string, visit func(runtime.Object) bool) error {
	for _, o := range s[gvr.Resource] {
		if !visit(o) {
			break
		}
	}
	return nil
}

func (s store) CreateObject(_ context.Context, gvr schema.GroupVersionResource, obj runtime.Object) error {
	name := obj.(metav1.Object).GetName()
	if s[gvr.Resource][name] != nil {
		return apierrors.NewAlreadyExists(gvr.GroupResource(), name)
	}
	s.add(obj)
	return nil
}

func (s store) DeleteObject(_ context.Context, gvr schema.GroupVersionResource, _, name string) error {
	if s[gvr.Resource][name] == nil {
		return apierrors.NewNotFound(gvr.GroupResource(), name)
	}
	delete(s[gvr.Resource], name)
	return nil
}

func (s store) names(resource string) []string {
	var out []string
	for name := range s[resource] {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func newHooks(s store, ranges ...string) *Hooks {
	cfg := Config{FirstPort: 30000, LastPort: 32767, Privileged: true}
	for _, r := range ranges {
		cfg.Ranges = append(cfg.Ranges, netip.MustParsePrefix(r))
	}
	return New(cfg, s, nil, NewMetrics(prometheus.NewRegistry()))
}

func clusterService(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"a": "b"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
	}}
}

var kind = &resource.Kind{GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Service")}

// create allocates and says how the write went.
func create(t *testing.T, h *Hooks, svc *corev1.Service, written bool) *corev1.Service {
	t.Helper()
	done, err := h.BeforeCreate(t.Context(), kind, svc, false)
	if err != nil {
		t.Fatal(err)
	}
	done(written)
	if written {
		h.objects.(store).add(svc)
	}
	return svc
}

func TestDualStack(t *testing.T) {
	s := store{}
	h := newHooks(s, "10.96.0.0/24", "fd00::/120")
	prefer, single, require := corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyRequireDualStack
	svc := clusterService("dual")
	svc.Spec.IPFamilyPolicy = &prefer
	create(t, h, svc, true)
	if len(svc.Spec.ClusterIPs) != 2 || len(svc.Spec.IPFamilies) != 2 || svc.Spec.ClusterIP != svc.Spec.ClusterIPs[0] {
		t.Fatalf("a service that prefers two families has %v %v", svc.Spec.ClusterIPs, svc.Spec.IPFamilies)
	}
	if got := s.names("ipaddresses"); len(got) != 2 {
		t.Fatalf("it holds %v", got)
	}
	second := svc.Spec.ClusterIPs[1]

	down := svc.DeepCopy()
	down.Spec.IPFamilyPolicy = &single
	done, err := h.BeforeUpdate(t.Context(), kind, down, svc, false)
	if err != nil || len(down.Spec.ClusterIPs) != 1 || len(down.Spec.IPFamilies) != 1 {
		t.Fatalf("for one family alone it has %v %v: %v", down.Spec.ClusterIPs, down.Spec.IPFamilies, err)
	}
	if s["ipaddresses"][second] == nil {
		t.Fatal("the second address is free before the update is written")
	}
	done(false)
	if s["ipaddresses"][second] == nil {
		t.Fatal("the second address is free after an update that failed")
	}
	done(true)
	if s["ipaddresses"][second] != nil {
		t.Fatal("the second address is held after an update that gave it up")
	}
	up := down.DeepCopy()
	up.Spec.IPFamilyPolicy = &require
	if done, err = h.BeforeUpdate(t.Context(), kind, up, down, false); err != nil || len(up.Spec.ClusterIPs) != 2 {
		t.Fatalf("for two families again it has %v: %v", up.Spec.ClusterIPs, err)
	}
	done(true)

	one := newHooks(store{}, "10.96.0.0/24")
	svc = clusterService("one")
	svc.Spec.IPFamilyPolicy = &require
	if _, err := one.BeforeCreate(t.Context(), kind, svc, false); err == nil || !strings.Contains(err.Error(), "this cluster is not configured for dual-stack services") {
		t.Fatalf("two families required of a cluster that has one: %v", err)
	}
}

func TestFailedWriteGivesBack(t *testing.T) {
	s := store{}
	h := newHooks(s, "10.96.0.0/24")
	svc := clusterService("a")
	svc.Spec.Type = corev1.ServiceTypeNodePort
	create(t, h, svc, false)
	if got := s.names("ipaddresses"); len(got) > 0 || len(h.ports) > 0 {
		t.Fatalf("after a create that failed %v and %v are held", got, h.ports)
	}
	svc = create(t, h, svc, true)
	port := svc.Spec.Ports[0].NodePort
	gone := svc.DeepCopy()
	gone.Spec.Type = corev1.ServiceTypeClusterIP
	done, err := h.BeforeUpdate(t.Context(), kind, gone, svc, false)
	if err != nil || gone.Spec.Ports[0].NodePort != 0 {
		t.Fatalf("a service that is of ClusterIP now has node port %d: %v", gone.Spec.Ports[0].NodePort, err)
	}
	done(false)
	if _, held := h.ports[port]; !held {
		t.Fatal("its port is free after an update that failed")
	}
	done(true)
	if _, held := h.ports[port]; held {
		t.Fatal("its port is held after the update")
	}
}

func TestRangeIsUsedToTheLast(t *testing.T) {
	s := store{}
	h := newHooks(s, "10.96.0.0/28")
	for i := range 14 {
		create(t, h, clusterService(string(rune('a'+i))), true)
	}
	if _, err := h.BeforeCreate(t.Context(), kind, clusterService("z"), false); err == nil || !strings.Contains(err.Error(), "range is full") {
		t.Fatalf("the fifteenth of 14: %v", err)
	}
	s.add(&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/28"}}, Status: networkingv1.ServiceCIDRStatus{
		Conditions: []metav1.Condition{{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue}},
	}})
	more := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/24"}}}
	s.add(more)
	if _, err := h.BeforeCreate(t.Context(), kind, clusterService("z"), false); err == nil {
		t.Fatal("an address of a range that is not ready")
	}
	more.Status.Conditions = []metav1.Condition{{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue}}
	if svc := create(t, h, clusterService("z"), true); !strings.HasPrefix(svc.Spec.ClusterIP, "10.97.0.") {
		t.Fatalf("with another range it has %s", svc.Spec.ClusterIP)
	}
}

func TestCandidates(t *testing.T) {
	for _, text := range []string{"10.0.0.0/30", "10.0.0.0/28", "10.0.0.0/24", "fd00::/124", "fd00::/120"} {
		p := netip.MustParsePrefix(text)
		seen := map[netip.Addr]bool{}
		low := 0
		for ip := range candidates(p) {
			if seen[ip] || !usable(p, ip) {
				t.Fatalf("%s: %s twice, or not of it", text, ip)
			}
			seen[ip] = true
			if bits := p.Addr().BitLen() - p.Bits(); ip.Less(plus(p.Addr(), 1+lowPart(1<<bits))) {
				low++
			} else if low > 0 {
				t.Fatalf("%s: %s after one of the lower part", text, ip)
			}
		}
		want := 1<<(p.Addr().BitLen()-p.Bits()) - 1
		if p.Addr().Is4() {
			want--
		}
		if len(seen) != want {
			t.Errorf("%s: %d addresses, not %d", text, len(seen), want)
		}
	}
}

func TestNodePortsOfOneNumberAreShared(t *testing.T) {
	h := newHooks(store{}, "10.96.0.0/24")
	svc := clusterService("dns")
	svc.Spec.Type = corev1.ServiceTypeNodePort
	svc.Spec.Ports = []corev1.ServicePort{{Name: "udp", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "tcp", Port: 53, Protocol: corev1.ProtocolTCP, NodePort: 30053}, {Name: "x", Port: 80}}
	create(t, h, svc, true)
	if p := svc.Spec.Ports; p[0].NodePort != 30053 || p[1].NodePort != 30053 || p[2].NodePort == 30053 || p[2].NodePort < 30000+86 {
		t.Fatalf("node ports %v", p)
	}
	other := clusterService("other")
	other.Spec.Type = corev1.ServiceTypeNodePort
	other.Spec.Ports[0].NodePort = 30053
	if _, err := h.BeforeCreate(t.Context(), kind, other, false); err == nil || !strings.Contains(err.Error(), "provided port is already allocated") {
		t.Fatalf("a port that another service has: %v", err)
	}
}

func TestRepair(t *testing.T) {
	s := store{}
	h := newHooks(s, "10.96.0.0/24")
	good := create(t, h, clusterService("good"), true)
	lost := create(t, h, clusterService("lost"), true)
	delete(s["ipaddresses"], lost.Spec.ClusterIP)
	leak := ipAddress(clusterService("gone"), netip.MustParseAddr("10.96.0.250"))
	young := ipAddress(clusterService("coming"), netip.MustParseAddr("10.96.0.251"))
	now := time.Now()
	young.CreationTimestamp = metav1.NewTime(now)
	foreign := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.252"}, Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "gateways", Name: "g"}}}
	s.add(leak, young, foreign)
	if err := h.repair(t.Context(), now); err == nil {
		t.Fatal("nothing was found")
	}
	want := []string{good.Spec.ClusterIP, lost.Spec.ClusterIP, young.Name, foreign.Name}
	slices.Sort(want)
	if got := s.names("ipaddresses"); !slices.Equal(got, want) {
		t.Fatalf("after the repair there are %v, not %v", got, want)
	}
	if err := h.repair(t.Context(), now); err != nil {
		t.Fatalf("the second repair: %v", errors.Join(err))
	}
}
