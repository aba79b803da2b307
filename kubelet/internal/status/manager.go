package status

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/podspec"
)

// resync is how often statuses that could not be written are tried again.
const resync = 10 * time.Second

// API is what the manager writes to; nil where there is no API server.
type API interface {
	PatchPodStatus(ctx context.Context, namespace, name string, patch []byte) error
	DeletePod(ctx context.Context, namespace, name string, uid types.UID, grace int64) error
}

// Manager keeps the newest status of every pod and writes it to the API server. It is safe for concurrent use.
type Manager struct {
	log     *zap.Logger
	api     API
	mirrors *Mirrors
	wake    chan struct{}

	mu      sync.Mutex // guards entries
	entries map[types.UID]*entry
}

type entry struct {
	pod    *corev1.Pod
	status corev1.PodStatus
	dirty  bool
	finish bool        // delete the API object once the status is written
	sent   types.UID   // the API object that the last status went to
	seen   *corev1.Pod // the API object as it was last shown
}

// NewManager returns a Manager; mirrors may be nil where there is no API server.
func NewManager(log *zap.Logger, api API, mirrors *Mirrors) *Manager {
	return &Manager{log: log, api: api, mirrors: mirrors, wake: make(chan struct{}, 1), entries: map[types.UID]*entry{}}
}

// Set replaces the pod's status.
func (m *Manager) Set(pod *corev1.Pod, s corev1.PodStatus) {
	m.mu.Lock()
	e, ok := m.entries[pod.UID]
	if !ok {
		e = &entry{dirty: true}
		m.entries[pod.UID] = e
		// A restarted kubelet that finds nothing new writes nothing.
		if !podspec.IsStatic(pod) && same(pod.Status, s) {
			e.dirty, e.sent = false, pod.UID
		}
	} else if !same(e.status, s) {
		e.dirty = true
	}
	e.pod, e.status = pod, s
	dirty := e.dirty
	m.mu.Unlock()
	if dirty {
		m.poke()
	}
}

func same(a, b corev1.PodStatus) bool { return apiequality.Semantic.DeepEqual(a, b) }

// Get returns the newest status of a pod.
func (m *Manager) Get(uid types.UID) (corev1.PodStatus, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[uid]
	if !ok {
		return corev1.PodStatus{}, false
	}
	return e.status, true
}

// Finish tells that nothing of the pod is left on the node: its API object goes if it is being deleted.
func (m *Manager) Finish(pod *corev1.Pod) {
	m.mu.Lock()
	e, ok := m.entries[pod.UID]
	if !ok {
		e = &entry{pod: pod, status: pod.Status}
		m.entries[pod.UID] = e
	}
	e.pod, e.finish = pod, true
	m.mu.Unlock()
	m.poke()
}

// Forget drops a pod that is gone from the API server or its file.
func (m *Manager) Forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, uid)
}

// Observe takes the API object of a pod, which is a static pod's mirror, as the API server shows it.
func (m *Manager) Observe(uid types.UID, pod *corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[uid]; ok {
		e.seen = pod
	}
}

// reconcile makes statuses due that others wrote over, as the node controller does with Ready of the pods of a node that was lost. An object that is older than the
// last write may look so too: its status is written once more, to no effect.
func (m *Manager) reconcile() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if e.seen != nil && e.seen.UID == e.sent && !e.dirty && overwritten(e.seen.Status, e.status) {
			e.dirty = true
		}
	}
}

// Touch writes the pod's status again, to a new mirror.
func (m *Manager) Touch(uid types.UID) {
	m.mu.Lock()
	if e, ok := m.entries[uid]; ok {
		e.dirty = true
	}
	m.mu.Unlock()
	m.poke()
}

func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run writes statuses until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(resync)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-tick.C:
			m.reconcile()
		}
		if m.api != nil {
			m.flush(ctx)
		}
	}
}

type job struct {
	uid    types.UID
	pod    *corev1.Pod
	status corev1.PodStatus
	dirty  bool
	finish bool
}

