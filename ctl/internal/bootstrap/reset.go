package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"flagship/ctl/internal/host"
)

// ResetOptions are the flags of reset.
type ResetOptions struct {
	CertDir, CRISocket string
	// EtcdDir is the embedded etcd's folder.
	EtcdDir string
}

// Reset takes the machine out of its cluster and removes what init and join made. It goes on after a failure, and
// returns all of them.
func Reset(ctx context.Context, d Deps, o ResetOptions) error {
	if os.Geteuid() != 0 {
		return errors.New("user is not running as root: run it as root, or with sudo")
	}
	state, err := host.LoadState()
	if err != nil {
		return err
	}
	r := &run{Deps: d, state: state, started: time.Now()}
	var errs []error
	step := func(what string, err error) {
		if err != nil {
			r.say("reset", "%s: %v", what, err)
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if o.EtcdDir == "" {
		o.EtcdDir = etcdDir()
	}
	r.say("reset", "stopping the kubelet")
	step("stop the kubelet", host.StopKubelet(ctx, state))
	step("pods", r.removePods(ctx, o.CRISocket))
	step("unmount", host.Unmount(KubeletDir))
	host.RemoveCgroups(0)
	host.RemoveProxyRules(ctx)
	host.RemoveNetworkRules(ctx)
	host.RemoveNetwork(ctx)
	r.say("reset", "removed the rules of kube-proxy and the network %s", host.Bridge)
	if state.Containerd {
		step("stop containerd", host.StopContainerd(ctx, state))
		r.say("reset", "stopped the containerd that ctl had started")
	}
	for _, p := range []string{
		o.CertDir, ManifestsDir, KubernetesDir + "/admin.conf", KubernetesDir + "/super-admin.conf", KubernetesDir + "/kubelet.conf",
		KubernetesDir + "/bootstrap-kubelet.conf", KubernetesDir + "/controller-manager.conf", KubernetesDir + "/scheduler.conf",
		KubernetesDir + "/tmp", KubeletDir, o.EtcdDir,
	} {
		if p != "" {
			step("remove "+p, os.RemoveAll(p))
		}
	}
	_ = os.Remove(KubernetesDir) // only where it is empty
	removeLogs()
	step("remove what ctl made", state.RemoveOwn(ctx))
	host.RemoveNetwork(ctx) // the folders that are empty now
	host.RemoveCgroups(5 * time.Second)
	if len(errs) > 0 {
		return fmt.Errorf("%d of it failed; `ctl reset` may be run again: %w", len(errs), errors.Join(errs...))
	}
	r.say("reset", "done in %.0f s. Kubeconfigs in home folders are left: rm $HOME/.kube/config. Next: ctl init", time.Since(r.started).Seconds())
	return nil
}

// removePods stops and removes every pod of the runtime and the images that were loaded.
func (r *run) removePods(ctx context.Context, socket string) error {
	if socket == "" {
		socket = r.state.CRISocket
	}
	if socket == "" {
		return nil // nothing was made here
	}
	rt, err := host.Connect(ctx, socket)
	if err != nil {
		if r.state.Containerd {
			// It is ours and does not answer: what it has goes with its folders.
			return nil
		}
		return err
	}
	defer rt.Close()
	var n int
	for range 3 { // a container that is just being made may hold a pod back
		var more int
		if more, err = rt.RemovePods(ctx); err == nil {
			n += more
			break
		}
		n += more
	}
	r.say("reset", "removed %d pods", n)
	if r.state.Containerd {
		return err
	}
	for _, i := range r.state.Images {
		if rmErr := rt.RemoveImage(ctx, i); rmErr != nil {
			err = errors.Join(err, rmErr)
		}
	}
	return err
}

// etcdDir is the folder that the API server's static pod names, or kubeadm's.
func etcdDir() string {
	data, err := os.ReadFile(filepath.Join(ManifestsDir, "kube-apiserver.yaml"))
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if _, dir, ok := strings.Cut(strings.TrimSpace(line), "--etcd-data-dir="); ok {
				return dir
			}
		}
	}
	return "/var/lib/etcd"
}

func removeLogs() {
	for _, d := range []string{"/var/log/pods", "/var/log/containers"} {
		_ = os.RemoveAll(d)
	}
}
