package runconfig

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "B": "$(A)"}
	lookup := func(n string) (string, bool) { v, ok := vars[n]; return v, ok }
	for in, want := range map[string]string{
		"plain": "plain", "$(A)": "1", "x$(A)y": "x1y", "$(B)": "$(A)", "$(C)": "$(C)", "$$(A)": "$(A)", "$A": "$A", "$(A": "$(A", "a$": "a$", "$$": "$",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}

type objects map[string]map[string]string

func (o objects) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	d, ok := o[name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
	}
	return &corev1.ConfigMap{Data: d}, nil
}

func (o objects) Secret(context.Context, string, string) (*corev1.Secret, error) {
	return &corev1.Secret{Data: map[string][]byte{"k": []byte("s")}}, nil
}

func TestEnv(t *testing.T) {
	off, yes := false, true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", Labels: map[string]string{"l": "v"}}, Spec: corev1.PodSpec{EnableServiceLinks: &off}}
	pod.Status.PodIP = "10.0.0.2"
	c := &corev1.Container{
		EnvFrom: []corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}},
		Env: []corev1.EnvVar{
			{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
			{Name: "L", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['l']"}}},
			{Name: "REF", Value: "$(IP)/$(P_a)"},
			{Name: "P_b", Value: "own"},
			{Name: "NO", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "gone"}, Key: "k", Optional: &yes}}},
		},
	}
	in := EnvInput{Pod: pod, Container: c, Objects: objects{"cm": {"a": "1", "b": "2"}}, Services: []*corev1.Service{
		{ObjectMeta: metav1.ObjectMeta{Name: "other", Namespace: "n"}, Spec: corev1.ServiceSpec{ClusterIP: "10.1.1.1", Ports: []corev1.ServicePort{{Port: 80}}}},
	}}
	got, err := Env(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	want := []Var{{"IP", "10.0.0.2"}, {"L", "v"}, {"REF", "10.0.0.2/1"}, {"P_b", "own"}, {"P_a", "1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	c.Env[4].ValueFrom.ConfigMapKeyRef.Optional = nil
	if _, err := Env(context.Background(), in); err == nil || err.Error() != `configmap "gone" not found` {
		t.Errorf("missing ConfigMap: %v", err)
	}
}

func TestServiceEnv(t *testing.T) {
	got := ServiceEnv(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n"}}, []*corev1.Service{
		{ObjectMeta: metav1.ObjectMeta{Name: "my-svc", Namespace: "n"}, Spec: corev1.ServiceSpec{ClusterIP: "10.1.1.1", Ports: []corev1.ServicePort{{Name: "web-ui", Port: 80, Protocol: "TCP"}}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "none", Namespace: "n"}, Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 80}}}},
	})
	want := map[string]string{
		"MY_SVC_SERVICE_HOST": "10.1.1.1", "MY_SVC_SERVICE_PORT": "80", "MY_SVC_SERVICE_PORT_WEB_UI": "80", "MY_SVC_PORT": "tcp://10.1.1.1:80",
		"MY_SVC_PORT_80_TCP": "tcp://10.1.1.1:80", "MY_SVC_PORT_80_TCP_PROTO": "tcp", "MY_SVC_PORT_80_TCP_PORT": "80", "MY_SVC_PORT_80_TCP_ADDR": "10.1.1.1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}
