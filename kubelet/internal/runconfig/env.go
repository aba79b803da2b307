package runconfig

import (
	"context"
	"fmt"
	"io"
	"net"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Objects reads what an environment or a volume refers to.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// EnvInput is everything an environment depends on.
type EnvInput struct {
	Pod         *corev1.Pod // status holds the pod's and the host's addresses
	Container   *corev1.Container
	Services    []*corev1.Service // of the pod's namespace, and kubernetes of default
	Objects     Objects
	Allocatable corev1.ResourceList
	// File opens a file below a volume of the pod.
	File func(volume, path string) (io.ReadCloser, error)
}

// Var is one environment variable.
type Var struct{ Name, Value string }

// Env builds the container's environment: its own variables in order, then envFrom and service variables that nothing
// overrides, by name.
func Env(ctx context.Context, in EnvInput) ([]Var, error) {
	base := map[string]string{}
	for _, from := range in.Container.EnvFrom {
		if err := envFrom(ctx, in, from, base); err != nil {
			return nil, err
		}
	}
	services := ServiceEnv(in.Pod, in.Services)
	values := map[string]string{}
	var out []Var
	index := map[string]int{}
	for _, e := range in.Container.Env {
		value := Expand(e.Value, func(name string) (string, bool) {
			for _, m := range []map[string]string{values, base, services} {
				if v, ok := m[name]; ok {
					return v, true
				}
			}
			return "", false
		})
		if e.Value == "" && e.ValueFrom != nil {
			v, present, err := valueFrom(ctx, in, e.ValueFrom)
			if err != nil {
				return nil, err
			}
			if !present {
				continue
			}
			value = v
		}
		values[e.Name] = value
		if i, ok := index[e.Name]; ok {
			out[i].Value = value
			continue
		}
		index[e.Name] = len(out)
		out = append(out, Var{e.Name, value})
	}
	for _, m := range []map[string]string{base, services} {
		names := make([]string, 0, len(m))
		for name := range m {
			if _, ok := values[name]; !ok {
				names = append(names, name)
				values[name] = m[name]
			}
		}
		sort.Strings(names)
		for _, name := range names {
			out = append(out, Var{name, m[name]})
		}
	}
	return out, nil
}

func optional(b *bool) bool { return b != nil && *b }

func envFrom(ctx context.Context, in EnvInput, from corev1.EnvFromSource, into map[string]string) error {
	switch {
	case from.ConfigMapRef != nil:
		cm, err := in.Objects.ConfigMap(ctx, in.Pod.Namespace, from.ConfigMapRef.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && optional(from.ConfigMapRef.Optional) {
				return nil
			}
			return err
		}
		for k, v := range cm.Data {
			into[from.Prefix+k] = v
		}
	case from.SecretRef != nil:
		s, err := in.Objects.Secret(ctx, in.Pod.Namespace, from.SecretRef.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && optional(from.SecretRef.Optional) {
				return nil
			}
			return err
		}
		for k, v := range s.Data {
			into[from.Prefix+k] = string(v)
		}
	}
	return nil
}

func valueFrom(ctx context.Context, in EnvInput, from *corev1.EnvVarSource) (value string, present bool, err error) {
	switch {
	case from.FieldRef != nil:
		v, err := FieldValue(in.Pod, from.FieldRef.FieldPath)
		return v, true, err
	case from.ResourceFieldRef != nil:
		v, err := ResourceValue(from.ResourceFieldRef, in.Pod, in.Container, in.Allocatable)
		return v, true, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := in.Objects.ConfigMap(ctx, in.Pod.Namespace, ref.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && optional(ref.Optional) {
				return "", false, nil
			}
			return "", false, err
		}
		if v, ok := cm.Data[ref.Key]; ok {
			return v, true, nil
		}
		if optional(ref.Optional) {
			return "", false, nil
		}
		return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, in.Pod.Namespace, ref.Name)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, err := in.Objects.Secret(ctx, in.Pod.Namespace, ref.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && optional(ref.Optional) {
				return "", false, nil
			}
			return "", false, err
		}
		if v, ok := s.Data[ref.Key]; ok {
			return string(v), true, nil
		}
		if optional(ref.Optional) {
			return "", false, nil
		}
		return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, in.Pod.Namespace, ref.Name)
	case from.FileKeyRef != nil:
		return fileValue(in, from.FileKeyRef)
	}
	return "", false, nil
}

func fileValue(in EnvInput, ref *corev1.FileKeySelector) (value string, present bool, err error) {
	f, err := in.File(ref.VolumeName, ref.Path)
	if err != nil {
		return "", false, fmt.Errorf("couldn't parse env file: %w", err)
	}
	defer f.Close()
	if value, err = FileValue(f, ref.Key); err != nil {
		return "", false, fmt.Errorf("couldn't parse env file: %w", err)
	}
	if value == "" && !optional(ref.Optional) {
		return "", false, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, ref.Path)
	}
	return value, value != "", nil
}

// FieldValue reads a downward API field of the pod.
func FieldValue(pod *corev1.Pod, path string) (string, error) {
	if name, key, ok := subscript(path); ok {
		switch name {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
		return "", fmt.Errorf("fieldPath %q does not support subscript", path)
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return pod.Status.HostIP, nil
	case "status.hostIPs":
		ips := make([]string, len(pod.Status.HostIPs))
		for i := range ips {
			ips[i] = pod.Status.HostIPs[i].IP
		}
		return strings.Join(ips, ","), nil
	case "status.podIP":
		return pod.Status.PodIP, nil
	case "status.podIPs":
		ips := make([]string, len(pod.Status.PodIPs))
		for i := range ips {
			ips[i] = pod.Status.PodIPs[i].IP
		}
		return strings.Join(ips, ","), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", path)
}

func subscript(path string) (name, key string, ok bool) {
	rest, closed := strings.CutSuffix(path, "']")
	if !closed {
		return "", "", false
	}
	return strings.Cut(rest, "['")
}

func formatMap(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	lines := make([]string, len(keys))
	for i, k := range keys {
		lines[i] = fmt.Sprintf("%v=%q", k, m[k])
	}
	return strings.Join(lines, "\n")
}

// ServiceEnv is the environment that describes the namespace's services, docker-links variables included. Without
// enableServiceLinks only the kubernetes service of the default namespace is described.
func ServiceEnv(pod *corev1.Pod, services []*corev1.Service) map[string]string {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	out := map[string]string{}
	var ordered []*corev1.Service
	for _, s := range services {
		master := s.Namespace == "default" && s.Name == "kubernetes"
		if master {
			ordered = append([]*corev1.Service{s}, ordered...)
		} else if links && s.Namespace == pod.Namespace {
			ordered = append(ordered, s)
		}
	}
	for _, s := range ordered {
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		serviceVars(s, out)
	}
	return out
}

func serviceVars(s *corev1.Service, out map[string]string) {
	prefix := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
	ip := s.Spec.ClusterIP
	out[prefix+"_SERVICE_HOST"] = ip
	out[prefix+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	for i, p := range s.Spec.Ports {
		port := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			out[prefix+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_"))] = port
		}
		proto := string(p.Protocol)
		if proto == "" {
			proto = "TCP"
		}
		addr := strings.ToLower(proto) + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			out[prefix+"_PORT"] = addr
		}
		link := fmt.Sprintf("%s_PORT_%s_%s", prefix, port, strings.ToUpper(proto))
		out[link], out[link+"_PROTO"], out[link+"_PORT"], out[link+"_ADDR"] = addr, strings.ToLower(proto), port, ip
	}
}
