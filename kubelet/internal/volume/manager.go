package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"flagship/kubelet/internal/podspec"
)

// Objects reads what a volume refers to.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// Tokens makes service-account tokens bound to a pod and renews them before they expire.
type Tokens interface {
	Token(ctx context.Context, pod *corev1.Pod, audience string, expirationSeconds int64) (string, error)
	// Forget drops the credentials of a pod that ended.
	Forget(uid types.UID)
}

// Config is the node's folders.
type Config struct {
	PodsDir string
}

// Deps is what a Manager asks.
type Deps struct {
	Objects      Objects
	Tokens       Tokens
	Allocatable  func() corev1.ResourceList
	Claims       Claims
	Bundles      Bundles
	Certificates Certificates
}

// Certificates gives a podCertificate source, by its index in the volume, the key and the chain it shows, both PEM; nil
// where there is no API server. The error says why there are none yet, or never will be.
type Certificates interface {
	Credentials(pod *corev1.Pod, volume string, source int) (key, chain []byte, err error)
}

// Bundles reads ClusterTrustBundles; nil where there is no API server.
type Bundles interface {
	TrustBundle(ctx context.Context, name string) ([]string, error)
	TrustBundles(ctx context.Context, signer string, selector *metav1.LabelSelector) ([]string, error)
}

// Claims resolves persistent volume claims; nil where there is no API server.
type Claims interface {
	Volume(ctx context.Context, namespace, claim string) (*corev1.PersistentVolume, error)
}

// Manager makes and removes volumes. Calls for one pod must not overlap; calls for different pods may.
type Manager struct {
	cfg  Config
	deps Deps
}

// New returns a Manager.
func New(cfg Config, deps Deps) *Manager { return &Manager{cfg: cfg, deps: deps} }

func (m *Manager) podDir(uid types.UID) string { return filepath.Join(m.cfg.PodsDir, string(uid)) }

func (m *Manager) dir(uid types.UID, kind, name string) string {
	return filepath.Join(m.podDir(uid), "volumes", "kubernetes.io~"+kind, name)
}

// kind is the plugin that serves a volume source, "" for none of ours.
func kind(s *corev1.VolumeSource) string {
	switch {
	case s.EmptyDir != nil:
		return "empty-dir"
	case s.HostPath != nil:
		return "host-path"
	case s.ConfigMap != nil:
		return "configmap"
	case s.Secret != nil:
		return "secret"
	case s.DownwardAPI != nil:
		return "downward-api"
	case s.Projected != nil:
		return "projected"
	case s.Image != nil:
		return "image"
	}
	return ""
}

// MountError tells which volumes could not be made, and why.
type MountError struct {
	Volumes []string
	Err     error
}

func (e *MountError) Error() string {
	return fmt.Sprintf("unmounted volumes=[%s]: %v", strings.Join(e.Volumes, " "), e.Err)
}

// Unwrap gives the cause.
func (e *MountError) Unwrap() error { return e.Err }

// Mount makes every volume that a container of the pod mounts, or refreshes the contents of those that exist. The error
// is a *MountError.
func (m *Manager) Mount(ctx context.Context, pod *corev1.Pod) error {
	used := mounted(pod)
	var failed []string
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !used.Has(v.Name) {
			continue
		}
		if err := m.mount(ctx, pod, v); err != nil {
			failed = append(failed, v.Name)
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &MountError{Volumes: failed, Err: errors.Join(errs...)}
}

// mounted is the names of the volumes that the pod's containers use.
func mounted(pod *corev1.Pod) sets.Set[string] {
	used := sets.New[string]()
	podspec.Visit(pod, func(c *corev1.Container, _ podspec.Kind) bool {
		for _, vm := range c.VolumeMounts {
			used.Insert(vm.Name)
		}
		return true
	})
	return used
}

func (m *Manager) mount(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	source, err := m.resolve(ctx, pod, v)
	if err != nil {
		return err
	}
	k := kind(source)
	dir := m.dir(pod.UID, k, v.Name)
	switch k {
	case "empty-dir":
		return m.emptyDir(pod, source.EmptyDir, dir)
	case "host-path":
		return hostPath(source.HostPath)
	case "configmap", "secret", "downward-api", "projected":
		files, err := m.files(ctx, pod, v.Name, source)
		if err != nil {
			return err
		}
		return m.project(pod, dir, files, k)
	case "image":
		return nil // the runtime mounts it
	}
	return fmt.Errorf("volume type %s is not supported by this kubelet", sourceName(source))
}

// resolve replaces a persistent volume claim by what its volume is made of, where that is a path of this node.
func (m *Manager) resolve(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (*corev1.VolumeSource, error) {
	var claim string
	switch {
	case v.PersistentVolumeClaim != nil:
		claim = v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		claim = pod.Name + "-" + v.Name
	default:
		return &v.VolumeSource, nil
	}
	if m.deps.Claims == nil {
		return nil, fmt.Errorf("persistentVolumeClaim %q: there is no API server to ask", claim)
	}
	pv, err := m.deps.Claims.Volume(ctx, pod.Namespace, claim)
	if err != nil {
		return nil, err
	}
	switch {
	case pv.Spec.HostPath != nil:
		return &corev1.VolumeSource{HostPath: pv.Spec.HostPath}, nil
	case pv.Spec.Local != nil:
		return &corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: pv.Spec.Local.Path}}, nil
	}
	return nil, fmt.Errorf("persistentVolumeClaim %q: the kind of volume %q is not supported by this kubelet (hostPath and local are)", claim, pv.Name)
}

