package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"flagship/internal/kube"
)

// objectTTL is how long a ConfigMap or Secret that pods refer to is reused before it is read again.
const objectTTL = 20 * time.Second

// Kinds registers the kinds that the kubelet reads and writes.
func Kinds(s *runtime.Scheme) error {
	core := schema.GroupVersion{Version: "v1"}
	s.AddKnownTypes(core, &corev1.Pod{}, &corev1.PodList{}, &corev1.Node{}, &corev1.NodeList{}, &corev1.Service{}, &corev1.ServiceList{},
		&corev1.ConfigMap{}, &corev1.ConfigMapList{}, &corev1.Secret{}, &corev1.SecretList{}, &corev1.Event{}, &corev1.EventList{},
		&corev1.ServiceAccount{}, &corev1.ServiceAccountList{}, &corev1.PersistentVolume{}, &corev1.PersistentVolumeList{},
		&corev1.PersistentVolumeClaim{}, &corev1.PersistentVolumeClaimList{})
	s.AddKnownTypes(authenticationv1.SchemeGroupVersion, &authenticationv1.TokenRequest{})
	for _, add := range []func(*runtime.Scheme) error{coordinationv1.AddToScheme, certificatesv1.AddToScheme, nodev1.AddToScheme} {
		if err := add(s); err != nil {
			return err
		}
	}
	metav1.AddToGroupVersion(s, authenticationv1.SchemeGroupVersion)
	return nil
}

// API is the kubelet's access to the API server. It is safe for concurrent use.
type API struct {
	c    *kube.Client
	node string

	mu    sync.Mutex // guards the maps
	uid   types.UID
	maps  map[types.NamespacedName]cached[*corev1.ConfigMap]
	secs  map[types.NamespacedName]cached[*corev1.Secret]
	token map[tokenKey]tokenEntry
}

type cached[T any] struct {
	v  T
	at time.Time
}

// NewAPI returns the access of a node.
func NewAPI(c *kube.Client, node string) *API {
	return &API{c: c, node: node, maps: map[types.NamespacedName]cached[*corev1.ConfigMap]{}, secs: map[types.NamespacedName]cached[*corev1.Secret]{}, token: map[tokenKey]tokenEntry{}}
}

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

// NodeUID is the UID of the registered Node, "" before.
func (a *API) NodeUID() types.UID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.uid
}

func (a *API) setUID(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uid = uid
}

// PatchPodStatus sends a strategic merge patch.
func (a *API) PatchPodStatus(ctx context.Context, namespace, name string, patch []byte) error {
	_, err := kube.For[corev1.Pod, corev1.PodList](a.c, core("pods"), namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// DeletePod deletes the pod of exactly that UID.
func (a *API) DeletePod(ctx context.Context, namespace, name string, uid types.UID, grace int64) error {
	return kube.For[corev1.Pod, corev1.PodList](a.c, core("pods"), namespace).Delete(ctx, name, metav1.DeleteOptions{
		GracePeriodSeconds: &grace, Preconditions: &metav1.Preconditions{UID: &uid},
	})
}

// CreatePod creates a mirror pod.
func (a *API) CreatePod(ctx context.Context, pod *corev1.Pod) error {
	_, err := kube.For[corev1.Pod, corev1.PodList](a.c, core("pods"), pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	return err
}

// lookup answers from the cache while the entry is young, and else reads the object.
func lookup[T any](a *API, m map[types.NamespacedName]cached[T], key types.NamespacedName, get func() (T, error)) (T, error) {
	now := time.Now()
	a.mu.Lock()
	e, ok := m[key]
	a.mu.Unlock()
	if ok && now.Sub(e.at) < objectTTL {
		return e.v, nil
	}
	v, err := get()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		delete(m, key)
		return v, err
	}
	for k, old := range m {
		if now.Sub(old.at) > 4*objectTTL {
			delete(m, k)
		}
	}
	m[key] = cached[T]{v, now}
	return v, nil
}

// ConfigMap reads a ConfigMap.
func (a *API) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return lookup(a, a.maps, types.NamespacedName{Namespace: namespace, Name: name}, func() (*corev1.ConfigMap, error) {
		v, err := kube.For[corev1.ConfigMap, corev1.ConfigMapList](a.c, core("configmaps"), namespace).Get(ctx, name, metav1.GetOptions{})
		return v, singular(err, "configmap", name)
	})
}

// Secret reads a Secret.
func (a *API) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return lookup(a, a.secs, types.NamespacedName{Namespace: namespace, Name: name}, func() (*corev1.Secret, error) {
		v, err := kube.For[corev1.Secret, corev1.SecretList](a.c, core("secrets"), namespace).Get(ctx, name, metav1.GetOptions{})
		return v, singular(err, "secret", name)
	})
}

// singular words a missing object as upstream's kubelet does, with the kind's singular name.
func singular(err error, kind, name string) error {
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
	}
	return err
}

// Refresh forgets cached objects of the namespace, for a pod that has just arrived and must see the present.
func (a *API) Refresh(namespace string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.maps {
		if k.Namespace == namespace {
			delete(a.maps, k)
		}
	}
	for k := range a.secs {
		if k.Namespace == namespace {
			delete(a.secs, k)
		}
	}
}

// PullSecrets reads the pod's image pull secrets and names those that cannot be read.
func (a *API) PullSecrets(ctx context.Context, pod *corev1.Pod) (found []corev1.Secret, missing []string) {
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue
		}
		s, err := a.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			missing = append(missing, ref.Name)
			continue
		}
		found = append(found, *s)
	}
	return found, missing
}

// Volume finds the persistent volume of a claim.
func (a *API) Volume(ctx context.Context, namespace, claim string) (*corev1.PersistentVolume, error) {
	pvc, err := kube.For[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](a.c, core("persistentvolumeclaims"), namespace).Get(ctx, claim, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if pvc.Status.Phase != corev1.ClaimBound || pvc.Spec.VolumeName == "" {
		return nil, fmt.Errorf("PVC %s/%s is not bound", namespace, claim)
	}
	return kube.For[corev1.PersistentVolume, corev1.PersistentVolumeList](a.c, core("persistentvolumes"), "").Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
}

// Handler finds the runtime handler of a RuntimeClass.
func (a *API) Handler(ctx context.Context, class string) (string, error) {
	rc, err := kube.For[nodev1.RuntimeClass, nodev1.RuntimeClassList](a.c, nodev1.SchemeGroupVersion.WithResource("runtimeclasses"), "").Get(ctx, class, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("runtimeclass %q: %w", class, err)
	}
	return rc.Handler, nil
}
