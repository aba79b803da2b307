package bootstrap

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"flagship/ctl/internal/host"
	"flagship/ctl/internal/spec"
)

// ensureRuntime connects to the runtime, starting containerd where none answers, sets what the node's network needs,
// and loads the images.
func (r *run) ensureRuntime(ctx context.Context, socket string, images map[string]string, policy corev1.PullPolicy) error {
	pause := images["pause"]
	if err := host.InstallBinaries(r.state, r.kubelet); err != nil {
		return err
	}
	rt, err := host.Connect(ctx, socket)
	if err != nil {
		did, err := host.StartContainerd(ctx, r.state, pause, !host.SysResource())
		if err != nil {
			return err
		}
		r.say("runtime", "started containerd as %s", did)
		if rt, err = host.Connect(ctx, socket); err != nil {
			return err
		}
	}
	defer func() { rt.Close() }()
	if r.runtime, err = rt.Info(ctx); err != nil {
		return fmt.Errorf("ask the runtime at %s: %w", rt.Endpoint, err)
	}
	if r.runtime.Known && !r.runtime.RestrictOOM && !host.SysResource() && host.ContainerdUnit(ctx) {
		if err := host.RestrictOOM(ctx, r.state); err != nil {
			return err
		}
		r.say("runtime", "set restrict_oom_score_adj in containerd's configuration: this machine may not lower OOM scores")
		rt.Close()
		if rt, err = host.Connect(ctx, socket); err != nil {
			return err
		}
	}
	r.say("runtime", "%s %s at %s", r.runtime.Name, r.runtime.Version, rt.Endpoint)
	r.state.CRISocket = rt.Endpoint
	sysctls, err := host.SetSysctls(ctx, r.state)
	if err != nil {
		return err
	}
	if len(sysctls) > 0 {
		r.say("runtime", "set %s", strings.Join(sysctls, " "))
	}
	if err := r.state.Save(); err != nil {
		return err
	}
	return r.loadImages(ctx, rt, images, policy)
}

func (r *run) loadImages(ctx context.Context, rt *host.Runtime, images map[string]string, policy corev1.PullPolicy) error {
	tarballs := map[string]host.Tarball{}
	if dir := host.ImageDir(); dir != "" {
		all, err := host.Tarballs(dir)
		if err != nil {
			return err
		}
		for _, t := range all {
			tarballs[t.Image] = t
		}
	}
	want := map[string]string{} // image → the name that the runtime uses for it
	for _, i := range images {
		want[i] = ""
	}
	want[images["pause"]] = r.runtime.SandboxImage
	for i := range tarballs {
		if _, ok := want[i]; !ok && strings.HasPrefix(i, "localhost/") {
			want[i] = ""
		}
	}
	for _, image := range slices.Sorted(maps.Keys(want)) {
		if t, ok := tarballs[image]; ok {
			if err := rt.Import(ctx, t, want[image]); err != nil {
				return err
			}
			r.say("runtime", "loaded %s", image)
			r.state.Images = append(r.state.Images, image)
			if want[image] != "" && want[image] != image {
				r.state.Images = append(r.state.Images, want[image])
			}
			continue
		}
		if ok, err := rt.HasImage(ctx, image); err != nil {
			return err
		} else if ok && policy != corev1.PullAlways {
			continue
		}
		if policy == corev1.PullNever {
			return fmt.Errorf("image %s is not in the runtime, and imagePullPolicy is Never", image)
		}
		r.say("runtime", "pulling %s", image)
		if err := rt.Pull(ctx, image); err != nil {
			return fmt.Errorf("pull %s: %w", image, err)
		}
	}
	return r.state.Save()
}

