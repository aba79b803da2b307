package server

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/resource"
)

func ptr[T any](v T) *T { return &v }

// byPod groups the runtime's container statistics by pod UID.
func (s *Server) byPod(ctx context.Context) (map[string][]*runtimeapi.ContainerStats, error) {
	list, err := s.deps.Runtime.Stats(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string][]*runtimeapi.ContainerStats{}
	for _, c := range list {
		uid := c.GetAttributes().GetLabels()[podspec.LabelPodUID]
		out[uid] = append(out[uid], c)
	}
	return out, nil
}

func cpu(u resource.Use, now metav1.Time) *statsv1alpha1.CPUStats {
	return &statsv1alpha1.CPUStats{Time: now, UsageCoreNanoSeconds: ptr(u.CPU)}
}

func memory(u resource.Use, now metav1.Time) *statsv1alpha1.MemoryStats {
	return &statsv1alpha1.MemoryStats{
		Time: now, UsageBytes: ptr(u.Memory), WorkingSetBytes: ptr(u.WorkingSet), RSSBytes: ptr(u.RSS), PageFaults: ptr(u.PageFaults), MajorPageFaults: ptr(u.MajorFaults),
	}
}

func fsStats(path string, now metav1.Time) *statsv1alpha1.FsStats {
	fs, err := resource.StatFS(path)
	if err != nil {
		return nil
	}
	return &statsv1alpha1.FsStats{
		Time: now, AvailableBytes: ptr(uint64(fs.Available)), CapacityBytes: ptr(uint64(fs.Capacity)), UsedBytes: ptr(uint64(fs.Used)),
		Inodes: ptr(uint64(fs.Inodes)), InodesFree: ptr(uint64(fs.InodesFree)), InodesUsed: ptr(uint64(fs.Inodes - fs.InodesFree)),
	}
}

func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	now := metav1.NewTime(time.Now())
	root := resource.ReadUse(resource.Root, "/", s.deps.V2)
	out := statsv1alpha1.Summary{Node: statsv1alpha1.NodeStats{
		NodeName: s.deps.Node, StartTime: s.deps.Start, CPU: cpu(root, now), Memory: memory(root, now), Fs: fsStats(s.deps.NodeFS, now),
	}}
	if free := uint64(s.deps.Machine.Memory); root.WorkingSet < free {
		out.Node.Memory.AvailableBytes = ptr(free - root.WorkingSet)
	}
	image := fsStats(s.deps.ImageFS(r.Context()), now)
	out.Node.Runtime = &statsv1alpha1.RuntimeStats{ImageFs: image, ContainerFs: image}
	groups, err := s.byPod(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for _, p := range s.deps.Pods() {
		if list := groups[string(p.UID)]; len(list) > 0 {
			out.Pods = append(out.Pods, s.podStats(p, list, now))
		}
	}
	sort.Slice(out.Pods, func(i, j int) bool { return out.Pods[i].PodRef.Name < out.Pods[j].PodRef.Name })
	writeJSON(w, out)
}

func (s *Server) podStats(p *corev1.Pod, list []*runtimeapi.ContainerStats, now metav1.Time) statsv1alpha1.PodStats {
	use := resource.ReadUse(resource.Root, s.deps.Cgroup(p), s.deps.V2)
	out := statsv1alpha1.PodStats{
		PodRef: statsv1alpha1.PodReference{Name: p.Name, Namespace: p.Namespace, UID: string(p.UID)},
		CPU:    cpu(use, now), Memory: memory(use, now), ProcessStats: &statsv1alpha1.ProcessStats{ProcessCount: ptr(use.Pids)},
	}
	if st, ok := s.deps.Status(p.UID); ok && st.StartTime != nil {
		out.StartTime = *st.StartTime
	}
	used := uint64(0)
	for _, c := range list {
		cs := statsv1alpha1.ContainerStats{Name: c.GetAttributes().GetMetadata().GetName(), StartTime: out.StartTime}
		if v := c.GetCpu().GetUsageCoreNanoSeconds(); v != nil {
			cs.CPU = &statsv1alpha1.CPUStats{Time: now, UsageCoreNanoSeconds: ptr(v.Value)}
			if n := c.GetCpu().GetUsageNanoCores(); n != nil {
				cs.CPU.UsageNanoCores = ptr(n.Value)
			}
		}
		if v := c.GetMemory().GetWorkingSetBytes(); v != nil {
			cs.Memory = &statsv1alpha1.MemoryStats{Time: now, WorkingSetBytes: ptr(v.Value)}
			if u := c.GetMemory().GetUsageBytes(); u != nil {
				cs.Memory.UsageBytes = ptr(u.Value)
			}
			if u := c.GetMemory().GetRssBytes(); u != nil {
				cs.Memory.RSSBytes = ptr(u.Value)
			}
		}
		if v := c.GetWritableLayer().GetUsedBytes(); v != nil {
			used += v.Value
			cs.Rootfs = &statsv1alpha1.FsStats{Time: now, UsedBytes: ptr(v.Value)}
		}
		out.Containers = append(out.Containers, cs)
	}
	used += uint64(resource.DiskUsage(filepath.Join(s.deps.PodsDir, string(p.UID), "volumes", "kubernetes.io~empty-dir")))
	out.EphemeralStorage = &statsv1alpha1.FsStats{Time: now, UsedBytes: ptr(used)}
	return out
}

// text collects samples in Prometheus' text format, a family at a time.
type text struct{ b strings.Builder }

