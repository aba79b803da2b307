package app

import (
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"flagship/internal/kube"
	"flagship/kube-proxy/internal/config"
	"flagship/kube-proxy/internal/podnet"
	"flagship/kube-proxy/internal/track"
)

// notOurs leaves out services that another proxy serves, and headless ones.
const notOurs = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name"

func on[T any](w *watches, inf cache.SharedIndexInformer, set func(obj T, gone bool)) error {
	handle := func(obj any, gone bool) {
		if tomb, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tomb.Obj
		}
		if o, ok := obj.(T); ok {
			set(o, gone)
		}
	}
	reg, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { handle(obj, false) },
		UpdateFunc: func(_, obj any) { handle(obj, false) },
		DeleteFunc: func(obj any) { handle(obj, true) },
	})
	if err != nil {
		return err
	}
	w.list = append(w.list, inf)
	w.synced = append(w.synced, reg.HasSynced)
	return nil
}

// newWatches follows services, slices and this node, or, for the pod network, all nodes.
func newWatches(c *kube.Client, cfg *config.Config, t *track.Tracker, pods *podnet.Network) (*watches, error) {
	w := &watches{}
	options := func(selector, field string, strip func(any)) kube.InformerOptions {
		return kube.InformerOptions{
			LabelSelector: selector, FieldSelector: field, Resync: cfg.Component.ConfigSyncPeriod.Duration,
			Transform: func(obj any) (any, error) { strip(obj); return obj, nil },
		}
	}
	which := "metadata.name=" + cfg.NodeName
	if cfg.PodNetwork {
		which = ""
	}
	for _, err := range []error{
		on(w, kube.NewInformer[v1.Node, v1.NodeList](c, v1.SchemeGroupVersion.WithResource("nodes"), options("", which, stripNode)),
			func(o *v1.Node, gone bool) {
				t.SetNode(o)
				pods.SetNode(o, gone)
			}),
		on(w, kube.NewInformer[v1.Service, v1.ServiceList](c, v1.SchemeGroupVersion.WithResource("services"), options(notOurs, "", stripService)),
			func(o *v1.Service, gone bool) { t.SetService(o, gone) }),
		on(w, kube.NewInformer[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](c, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), options(notOurs, "", stripSlice)),
			func(o *discoveryv1.EndpointSlice, gone bool) { t.SetSlice(o, gone) }),
	} {
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// What follows takes off objects what the proxy never reads, before they are cached.

func stripMeta(m *metav1.ObjectMeta, keep ...string) {
	labels := map[string]string{}
	for _, key := range keep {
		if v, ok := m.Labels[key]; ok {
			labels[key] = v
		}
	}
	*m = metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, DeletionTimestamp: m.DeletionTimestamp, Labels: labels,
	}
}

func stripNode(obj any) {
	if n, ok := obj.(*v1.Node); ok {
		stripMeta(&n.ObjectMeta, v1.LabelTopologyZone)
		n.Spec = v1.NodeSpec{PodCIDRs: n.Spec.PodCIDRs, Taints: n.Spec.Taints}
		n.Status = v1.NodeStatus{Addresses: n.Status.Addresses}
	}
}

func stripService(obj any) {
	if s, ok := obj.(*v1.Service); ok {
		stripMeta(&s.ObjectMeta)
		s.Spec.Selector = nil
		s.Status.Conditions = nil
	}
}

func stripSlice(obj any) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return
	}
	stripMeta(&s.ObjectMeta, discoveryv1.LabelServiceName)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		e.TargetRef, e.Hostname, e.DeprecatedTopology, e.Zone = nil, nil, nil, nil
	}
}