// HostPath is where the named volume of the pod is.
func (m *Manager) HostPath(pod *corev1.Pod, name string) (string, bool) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Name != name {
			continue
		}
		source, err := m.resolve(context.Background(), pod, v)
		if err != nil {
			return "", false
		}
		if source.HostPath != nil {
			return source.HostPath.Path, true
		}
		k := kind(source)
		return m.dir(pod.UID, k, name), k != ""
	}
	return "", false
}

// MakePodDirs makes the pod's own folders.
func (m *Manager) MakePodDirs(pod *corev1.Pod) error {
	for _, d := range []string{"", "volumes", "plugins", "containers"} {
		if err := os.MkdirAll(filepath.Join(m.podDir(pod.UID), d), 0o750); err != nil {
			return err
		}
	}
	return nil
}

// Unmount removes every mount and volume of the pod. It is safe to call again, and needs nothing but the UID, so that
// pods of an earlier process can be cleaned too. The pod's folder itself stays until Remove.
func (m *Manager) Unmount(uid types.UID) error {
	m.deps.Tokens.Forget(uid)
	dir := m.podDir(uid)
	if err := unmountAll(dir); err != nil {
		return err
	}
	for _, d := range []string{"volumes", "volume-subpaths"} {
		if err := os.RemoveAll(filepath.Join(dir, d)); err != nil {
			return fmt.Errorf("remove volumes of pod %s: %w", uid, err)
		}
	}
	return nil
}

// Remove removes the pod's folder, volumes included.
func (m *Manager) Remove(uid types.UID) error {
	if err := m.Unmount(uid); err != nil {
		return err
	}
	return os.RemoveAll(m.podDir(uid))
}

// OnDisk lists the pods that have a folder.
func (m *Manager) OnDisk() ([]types.UID, error) {
	entries, err := os.ReadDir(m.cfg.PodsDir)
	if err != nil {
		return nil, fmt.Errorf("list pod folders: %w", err)
	}
	out := make([]types.UID, 0, len(entries))
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, types.UID(e.Name()))
		}
	}
	return out, nil
}

// sourceName is the JSON name of the source that is set, for messages.
func sourceName(s *corev1.VolumeSource) string {
	switch {
	case s.CSI != nil:
		return "csi (" + s.CSI.Driver + ")"
	case s.NFS != nil:
		return "nfs"
	case s.ISCSI != nil:
		return "iscsi"
	case s.FC != nil:
		return "fc"
	case s.GitRepo != nil:
		return "gitRepo"
	case s.CephFS != nil:
		return "cephfs"
	case s.RBD != nil:
		return "rbd"
	case s.FlexVolume != nil:
		return "flexVolume"
	case s.AzureFile != nil:
		return "azureFile"
	case s.VsphereVolume != nil:
		return "vsphereVolume"
	case s.PortworxVolume != nil:
		return "portworxVolume"
	case s.AWSElasticBlockStore != nil:
		return "awsElasticBlockStore"
	case s.GCEPersistentDisk != nil:
		return "gcePersistentDisk"
	}
	return "of another driver"
}
