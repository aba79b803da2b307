package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAdmit(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "a", "cpus": "8"}}}
	allocatable := corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("3")}
	pod := func(change ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c"}}}}
		for _, f := range change {
			f(p)
		}
		return p
	}
	cpu := func(v string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse(v)}
		}
	}
	port := func(ip string, n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostIP: ip, HostPort: n, Protocol: "TCP"}}
		}
	}
	sysctl := func(name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: name}}}
		}
	}
	affinity := func(key string, op corev1.NodeSelectorOperator, values ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{}, {MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}},
			}}}
		}
	}
	critical := func(p *corev1.Pod) { n := int32(2000000000); p.Spec.Priority = &n }
	hostNetwork := func(p *corev1.Pod) { p.Spec.HostNetwork = true }
	strict := func(p *corev1.Pod) {
		v := corev1.SupplementalGroupsPolicyStrict
		p.Spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroupsPolicy: &v}
	}
	tests := map[string]struct {
		in   AdmitInput
		want string
	}{
		"a plain pod":              {AdmitInput{Pod: pod()}, ""},
		"it fits":                  {AdmitInput{Pod: pod(cpu("500m")), Others: []*corev1.Pod{pod(cpu("1500m"))}}, ""},
		"too little cpu":           {AdmitInput{Pod: pod(cpu("501m")), Others: []*corev1.Pod{pod(cpu("1500m"))}}, "OutOfcpu"},
		"critical, too little cpu": {AdmitInput{Pod: pod(cpu("3"), critical)}, ""},
		"too many pods":            {AdmitInput{Pod: pod(), Others: []*corev1.Pod{pod(), pod(), pod()}}, "OutOfpods"},
		"another's extended device": {AdmitInput{Pod: pod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"x.io/y": resource.MustParse("1")}
		})}, ""},
		"a port is taken":           {AdmitInput{Pod: pod(port("", 80)), Others: []*corev1.Pod{pod(port("10.0.0.1", 80))}}, "NodePorts"},
		"a port of another address": {AdmitInput{Pod: pod(port("10.0.0.2", 80)), Others: []*corev1.Pod{pod(port("10.0.0.1", 80))}}, ""},
		"another node's":            {AdmitInput{Pod: pod(func(p *corev1.Pod) { p.Spec.NodeName = "n2" })}, "NodeName"},
		"selector":                  {AdmitInput{Pod: pod(func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "b"} })}, "NodeAffinity"},
		"affinity holds":            {AdmitInput{Pod: pod(affinity("cpus", corev1.NodeSelectorOpGt, "4"))}, ""},
		"affinity does not hold":    {AdmitInput{Pod: pod(affinity("zone", corev1.NodeSelectorOpNotIn, "a"))}, "NodeAffinity"},
		"a safe sysctl":             {AdmitInput{Pod: pod(sysctl("kernel.shm_rmid_forced"))}, ""},
		"the same with slashes":     {AdmitInput{Pod: pod(sysctl("kernel/shm_rmid_forced"))}, ""},
		"an unsafe sysctl":          {AdmitInput{Pod: pod(sysctl("kernel.msgmax"))}, "SysctlForbidden"},
		"an allowed one":            {AdmitInput{Pod: pod(sysctl("kernel.msgmax")), UnsafeSysctls: []string{"kernel.msg*"}}, ""},
		"of the node's network":     {AdmitInput{Pod: pod(sysctl("net.ipv4.tcp_syncookies"), hostNetwork)}, "SysctlForbidden"},
		"strict groups, unknown":    {AdmitInput{Pod: pod(strict)}, "SupplementalGroupsPolicyNotSupported"},
		"strict groups":             {AdmitInput{Pod: pod(strict), StrictGroups: true}, ""},
		"another system":            {AdmitInput{Pod: pod(func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} })}, "PodOSNotSupported"},
		"memory pressure":           {AdmitInput{Pod: pod(), Pressure: []string{"MemoryPressure"}}, "Evicted"},
		"memory pressure, requests": {AdmitInput{Pod: pod(cpu("1")), Pressure: []string{"MemoryPressure"}}, ""},
		"disk pressure":             {AdmitInput{Pod: pod(cpu("1")), Pressure: []string{"DiskPressure"}}, "Evicted"},
		"disk pressure, critical":   {AdmitInput{Pod: pod(critical), Pressure: []string{"DiskPressure"}}, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.in.Node, tc.in.Allocatable = node, allocatable
			reason, message := Admit(tc.in)
			if reason != tc.want || (reason == "") != (message == "") {
				t.Errorf("%q: %s, want %q", reason, message, tc.want)
			}
		})
	}
}
