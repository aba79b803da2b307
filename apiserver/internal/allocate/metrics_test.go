package allocate

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
)

func TestMetrics(t *testing.T) {
	s, reg := store{}, prometheus.NewRegistry()
	pool := netip.MustParsePrefix("10.0.0.0/29") // of six addresses
	h := New(Config{FirstPort: 30000, LastPort: 30003, Privileged: true, Ranges: []netip.Prefix{pool}}, s, nil, NewMetrics(reg))
	want := func(step, text string) {
		t.Helper()
		var names []string
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) > 2 && f[1] == "TYPE" {
				names = append(names, f[2])
			}
		}
		if err := testutil.GatherAndCompare(reg, strings.NewReader(text), names...); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	fail := func(svc *corev1.Service) {
		t.Helper()
		if _, err := h.BeforeCreate(t.Context(), kind, svc, false); err == nil {
			t.Error("an allocation did not fail")
		}
	}
	fixed := clusterService("fixed")
	fixed.Spec.ClusterIP = "10.0.0.2"
	create(t, h, fixed, true)
	fixed = fixed.DeepCopy()
	fixed.Name = "second"
	fail(fixed)
	fixed.Spec.ClusterIP, fixed.Spec.ClusterIPs = "10.0.0.7", []string{"10.0.0.7"} // of broadcasts
	fail(fixed)
	create(t, h, clusterService("lost"), false)
	ported := clusterService("ported")
	ported.Spec.Type, ported.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30001
	ported = create(t, h, ported, true)
	taken := clusterService("taken")
	taken.Spec.Type, taken.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30001
	fail(taken)
	free := clusterService("any")
	free.Spec.Type = corev1.ServiceTypeNodePort
	create(t, h, free, true)
	dry := clusterService("dry")
	dry.Spec.Type = corev1.ServiceTypeNodePort
	if _, err := h.BeforeCreate(t.Context(), kind, dry, true); err != nil {
		t.Error(err)
	}
	want("after allocations", `
# HELP kube_apiserver_clusterip_allocator_allocated_ips [ALPHA] Gauge measuring the number of allocated IPs for Services
# TYPE kube_apiserver_clusterip_allocator_allocated_ips gauge
kube_apiserver_clusterip_allocator_allocated_ips{cidr="10.0.0.0/29"} 3
# HELP kube_apiserver_clusterip_allocator_available_ips [ALPHA] Gauge measuring the number of available IPs for Services
# TYPE kube_apiserver_clusterip_allocator_available_ips gauge
kube_apiserver_clusterip_allocator_available_ips{cidr="10.0.0.0/29"} 3
# HELP kube_apiserver_clusterip_allocator_allocation_total [ALPHA] Number of Cluster IPs allocations
# TYPE kube_apiserver_clusterip_allocator_allocation_total counter
kube_apiserver_clusterip_allocator_allocation_total{cidr="10.0.0.0/29",scope="dynamic"} 4
kube_apiserver_clusterip_allocator_allocation_total{cidr="10.0.0.0/29",scope="static"} 1
# HELP kube_apiserver_clusterip_allocator_allocation_errors_total [ALPHA] Number of errors trying to allocate Cluster IPs
# TYPE kube_apiserver_clusterip_allocator_allocation_errors_total counter
kube_apiserver_clusterip_allocator_allocation_errors_total{cidr="10.0.0.0/29",scope="static"} 2
# HELP kube_apiserver_nodeport_allocator_allocated_ports [ALPHA] Gauge measuring the number of allocated NodePorts for Services
# TYPE kube_apiserver_nodeport_allocator_allocated_ports gauge
kube_apiserver_nodeport_allocator_allocated_ports 2
# HELP kube_apiserver_nodeport_allocator_available_ports [ALPHA] Gauge measuring the number of available NodePorts for Services
# TYPE kube_apiserver_nodeport_allocator_available_ports gauge
kube_apiserver_nodeport_allocator_available_ports 2
# HELP kube_apiserver_nodeport_allocator_allocation_total [ALPHA] Number of NodePort allocations
# TYPE kube_apiserver_nodeport_allocator_allocation_total counter
kube_apiserver_nodeport_allocator_allocation_total{scope="dynamic"} 1
kube_apiserver_nodeport_allocator_allocation_total{scope="static"} 1
# HELP kube_apiserver_nodeport_allocator_allocation_errors_total [ALPHA] Number of errors trying to allocate NodePort
# TYPE kube_apiserver_nodeport_allocator_allocation_errors_total counter
kube_apiserver_nodeport_allocator_allocation_errors_total{scope="static"} 1
`)
	if n := testutil.CollectAndCount(h.metrics.took); n != 1 {
		t.Error(n)
	}
	delete(s["services"], ported.Name)
	h.AfterDelete(t.Context(), kind, ported)
	if ips, ports := testutil.ToFloat64(h.metrics.allocatedIPs), testutil.ToFloat64(h.metrics.allocatedPorts); ips != 2 || ports != 1 {
		t.Error("after a deletion:", ips, ports)
	}
	// What another server took is found out later.
	other := clusterService("other")
	other.Spec.ClusterIP, other.Spec.ClusterIPs = "10.0.0.6", []string{"10.0.0.6"}
	if err := s.CreateObject(t.Context(), addresses, ipAddress(other, netip.MustParseAddr("10.0.0.6"))); err != nil {
		t.Fatal(err)
	}
	s.add(other)
	_ = h.repair(t.Context(), time.Now())
	if n := testutil.ToFloat64(h.metrics.allocatedIPs); n != 3 {
		t.Error("after a repair:", n)
	}
	for i := range 6 {
		svc := clusterService("full" + string(rune('0'+i)))
		if done, err := h.BeforeCreate(t.Context(), kind, svc, false); err == nil {
			done(true)
			s.add(svc)
		}
	}
	if n := testutil.ToFloat64(h.metrics.ipErrors.WithLabelValues(pool.String(), dynamic)); n != 3 {
		t.Error("of a full range:", n)
	}
	if n := testutil.ToFloat64(h.metrics.availableIPs); n != 0 {
		t.Error("of a full range:", n)
	}
	// The series of a range end with it.
	h.cfg.Ranges = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}
	if err := h.recount(nil); err != nil {
		t.Fatal(err)
	}
	want("of another range", `
# HELP kube_apiserver_clusterip_allocator_allocated_ips [ALPHA] Gauge measuring the number of allocated IPs for Services
# TYPE kube_apiserver_clusterip_allocator_allocated_ips gauge
kube_apiserver_clusterip_allocator_allocated_ips{cidr="10.1.0.0/24"} 0
# HELP kube_apiserver_clusterip_allocator_available_ips [ALPHA] Gauge measuring the number of available IPs for Services
# TYPE kube_apiserver_clusterip_allocator_available_ips gauge
kube_apiserver_clusterip_allocator_available_ips{cidr="10.1.0.0/24"} 254
# HELP kube_apiserver_clusterip_allocator_allocation_total [ALPHA] Number of Cluster IPs allocations
# TYPE kube_apiserver_clusterip_allocator_allocation_total counter
`)
}
