package status

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/podspec"
)

// MirrorAPI creates and deletes mirror pods.
type MirrorAPI interface {
	CreatePod(ctx context.Context, pod *corev1.Pod) error
	DeletePod(ctx context.Context, namespace, name string, uid types.UID, grace int64) error
	NodeUID() types.UID
}

// Mirrors keeps an API pod for each static one. It is safe for concurrent use.
type Mirrors struct {
	log  *zap.Logger
	node string
	api  MirrorAPI

	mu     sync.Mutex             // guards both maps
	have   map[string]*corev1.Pod // by full name, as the API server shows them
	static map[string]*corev1.Pod // by full name, as the files declare them
	wake   chan struct{}
}

// NewMirrors returns Mirrors for a node.
func NewMirrors(log *zap.Logger, node string, api MirrorAPI) *Mirrors {
	return &Mirrors{log: log, node: node, api: api, have: map[string]*corev1.Pod{}, static: map[string]*corev1.Pod{}, wake: make(chan struct{}, 1)}
}

// Get returns the mirror of a static pod, or nil.
func (m *Mirrors) Get(fullName string) *corev1.Pod {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.have[fullName]
}

// Observe takes a mirror that the API server shows; gone says that it was deleted. It returns the static pod it mirrors.
func (m *Mirrors) Observe(pod *corev1.Pod, gone bool) *corev1.Pod {
	name := podspec.FullName(pod)
	m.mu.Lock()
	if gone {
		delete(m.have, name)
	} else {
		m.have[name] = pod
	}
	s := m.static[name]
	m.mu.Unlock()
	m.Poke()
	return s
}

// Declare replaces the static pod of that full name; nil removes it.
func (m *Mirrors) Declare(fullName string, pod *corev1.Pod) {
	m.mu.Lock()
	if pod == nil {
		delete(m.static, fullName)
	} else {
		m.static[fullName] = pod
	}
	m.mu.Unlock()
	m.Poke()
}

// Translate maps the UID of a mirror to its static pod's.
func (m *Mirrors) Translate(uid types.UID) types.UID {
	if m == nil {
		return uid
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, mirror := range m.have {
		if mirror.UID == uid {
			if s, ok := m.static[name]; ok {
				return s.UID
			}
		}
	}
	return uid
}

// Poke makes Sync due.
func (m *Mirrors) Poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Wake is the channel that tells when Sync is due.
func (m *Mirrors) Wake() <-chan struct{} { return m.wake }

// Sync makes the mirrors match the static pods: missing ones are created, outdated and left-over ones deleted.
func (m *Mirrors) Sync(ctx context.Context) {
	m.mu.Lock()
	var create, drop []*corev1.Pod
	for name, s := range m.static {
		mirror, ok := m.have[name]
		switch {
		case !ok:
			create = append(create, s)
		case mirror.DeletionTimestamp != nil || mirror.Annotations[podspec.ConfigMirrorAnnotation] != s.Annotations[podspec.ConfigHashAnnotation]:
			drop = append(drop, mirror)
		}
	}
	for name, mirror := range m.have {
		if _, ok := m.static[name]; !ok {
			drop = append(drop, mirror)
		}
	}
	m.mu.Unlock()
	for _, p := range drop {
		if err := m.api.DeletePod(ctx, p.Namespace, p.Name, p.UID, 0); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			m.log.Warn("delete mirror pod", zap.String("pod", p.Namespace+"/"+p.Name), zap.Error(err))
		}
	}
	for _, s := range create {
		if err := m.create(ctx, s); err != nil {
			m.log.Warn("create mirror pod", zap.String("pod", s.Namespace+"/"+s.Name), zap.Error(err))
		}
	}
}

func (m *Mirrors) create(ctx context.Context, s *corev1.Pod) error {
	uid := m.api.NodeUID()
	if uid == "" {
		return fmt.Errorf("the node %s is not registered yet", m.node)
	}
	p := s.DeepCopy()
	p.Annotations[podspec.ConfigMirrorAnnotation] = s.Annotations[podspec.ConfigHashAnnotation]
	controller := true
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: m.node, UID: uid, Controller: &controller}}
	p.UID, p.ResourceVersion, p.Status = "", "", corev1.PodStatus{}
	err := m.api.CreatePod(ctx, p)
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Static is the static pod of that full name, or nil.
func (m *Mirrors) Static(fullName string) *corev1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.static[fullName]
}
