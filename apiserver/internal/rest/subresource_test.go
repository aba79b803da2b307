package rest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestOnlyPart(t *testing.T) {
	meta := func(value string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: "x", Annotations: map[string]string{"a": value}}
	}
	request := func(value, user, cert string, conditions ...certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
		r := &certificatesv1.CertificateSigningRequest{ObjectMeta: meta(value)}
		r.Spec.Username, r.Status.Certificate = user, []byte(cert)
		for _, c := range conditions {
			r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: c})
		}
		return r
	}
	namespace := func(value string, phase corev1.NamespacePhase, finalizers ...corev1.FinalizerName) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: meta(value), Spec: corev1.NamespaceSpec{Finalizers: finalizers}, Status: corev1.NamespaceStatus{Phase: phase}}
	}
	for scenario, c := range map[string]struct {
		sub            string
		obj, old, want runtime.Object
	}{
		"approval takes conditions and metadata": {
			"approval", request("new", "mallory", "forged", certificatesv1.CertificateApproved), request("old", "jane", "real"),
			request("new", "jane", "real", certificatesv1.CertificateApproved),
		},
		"finalize takes finalizers and metadata": {
			"finalize", namespace("new", corev1.NamespaceActive), namespace("old", corev1.NamespaceTerminating, corev1.FinalizerKubernetes),
			namespace("new", corev1.NamespaceTerminating),
		},
	} {
		t.Run(scenario, func(t *testing.T) {
			if diff := cmp.Diff(c.want, onlyPart(c.sub, c.obj, c.old)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
