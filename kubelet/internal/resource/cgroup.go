package resource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/podspec"
)

// Root is where cgroup filesystems are mounted.
const Root = "/sys/fs/cgroup"

// CgroupConfig says how cgroups are laid out.
type CgroupConfig struct {
	Mount    string // /sys/fs/cgroup, or a fake tree in tests
	V2       bool
	Systemd  bool   // the systemd driver
	Prefix   string // cgroupRoot
	PerQOS   bool
	CFSQuota bool
	Period   int64 // microseconds
	PodPids  int64 // -1 for no limit
	NodeCPU  int64 // allocatable millicores
	NodeMem  int64 // bytes that all pods together may use, 0 for no limit
	NodePids int64
	Huge     []string // sizes of huge page that the machine has, such as 2MB
}

// Units starts and stops systemd slices; nil with the cgroupfs driver.
type Units interface {
	StartSlice(name string, l Limits, v2 bool) error
	StopSlice(name string) error
}

// Cgroups keeps a cgroup per pod. It is safe for concurrent use.
type Cgroups struct {
	cfg   CgroupConfig
	units Units
	root  Name

	mu     sync.Mutex          // guards the maps
	shares map[types.UID]int64 // of burstable pods
	made   map[types.UID]Limits
}

// IsV2 reports whether the machine has the unified hierarchy.
func IsV2(mount string) bool {
	var st unix.Statfs_t
	return unix.Statfs(mount, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// NewCgroups returns Cgroups.
func NewCgroups(cfg CgroupConfig, units Units) *Cgroups {
	root := Name{}
	for _, p := range strings.Split(cfg.Prefix, "/") {
		if p != "" {
			root = append(root, p)
		}
	}
	if cfg.PerQOS {
		root = append(root, "kubepods")
	}
	return &Cgroups{cfg: cfg, units: units, root: root, shares: map[types.UID]int64{}, made: map[types.UID]Limits{}}
}

func (c *Cgroups) path(n Name) string {
	if c.cfg.Systemd {
		return n.Systemd()
	}
	return n.Cgroupfs()
}

// Parent is what the runtime is told: a slice name with systemd, a path else.
func (c *Cgroups) Parent(pod *corev1.Pod) string {
	n := podName(c.root, pod.UID, podspec.QOS(pod))
	if !c.cfg.PerQOS {
		n = c.root
	}
	if c.cfg.Systemd {
		return n.Slice()
	}
	return n.Cgroupfs()
}

// Path is the pod's cgroup below the mount of a controller.
func (c *Cgroups) Path(pod *corev1.Pod) string {
	return c.path(podName(c.root, pod.UID, podspec.QOS(pod)))
}

// Setup makes the cgroups of the node and of the two lower classes.
func (c *Cgroups) Setup() error {
	if !c.cfg.PerQOS {
		return nil
	}
	node := Limits{Memory: c.cfg.NodeMem, Pids: c.cfg.NodePids, Shares: max(c.cfg.NodeCPU*1024/1000, 2)}
	if err := c.apply(c.root, node); err != nil {
		return fmt.Errorf("set up cgroup of pods: %w", err)
	}
	for _, class := range []string{"burstable", "besteffort"} {
		if err := c.apply(append(append(Name{}, c.root...), class), Limits{Shares: 2}); err != nil {
			return fmt.Errorf("set up cgroup of %s pods: %w", class, err)
		}
	}
	return nil
}

// Ensure makes the pod's cgroup, once per process, and counts it in its class.
func (c *Cgroups) Ensure(pod *corev1.Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.made[pod.UID]; ok || !c.cfg.PerQOS {
		return nil
	}
	return c.set(pod, c.limits(pod))
}

// Widen lets the pod's cgroup allow what it allows now and what the pod was granted, before its containers change.
func (c *Cgroups) Widen(pod *corev1.Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cfg.PerQOS {
		return nil
	}
	l := c.limits(pod)
	if have, ok := c.made[pod.UID]; ok {
		l = l.wider(have)
	}
	return c.set(pod, l)
}

// Settle lets the pod's cgroup allow exactly what the pod was granted.
func (c *Cgroups) Settle(pod *corev1.Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cfg.PerQOS {
		return nil
	}
	return c.set(pod, c.limits(pod))
}

func (c *Cgroups) limits(pod *corev1.Pod) Limits {
	l := podLimits(pod, c.cfg.CFSQuota, c.cfg.Period, max(c.cfg.PodPids, 0))
	if podspec.QOS(pod) == corev1.PodQOSBestEffort {
		l.Shares = 2
	}
	l.Huge = hugeLimits(pod, c.cfg.Huge)
	return l
}

// set is called with c.mu held, which keeps the class's sum and the pods' shares together.
func (c *Cgroups) set(pod *corev1.Pod, l Limits) error {
	class := podspec.QOS(pod)
	if err := c.apply(podName(c.root, pod.UID, class), l); err != nil {
		return fmt.Errorf("set up cgroup of pod: %w", err)
	}
	c.made[pod.UID] = l
	if class == corev1.PodQOSBurstable && c.shares[pod.UID] != l.Shares {
		c.shares[pod.UID] = l.Shares
		return c.applyBurstable()
	}
	return nil
}

func (c *Cgroups) applyBurstable() error {
	total := int64(0)
	for _, s := range c.shares {
		total += s
	}
	return c.apply(append(append(Name{}, c.root...), "burstable"), Limits{Shares: max(total, 2)})
}

// Remove removes the pod's cgroups. Processes left in them make it fail, to be tried again.
func (c *Cgroups) Remove(uid types.UID) error {
	if !c.cfg.PerQOS {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, class := range []corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBestEffort} {
		n := podName(c.root, uid, class)
		for _, m := range c.mounts() {
			dir := filepath.Join(m, c.path(n))
			if _, err := os.Stat(dir); err != nil {
				continue
			}
			if c.cfg.Systemd && c.units != nil {
				if err := c.units.StopSlice(n.Slice()); err != nil {
					errs = append(errs, err)
				}
			}
			if err := removeTree(dir); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("remove cgroups of pod %s: %w", uid, errors.Join(errs...))
	}
	delete(c.made, uid)
	if _, ok := c.shares[uid]; ok {
		delete(c.shares, uid)
		return c.applyBurstable()
	}
	return nil
}

// removeTree removes cgroups bottom up; only folders can be removed there.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := unix.Rmdir(dirs[i]); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove %s: %w", dirs[i], err)
		}
	}
	return nil
}

