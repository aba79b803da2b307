package wire

import (
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestKeep(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b", Labels: map[string]string{"x": "y"}},
		Spec: corev1.PodSpec{
			NodeName: "n", HostNetwork: true,
			Containers: []corev1.Container{{Name: "c", Image: strings.Repeat("i", 300)}, {Name: strings.Repeat("d", 200), Args: []string{"e"}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}, StartTime: &metav1.Time{}},
	}
	raw, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	k, err := CompileKeep(reflect.TypeFor[corev1.Pod](), "metadata.name", "spec.containers.name", "spec.hostNetwork", "status", "status.phase")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := AppendKept(nil, raw, k)
	if err != nil {
		t.Fatal(err)
	}
	got := &corev1.Pod{}
	if err := got.Unmarshal(kept); err != nil {
		t.Fatal(err)
	}
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Spec:       corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "c"}, {Name: strings.Repeat("d", 200)}}},
		Status:     pod.Status,
	}
	if !apiequality.Semantic.DeepEqual(got, want) {
		t.Errorf("kept %+v, want %+v", got, want)
	}
	for n := range raw {
		// Cut bytes are an error or a whole number of fields, never a panic.
		_, _ = AppendKept(nil, raw[:n], k)
	}
	if _, err := CompileKeep(reflect.TypeFor[corev1.Pod](), "spec.container.name"); err == nil {
		t.Error("a path that is not there compiles")
	}
}

func TestEmbedded(t *testing.T) {
	s := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}}}
	raw, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(reflect.TypeFor[appsv1.StatefulSet](), Embedded{Type: reflect.TypeFor[corev1.PersistentVolumeClaim](), APIVersion: "v1", Kind: "PersistentVolumeClaim"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.AppendJSON(nil, "apps/v1", "StatefulSet", raw, "")
	if want := `"volumeClaimTemplates":[{"kind":"PersistentVolumeClaim","apiVersion":"v1","metadata":{"name":"data"}`; err != nil || !strings.Contains(string(got), want) {
		t.Errorf("%s, %v; want %s in it", got, err, want)
	}
	if _, err := Compile(reflect.TypeFor[corev1.Pod](), Embedded{Type: reflect.TypeFor[corev1.PersistentVolumeClaim]()}); err == nil {
		t.Error("a pod embeds a claim")
	}
}