func (m *Manager) flush(ctx context.Context) {
	m.mu.Lock()
	var jobs []job
	for uid, e := range m.entries {
		if e.dirty || (e.finish && e.pod.DeletionTimestamp != nil) {
			jobs = append(jobs, job{uid, e.pod, e.status, e.dirty, e.finish})
		}
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, j := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := m.write(ctx, j); err != nil && ctx.Err() == nil {
				m.log.Warn("write pod status", zap.String("pod", j.pod.Namespace+"/"+j.pod.Name), zap.Error(err))
			}
		})
	}
	wg.Wait()
}

func (m *Manager) write(ctx context.Context, j job) error {
	target := j.pod
	if podspec.IsStatic(j.pod) {
		if target = m.mirrors.Get(podspec.FullName(j.pod)); target == nil {
			return nil // the mirror's arrival touches the entry
		}
	}
	if j.dirty {
		patch, err := Patch(target, j.status)
		if err != nil {
			return err
		}
		err = m.api.PatchPodStatus(ctx, target.Namespace, target.Name, patch)
		switch {
		case apierrors.IsNotFound(err), apierrors.IsConflict(err):
			// The object is gone or is another pod now; the source will tell.
		case err != nil:
			return err
		}
		m.mu.Lock()
		if e, ok := m.entries[j.uid]; ok && same(e.status, j.status) {
			e.dirty, e.sent = false, target.UID
		}
		m.mu.Unlock()
	}
	if j.finish && j.pod.DeletionTimestamp != nil && !podspec.IsStatic(j.pod) {
		err := m.api.DeletePod(ctx, j.pod.Namespace, j.pod.Name, j.pod.UID, 0)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete finished pod: %w", err)
		}
		m.mu.Lock()
		if e, ok := m.entries[j.uid]; ok {
			e.finish = false
		}
		m.mu.Unlock()
	}
	return nil
}

// ours tells a condition that the kubelet writes once, when it ends a pod.
func ours(c corev1.PodCondition) bool {
	return c.Type == corev1.DisruptionTarget && c.Reason == corev1.PodReasonTerminationByKubelet
}

// whole says of every condition what it does not have, and of those that tell of a resize when there is none: a merge
// keeps what is not named.
func whole(list any, have []corev1.PodCondition) any {
	all, _ := list.([]any)
	var out []any
	for i, c := range all {
		// What others wrote may have changed since it was read: it is not written back.
		if !owned(have[i].Type) && !ours(have[i]) {
			continue
		}
		out = append(out, c)
		for _, field := range []string{"reason", "message"} {
			if c, ok := c.(map[string]any); ok && c[field] == nil {
				c[field] = nil
			}
		}
	}
	for _, t := range []corev1.PodConditionType{corev1.PodResizePending, corev1.PodResizeInProgress} {
		if !slices.ContainsFunc(have, func(c corev1.PodCondition) bool { return c.Type == t }) {
			out = append(out, map[string]any{"type": string(t), "$patch": "delete"})
		}
	}
	return out
}

// Patch is the strategic merge patch that makes the pod's status this one, conditions of others untouched.
func Patch(target *corev1.Pod, s corev1.PodStatus) ([]byte, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	for _, field := range []string{"reason", "message", "podIP", "hostIP"} {
		if _, ok := m[field]; !ok {
			m[field] = nil
		}
	}
	for _, field := range []string{"podIPs", "hostIPs"} {
		list, _ := m[field].([]any)
		m[field] = append(list, map[string]any{"$patch": "replace"})
	}
	m["conditions"] = whole(m["conditions"], s.Conditions)
	// Written by the scheduler, the resource-claim controller and the API server.
	for _, field := range []string{"nominatedNodeName", "resourceClaimStatuses", "extendedResourceClaimStatus", "resize"} {
		delete(m, field)
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": target.UID}, "status": m})
}
