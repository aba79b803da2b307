package main

import (
	"fmt"
	"os"
	"path/filepath"
)

const (
	repository     = "registry.k8s.io"
	pauseVersion   = "3.10.2"
	coreDNSVersion = "v1.15.0"
)

// list is every image, in the order in which a cluster needs them. A component that is not built is left out.
func list(bin, work, tag string) ([]image, error) {
	images := []image{{
		name: repository + "/pause:" + pauseVersion, user: "65535:65535", entrypoint: []string{"/pause"},
		files: []entry{{to: "/pause", from: filepath.Join(work, "pause")}},
	}}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		from := filepath.Join(bin, name)
		if _, err := os.Stat(from); err != nil {
			return nil, fmt.Errorf("%s is not built: %w", name, err)
		}
		im := image{name: repository + "/" + name + ":" + tag, entrypoint: []string{"/usr/local/bin/" + name}, files: system()}
		im.files = append(im.files, entry{to: "/usr/local/bin/" + name, from: from})
		if name == "kube-proxy" {
			more, err := packetTools()
			if err != nil {
				return nil, err
			}
			im.files = append(im.files, more...)
		}
		images = append(images, im)
	}
	images = append(images, image{
		name: repository + "/coredns/coredns:" + coreDNSVersion, entrypoint: []string{"/coredns"}, workdir: "/",
		files: append(system(), entry{to: "/coredns", from: filepath.Join(work, "coredns")}),
	})
	shell, err := busybox(work)
	return append(images, shell), err
}

// system is what a program expects of any machine.
func system() []entry {
	return []entry{
		{to: "/etc/passwd", text: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n", mode: 0o644},
		{to: "/etc/group", text: "root:x:0:\nnogroup:x:65534:\n", mode: 0o644},
		{to: "/etc/nsswitch.conf", text: "hosts: files dns\n", mode: 0o644},
		{to: "/tmp", dir: true, mode: 0o1777},
		{to: "/root", dir: true, mode: 0o700},
		{to: "/run", dir: true, mode: 0o755},
		{to: "/var/lib", dir: true, mode: 0o755},
	}
}

// packetTools is the userland with which kube-proxy writes rules: nft, iptables over nf_tables with its extensions,
// and conntrack.
func packetTools() ([]entry, error) {
	out := merged()
	var programs []string
	for name, candidates := range map[string][]string{
		"nft":                {"/usr/sbin/nft"},
		"xtables-nft-multi":  {"/usr/sbin/xtables-nft-multi"},
		"conntrack":          {"/usr/sbin/conntrack"},
		"iptables-extension": {"/usr/lib/*/xtables/*.so"},
	} {
		found := glob(candidates)
		if len(found) == 0 {
			return nil, fmt.Errorf("%s is not on this machine (%v): apt-get install nftables iptables conntrack", name, candidates)
		}
		programs = append(programs, found...)
	}
	for _, p := range programs {
		out = append(out, entry{to: p, from: p})
	}
	for _, applet := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			out = append(out, entry{to: "/usr/sbin/" + applet + suffix, link: "xtables-nft-multi"})
		}
	}
	libs, err := libraries(programs)
	return append(out, libs...), err
}

// merged are the links of a system whose /bin, /sbin and /lib are in /usr.
func merged() []entry {
	var out []entry
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		out = append(out, entry{to: "/usr/" + d, dir: true, mode: 0o755}, entry{to: "/" + d, link: "usr/" + d})
	}
	return out
}

// busybox is the small image for trying things out. Its shell is bash, which hands on environment names with dashes,
// and its wget is ours, since the static one cannot resolve names.
func busybox(work string) (image, error) {
	im := image{name: "localhost/busybox:1", cmd: []string{"sh"}, files: append(system(), merged()...)}
	box, shell := glob([]string{"/usr/bin/busybox", "/bin/busybox"}), glob([]string{"/usr/bin/bash-static", "/bin/bash-static", "/usr/bin/bash"})
	if len(box) == 0 || len(shell) == 0 {
		return im, fmt.Errorf("busybox or bash is not on this machine: apt-get install busybox-static bash-static")
	}
	im.files = append(im.files,
		entry{to: "/usr/bin/busybox", from: box[0]}, entry{to: "/usr/bin/bash", from: shell[0]},
		entry{to: "/usr/bin/sh", link: "bash"}, entry{to: "/usr/bin/wget", from: filepath.Join(work, "wget")})
	applets, err := output(box[0], "--list")
	if err != nil {
		return im, err
	}
	for _, a := range applets {
		if a != "sh" && a != "ash" && a != "bash" && a != "wget" && a != "busybox" {
			im.files = append(im.files, entry{to: "/usr/bin/" + a, link: "busybox"})
		}
	}
	libs, err := libraries([]string{box[0], shell[0]})
	im.files = append(im.files, libs...)
	return im, err
}