// mounts lists the hierarchies: one with v2, one per controller with v1.
func (c *Cgroups) mounts() []string {
	if c.cfg.V2 {
		return []string{c.cfg.Mount}
	}
	entries, err := os.ReadDir(c.cfg.Mount)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(c.cfg.Mount, e.Name()))
		}
	}
	return out
}

// Pods lists the pods that have a cgroup.
func (c *Cgroups) Pods() []types.UID {
	seen := map[types.UID]bool{}
	for _, m := range c.mounts() {
		for _, class := range []string{"", "burstable", "besteffort"} {
			n := append(Name{}, c.root...)
			if class != "" {
				n = append(n, class)
			}
			entries, err := os.ReadDir(filepath.Join(m, c.path(n)))
			if err != nil {
				continue
			}
			for _, e := range entries {
				if uid := uidOf(e.Name()); e.IsDir() && uid != "" {
					seen[uid] = true
				}
			}
		}
	}
	out := make([]types.UID, 0, len(seen))
	for uid := range seen {
		out = append(out, uid)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// apply makes the cgroup and sets its limits.
func (c *Cgroups) apply(n Name, l Limits) error {
	if c.cfg.Systemd && c.units != nil {
		if err := c.units.StartSlice(n.Slice(), l, c.cfg.V2); err != nil || len(l.Huge) == 0 {
			return err
		}
		l = Limits{Huge: l.Huge} // systemd knows nothing of huge pages
		return c.write(c.path(n), onlyHuge(c.files(l)))
	}
	if c.cfg.V2 {
		if err := c.makeV2(c.path(n)); err != nil {
			return err
		}
	}
	return c.write(c.path(n), c.files(l))
}

func (c *Cgroups) files(l Limits) []file {
	if c.cfg.V2 {
		return v2Files(l)
	}
	return v1Files(l)
}

func onlyHuge(list []file) []file {
	var out []file
	for _, f := range list {
		if f.controller == "hugetlb" {
			out = append(out, f)
		}
	}
	return out
}

// write sets the values, in the hierarchy of each one's controller with v1. A controller that the machine lacks is left
// out, as is a value that the kernel does not offer.
func (c *Cgroups) write(p string, list []file) error {
	for _, f := range list {
		dir := filepath.Join(c.cfg.Mount, p)
		if !c.cfg.V2 {
			base := filepath.Join(c.cfg.Mount, f.controller)
			if _, err := os.Stat(base); err != nil {
				continue
			}
			dir = filepath.Join(base, p)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		err := os.WriteFile(filepath.Join(dir, f.name), []byte(f.value), 0o644)
		if err != nil && !(f.controller == "hugetlb" && (os.IsNotExist(err) || os.IsPermission(err))) {
			return fmt.Errorf("set %s: %w", f.name, err)
		}
	}
	return nil
}

// makeV2 makes the cgroup, each level with the controllers of the one above.
func (c *Cgroups) makeV2(p string) error {
	dir := c.cfg.Mount
	for _, part := range strings.Split(strings.Trim(p, "/"), "/") {
		if err := c.delegate(dir); err != nil {
			return err
		}
		dir = filepath.Join(dir, part)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// delegate lets the children of a v2 cgroup use its controllers.
func (c *Cgroups) delegate(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	enabled := map[string]bool{}
	for _, f := range strings.Fields(string(on)) {
		enabled[f] = true
	}
	var add []string
	for _, f := range strings.Fields(string(have)) {
		switch f {
		case "cpu", "cpuset", "memory", "pids", "hugetlb", "io":
			if !enabled[f] {
				add = append(add, "+"+f)
			}
		}
	}
	if len(add) == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(add, " ")), 0o644)
}
