package volume

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/runconfig"
)

// project shows files in dir: secrets and tokens on tmpfs so that they never reach a disk, the rest on the disk.
func (m *Manager) project(pod *corev1.Pod, dir string, files map[string]File, kind string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if kind != "configmap" && !isMounted(dir) {
		opts := ""
		if alloc := m.deps.Allocatable(); !alloc.Memory().IsZero() {
			opts = fmt.Sprintf("size=%d", alloc.Memory().Value())
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, opts); err != nil {
			return fmt.Errorf("mount tmpfs: %w", err)
		}
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		return err
	}
	var gid *int64
	if sc := pod.Spec.SecurityContext; sc != nil {
		gid = sc.FSGroup
	}
	if _, err := WriteAtomic(dir, files, gid); err != nil {
		return err
	}
	if gid == nil {
		return nil
	}
	if err := os.Chown(dir, -1, int(*gid)); err != nil {
		return err
	}
	return os.Chmod(dir, 0o777|os.ModeSticky|os.ModeSetgid)
}

func optional(b *bool) bool { return b != nil && *b }

func fileMode(specific, fallback *int32) os.FileMode {
	switch {
	case specific != nil:
		return os.FileMode(*specific)
	case fallback != nil:
		return os.FileMode(*fallback)
	}
	return 0o644
}

