package allocate

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func podOf(uid, cpu string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Generation: 2},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("16Mi")},
		}}}},
	}
}

func cpuOf(p *corev1.Pod) string { return p.Spec.Containers[0].Resources.Requests.Cpu().String() }

func TestBooksOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	open := func() *Books {
		t.Helper()
		b, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := open()
	if err := b.Grant(podOf("u", "100m")); err != nil {
		t.Fatal(err)
	}
	if err := b.Actuate("u", "c", podOf("u", "50m").Spec.Containers[0].Resources); err != nil {
		t.Fatal(err)
	}
	b = open()
	declared := podOf("u", "300m")
	granted, differs, known := b.Granted(declared)
	if !differs || !known || cpuOf(granted) != "100m" {
		t.Errorf("granted %s, differs %t, known %t", cpuOf(granted), differs, known)
	}
	if cpuOf(declared) != "300m" {
		t.Error("the declared pod was changed")
	}
	if got := b.Actuated("u").ContainerResources["c"]; got.Requests.Cpu().String() != "50m" {
		t.Errorf("actuated %v", got)
	}
	if same, differs, _ := b.Granted(podOf("u", "0.1")); differs || cpuOf(same) != "100m" {
		t.Error("0.1 and 100m are the same")
	}
	if _, _, known := b.Granted(podOf("other", "1")); known {
		t.Error("a pod without a grant is known")
	}
	if diff := cmp.Diff([]types.UID{"u"}, b.Pods()); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if err := b.Forget("u"); err != nil {
		t.Fatal(err)
	}
	if b = open(); len(b.Pods()) != 0 {
		t.Errorf("forgotten pods are there: %v", b.Pods())
	}
}

func TestOpenRefusesADamagedBook(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":        "{",
		"wrong checksum": `{"data":"{\"entries\":{}}","checksum":1}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "allocated_pods_state"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDecide(t *testing.T) {
	node := corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")}
	tests := map[string]struct {
		want   string
		others []*corev1.Pod
		reason string
	}{
		"there is room":       {"500m", []*corev1.Pod{podOf("o", "500m")}, ""},
		"others have it":      {"600m", []*corev1.Pod{podOf("o", "500m")}, corev1.PodReasonDeferred},
		"the node lacks it":   {"2", nil, corev1.PodReasonInfeasible},
		"alone it just fits":  {"1", nil, ""},
		"a neighbour too big": {"100m", []*corev1.Pod{podOf("o", "1")}, corev1.PodReasonDeferred},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			reason, message := Decide(podOf("u", tc.want), tc.others, node)
			if reason != tc.reason || (reason == "") != (message == "") {
				t.Errorf("%q: %q, want %q", reason, message, tc.reason)
			}
		})
	}
}

func TestMessage(t *testing.T) {
	want := `Pod resize started: {"containers":[{"name":"c","resources":{"requests":{"cpu":"1","memory":"16Mi"}}}],"generation":2}`
	if got := Message("Pod resize started", podOf("u", "1"), 2, ""); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
