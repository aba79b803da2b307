package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Facts are what the checks look at.
type Facts struct {
	UID int
	// Runtime is the runtime's name and version, empty where none answers; RuntimeError is why.
	Runtime, RuntimeError, SocketAsked string
	// CanStart is whether containerd and runc are installed, so that ctl can start a runtime.
	CanStart bool
	// RuntimeOurs is whether ctl started the runtime that answers.
	RuntimeOurs bool
	// RuntimeUnit is whether the runtime is the unit containerd.service, which ctl can configure.
	RuntimeUnit bool
	// RestrictOOM is the runtime's setting; OOMKnown, whether it said so.
	RestrictOOM, OOMKnown bool
	// SysResource is whether this process has CAP_SYS_RESOURCE.
	SysResource bool
	// Taken are the ports among those needed that somebody has, with who.
	Taken map[int]string
	// Leftovers are files of another cluster.
	Leftovers []string
	// MemoryMiB is all the memory; DiskMiB what is free below /var/lib.
	MemoryMiB, DiskMiB int
	CPUs               int
	// Missing are programs and CNI plugins that are not there.
	Missing        []string
	Kubelet        string
	Swap           bool
	LocalAddresses []string
	// NoBridgeFilter is whether the kernel neither has nor can load br_netfilter.
	NoBridgeFilter bool
	// ImagesMissing are neither in the runtime nor in a tarball.
	ImagesMissing []string
	// OtherNetworks are CNI configurations of somebody else.
	OtherNetworks []string
	CgroupV1      bool
}

// Want is what the cluster is to be.
type Want struct {
	AdvertiseAddress string
	Subnets          []string
	// ControlPlane is whether the machine is to run the control plane.
	ControlPlane bool
}

// Finding is one problem, or a warning that stops nothing.
type Finding struct {
	// Name is what --ignore-preflight-errors takes.
	Name, Problem, Fix string
	Warning            bool
}

// The least that a machine needs.
const (
	leastMemoryMiB = 900
	leastDiskMiB   = 2048
)

// Plan lists every finding, problems first.
func Plan(f Facts, w Want) []Finding {
	var out []Finding
	bad := func(name, fix, format string, args ...any) {
		out = append(out, Finding{Name: name, Problem: fmt.Sprintf(format, args...), Fix: fix})
	}
	warn := func(name, fix, format string, args ...any) {
		out = append(out, Finding{Name: name, Problem: fmt.Sprintf(format, args...), Fix: fix, Warning: true})
	}
	if f.UID != 0 {
		bad("IsPrivilegedUser", "run it as root, or with sudo", "user is not running as root")
	}
	runtimeFindings(f, bad, warn)
	ports := make([]int, 0, len(f.Taken))
	for p := range f.Taken {
		ports = append(ports, p)
	}
	slices.Sort(ports)
	for _, p := range ports {
		bad(fmt.Sprintf("Port-%d", p), "stop that process, or `ctl reset` where it is of an earlier cluster", "port %d is in use%s", p, by(f.Taken[p]))
	}
	for _, l := range f.Leftovers {
		bad("DirAvailable-"+strings.ReplaceAll(strings.Trim(l, "/"), "/", "-"), "`ctl reset` removes it", "%s is of another cluster", l)
	}
	if f.MemoryMiB < leastMemoryMiB {
		bad("Mem", "use a machine with more", "the system RAM (%d MiB) is less than the minimum %d MiB", f.MemoryMiB, leastMemoryMiB)
	}
	if f.DiskMiB < leastDiskMiB {
		bad("Disk", "free some", "%d MiB are free below /var/lib, less than the minimum %d MiB", f.DiskMiB, leastDiskMiB)
	}
	if f.CPUs < 2 && w.ControlPlane {
		warn("NumCPU", "", "the machine has %d CPU; 2 are better", f.CPUs)
	}
	for _, m := range f.Missing {
		bad("FileExisting-"+m, "apt-get install "+debian(m), "%s is not installed", m)
	}
	if f.Kubelet == "" {
		bad("FileExisting-kubelet", "`make build` puts it beside ctl", "kubelet is neither beside ctl nor on the PATH")
	}
	if f.Swap {
		warn("Swap", "swapoff -a, and remove it from /etc/fstab", "swap is on; the kubelet does not let pods use it")
	}
	if f.NoBridgeFilter {
		bad("BridgeNetfilter", "modprobe br_netfilter", "the kernel does not pass bridged packets to iptables: pods of one node would not reach each other by Services")
	}
	for _, i := range f.ImagesMissing {
		warn("ImagePull", "`make images` puts them beside ctl", "the image %s is neither in the runtime nor beside ctl: it is going to be pulled", i)
	}
	for _, n := range f.OtherNetworks {
		warn("CNI", "", "%s configures the pod network: ctl adds none of its own", n)
	}
	if f.CgroupV1 {
		warn("SystemVerification", "", "cgroups v1 is in maintenance mode; the kubelet is told to run on it (failCgroupV1: false)")
	}
	addresses(f, w, bad)
	slices.SortStableFunc(out, func(a, b Finding) int { return b2i(a.Warning) - b2i(b.Warning) })
	return out
}

