package node

import (
	"context"
	"encoding/json"
	"strconv"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/controller-manager/internal/loop"
)

// ttlStep is a size of cluster and how long its kubelets may keep Secrets and ConfigMaps, in seconds. The sizes overlap,
// so that a cluster at a border does not change back and forth.
type ttlStep struct{ from, to, seconds int }

var ttlSteps = [...]ttlStep{{0, 100, 0}, {90, 500, 15}, {450, 1000, 30}, {900, 2000, 60}, {1800, 1 << 31, 300}}

// nextTTLStep is the step for a number of nodes, coming from another.
func nextTTLStep(step, nodes int) int {
	for step < len(ttlSteps)-1 && nodes > ttlSteps[step].to {
		step++
	}
	for step > 0 && nodes < ttlSteps[step].from {
		step--
	}
	return step
}

// NewTTL returns the ttl-controller: it tells each kubelet by an annotation how long it may keep what it has read.
func NewTTL(d loop.Deps) *loop.Controller {
	nodes := d.Sources.Nodes()
	var step atomic.Int64
	ctl := d.Controller(2, func(ctx context.Context, name string) error {
		n := nodes.Get("", name)
		want := strconv.Itoa(ttlSteps[step.Load()].seconds)
		if n == nil || n.Annotations[corev1.ObjectTTLAnnotationKey] == want {
			return nil
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": n.UID, "annotations": map[string]string{corev1.ObjectTTLAnnotationKey: want}}})
		if err != nil {
			return err
		}
		_, err = d.Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	loop.Watch(ctl, nodes, func(e loop.Event[corev1.Node]) []string {
		all := nodes.All()
		if old := step.Load(); int64(nextTTLStep(int(old), len(all))) != old {
			step.Store(int64(nextTTLStep(int(old), len(all))))
			var keys []string
			for _, n := range all {
				keys = append(keys, n.Name)
			}
			return keys
		}
		return []string{e.Now().Name}
	})
	return ctl
}
