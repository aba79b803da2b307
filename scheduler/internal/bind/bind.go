package bind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/internal/kube"
	"flagship/scheduler/internal/plugin"
	"flagship/scheduler/internal/snapshot"
)

// Store gives the newest known state of claims, for waiting on them. It must be safe for concurrent use.
type Store interface {
	Claim(namespace, name string) *v1.PersistentVolumeClaim
}

// Config are the binder's times.
type Config struct {
	// VolumeTimeout is how long a pod's volumes may take to be bound or made.
	VolumeTimeout time.Duration
}

// Binder writes decisions to the API.
type Binder struct {
	cfg    Config
	client *kube.Client
	store  Store
}

// New returns a binder.
func New(cfg Config, client *kube.Client, store Store) *Binder {
	return &Binder{cfg: cfg, client: client, store: store}
}

const volumePoll = time.Second

// Bind makes a pod's volumes ready for the node and then binds the pod to it.
func (b *Binder) Bind(ctx context.Context, p *v1.Pod, node string, plan plugin.VolumePlan) error {
	if !plan.Empty() {
		if err := b.volumes(ctx, p, node, plan); err != nil {
			return err
		}
	}
	rest, err := b.client.REST(v1.SchemeGroupVersion)
	if err != nil {
		return err
	}
	binding := &v1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		Target:     v1.ObjectReference{Kind: "Node", Name: node},
	}
	err = rest.Post().Namespace(p.Namespace).Resource("pods").Name(p.Name).SubResource("binding").Body(binding).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("binding rejected: %w", err)
	}
	return nil
}

func (b *Binder) volumes(ctx context.Context, p *v1.Pod, node string, plan plugin.VolumePlan) error {
	for _, x := range plan.Bind {
		pv := x.PV.DeepCopy()
		if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != x.Claim.UID {
			pv.Spec.ClaimRef = &v1.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: x.Claim.Namespace, Name: x.Claim.Name,
				UID: x.Claim.UID, ResourceVersion: x.Claim.ResourceVersion,
			}
			metav1.SetMetaDataAnnotation(&pv.ObjectMeta, plugin.AnnBoundByController, "yes")
		}
		api := kube.For[v1.PersistentVolume, v1.PersistentVolumeList](b.client, v1.SchemeGroupVersion.WithResource("persistentvolumes"), "")
		if _, err := api.Update(ctx, pv, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("bind volume %s to claim %s/%s: %w", pv.Name, x.Claim.Namespace, x.Claim.Name, err)
		}
	}
	all := make([]*v1.PersistentVolumeClaim, 0, len(plan.Bind)+len(plan.Provision))
	for _, x := range plan.Bind {
		all = append(all, x.Claim)
	}
	for _, claim := range plan.Provision {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"uid": claim.UID, "annotations": map[string]string{plugin.AnnSelectedNode: node},
		}})
		if err != nil {
			return err
		}
		api := kube.For[v1.PersistentVolumeClaim, v1.PersistentVolumeClaimList](b.client, v1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), claim.Namespace)
		if _, err := api.Patch(ctx, claim.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("select node %s for claim %s/%s: %w", node, claim.Namespace, claim.Name, err)
		}
		all = append(all, claim)
	}
	return b.await(ctx, node, all, len(plan.Provision) > 0)
}

// await waits until the volume controller and the provisioners have bound the claims.
func (b *Binder) await(ctx context.Context, node string, claims []*v1.PersistentVolumeClaim, provisioning bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.cfg.VolumeTimeout, errors.New("binding volumes: timed out waiting for the condition"))
	defer cancel()
	tick := time.NewTicker(volumePoll)
	defer tick.Stop()
	selected := map[types.UID]bool{}
	for {
		waiting := false
		for _, c := range claims {
			now := b.store.Claim(c.Namespace, c.Name)
			if now == nil || now.UID != c.UID {
				return fmt.Errorf("binding volumes: claim %s/%s is gone", c.Namespace, c.Name)
			}
			if plugin.FullyBound(now) {
				continue
			}
			waiting = true
			// A provisioner that fails on the node takes the annotation away: the pod is to be scheduled anew.
			at := now.Annotations[plugin.AnnSelectedNode]
			if at == node {
				selected[c.UID] = true
			} else if provisioning && selected[c.UID] {
				return fmt.Errorf("binding volumes: provisioning failed for PVC %q", c.Name)
			}
		}
		if !waiting {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (b *Binder) patchStatus(ctx context.Context, p *v1.Pod, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID}, "status": status})
	if err != nil {
		return err
	}
	api := kube.For[v1.Pod, v1.PodList](b.client, v1.SchemeGroupVersion.WithResource("pods"), p.Namespace)
	_, err = api.Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("patch status of pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

// Condition says in the pod's status that it was not scheduled. nominated is nil to leave the nominated node as it is.
func (b *Binder) Condition(ctx context.Context, p *v1.Pod, reason, message string, nominated *string, now time.Time) error {
	status := map[string]any{}
	old := condition(p, v1.PodScheduled)
	if old == nil || old.Status != v1.ConditionFalse || old.Reason != reason || old.Message != message {
		at := metav1.NewTime(now)
		if old != nil && old.Status == v1.ConditionFalse {
			at = old.LastTransitionTime
		}
		status["conditions"] = []map[string]any{{
			"type": v1.PodScheduled, "status": v1.ConditionFalse, "reason": reason, "message": message,
			"lastProbeTime": nil, "lastTransitionTime": at, "observedGeneration": p.Generation,
		}}
	}
	if nominated != nil && *nominated != p.Status.NominatedNodeName {
		status["nominatedNodeName"] = *nominated
	}
	if len(status) == 0 {
		return nil
	}
	return b.patchStatus(ctx, p, status)
}

func condition(p *v1.Pod, t v1.PodConditionType) *v1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// Nominate sets or clears the node that a pod waits for after a preemption.
func (b *Binder) Nominate(ctx context.Context, p *v1.Pod, node string) error {
	return b.patchStatus(ctx, p, map[string]any{"nominatedNodeName": node})
}

// Evict marks a pod as disrupted by preemption and deletes it. A pod that is gone already is no error.
func (b *Binder) Evict(ctx context.Context, victim *snapshot.Pod, scheduler string, now time.Time) error {
	err := b.patchStatus(ctx, victim.Pod, map[string]any{"conditions": []map[string]any{{
		"type": v1.DisruptionTarget, "status": v1.ConditionTrue, "reason": v1.PodReasonPreemptionByScheduler,
		"message":       scheduler + ": preempting to accommodate a higher priority pod",
		"lastProbeTime": nil, "lastTransitionTime": metav1.NewTime(now), "observedGeneration": victim.Generation,
	}}})
	if err != nil {
		return ignoreGone(err)
	}
	api := kube.For[v1.Pod, v1.PodList](b.client, v1.SchemeGroupVersion.WithResource("pods"), victim.Namespace)
	return ignoreGone(api.Delete(ctx, victim.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &victim.UID}}))
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
