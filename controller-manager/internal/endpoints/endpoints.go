package endpoints

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"flagship/controller-manager/internal/loop"
)

// NewEndpoints returns the endpoints-controller.
func NewEndpoints(cfg Config, d loop.Deps) *loop.Controller {
	services, pods, all := d.Sources.Services(), d.Sources.Pods(), d.Sources.Endpoints()
	written := loop.NewWritten()
	ctl := d.Controller(int(cfg.Workers), func(ctx context.Context, key string) error {
		if err := written.Wait(key); err != nil {
			return err
		}
		ns, name := loop.Split(key)
		svc, old := services.Get(ns, name), all.Get(ns, name)
		api := loop.Core[corev1.Endpoints, corev1.EndpointsList](d, "endpoints", ns)
		if svc == nil {
			if old == nil || old.Labels[labelManagedBy] != endpointsManager {
				return nil
			}
			err := api.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &old.UID}})
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				return nil
			}
			return err
		}
		if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.Selector == nil {
			return nil
		}
		next, changed := endpointsFor(svc, old, loop.Select(pods.In(ns), labels.SelectorFromSet(svc.Spec.Selector)))
		if !changed {
			return nil
		}
		var got *corev1.Endpoints
		var err error
		if old == nil {
			got, err = api.Create(ctx, next, metav1.CreateOptions{})
		} else {
			got, err = api.Update(ctx, next, metav1.UpdateOptions{})
		}
		switch {
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return nil
		case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err):
			return fmt.Errorf("write endpoints: %w", err)
		case err != nil:
			verb := "update"
			if old == nil {
				verb = "create"
			}
			d.Events.Eventf(next, corev1.EventTypeWarning, "FailedTo"+map[string]string{"update": "Update", "create": "Create"}[verb]+"Endpoint",
				"Failed to %s endpoint %v: %v", verb, key, err)
			return err
		}
		written.Note(key, all, got)
		return nil
	})
	loop.Watch(ctl, services, loop.Own[corev1.Service])
	loop.Watch(ctl, pods, podChanged(services, ctl, cfg.Batch))
	loop.Watch(ctl, all, func(e loop.Event[corev1.Endpoints]) []string {
		// At the start too: Endpoints whose Service went while nobody looked.
		return []string{loop.Key(e.Now())}
	})
	return ctl
}

// skipMirror says whether Endpoints are not to be mirrored.
func skipMirror(e *corev1.Endpoints) bool {
	if e.Labels[discoveryv1.LabelSkipMirror] == "true" {
		return true
	}
	_, election := e.Annotations["control-plane.alpha.kubernetes.io/leader"]
	return election
}

// mirrored turns hand-made Endpoints into groups, each subset cut to the limit.
func mirrored(e *corev1.Endpoints, limit int) map[string]*group {
	out := map[string]*group{}
	yes, no := true, false
	for i := range e.Subsets {
		s := &e.Subsets[i]
		ports := []discoveryv1.EndpointPort{}
		for j := range s.Ports {
			p := &s.Ports[j]
			proto := protocol(p.Protocol)
			ports = append(ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &proto, AppProtocol: p.AppProtocol})
		}
		left := limit
		add := func(list []corev1.EndpointAddress, ready *bool) {
			for j := range list {
				a := &list[j]
				t, ok := familyOf(a.IP)
				if !ok || left == 0 {
					continue
				}
				left--
				ep := discoveryv1.Endpoint{
					Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: ready}, NodeName: a.NodeName, TargetRef: a.TargetRef,
				}
				if a.Hostname != "" {
					ep.Hostname = &a.Hostname
				}
				key := groupKey(t, ports)
				if out[key] == nil {
					out[key] = &group{family: t, ports: ports}
				}
				out[key].endpoints = append(out[key].endpoints, ep)
			}
		}
		add(s.Addresses, &yes)
		add(s.NotReadyAddresses, &no)
	}
	return out
}

// NewMirroring returns the endpointslice-mirroring-controller.
func NewMirroring(cfg Config, perSubset int32, d loop.Deps) *loop.Controller {
	services, all, slices := d.Sources.Services(), d.Sources.Endpoints(), d.Sources.Slices()
	written := loop.NewWritten()
	ctl := d.Controller(int(cfg.Workers), func(ctx context.Context, key string) error {
		if err := written.Wait(key); err != nil {
			return err
		}
		ns, name := loop.Split(key)
		var have []*discoveryv1.EndpointSlice
		for _, s := range slices.By(loop.ByService, key) {
			if s.Labels[discoveryv1.LabelManagedBy] == mirrorManager && s.DeletionTimestamp == nil {
				have = append(have, s)
			}
		}
		e, svc := all.Get(ns, name), services.Get(ns, name)
		var plan slicePlan
		if e == nil || svc == nil || svc.Spec.Selector != nil || skipMirror(e) {
			plan.remove = have
		} else {
			plan = planSlices(mirrored(e, int(perSubset)), have, mirrorFrame(e, int(cfg.Limit)))
		}
		return applySlices(ctx, d, ns, plan, func(s *discoveryv1.EndpointSlice) { written.Note(key, slices, s) })
	})
	loop.Watch(ctl, services, loop.Own[corev1.Service])
	loop.Watch(ctl, all, loop.Own[corev1.Endpoints])
	loop.Watch(ctl, slices, sliceChanged(mirrorManager))
	return ctl
}

func mirrorFrame(e *corev1.Endpoints, limit int) frame {
	l := map[string]string{}
	for k, v := range e.Labels {
		if k != discoveryv1.LabelServiceName && k != discoveryv1.LabelManagedBy {
			l[k] = v
		}
	}
	l[discoveryv1.LabelServiceName], l[discoveryv1.LabelManagedBy] = e.Name, mirrorManager
	annotations := map[string]string{}
	for k, v := range e.Annotations {
		if k != corev1.LastAppliedConfigAnnotation && k != triggerAnnotation {
			annotations[k] = v
		}
	}
	return frame{labels: l, annotations: annotations, limit: limit, fresh: func(t discoveryv1.AddressType) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: e.Namespace, GenerateName: e.Name + "-", Labels: l, Annotations: annotations,
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
			},
			AddressType: t, Endpoints: []discoveryv1.Endpoint{},
		}
	}}
}
