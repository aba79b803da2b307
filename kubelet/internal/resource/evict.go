package resource

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/podspec"
)

// evictPeriod is how often the signals are read, as upstream's.
const evictPeriod = 10 * time.Second

// EvictConfig bounds the node's means.
type EvictConfig struct {
	Thresholds []Threshold
	Transition time.Duration // how long a condition outlives its cause
	MaxGrace   int64         // of a soft eviction, seconds
	NodeFS     string
	ImageFS    func(ctx context.Context) string // a path on the image filesystem, "" if it is the node's
}

// EvictDeps is what an Evictor acts through.
type EvictDeps struct {
	Log     *zap.Logger
	Pods    func() []*corev1.Pod
	Evict   func(uid types.UID, reason, message string, grace int64, cond *corev1.PodCondition) bool
	Events  func(pod *corev1.Pod, container, eventType, reason, message string)
	Changed func()
	Cgroup  func(pod *corev1.Pod) string // below the memory controller
	V2      bool
	PodsDir string
	// Reclaim removes unused images and reports whether that helped.
	Reclaim func(ctx context.Context) bool
}

// Evictor fails pods when the node runs short. It is safe for concurrent use.
type Evictor struct {
	cfg  EvictConfig
	deps EvictDeps

	mu    sync.Mutex                             // guards the maps
	since map[Signal]time.Time                   // when a threshold was first met
	seen  map[corev1.NodeConditionType]time.Time // when a condition was last true
}

// NewEvictor returns an Evictor.
func NewEvictor(cfg EvictConfig, deps EvictDeps) *Evictor {
	return &Evictor{cfg: cfg, deps: deps, since: map[Signal]time.Time{}, seen: map[corev1.NodeConditionType]time.Time{}}
}

// Conditions are the pressures that hold, sorted.
func (e *Evictor) Conditions() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for c, at := range e.seen {
		if time.Since(at) < e.cfg.Transition {
			out = append(out, string(c))
		}
	}
	sort.Strings(out)
	return out
}

// Run reads the signals every ten seconds until ctx ends, and evicts at most one pod each time.
func (e *Evictor) Run(ctx context.Context) error {
	tick := time.NewTicker(evictPeriod)
	defer tick.Stop()
	for {
		if err := e.look(ctx); err != nil {
			e.deps.Log.Warn("eviction", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (e *Evictor) look(ctx context.Context) error {
	seen := e.observe(ctx)
	met, err := Met(e.cfg.Thresholds, seen)
	if err != nil {
		return err
	}
	due, changed := e.due(met, time.Now())
	if changed {
		e.deps.Changed()
	}
	for _, t := range due {
		if t.Signal.condition() == corev1.NodeDiskPressure && e.deps.Reclaim(ctx) {
			continue
		}
		if e.evict(t, seen[t.Signal]) {
			return nil
		}
	}
	return nil
}

// due marks the conditions and returns the thresholds whose grace has passed.
func (e *Evictor) due(met []Threshold, now time.Time) (due []Threshold, changed bool) {
	before := strings.Join(e.Conditions(), ",")
	e.mu.Lock()
	still := map[Signal]bool{}
	for _, t := range met {
		still[t.Signal] = true
		if e.since[t.Signal].IsZero() {
			e.since[t.Signal] = now
		}
		e.seen[t.Signal.condition()] = now
		if now.Sub(e.since[t.Signal]) >= t.Grace {
			due = append(due, t)
		}
	}
	for s := range e.since {
		if !still[s] {
			delete(e.since, s)
		}
	}
	e.mu.Unlock()
	return due, before != strings.Join(e.Conditions(), ",")
}

func (e *Evictor) evict(t Threshold, o Observation) bool {
	var list []Usage
	for _, pod := range e.deps.Pods() {
		list = append(list, e.usage(pod, t.Signal))
	}
	for _, u := range Rank(list) {
		bound, err := threshold(t.Value, o.Capacity)
		if err != nil {
			return false
		}
		what := t.Signal.resource()
		message := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ", what, quantity(bound), quantity(o.Available))
		grace := int64(1)
		if t.Grace > 0 {
			grace = e.cfg.MaxGrace
		}
		cond := &corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: message,
			ObservedGeneration: u.Pod.Generation, LastTransitionTime: metav1.Now(),
		}
		if e.deps.Evict(u.Pod.UID, "Evicted", message, grace, cond) {
			e.deps.Events(u.Pod, "", corev1.EventTypeWarning, "Evicted", message)
			e.deps.Log.Info("pod evicted", zap.String("pod", u.Pod.Namespace+"/"+u.Pod.Name), zap.String("message", message))
			return true
		}
	}
	return false
}

func quantity(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }

// observe reads the signals that can be read.
func (e *Evictor) observe(ctx context.Context) map[Signal]Observation {
	out := map[Signal]Observation{}
	if m, err := meminfo(); err == nil {
		out[MemoryAvailable] = Observation{m["MemAvailable"], m["MemTotal"]}
	}
	if fs, err := StatFS(e.cfg.NodeFS); err == nil {
		out[NodeFSAvailable] = Observation{fs.Available, fs.Capacity}
		if fs.Inodes > 0 {
			out[NodeFSInodesFree] = Observation{fs.InodesFree, fs.Inodes}
		}
	}
	if p := e.cfg.ImageFS(ctx); p != "" {
		if fs, err := StatFS(p); err == nil {
			out[ImageFSAvailable] = Observation{fs.Available, fs.Capacity}
			if fs.Inodes > 0 {
				out[ImageFSInodesFree] = Observation{fs.InodesFree, fs.Inodes}
			}
		}
	}
	if running, limit, ok := processes(); ok {
		out[PIDAvailable] = Observation{limit - running, limit}
	}
	return out
}

// processes reads how many threads run and how many may.
func processes() (running, limit int64, ok bool) {
	limit, err := strconv.ParseInt(first("/proc/sys/kernel/pid_max"), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	if n, err := strconv.ParseInt(first("/proc/sys/kernel/threads-max"), 10, 64); err == nil {
		limit = min(limit, n)
	}
	f := strings.Fields(first("/proc/loadavg"))
	if len(f) < 4 {
		return 0, 0, false
	}
	_, total, cut := strings.Cut(f[3], "/")
	n, err := strconv.ParseInt(total, 10, 64)
	return n, limit, cut && err == nil
}

func (e *Evictor) usage(pod *corev1.Pod, s Signal) Usage {
	u := Usage{Pod: pod}
	requests := podspec.Requests(pod)
	if s == MemoryAvailable {
		u.Request = requests.Memory().Value()
		u.Used = MemoryWorkingSet(Root, e.deps.Cgroup(pod), e.deps.V2)
		return u
	}
	if s.condition() == corev1.NodeDiskPressure {
		u.Request = requests.StorageEphemeral().Value()
		u.Used = DiskUsage(filepath.Join(e.deps.PodsDir, string(pod.UID), "volumes", "kubernetes.io~empty-dir"))
	}
	return u
}

// DiskUsage sums what the files below a path occupy, in bytes; what cannot be read counts nothing.
func DiskUsage(path string) int64 {
	total := int64(0)
	_ = filepath.WalkDir(path, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // see above
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
