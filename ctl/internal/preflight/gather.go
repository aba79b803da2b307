package preflight

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"flagship/ctl/internal/host"
)

// Ports that a machine needs: a worker's, and those of the control plane.
func Ports(controlPlane bool, bindPort int, etcd bool) []int {
	out := []int{10250}
	if controlPlane {
		out = append(out, bindPort, 10257, 10259)
	}
	if controlPlane && etcd {
		out = append(out, 2379, 2380)
	}
	return out
}

// Query is what Gather is to look for.
type Query struct {
	Socket, EtcdDir string
	Ports           []int
	Images          []string
	ControlPlane    bool
}

// Gather reads the facts; it changes nothing.
func Gather(ctx context.Context, q Query) (Facts, error) {
	f := Facts{UID: os.Geteuid(), CPUs: runtime.NumCPU(), SocketAsked: q.Socket, Taken: map[int]string{}}
	state, err := host.LoadState()
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return f, err
	}
	f.RuntimeOurs = state != nil && state.Containerd
	gatherRuntime(ctx, q, &f)
	f.RuntimeUnit = strings.HasPrefix(f.Runtime, "containerd") && host.ContainerdUnit(ctx)
	for _, p := range q.Ports {
		if l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+strconv.Itoa(p)); err == nil {
			_ = l.Close()
		} else if errors.Is(err, syscall.EADDRINUSE) {
			f.Taken[p] = owner(p)
		}
	}
	f.Leftovers = leftovers(q)
	f.MemoryMiB, f.Swap = memory()
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/var/lib", &fs); err != nil {
		return f, fmt.Errorf("statfs /var/lib: %w", err)
	}
	f.DiskMiB = int(fs.Bavail * uint64(fs.Bsize) >> 20)
	f.CgroupV1 = host.CgroupV1()
	f.SysResource = host.SysResource()
	for _, p := range []string{"iptables", "nft", "conntrack", "mount", "ip"} {
		if _, err := exec.LookPath(p); err != nil {
			f.Missing = append(f.Missing, p)
		}
	}
	bin := host.CNIBin()
	for _, p := range []string{"bridge", "host-local", "portmap", "loopback"} {
		if _, err := os.Stat(filepath.Join(bin, p)); bin == "" || err != nil {
			f.Missing = append(f.Missing, "CNI plugin "+p)
		}
	}
	f.Kubelet, _ = host.FindKubelet()
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		f.NoBridgeFilter = exec.CommandContext(ctx, "modprobe", "--dry-run", "br_netfilter").Run() != nil
	}
	f.OtherNetworks = host.OtherNetworks()
	f.LocalAddresses = localAddresses()
	return f, nil
}

func gatherRuntime(ctx context.Context, q Query, f *Facts) {
	_, noContainerd := exec.LookPath("containerd")
	_, noRunc := exec.LookPath("runc")
	f.CanStart = noContainerd == nil && noRunc == nil
	have := map[string]bool{}
	if dir := host.ImageDir(); dir != "" {
		if tarballs, err := host.Tarballs(dir); err == nil {
			for _, t := range tarballs {
				have[t.Image] = true
			}
		}
	}
	r, err := host.Connect(ctx, q.Socket)
	if err != nil {
		f.RuntimeError = strings.ReplaceAll(err.Error(), "\n", "; ")
	} else {
		defer r.Close()
		if info, err := r.Info(ctx); err != nil {
			f.RuntimeError = err.Error()
		} else {
			f.Runtime, f.RestrictOOM, f.OOMKnown = info.Name+" "+info.Version, info.RestrictOOM, info.Known
		}
	}
	for _, i := range q.Images {
		if have[i] {
			continue
		}
		if r != nil {
			if ok, err := r.HasImage(ctx, i); err == nil && ok {
				continue
			}
		}
		f.ImagesMissing = append(f.ImagesMissing, i)
	}
}

func leftovers(q Query) []string {
	var out []string
	paths := []string{"/etc/kubernetes/kubelet.conf", "/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/pki/ca.crt", "/var/lib/kubelet/config.yaml"}
	if q.ControlPlane {
		paths = []string{"/etc/kubernetes/admin.conf", "/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml"}
	}
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			out = append(out, p)
		}
	}
	if found, _ := filepath.Glob("/etc/kubernetes/manifests/*.yaml"); len(found) > 0 {
		out = append(out, found...)
	}
	if q.EtcdDir != "" {
		if entries, err := os.ReadDir(q.EtcdDir); err == nil && len(entries) > 0 {
			out = append(out, q.EtcdDir)
		}
	}
	return out
}

func memory() (mib int, swap bool) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) < 2 {
			continue
		}
		n, _ := strconv.Atoi(w[1])
		switch w[0] {
		case "MemTotal:":
			mib = n >> 10
		case "SwapTotal:":
			swap = n > 0
		}
	}
	return mib, swap
}

func localAddresses() []string {
	var out []string
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// owner is the process that listens on a TCP port, as "name (pid N)"; empty where it cannot be found out.
func owner(port int) string {
	inodes := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := os.ReadFile(file)
		for line := range strings.Lines(string(data)) {
			w := strings.Fields(line)
			if len(w) > 9 && w[3] == "0A" && strings.HasSuffix(w[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+w[9]+"]"] = true
			}
		}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && inodes[target] {
			pid := strings.Split(l, "/")[2]
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return ""
}
