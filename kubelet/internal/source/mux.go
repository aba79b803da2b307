package source

import (
	"context"
	"reflect"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Handler takes the changes of the merged set.
type Handler interface {
	Update(ctx context.Context, pod *corev1.Pod)
	Remove(uid types.UID)
}

// Mux merges the sources and tells the handler about differences. It is safe for concurrent use.
type Mux struct {
	handler Handler
	needed  []string

	mu   sync.Mutex // guards the maps; held while the handler is told, so that it hears changes in order
	sets map[string]map[types.UID]*corev1.Pod
	said map[string]bool // sources that have given their full set
}

// NewMux returns a Mux that is ready once every named source has spoken.
func NewMux(h Handler, needed ...string) *Mux {
	return &Mux{handler: h, needed: needed, sets: map[string]map[types.UID]*corev1.Pod{}, said: map[string]bool{}}
}

// Ready reports whether every source has given its first set.
func (m *Mux) Ready() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.needed {
		if !m.said[n] {
			return false
		}
	}
	return true
}

// Replace gives the full set of a source.
func (m *Mux) Replace(ctx context.Context, source string, pods []*corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.sets[source]
	set := make(map[types.UID]*corev1.Pod, len(pods))
	for _, p := range pods {
		set[p.UID] = p
	}
	m.sets[source], m.said[source] = set, true
	for uid := range old {
		if _, ok := set[uid]; !ok {
			m.handler.Remove(uid)
		}
	}
	for uid, p := range set {
		if o, ok := old[uid]; !ok || !equal(o, p) {
			m.handler.Update(ctx, p)
		}
	}
}

// Set adds or changes one pod of a source.
func (m *Mux) Set(ctx context.Context, source string, pod *corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	set := m.sets[source]
	if set == nil {
		set = map[types.UID]*corev1.Pod{}
		m.sets[source] = set
	}
	old, ok := set[pod.UID]
	set[pod.UID] = pod
	if !ok || !equal(old, pod) {
		m.handler.Update(ctx, pod)
	}
}

// Drop removes one pod of a source.
func (m *Mux) Drop(source string, uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.sets[source][uid]; ok {
		delete(m.sets[source], uid)
		m.handler.Remove(uid)
	}
}

// equal ignores what changes without meaning: static pods are read again every period, and the kubelet's own status
// writes come back through the watch.
func equal(a, b *corev1.Pod) bool {
	return a == b || (reflect.DeepEqual(a.Spec, b.Spec) && reflect.DeepEqual(a.Labels, b.Labels) &&
		reflect.DeepEqual(a.Annotations, b.Annotations) && reflect.DeepEqual(a.DeletionTimestamp, b.DeletionTimestamp) &&
		reflect.DeepEqual(a.DeletionGracePeriodSeconds, b.DeletionGracePeriodSeconds) && a.Generation == b.Generation &&
		a.Status.Phase == b.Status.Phase && gates(a, b))
}

// gates compares the conditions that readiness gates read.
func gates(a, b *corev1.Pod) bool {
	if len(b.Spec.ReadinessGates) == 0 {
		return true
	}
	return reflect.DeepEqual(a.Status.Conditions, b.Status.Conditions)
}