// kubeletConfig is the KubeletConfiguration of the cluster: what the user set, and kubeadm's values for the rest.
func kubeletConfig(d *spec.Documents) map[string]any {
	out := map[string]any{}
	maps.Copy(out, d.Kubelet)
	out["apiVersion"], out["kind"] = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
	set := func(key string, value any) {
		if _, ok := out[key]; !ok {
			out[key] = value
		}
	}
	set("staticPodPath", ManifestsDir)
	set("clusterDNS", []string{d.ServiceIP(10)})
	set("clusterDomain", d.Cluster.Networking.DNSDomain)
	set("healthzBindAddress", "127.0.0.1")
	set("healthzPort", 10248)
	set("authentication", map[string]any{
		"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true},
		"x509": map[string]any{"clientCAFile": filepath.Join(d.Cluster.CertificatesDir, "ca.crt")},
	})
	set("authorization", map[string]any{"mode": "Webhook"})
	out["rotateCertificates"] = true
	return out
}

// localKubeletConfig adds what is of this machine.
func localKubeletConfig(full map[string]any, endpoint string, info host.Info, cgroupV1, resolved bool) map[string]any {
	out := maps.Clone(full)
	out["containerRuntimeEndpoint"] = endpoint
	if _, ok := out["cgroupDriver"]; !ok {
		out["cgroupDriver"] = "cgroupfs"
		if info.SystemdCgroup {
			out["cgroupDriver"] = "systemd"
		}
	}
	if _, ok := out["failCgroupV1"]; !ok && cgroupV1 {
		out["failCgroupV1"] = false
	}
	if _, ok := out["resolvConf"]; !ok && resolved {
		out["resolvConf"] = resolvedConf
	}
	return out
}

const resolvedConf = "/run/systemd/resolve/resolv.conf"

// resolvConf is the file of the machine's name servers: systemd-resolved's where /etc/resolv.conf names only itself.
func resolvConf() string {
	data, err := os.ReadFile("/etc/resolv.conf")
	if err == nil && strings.Contains(string(data), "127.0.0.53") {
		if _, err := os.Stat(resolvedConf); err == nil {
			return resolvedConf
		}
	}
	return "/etc/resolv.conf"
}

// startKubelet writes the kubelet's files and starts it.
func (r *run) startKubelet(ctx context.Context, full map[string]any, reg *spec.NodeRegistration, taintByFlag bool) error {
	local := localKubeletConfig(full, r.state.CRISocket, r.runtime, host.CgroupV1(), resolvConf() == resolvedConf)
	text, err := yaml.Marshal(local)
	if err != nil {
		return err
	}
	if err := host.WriteFile(filepath.Join(KubeletDir, "config.yaml"), text, 0o600); err != nil {
		return err
	}
	instance := map[string]any{"apiVersion": local["apiVersion"], "kind": local["kind"], "containerRuntimeEndpoint": r.state.CRISocket}
	if text, err = yaml.Marshal(instance); err != nil {
		return err
	}
	if err := host.WriteFile(filepath.Join(KubeletDir, "instance-config.yaml"), text, 0o600); err != nil {
		return err
	}
	flags := fmt.Sprintf("KUBELET_KUBEADM_ARGS=%q\n", strings.Join(kubeletFlags(reg, taintByFlag), " "))
	if err := host.WriteFile(filepath.Join(KubeletDir, "kubeadm-flags.env"), []byte(flags), 0o644); err != nil {
		return err
	}
	how, err := host.StartKubelet(ctx, r.state)
	if err != nil {
		return err
	}
	r.say("kubelet-start", "wrote %s/config.yaml and kubeadm-flags.env; the kubelet runs as %s", KubeletDir, how)
	return r.state.Save()
}

// kubeletFlags are those that a configuration file does not have.
func kubeletFlags(reg *spec.NodeRegistration, taintByFlag bool) []string {
	var out []string
	if hostname, err := os.Hostname(); err != nil || strings.ToLower(hostname) != reg.Name {
		out = append(out, "--hostname-override="+reg.Name)
	}
	if taintByFlag && len(reg.Taints) > 0 {
		var taints []string
		for _, t := range reg.Taints {
			taints = append(taints, t.ToString())
		}
		out = append(out, "--register-with-taints="+strings.Join(taints, ","))
	}
	for _, a := range reg.KubeletExtraArgs {
		out = append(out, "--"+a.Name+"="+a.Value)
	}
	return out
}
