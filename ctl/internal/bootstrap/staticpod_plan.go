package bootstrap

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"flagship/ctl/internal/spec"
	"flagship/manifests"
)

// staticPod is a component's manifest: the template as it stands where the user adds nothing, and else the template
// with the user's arguments, volumes and environment.
func staticPod(name string, d *spec.Documents, v manifests.Values) ([]byte, error) {
	text, err := manifests.Render("static-pods/"+name+".yaml", v)
	if err != nil {
		return nil, err
	}
	extra := extras(name, d)
	if len(extra.ExtraArgs)+len(extra.ExtraVolumes)+len(extra.ExtraEnvs) == 0 {
		return text, nil
	}
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(text, pod); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", name, err)
	}
	c := &pod.Spec.Containers[0]
	c.Command = mergeArgs(c.Command, extra.ExtraArgs)
	for _, m := range extra.ExtraVolumes {
		pathType := m.PathType
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: m.Name, VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: m.HostPath, Type: &pathType},
		}})
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly})
	}
	c.Env = append(c.Env, extra.ExtraEnvs...)
	return yaml.Marshal(pod)
}

func extras(name string, d *spec.Documents) spec.ControlPlaneComponent {
	switch name {
	case "kube-apiserver":
		out := d.Cluster.APIServer.ControlPlaneComponent
		if l := d.Cluster.Etcd.Local; l != nil {
			// The embedded etcd's flags are kube-apiserver's, with a prefix.
			for _, a := range l.ExtraArgs {
				out.ExtraArgs = append(out.ExtraArgs, spec.Arg{Name: "etcd-" + strings.TrimPrefix(a.Name, "etcd-"), Value: a.Value})
			}
			out.ExtraEnvs = append(out.ExtraEnvs, l.ExtraEnvs...)
		}
		return out
	case "kube-controller-manager":
		return d.Cluster.ControllerManager
	}
	return d.Cluster.Scheduler
}

// mergeArgs replaces the flags that are given and adds the others, keeping the order. A flag given twice is passed twice.
func mergeArgs(command []string, extra []spec.Arg) []string {
	given := map[string]bool{}
	for _, a := range extra {
		given[a.Name] = true
	}
	var out []string
	for _, c := range command {
		name, _, _ := strings.Cut(strings.TrimPrefix(c, "--"), "=")
		if !strings.HasPrefix(c, "--") || !given[name] {
			out = append(out, c)
		}
	}
	for _, a := range extra {
		out = append(out, "--"+a.Name+"="+a.Value)
	}
	return out
}