func (t *text) family(name, help, kind string) {
	fmt.Fprintf(&t.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (t *text) sample(name, labels string, v float64, at int64) {
	if labels != "" {
		labels = "{" + labels + "}"
	}
	fmt.Fprintf(&t.b, "%s%s %g", name, labels, v)
	if at > 0 {
		fmt.Fprintf(&t.b, " %d", at)
	}
	t.b.WriteByte('\n')
}

func (t *text) reply(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(t.b.String()))
}

// resourceMetrics is what metrics-server reads.
func (s *Server) resourceMetrics(w http.ResponseWriter, r *http.Request) {
	groups, err := s.byPod(r.Context())
	at, failed := time.Now().UnixMilli(), 0.0
	if err != nil {
		failed = 1
	}
	t := &text{}
	root := resource.ReadUse(resource.Root, "/", s.deps.V2)
	t.family("node_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the node in core-seconds", "counter")
	t.sample("node_cpu_usage_seconds_total", "", float64(root.CPU)/1e9, at)
	t.family("node_memory_working_set_bytes", "[STABLE] Current working set of the node in bytes", "gauge")
	t.sample("node_memory_working_set_bytes", "", float64(root.WorkingSet), at)
	type row struct {
		labels   string
		cpu, mem float64
	}
	var containers, pods []row
	for _, p := range s.deps.Pods() {
		list := groups[string(p.UID)]
		if len(list) == 0 {
			continue
		}
		for _, c := range list {
			containers = append(containers, row{
				fmt.Sprintf("container=%q,namespace=%q,pod=%q", c.GetAttributes().GetMetadata().GetName(), p.Namespace, p.Name),
				float64(c.GetCpu().GetUsageCoreNanoSeconds().GetValue()) / 1e9, float64(c.GetMemory().GetWorkingSetBytes().GetValue()),
			})
		}
		use := resource.ReadUse(resource.Root, s.deps.Cgroup(p), s.deps.V2)
		pods = append(pods, row{fmt.Sprintf("namespace=%q,pod=%q", p.Namespace, p.Name), float64(use.CPU) / 1e9, float64(use.WorkingSet)})
	}
	for _, f := range []struct {
		name, help string
		rows       []row
	}{{"container", "the container", containers}, {"pod", "the pod", pods}} {
		t.family(f.name+"_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by "+f.help+" in core-seconds", "counter")
		for _, x := range f.rows {
			t.sample(f.name+"_cpu_usage_seconds_total", x.labels, x.cpu, at)
		}
		t.family(f.name+"_memory_working_set_bytes", "[STABLE] Current working set of "+f.help+" in bytes", "gauge")
		for _, x := range f.rows {
			t.sample(f.name+"_memory_working_set_bytes", x.labels, x.mem, at)
		}
	}
	t.family("resource_scrape_error", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise", "gauge")
	t.sample("resource_scrape_error", "", failed, 0)
	t.reply(w)
}

// cadvisorMetrics is the part of cAdvisor's metrics that dashboards rely on.
func (s *Server) cadvisorMetrics(w http.ResponseWriter, r *http.Request) {
	groups, err := s.byPod(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	type series struct {
		name, help, kind string
		of               func(resource.Use) float64
	}
	list := []series{
		{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "counter", func(u resource.Use) float64 { return float64(u.CPU) / 1e9 }},
		{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", "gauge", func(u resource.Use) float64 { return float64(u.Memory) }},
		{"container_memory_working_set_bytes", "Current working set in bytes.", "gauge", func(u resource.Use) float64 { return float64(u.WorkingSet) }},
		{"container_memory_rss", "Size of RSS in bytes.", "gauge", func(u resource.Use) float64 { return float64(u.RSS) }},
		{"container_memory_cache", "Number of bytes of page cache memory.", "gauge", func(u resource.Use) float64 { return float64(u.Cache) }},
		{"container_processes", "Number of processes running inside the container.", "gauge", func(u resource.Use) float64 { return float64(u.Pids) }},
	}
	type row struct {
		labels string
		use    resource.Use
	}
	rows := []row{{`container="",id="/",image="",name="",namespace="",pod=""`, resource.ReadUse(resource.Root, "/", s.deps.V2)}}
	for _, p := range s.deps.Pods() {
		if len(groups[string(p.UID)]) == 0 {
			continue
		}
		path := s.deps.Cgroup(p)
		rows = append(rows, row{fmt.Sprintf(`container="",id=%q,image="",name="",namespace=%q,pod=%q`, path, p.Namespace, p.Name), resource.ReadUse(resource.Root, path, s.deps.V2)})
		for _, c := range groups[string(p.UID)] {
			a := c.GetAttributes()
			use := resource.Use{
				CPU: c.GetCpu().GetUsageCoreNanoSeconds().GetValue(), Memory: c.GetMemory().GetUsageBytes().GetValue(),
				WorkingSet: c.GetMemory().GetWorkingSetBytes().GetValue(), RSS: c.GetMemory().GetRssBytes().GetValue(),
			}
			rows = append(rows, row{fmt.Sprintf("container=%q,id=%q,image=\"\",name=%q,namespace=%q,pod=%q", a.GetMetadata().GetName(), path+"/"+a.GetId(), a.GetId(), p.Namespace, p.Name), use})
		}
	}
	t, at := &text{}, time.Now().UnixMilli()
	for _, f := range list {
		t.family(f.name, f.help, f.kind)
		for _, x := range rows {
			t.sample(f.name, x.labels, f.of(x.use), at)
		}
	}
	t.family("machine_cpu_cores", "Number of logical CPU cores.", "gauge")
	t.sample("machine_cpu_cores", "", float64(s.deps.Machine.CPUs), 0)
	t.family("machine_memory_bytes", "Amount of memory installed on the machine.", "gauge")
	t.sample("machine_memory_bytes", "", float64(s.deps.Machine.Memory), 0)
	t.reply(w)
}
