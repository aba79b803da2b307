package resource

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func burstable() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "1-2"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("16Mi")},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("64Mi")},
	}}}}}
}

// fakeTree makes the files that the kernel would make with each folder.
func fakeTree(t *testing.T, paths ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, p := range append([]string{""}, paths...) {
		dir := filepath.Join(root, p)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"cgroup.controllers": "cpuset cpu io memory pids rdma", "cgroup.subtree_control": "cpu"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestCgroupV2(t *testing.T) {
	root := fakeTree(t, "kubepods", "kubepods/burstable", "kubepods/besteffort")
	c := NewCgroups(CgroupConfig{Mount: root, V2: true, PerQOS: true, CFSQuota: true, Period: 100000, PodPids: 50, NodeCPU: 2000, NodeMem: 1 << 30}, nil)
	if err := c.Setup(); err != nil {
		t.Fatal(err)
	}
	pod := burstable()
	if err := c.Ensure(pod); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "kubepods", "burstable", "pod1-2")
	got := map[string]string{
		"node memory": read(t, root, "kubepods", "memory.max"),
		"class":       read(t, root, "kubepods", "burstable", "cpu.weight"), "weight": read(t, dir, "cpu.weight"), "quota": read(t, dir, "cpu.max"),
		"memory": read(t, dir, "memory.max"), "pids": read(t, dir, "pids.max"), "parent": c.Parent(pod),
	}
	want := map[string]string{
		"node memory": "1073741824", "class": "4", "weight": "4", "quota": "50000 100000",
		"memory": "67108864", "pids": "50", "parent": "/kubepods/burstable/pod1-2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cgroup files (-want +got):\n%s", diff)
	}
	// A plain file does not add to itself as the kernel's does, so only the last write shows.
	if on := read(t, root, "kubepods", "cgroup.subtree_control"); !strings.Contains(on, "+memory") || strings.Contains(on, "rdma") {
		t.Errorf("controllers delegated: %s", on)
	}
	if diff := cmp.Diff([]types.UID{"1-2"}, c.Pods()); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
}

func TestNames(t *testing.T) {
	n := podName(Name{"kubepods"}, "1-2", corev1.PodQOSBurstable)
	if got, want := n.Systemd(), "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"; got != want {
		t.Errorf("systemd: %s, want %s", got, want)
	}
	for base, want := range map[string]types.UID{"pod1-2": "1-2", "kubepods-burstable-pod1_2.slice": "1-2", "burstable": "", "cri-containerd-x.scope": ""} {
		if got := uidOf(base); got != want {
			t.Errorf("uidOf(%s) = %q, want %q", base, got, want)
		}
	}
	for shares, want := range map[int64]int64{0: 0, 2: 1, 1024: 39, 262144: 10000} {
		if got := weightOf(shares); got != want {
			t.Errorf("weightOf(%d) = %d, want %d", shares, got, want)
		}
	}
}

func TestRank(t *testing.T) {
	pod := func(name string, priority int32) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Priority: &priority}}
	}
	got := []string{}
	for _, u := range Rank([]Usage{
		{pod("within", 0), 5, 10}, {pod("over-high", 100), 50, 10}, {pod("over-low", 0), 20, 10}, {pod("over-low-more", 0), 90, 10}, {pod("critical", 2000000000), 99, 0},
	}) {
		got = append(got, u.Pod.Name)
	}
	if diff := cmp.Diff([]string{"over-low-more", "over-low", "over-high", "within"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