// files is what the volume of that name shows.
func (m *Manager) files(ctx context.Context, pod *corev1.Pod, name string, s *corev1.VolumeSource) (map[string]File, error) {
	out := map[string]File{}
	switch {
	case s.ConfigMap != nil:
		return out, m.configMap(ctx, pod, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.DefaultMode, optional(s.ConfigMap.Optional), out)
	case s.Secret != nil:
		return out, m.secret(ctx, pod, s.Secret.SecretName, s.Secret.Items, s.Secret.DefaultMode, optional(s.Secret.Optional), out)
	case s.DownwardAPI != nil:
		return out, m.downward(pod, s.DownwardAPI.Items, s.DownwardAPI.DefaultMode, out)
	}
	mode := s.Projected.DefaultMode
	for i, p := range s.Projected.Sources {
		var err error
		switch {
		case p.ConfigMap != nil:
			err = m.configMap(ctx, pod, p.ConfigMap.Name, p.ConfigMap.Items, mode, optional(p.ConfigMap.Optional), out)
		case p.Secret != nil:
			err = m.secret(ctx, pod, p.Secret.Name, p.Secret.Items, mode, optional(p.Secret.Optional), out)
		case p.DownwardAPI != nil:
			err = m.downward(pod, p.DownwardAPI.Items, mode, out)
		case p.ServiceAccountToken != nil:
			err = m.token(ctx, pod, p.ServiceAccountToken, mode, out)
		case p.ClusterTrustBundle != nil:
			err = m.trustBundle(ctx, pod, p.ClusterTrustBundle, mode, out)
		case p.PodCertificate != nil:
			err = m.certificate(pod, name, i, p.PodCertificate, mode, out)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pick projects the chosen keys, or all of them when none is chosen.
func pick(data map[string][]byte, items []corev1.KeyToPath, mode *int32, opt bool, what string, out map[string]File) error {
	if len(items) == 0 {
		for k, v := range data {
			out[k] = File{Data: v, Mode: fileMode(nil, mode)}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if opt {
				continue
			}
			return fmt.Errorf("%s references non-existent key: %s", what, item.Key)
		}
		out[item.Path] = File{Data: v, Mode: fileMode(item.Mode, mode)}
	}
	return nil
}

func (m *Manager) configMap(ctx context.Context, pod *corev1.Pod, name string, items []corev1.KeyToPath, mode *int32, opt bool, out map[string]File) error {
	cm, err := m.deps.Objects.ConfigMap(ctx, pod.Namespace, name)
	if err != nil {
		if opt && apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	data := map[string][]byte{}
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return pick(data, items, mode, opt, "configmap", out)
}

func (m *Manager) secret(ctx context.Context, pod *corev1.Pod, name string, items []corev1.KeyToPath, mode *int32, opt bool, out map[string]File) error {
	s, err := m.deps.Objects.Secret(ctx, pod.Namespace, name)
	if err != nil {
		if opt && apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	return pick(s.Data, items, mode, opt, "secret", out)
}

func (m *Manager) downward(pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile, mode *int32, out map[string]File) error {
	for _, item := range items {
		var v string
		var err error
		switch {
		case item.FieldRef != nil:
			v, err = runconfig.FieldValue(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			c, _ := podspec.Find(pod, item.ResourceFieldRef.ContainerName)
			v, err = runconfig.ResourceValue(item.ResourceFieldRef, pod, c, m.deps.Allocatable())
		}
		if err != nil {
			return err
		}
		out[item.Path] = File{Data: []byte(v), Mode: fileMode(item.Mode, mode)}
	}
	return nil
}

func (m *Manager) token(ctx context.Context, pod *corev1.Pod, s *corev1.ServiceAccountTokenProjection, mode *int32, out map[string]File) error {
	seconds := int64(3600)
	if s.ExpirationSeconds != nil {
		seconds = *s.ExpirationSeconds
	}
	t, err := m.deps.Tokens.Token(ctx, pod, s.Audience, seconds)
	if err != nil {
		return fmt.Errorf("failed to fetch token: %w", err)
	}
	out[s.Path] = owned(pod, File{Data: []byte(t), Mode: fileMode(nil, mode)})
	return nil
}

// trustBundle projects the certificates of one ClusterTrustBundle, or of all that a signer and a selector choose.
func (m *Manager) trustBundle(ctx context.Context, pod *corev1.Pod, s *corev1.ClusterTrustBundleProjection, mode *int32, out map[string]File) error {
	if m.deps.Bundles == nil {
		return errors.New("clusterTrustBundle: there is no API server to ask")
	}
	var found []string
	var err error
	switch {
	case s.Name != nil:
		found, err = m.deps.Bundles.TrustBundle(ctx, *s.Name)
	case s.SignerName != nil:
		if found, err = m.deps.Bundles.TrustBundles(ctx, *s.SignerName, s.LabelSelector); err == nil && len(found) == 0 && !optional(s.Optional) {
			err = errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")
		}
	default:
		err = errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
	}
	if err != nil && !(optional(s.Optional) && apierrors.IsNotFound(err)) {
		return err
	}
	out[s.Path] = owned(pod, File{Data: Anchors(found), Mode: fileMode(nil, mode)})
	return nil
}

// certificate projects the pod's private key and its certificates, in one file, in two, or in both ways.
func (m *Manager) certificate(pod *corev1.Pod, volume string, source int, s *corev1.PodCertificateProjection, mode *int32, out map[string]File) error {
	if m.deps.Certificates == nil {
		return errors.New("podCertificate: there is no API server to ask")
	}
	key, chain, err := m.deps.Certificates.Credentials(pod, volume, source)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
	}{
		{s.CredentialBundlePath, slices.Concat(key, chain)}, {s.KeyPath, key}, {s.CertificateChainPath, chain},
	} {
		if f.path != "" {
			out[f.path] = owned(pod, File{Data: f.data, Mode: fileMode(nil, mode)})
		}
	}
	return nil
}

// Anchors is the certificates of the bundles, each once, in an order of their own: which bundle one came from shall not
// matter.
func Anchors(bundles []string) []byte {
	seen := map[string]bool{}
	for _, b := range bundles {
		rest := []byte(b)
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type == "CERTIFICATE" {
				seen[string(block.Bytes)] = true
			}
		}
	}
	var out []byte
	for _, der := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(der)})...)
	}
	return out
}

// owned gives a pod that runs as one user a file that only this user reads, as upstream does.
func owned(pod *corev1.Pod, f File) File {
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		f.Mode = 0o600
	} else if uid := onlyUser(pod); uid != nil {
		f.Mode, f.UID = 0o600, uid
	}
	return f
}

// onlyUser is the user that every container of the pod runs as, nil when they differ or are not declared.
func onlyUser(pod *corev1.Pod) *int64 {
	var user *int64
	same := true
	podspec.Visit(pod, func(c *corev1.Container, _ podspec.Kind) bool {
		var u *int64
		if pod.Spec.SecurityContext != nil {
			u = pod.Spec.SecurityContext.RunAsUser
		}
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			u = c.SecurityContext.RunAsUser
		}
		if u == nil || (user != nil && *user != *u) {
			same = false
			return false
		}
		user = u
		return true
	})
	if !same {
		return nil
	}
	return user
}
