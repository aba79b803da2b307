package endpoints

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/gentype"

	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/pod"
	"flagship/internal/kube"
)

// The controllers' names in the label endpointslice.kubernetes.io/managed-by.
const (
	sliceManager  = "endpointslice-controller.k8s.io"
	mirrorManager = "endpointslicemirroring-controller.k8s.io"
)

// Config is how slices and Endpoints are written.
type Config struct {
	Workers int32
	// Limit is the most endpoints in a slice.
	Limit int32
	// Batch is how long changes of pods are gathered.
	Batch time.Duration
}

func sliceAPI(d loop.Deps, ns string) *gentype.ClientWithList[*discoveryv1.EndpointSlice, *discoveryv1.EndpointSliceList] {
	return kube.For[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](d.Client, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), ns)
}

// NewSlices returns the endpointslice-controller.
func NewSlices(cfg Config, d loop.Deps) *loop.Controller {
	services, pods, nodes, slices := d.Sources.Services(), d.Sources.Pods(), d.Sources.Nodes(), d.Sources.Slices()
	written := loop.NewWritten()
	ctl := d.Controller(int(cfg.Workers), func(ctx context.Context, key string) error {
		if err := written.Wait(key); err != nil {
			return err
		}
		svc := services.Get(loop.Split(key))
		if svc == nil || svc.DeletionTimestamp != nil || svc.Spec.Selector == nil || svc.Spec.Type == corev1.ServiceTypeExternalName {
			return nil
		}
		selected := loop.Select(pods.In(svc.Namespace), labels.SelectorFromSet(svc.Spec.Selector))
		want := groupPods(svc, selected, func(name string) string {
			if n := nodes.Get("", name); n != nil {
				return n.Labels[corev1.LabelTopologyZone]
			}
			return ""
		})
		var have []*discoveryv1.EndpointSlice
		for _, s := range slices.By(loop.ByService, key) {
			if s.Labels[discoveryv1.LabelManagedBy] == sliceManager && s.DeletionTimestamp == nil {
				have = append(have, s)
			}
		}
		f := frame{labels: serviceLabels(svc, sliceManager), limit: int(cfg.Limit), fresh: fresh(svc, sliceManager)}
		for _, fam := range families(svc) {
			f.families = append(f.families, addressType(fam))
		}
		return applySlices(ctx, d, svc.Namespace, planSlices(want, have, f), func(s *discoveryv1.EndpointSlice) { written.Note(key, slices, s) })
	})
	loop.Watch(ctl, services, loop.Own[corev1.Service])
	loop.Watch(ctl, pods, podChanged(services, ctl, cfg.Batch))
	loop.Watch(ctl, nodes, func(e loop.Event[corev1.Node]) []string {
		if e.Old != nil && e.New != nil && e.Old.Labels[corev1.LabelTopologyZone] == e.New.Labels[corev1.LabelTopologyZone] {
			return nil
		}
		if e.Now().Labels[corev1.LabelTopologyZone] == "" {
			return nil
		}
		var keys []string
		for _, svc := range services.All() {
			keys = append(keys, loop.Key(svc))
		}
		return keys
	})
	loop.Watch(ctl, slices, sliceChanged(sliceManager))
	return ctl
}

// fresh makes slices owned by a Service.
func fresh(owner *corev1.Service, manager string) func(discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	name := owner.Name
	prefix := name + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = name
	}
	return func(t discoveryv1.AddressType) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: owner.Namespace, GenerateName: prefix, Labels: serviceLabels(owner, manager),
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind("Service"))},
			},
			AddressType: t, Endpoints: []discoveryv1.Endpoint{},
		}
	}
}

func sliceChanged(manager string) func(e loop.Event[discoveryv1.EndpointSlice]) []string {
	return func(e loop.Event[discoveryv1.EndpointSlice]) []string {
		s := e.Now()
		if s.Labels[discoveryv1.LabelManagedBy] != manager && (e.Old == nil || e.Old.Labels[discoveryv1.LabelManagedBy] != manager) {
			return nil
		}
		keys := []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
		if e.Old != nil && e.Old.Labels[discoveryv1.LabelServiceName] != s.Labels[discoveryv1.LabelServiceName] {
			keys = append(keys, s.Namespace+"/"+e.Old.Labels[discoveryv1.LabelServiceName])
		}
		return keys
	}
}

// applySlices deletes last, so that endpoints that move are in both rather than in none.
func applySlices(ctx context.Context, d loop.Deps, ns string, plan slicePlan, note func(*discoveryv1.EndpointSlice)) error {
	api := sliceAPI(d, ns)
	var errs []error
	for _, s := range plan.create {
		got, err := api.Create(ctx, s, metav1.CreateOptions{})
		if err != nil {
			if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				return nil
			}
			errs = append(errs, fmt.Errorf("create EndpointSlice: %w", err))
			continue
		}
		note(got)
	}
	for _, s := range plan.update {
		got, err := api.Update(ctx, s, metav1.UpdateOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("update EndpointSlice %s: %w", s.Name, err))
			continue
		}
		note(got)
	}
	if err := errors.Join(errs...); err != nil {
		if len(errs) == 1 {
			return errs[0]
		}
		return err
	}
	for _, s := range plan.remove {
		err := api.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			errs = append(errs, fmt.Errorf("delete EndpointSlice %s: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// podChanged returns the Services that select a pod before or after a change that shows in endpoints.
func podChanged(services *loop.Source[corev1.Service], ctl *loop.Controller, batch time.Duration) func(e loop.Event[corev1.Pod]) []string {
	return func(e loop.Event[corev1.Pod]) []string {
		if e.Old != nil && e.New != nil && !shows(e.Old, e.New) {
			return nil
		}
		seen := map[string]bool{}
		var keys []string
		for _, p := range []*corev1.Pod{e.Old, e.New} {
			if p == nil {
				continue
			}
			for _, svc := range services.In(p.Namespace) {
				key := loop.Key(svc)
				if svc.Spec.Selector != nil && !seen[key] && labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(p.Labels)) {
					seen[key] = true
					keys = append(keys, key)
				}
			}
		}
		if batch > 0 {
			for _, k := range keys {
				ctl.AddAfter(k, batch)
			}
			return nil
		}
		return keys
	}
}

func shows(a, b *corev1.Pod) bool {
	return pod.Ready(a) != pod.Ready(b) || pod.Terminal(a) != pod.Terminal(b) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) ||
		a.Spec.NodeName != b.Spec.NodeName || a.Status.PodIP != b.Status.PodIP || a.Spec.Hostname != b.Spec.Hostname ||
		!equality.Semantic.DeepEqual(a.Status.PodIPs, b.Status.PodIPs) || !equality.Semantic.DeepEqual(a.Labels, b.Labels)
}
