package main

import (
	"fmt"
	"os"
	"path/filepath"

	"flagship/hack/images/layer"
)

const (
	repository     = "registry.k8s.io"
	pauseVersion   = "3.10.2"
	coreDNSVersion = "v1.15.0"
	etcdVersion    = "3.7.0-0"
)

// list is every image, in the order in which a cluster needs them. A component that is not built is left out.
func list(bin, work, tag string) ([]image, error) {
	images := []image{{
		name: repository + "/pause:" + pauseVersion, user: "65535:65535", entrypoint: []string{"/pause"},
		files: []layer.Entry{{To: "/pause", From: filepath.Join(work, "pause")}},
	}}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		from := filepath.Join(bin, name)
		if !exists(from) {
			return nil, fmt.Errorf("%s is not built: there is no %s", name, from)
		}
		im := image{name: repository + "/" + name + ":" + tag, entrypoint: []string{"/usr/local/bin/" + name}, files: layer.System()}
		im.files = append(im.files, layer.Entry{To: "/usr/local/bin/" + name, From: from})
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
		files: append(layer.System(), layer.Entry{To: "/coredns", From: filepath.Join(work, "coredns")}),
	})
	// Where etcd is among the binaries, it is upstream's cluster, whose etcd is a pod of its own.
	if etcd := filepath.Join(bin, "etcd"); exists(etcd) {
		images = append(images, image{
			name: repository + "/etcd:" + etcdVersion, entrypoint: []string{"/usr/local/bin/etcd"},
			files: append(layer.System(), layer.Entry{To: "/usr/local/bin/etcd", From: etcd}),
		})
	}
	shell, err := layer.Busybox(work)
	return append(images, image{name: "localhost/busybox:1", cmd: []string{"sh"}, files: shell}), err
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// packetTools is the userland with which kube-proxy writes rules: nft, iptables over nf_tables with its extensions,
// and conntrack.
func packetTools() ([]layer.Entry, error) {
	out := layer.Merged()
	var programs []string
	for name, candidates := range map[string][]string{
		"nft":                {"/usr/sbin/nft"},
		"xtables-nft-multi":  {"/usr/sbin/xtables-nft-multi"},
		"conntrack":          {"/usr/sbin/conntrack"},
		"iptables-extension": {"/usr/lib/*/xtables/*.so"},
	} {
		found := layer.Glob(candidates)
		if len(found) == 0 {
			return nil, fmt.Errorf("%s is not on this machine (%v): apt-get install nftables iptables conntrack", name, candidates)
		}
		programs = append(programs, found...)
	}
	for _, p := range programs {
		out = append(out, layer.Entry{To: p, From: p})
	}
	for _, applet := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			out = append(out, layer.Entry{To: "/usr/sbin/" + applet + suffix, Link: "xtables-nft-multi"})
		}
	}
	libs, err := layer.Libraries(programs)
	return append(out, libs...), err
}
