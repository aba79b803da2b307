package resource

import (
	"fmt"
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

// kernel makes the files that the kernel would make with a new v2 cgroup, before each step that needs them.
func kernel(t *testing.T, root string, paths ...string) {
	t.Helper()
	for _, p := range append([]string{""}, paths...) {
		dir := filepath.Join(root, p)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma", "cgroup.subtree_control": "cpu"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), "cgroup.") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(data)
	}
	return out
}

func guaranteed() *corev1.Pod {
	all := corev1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("1Gi"), "hugepages-2Mi": resource.MustParse("4Mi")}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "g"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: all, Limits: all}}}}}
}

func bestEffort() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "b"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
}

// halfLimited has a container without limits: the pod's cgroup has none.
func halfLimited() *corev1.Pod {
	p := burstable()
	p.UID = "h"
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}})
	return p
}

func setup(t *testing.T, cfg CgroupConfig) *Cgroups {
	t.Helper()
	cfg.PerQOS, cfg.CFSQuota, cfg.Period, cfg.NodeCPU, cfg.NodeMem, cfg.Huge = true, true, 100000, 2000, 4<<30, []string{"2MB", "1GB"}
	c := NewCgroups(cfg, nil)
	if err := c.Setup(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCgroupV2 holds what the kernel is told, on a tree of plain files; the values are those of upstream's kubelet.
func TestCgroupV2(t *testing.T) {
	root := t.TempDir()
	kernel(t, root, "kubepods", "kubepods/burstable", "kubepods/besteffort")
	c := setup(t, CgroupConfig{Mount: root, V2: true, PodPids: 50})
	for _, p := range []*corev1.Pod{guaranteed(), burstable(), halfLimited(), bestEffort()} {
		if err := c.Ensure(p); err != nil {
			t.Fatal(err)
		}
	}
	none := map[string]string{"hugetlb.1GB.max": "0", "hugetlb.2MB.max": "0"}
	with := func(huge map[string]string, weight, cpu, memory, pids string) map[string]string {
		out := map[string]string{"cpu.weight": weight, "cpu.max": cpu, "memory.max": memory, "pids.max": pids}
		for k, v := range huge {
			out[k] = v
		}
		return out
	}
	for dir, want := range map[string]map[string]string{
		"kubepods":                  with(nil, "79", "max", "4294967296", "max"),
		"kubepods/burstable":        with(nil, "47", "max", "max", "max"), // 102 and 1126 shares
		"kubepods/besteffort":       with(nil, "1", "max", "max", "max"),
		"kubepods/podg":             with(map[string]string{"hugetlb.1GB.max": "0", "hugetlb.2MB.max": "4194304"}, "59", "150000 100000", "1073741824", "50"),
		"kubepods/burstable/pod1-2": with(none, "4", "50000 100000", "67108864", "50"),
		"kubepods/burstable/podh":   with(none, "43", "max", "max", "50"),
		"kubepods/besteffort/podb":  with(none, "1", "max", "max", "50"),
	} {
		if diff := cmp.Diff(want, files(t, filepath.Join(root, dir))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dir, diff)
		}
	}
	if got := c.Parent(burstable()); got != "/kubepods/burstable/pod1-2" {
		t.Errorf("the runtime is told %s", got)
	}
	// A plain file does not add to itself as the kernel's does, so only the last write shows.
	on, err := os.ReadFile(filepath.Join(root, "kubepods", "cgroup.subtree_control"))
	if err != nil || !strings.Contains(string(on), "+memory") || !strings.Contains(string(on), "+hugetlb") || strings.Contains(string(on), "rdma") {
		t.Errorf("controllers delegated: %s, %v", on, err)
	}
	if diff := cmp.Diff([]types.UID{"1-2", "b", "g", "h"}, c.Pods()); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
}

// TestCgroupResize: first both the old and the new are allowed, then the new only.
func TestCgroupResize(t *testing.T) {
	root := t.TempDir()
	kernel(t, root, "kubepods", "kubepods/burstable", "kubepods/besteffort")
	c := setup(t, CgroupConfig{Mount: root, V2: true})
	pod := burstable()
	dir := filepath.Join(root, "kubepods", "burstable", "pod1-2")
	show := func(step func(*corev1.Pod) error) string {
		t.Helper()
		if err := step(pod); err != nil {
			t.Fatal(err)
		}
		f := files(t, dir)
		return f["cpu.weight"] + " " + f["cpu.max"] + " " + f["memory.max"]
	}
	if got := show(c.Ensure); got != "4 50000 100000 67108864" {
		t.Errorf("made: %s", got)
	}
	r := &pod.Spec.Containers[0].Resources
	r.Limits["cpu"], r.Limits["memory"], r.Requests["cpu"] = resource.MustParse("1"), resource.MustParse("32Mi"), resource.MustParse("50m")
	if got := show(c.Widen); got != "4 100000 100000 67108864" {
		t.Errorf("widened: %s", got)
	}
	if got := show(c.Settle); got != "2 100000 100000 33554432" {
		t.Errorf("settled: %s", got)
	}
	if got := files(t, filepath.Join(root, "kubepods", "burstable"))["cpu.weight"]; got != "2" {
		t.Errorf("the class's weight is %s", got)
	}
	delete(r.Limits, "cpu")
	if got := show(c.Widen); got != "2 max 33554432" {
		t.Errorf("without a limit: %s", got)
	}
}

// TestCgroupV1 holds what goes to which hierarchy; one that the machine lacks is left out.
func TestCgroupV1(t *testing.T) {
	root := t.TempDir()
	for _, controller := range []string{"cpu", "memory", "pids", "systemd"} {
		if err := os.Mkdir(filepath.Join(root, controller), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := setup(t, CgroupConfig{Mount: root, PodPids: 50})
	for _, p := range []*corev1.Pod{guaranteed(), burstable(), bestEffort()} {
		if err := c.Ensure(p); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]map[string]string{
		"cpu/kubepods":                     {"cpu.shares": "2048", "cpu.cfs_quota_us": "-1"},
		"cpu/kubepods/podg":                {"cpu.shares": "1536", "cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"},
		"memory/kubepods":                  {"memory.limit_in_bytes": "4294967296"},
		"memory/kubepods/burstable/pod1-2": {"memory.limit_in_bytes": "67108864"},
		"memory/kubepods/besteffort/podb":  {"memory.limit_in_bytes": "-1"},
		"pids/kubepods/burstable/pod1-2":   {"pids.max": "50"},
	} {
		if diff := cmp.Diff(want, files(t, filepath.Join(root, dir))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dir, diff)
		}
	}
}

// TestSliceProperties holds what systemd is told, for both versions.
func TestSliceProperties(t *testing.T) {
	const none = uint64(1<<64 - 1)
	show := func(l Limits, v2 bool) map[string]any {
		out := map[string]any{}
		for _, p := range sliceProperties(l, v2) {
			if !strings.HasSuffix(p.name, "Accounting") {
				out[p.name] = p.value
			}
		}
		return out
	}
	l := Limits{Shares: 512, Quota: 33300, Period: 100000, Memory: 1 << 20, Pids: 9}
	for name, tc := range map[string]struct{ got, want map[string]any }{
		"v2":           {show(l, true), map[string]any{"CPUWeight": uint64(20), "CPUQuotaPerSecUSec": uint64(340000), "CPUQuotaPeriodUSec": uint64(100000), "MemoryMax": uint64(1 << 20), "TasksMax": uint64(9)}},
		"v2 unlimited": {show(Limits{Shares: 2}, true), map[string]any{"CPUWeight": uint64(1), "CPUQuotaPerSecUSec": none, "MemoryMax": none, "TasksMax": none}},
		"v1":           {show(l, false), map[string]any{"CPUShares": uint64(512), "CPUQuotaPerSecUSec": uint64(340000), "CPUQuotaPeriodUSec": uint64(100000), "MemoryLimit": uint64(1 << 20), "TasksMax": uint64(9)}},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// units notes which slices were started and stopped.
type units struct{ log []string }

func (u *units) StartSlice(name string, l Limits, _ bool) error {
	u.log = append(u.log, fmt.Sprintf("start %s %d %d %d", name, l.Shares, l.Quota, l.Memory))
	return nil
}

func (u *units) StopSlice(name string) error {
	u.log = append(u.log, "stop "+name)
	return nil
}

// TestCgroupSystemd: slices carry the limits; huge pages, of which systemd knows nothing, are written past it.
func TestCgroupSystemd(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "kubepods.slice", "kubepods-podg.slice")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	u := &units{}
	c := NewCgroups(CgroupConfig{Mount: root, V2: true, Systemd: true, PerQOS: true, CFSQuota: true, Period: 100000, NodeCPU: 2000, Huge: []string{"2MB"}}, u)
	if err := c.Setup(); err != nil {
		t.Fatal(err)
	}
	pod := guaranteed()
	if err := c.Ensure(pod); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"hugetlb.2MB.max": "4194304"}, files(t, dir)); diff != "" {
		t.Errorf("written past systemd (-want +got):\n%s", diff)
	}
	if got := c.Parent(pod); got != "kubepods-podg.slice" {
		t.Errorf("the runtime is told %s", got)
	}
	if err := os.Remove(filepath.Join(dir, "hugetlb.2MB.max")); err != nil { // the kernel's own files do not keep a cgroup
		t.Fatal(err)
	}
	if err := c.Remove(pod.UID); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"start kubepods.slice 2048 0 0", "start kubepods-burstable.slice 2 0 0", "start kubepods-besteffort.slice 2 0 0",
		"start kubepods-podg.slice 1536 150000 1073741824", "stop kubepods-podg.slice",
	}
	if diff := cmp.Diff(want, u.log); diff != "" {
		t.Errorf("slices (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the pod's cgroup is there: %v", err)
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
