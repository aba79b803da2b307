package resource

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"flagship/kubelet/internal/runconfig"
)

// Machine is what the node has; read once.
type Machine struct {
	CPUs                          int64
	Memory, Swap                  int64 // bytes
	MachineID, SystemUUID, BootID string
	Kernel, OSImage, OS, Arch     string
	PIDMax                        int64
}

// ReadMachine reads /proc and /sys.
func ReadMachine() (Machine, error) {
	m := Machine{CPUs: int64(runtime.NumCPU()), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, err := meminfo()
	if err != nil {
		return m, err
	}
	m.Memory, m.Swap = info["MemTotal"], info["SwapTotal"]
	m.MachineID = first("/etc/machine-id", "/var/lib/dbus/machine-id")
	m.SystemUUID = first("/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid", "/etc/machine-id")
	m.BootID = first("/proc/sys/kernel/random/boot_id")
	m.Kernel = first("/proc/sys/kernel/osrelease")
	m.OSImage = osImage()
	m.PIDMax, _ = strconv.ParseInt(first("/proc/sys/kernel/pid_max"), 10, 64)
	return m, nil
}

func first(paths ...string) string {
	for _, p := range paths {
		if b, err := os.ReadFile(p); err == nil && len(strings.TrimSpace(string(b))) > 0 {
			return strings.TrimSpace(string(b))
		}
	}
	return ""
}

func osImage() string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "Unknown"
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if v, ok := strings.CutPrefix(sc.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "Linux"
}

// meminfo is /proc/meminfo in bytes.
func meminfo() (map[string]int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("read memory of the machine: %w", err)
	}
	defer f.Close()
	out := map[string]int64{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		name, rest, ok := strings.Cut(sc.Text(), ":")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			continue
		}
		if len(fields) > 1 && fields[1] == "kB" {
			n *= 1024
		}
		out[name] = n
	}
	return out, sc.Err()
}

// Filesystem is the use of the filesystem that holds a path, in bytes and inodes.
type Filesystem struct{ Capacity, Available, Used, Inodes, InodesFree int64 }

// StatFS reads it.
func StatFS(path string) (Filesystem, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Filesystem{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	return Filesystem{
		Capacity: int64(st.Blocks) * st.Bsize, Available: int64(st.Bavail) * st.Bsize, Used: int64(st.Blocks-st.Bfree) * st.Bsize,
		Inodes: int64(st.Files), InodesFree: int64(st.Ffree),
	}, nil
}

// Reserved is what pods may not use.
type Reserved struct{ System, Kube, EvictionHard map[string]string }

// Capacity is the node's capacity and what of it pods may use.
func Capacity(m Machine, rootDir string, maxPods int64, r Reserved) (capacity, allocatable corev1.ResourceList, err error) {
	fs, err := StatFS(rootDir)
	if err != nil {
		return nil, nil, err
	}
	capacity = corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(m.CPUs, resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(m.Memory, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(fs.Capacity, resource.BinarySI),
		"hugepages-1Gi":                 *resource.NewQuantity(hugepages("1048576kB")<<30, resource.BinarySI),
		"hugepages-2Mi":                 *resource.NewQuantity(hugepages("2048kB")<<21, resource.BinarySI),
	}
	allocatable = capacity.DeepCopy()
	take := func(name corev1.ResourceName, q resource.Quantity) {
		have, ok := allocatable[name]
		if !ok {
			return
		}
		have.Sub(q)
		if have.Sign() < 0 {
			have = *resource.NewQuantity(0, have.Format)
		}
		allocatable[name] = have
	}
	for what, list := range map[string]map[string]string{"systemReserved": r.System, "kubeReserved": r.Kube} {
		for name, v := range list {
			q, err := resource.ParseQuantity(v)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %s: %w", what, name, err)
			}
			take(corev1.ResourceName(name), q)
		}
	}
	for signal, name := range map[string]corev1.ResourceName{"memory.available": corev1.ResourceMemory, "nodefs.available": corev1.ResourceEphemeralStorage} {
		if v, ok := r.EvictionHard[signal]; ok {
			total := capacity[name]
			n, err := threshold(v, total.Value())
			if err != nil {
				return nil, nil, fmt.Errorf("evictionHard: %s: %w", signal, err)
			}
			take(name, *resource.NewQuantity(n, resource.BinarySI))
		}
	}
	return capacity, allocatable, nil
}

// threshold reads "100Mi" or "10%" of a total.
func threshold(v string, total int64) (int64, error) {
	if p, ok := strings.CutSuffix(v, "%"); ok {
		f, err := strconv.ParseFloat(p, 64)
		if err != nil || f < 0 || f > 100 {
			return 0, fmt.Errorf("%q is not a percentage between 0%% and 100%%", v)
		}
		return int64(float64(total) * f / 100), nil
	}
	q, err := resource.ParseQuantity(v)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", v, err)
	}
	return q.Value(), nil
}

// HugePageSizes lists the sizes of huge page that the machine has, as cgroups name them: 2MB.
func HugePageSizes() []string {
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		kb, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		if n, err := strconv.ParseInt(kb, 10, 64); ok && err == nil {
			out = append(out, runconfig.PageSize(n<<10))
		}
	}
	return out
}

func hugepages(size string) int64 {
	n, _ := strconv.ParseInt(first("/sys/kernel/mm/hugepages/hugepages-"+size+"/nr_hugepages"), 10, 64)
	return n
}
