package node

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/controller-manager/internal/loop"
)

// gcPeriod is how often pods are looked at; quarantine is how long a node has to be missing before its pods are deleted.
const (
	gcPeriod   = 20 * time.Second
	quarantine = 40 * time.Second
)

// NewPodGC returns the pod-garbage-collector-controller.
func NewPodGC(threshold int32, d loop.Deps) *loop.Controller {
	pods, nodes := d.Sources.Pods(), d.Sources.Nodes()
	ctl := d.Controller(1, nil)
	loop.Need(ctl, pods)
	loop.Need(ctl, nodes)
	missing := map[string]time.Time{} // belongs to the goroutine of the tick
	ctl.Every(gcPeriod, func(ctx context.Context) error {
		plan := planGC(pods.All(), func(name string) *corev1.Node { return nodes.Get("", name) }, int(threshold))
		var errs []error
		for _, p := range plan.terminated {
			errs = append(errs, remove(ctx, d, p, "", ""))
		}
		for _, p := range plan.unscheduled {
			errs = append(errs, remove(ctx, d, p, "", ""))
		}
		for _, p := range plan.outOfService {
			errs = append(errs, remove(ctx, d, p, "", ""))
		}
		return errors.Join(append(errs, removeOrphans(ctx, d, plan.orphaned, missing))...)
	})
	return ctl
}

// removeOrphans deletes pods of nodes that have been missing for the quarantine and that the server does not know either.
func removeOrphans(ctx context.Context, d loop.Deps, orphaned []*corev1.Pod, missing map[string]time.Time) error {
	var errs []error
	now := d.Now()
	still, gone := map[string]bool{}, map[string]bool{}
	for _, p := range orphaned {
		name := p.Spec.NodeName
		if still[name] {
			continue
		}
		still[name] = true
		if since, ok := missing[name]; !ok {
			missing[name] = now
		} else if now.Sub(since) >= quarantine {
			_, err := d.Nodes().Get(ctx, name, metav1.GetOptions{})
			gone[name] = apierrors.IsNotFound(err)
		}
	}
	for name := range missing {
		if !still[name] {
			delete(missing, name)
		}
	}
	for _, p := range orphaned {
		if gone[p.Spec.NodeName] {
			errs = append(errs, remove(ctx, d, p, "DeletionByPodGC", "PodGC: node no longer exists"))
		}
	}
	return errors.Join(errs...)
}

func remove(ctx context.Context, d loop.Deps, p *corev1.Pod, reason, message string) error {
	now := int64(0)
	d.Decide("Pod", p.Namespace, p.Name, p.UID, 0, "deleted by pod garbage collection: phase "+string(p.Status.Phase)+", node "+p.Spec.NodeName)
	return evictPod(ctx, d, p, reason, message, true, &now)
}
