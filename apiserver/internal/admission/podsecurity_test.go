package admission

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podsecurityapi "k8s.io/pod-security-admission/api"
)

func TestPodSecurityMetrics(t *testing.T) {
	ns := func(labels ...string) *corev1.Namespace {
		out := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}}}
		for i := 0; i < len(labels); i += 2 {
			out.Labels["pod-security.kubernetes.io/"+labels[i]] = labels[i+1]
		}
		return out
	}
	c := &cluster{namespaces: map[string]*corev1.Namespace{
		"plain": ns(), "strict": ns("enforce", "baseline", "audit", "restricted", "audit-version", "v1.30", "warn", "restricted", "warn-version", "v1.99"),
		"wrong": ns("enforce", "tight"), "free": ns("enforce", "restricted"),
	}}
	chain := testChain(t, c, "PodSecurity")
	reg := prometheus.NewRegistry()
	chain.CountPodSecurity(reg, podsecurityapi.MajorMinorVersion(1, 37))
	plugin := chain.Plugins[len(chain.Plugins)-1].(*PodSecurity)
	plugin.exempt.Namespaces = []string{"free"}
	plugin.exempt.RuntimeClasses = []string{"gvisor"}
	pod := func(namespace, spec string) {
		a := createPod(t, spec)
		a.Namespace = namespace
		_ = run(t, chain, a)
	}
	const plain, host = "{containers: [{name: c}]}", "{hostNetwork: true, containers: [{name: c}]}"
	pod("plain", plain)
	pod("plain", plain)
	pod("strict", plain)
	pod("strict", host)
	pod("wrong", plain)
	pod("free", host)
	pod("strict", "{runtimeClassName: gvisor, containers: [{name: c}]}")
	pod("gone", plain)
	resize := createPod(t, plain)
	resize.Namespace, resize.Operation, resize.Subresource, resize.OldObject = "plain", Update, "resize", resize.Object
	_ = run(t, chain, resize)
	set := create(&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}}}, "apps", "replicasets", "ReplicaSet")
	set.Namespace = "strict"
	if err := run(t, chain, set); err != nil {
		t.Error(err)
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP pod_security_evaluations_total [ALPHA] Number of policy evaluations that occurred, not counting ignored or exempt requests.
# TYPE pod_security_evaluations_total counter
pod_security_evaluations_total{decision="allow",mode="enforce",policy_level="baseline",policy_version="latest",request_operation="create",resource="pod",subresource=""} 1
pod_security_evaluations_total{decision="allow",mode="enforce",policy_level="privileged",policy_version="latest",request_operation="create",resource="pod",subresource=""} 2
pod_security_evaluations_total{decision="allow",mode="enforce",policy_level="privileged",policy_version="latest",request_operation="update",resource="pod",subresource=""} 0
pod_security_evaluations_total{decision="allow",mode="enforce",policy_level="privileged",policy_version="latest",request_operation="update",resource="pod",subresource="resize"} 1
pod_security_evaluations_total{decision="deny",mode="audit",policy_level="restricted",policy_version="v1.30",request_operation="create",resource="controller",subresource=""} 1
pod_security_evaluations_total{decision="deny",mode="audit",policy_level="restricted",policy_version="v1.30",request_operation="create",resource="pod",subresource=""} 2
pod_security_evaluations_total{decision="deny",mode="enforce",policy_level="baseline",policy_version="latest",request_operation="create",resource="pod",subresource=""} 1
pod_security_evaluations_total{decision="deny",mode="enforce",policy_level="restricted",policy_version="latest",request_operation="create",resource="pod",subresource=""} 1
pod_security_evaluations_total{decision="deny",mode="warn",policy_level="restricted",policy_version="future",request_operation="create",resource="controller",subresource=""} 1
pod_security_evaluations_total{decision="deny",mode="warn",policy_level="restricted",policy_version="future",request_operation="create",resource="pod",subresource=""} 1
# HELP pod_security_exemptions_total [ALPHA] Number of exempt requests, not counting ignored or out of scope requests.
# TYPE pod_security_exemptions_total counter
pod_security_exemptions_total{request_operation="create",resource="controller",subresource=""} 0
pod_security_exemptions_total{request_operation="create",resource="pod",subresource=""} 2
pod_security_exemptions_total{request_operation="update",resource="controller",subresource=""} 0
pod_security_exemptions_total{request_operation="update",resource="pod",subresource=""} 0
# HELP pod_security_errors_total [ALPHA] Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile being used for evaluation.
# TYPE pod_security_errors_total counter
pod_security_errors_total{fatal="false",request_operation="create",resource="pod",subresource=""} 1
pod_security_errors_total{fatal="true",request_operation="create",resource="pod",subresource=""} 1
`))
	if err != nil {
		t.Error(err)
	}
}