func runtimeFindings(f Facts, bad, warn func(name, fix, format string, args ...any)) {
	if f.Runtime == "" {
		if !f.CanStart || f.SocketAsked != "" {
			bad("CRI", "apt-get install containerd runc, or name a running one by --cri-socket", "no container runtime answers: %s", f.RuntimeError)
		}
		return
	}
	if f.SysResource || f.RuntimeOurs || !f.OOMKnown || f.RestrictOOM {
		return
	}
	if f.RuntimeUnit {
		warn("OOMScoreAdj", "", "this machine lacks CAP_SYS_RESOURCE: ctl sets restrict_oom_score_adj = true in /etc/containerd/config.toml and restarts containerd (reset puts it back)")
		return
	}
	bad("OOMScoreAdj", "set restrict_oom_score_adj = true in the CRI section of /etc/containerd/config.toml and restart containerd",
		"this machine lacks CAP_SYS_RESOURCE, and %s wants to lower the OOM score of containers: none would start", f.Runtime)
}

func addresses(f Facts, w Want, bad func(name, fix, format string, args ...any)) {
	if !w.ControlPlane {
		return
	}
	if !slices.Contains(f.LocalAddresses, w.AdvertiseAddress) {
		bad("AdvertiseAddress", "give one of "+strings.Join(f.LocalAddresses, ", ")+" by --apiserver-advertise-address", "%s is not an address of this machine", w.AdvertiseAddress)
	}
	a, err := netip.ParseAddr(w.AdvertiseAddress)
	if err != nil {
		return
	}
	var seen []netip.Prefix
	for _, s := range w.Subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			continue
		}
		if p.Contains(a) {
			bad("Subnet", "choose others by --pod-network-cidr and --service-cidr", "the range %s contains this machine's address %s", s, a)
		}
		for _, o := range seen {
			if o.Overlaps(p) {
				bad("Subnet", "choose others by --pod-network-cidr and --service-cidr", "the ranges %s and %s overlap", o, p)
			}
		}
		seen = append(seen, p)
	}
}

// Fatal are the problems that are not ignored.
func Fatal(all []Finding, ignore []string) []Finding {
	var out []Finding
	for _, f := range all {
		ignored := slices.ContainsFunc(ignore, func(i string) bool { return strings.EqualFold(i, "all") || strings.EqualFold(i, f.Name) })
		if !f.Warning && !ignored {
			out = append(out, f)
		}
	}
	return out
}

func by(who string) string {
	if who == "" {
		return ""
	}
	return " by " + who
}

// debian is the package that has a program.
func debian(program string) string {
	switch {
	case strings.HasPrefix(program, "CNI plugin"):
		return "containernetworking-plugins"
	case program == "nft":
		return "nftables"
	case program == "ip":
		return "iproute2"
	case program == "mount":
		return "mount"
	}
	return program
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
