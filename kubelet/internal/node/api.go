package node

import (
	"context"
	"fmt"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"

	"flagship/internal/kube"
	"flagship/kubelet/internal/podspec"
)

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

	maps *follower[*corev1.ConfigMap]
	secs *follower[*corev1.Secret]

	mu    sync.Mutex // guards the rest
	uid   types.UID
	token map[tokenKey]tokenEntry
}

// NewAPI returns the access of a node; changed is told the pods that refer to a ConfigMap or Secret that changed.
func NewAPI(c *kube.Client, node string, changed func(uid types.UID)) *API {
	a := &API{c: c, node: node, token: map[tokenKey]tokenEntry{}}
	a.maps, a.secs = newFollower(a.configMapAccess(), changed), newFollower(a.secretAccess(), changed)
	return a
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

func (a *API) configMaps(namespace string) *gentype.ClientWithList[*corev1.ConfigMap, *corev1.ConfigMapList] {
	return kube.For[corev1.ConfigMap, corev1.ConfigMapList](a.c, core("configmaps"), namespace)
}

func (a *API) secrets(namespace string) *gentype.ClientWithList[*corev1.Secret, *corev1.SecretList] {
	return kube.For[corev1.Secret, corev1.SecretList](a.c, core("secrets"), namespace)
}

func (a *API) configMapAccess() access[*corev1.ConfigMap] {
	return access[*corev1.ConfigMap]{
		get: func(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
			v, err := a.configMaps(namespace).Get(ctx, name, metav1.GetOptions{})
			return v, singular(err, "configmap", name)
		},
		list: func(ctx context.Context, namespace string, o metav1.ListOptions) (out []*corev1.ConfigMap, version string, err error) {
			l, err := a.configMaps(namespace).List(ctx, o)
			if err != nil {
				return nil, "", err
			}
			for i := range l.Items {
				out = append(out, &l.Items[i])
			}
			return out, l.ResourceVersion, nil
		},
		watch: func(ctx context.Context, namespace string, o metav1.ListOptions) (watch.Interface, error) {
			return a.configMaps(namespace).Watch(ctx, o)
		},
		immutable: func(v *corev1.ConfigMap) bool { return v.Immutable != nil && *v.Immutable },
	}
}

func (a *API) secretAccess() access[*corev1.Secret] {
	return access[*corev1.Secret]{
		get: func(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
			v, err := a.secrets(namespace).Get(ctx, name, metav1.GetOptions{})
			return v, singular(err, "secret", name)
		},
		list: func(ctx context.Context, namespace string, o metav1.ListOptions) (out []*corev1.Secret, version string, err error) {
			l, err := a.secrets(namespace).List(ctx, o)
			if err != nil {
				return nil, "", err
			}
			for i := range l.Items {
				out = append(out, &l.Items[i])
			}
			return out, l.ResourceVersion, nil
		},
		watch: func(ctx context.Context, namespace string, o metav1.ListOptions) (watch.Interface, error) {
			return a.secrets(namespace).Watch(ctx, o)
		},
		immutable: func(v *corev1.Secret) bool { return v.Immutable != nil && *v.Immutable },
	}
}

// Refer tells which ConfigMaps and Secrets the pod refers to; they are followed from now on.
func (a *API) Refer(ctx context.Context, pod *corev1.Pod) {
	maps, secrets := podspec.References(pod)
	a.maps.use(ctx, pod.UID, pod.Namespace, maps)
	a.secs.use(ctx, pod.UID, pod.Namespace, secrets)
}

// Drop tells that the pod is gone: what only it referred to is followed no more.
func (a *API) Drop(uid types.UID) {
	a.maps.use(context.Background(), uid, "", nil)
	a.secs.use(context.Background(), uid, "", nil)
}

// Run follows objects until ctx ends.
func (a *API) Run(ctx context.Context) error {
	<-ctx.Done()
	a.maps.stop()
	a.secs.stop()
	return nil
}

// ConfigMap reads a ConfigMap.
func (a *API) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return a.maps.read(ctx, namespace, name)
}

// Secret reads a Secret.
func (a *API) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return a.secs.read(ctx, namespace, name)
}

// singular words a missing object as upstream's kubelet does, with the kind's singular name.
func singular(err error, kind, name string) error {
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
	}
	return err
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

// TrustBundle reads the text of a ClusterTrustBundle.
func (a *API) TrustBundle(ctx context.Context, name string) ([]string, error) {
	b, err := a.bundles().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get ClusterTrustBundle: %w", err)
	}
	return []string{b.Spec.TrustBundle}, nil
}

// TrustBundles reads those of a signer that the selector chooses: none without a selector, all with an empty one.
func (a *API) TrustBundles(ctx context.Context, signer string, selector *metav1.LabelSelector) ([]string, error) {
	chosen, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("parse label selector: %w", err)
	}
	list, err := a.bundles().List(ctx, metav1.ListOptions{LabelSelector: chosen.String()})
	if err != nil {
		return nil, fmt.Errorf("list ClusterTrustBundles: %w", err)
	}
	var out []string
	for i := range list.Items {
		if b := &list.Items[i]; b.Spec.SignerName == signer && chosen.Matches(labels.Set(b.Labels)) {
			out = append(out, b.Spec.TrustBundle)
		}
	}
	return out, nil
}

func (a *API) bundles() *gentype.ClientWithList[*certificatesv1.ClusterTrustBundle, *certificatesv1.ClusterTrustBundleList] {
	return kube.For[certificatesv1.ClusterTrustBundle, certificatesv1.ClusterTrustBundleList](a.c, certificatesv1.SchemeGroupVersion.WithResource("clustertrustbundles"), "")
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
