package endpoints

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"flagship/controller-manager/internal/pod"
)

// maxAddresses bounds one Endpoints object, as upstream's; what is beyond is left out and noted by an annotation.
const maxAddresses = 1000

// endpointsManager is the controller's name in the label endpoints.kubernetes.io/managed-by.
const (
	endpointsManager   = "endpoint-controller"
	labelManagedBy     = "endpoints.kubernetes.io/managed-by"
	triggerAnnotation  = corev1.EndpointsLastChangeTriggerTime
	capacityAnnotation = corev1.EndpointsOverCapacity
)

// subsetsOf groups a Service's pods by their ports, sorted so that equal sets look equal.
func subsetsOf(svc *corev1.Service, pods []*corev1.Pod) []corev1.EndpointSubset {
	byPorts := map[string]*corev1.EndpointSubset{}
	family := families(svc)[0]
	for _, p := range pods {
		ip := podIP(p, family)
		if ip == "" || !listed(p, svc.Spec.PublishNotReadyAddresses) {
			continue
		}
		var ports []corev1.EndpointPort
		for i := range svc.Spec.Ports {
			sp := &svc.Spec.Ports[i]
			if n, err := targetPort(p, sp); err == nil {
				ports = append(ports, corev1.EndpointPort{Name: sp.Name, Port: n, Protocol: protocol(sp.Protocol), AppProtocol: sp.AppProtocol})
			}
		}
		if len(ports) == 0 && len(svc.Spec.Ports) > 0 {
			continue
		}
		slices.SortFunc(ports, func(a, b corev1.EndpointPort) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
		})
		key := fmt.Sprintf("%+v", ports)
		if byPorts[key] == nil {
			byPorts[key] = &corev1.EndpointSubset{Ports: ports}
		}
		a := corev1.EndpointAddress{IP: ip, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID}}
		if p.Spec.NodeName != "" {
			a.NodeName = &p.Spec.NodeName
		}
		if p.Spec.Hostname != "" && p.Spec.Subdomain == svc.Name {
			a.Hostname = p.Spec.Hostname
		}
		if svc.Spec.PublishNotReadyAddresses || pod.Ready(p) {
			byPorts[key].Addresses = append(byPorts[key].Addresses, a)
		} else {
			byPorts[key].NotReadyAddresses = append(byPorts[key].NotReadyAddresses, a)
		}
	}
	var out []corev1.EndpointSubset
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		s := byPorts[key]
		byIP := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) }
		slices.SortFunc(s.Addresses, byIP)
		slices.SortFunc(s.NotReadyAddresses, byIP)
		out = append(out, *s)
	}
	return out
}

// truncate cuts subsets down to the bound, ready addresses first, and says whether it cut.
func truncate(subsets []corev1.EndpointSubset, limit int) ([]corev1.EndpointSubset, bool) {
	n := 0
	for i := range subsets {
		n += len(subsets[i].Addresses) + len(subsets[i].NotReadyAddresses)
	}
	if n <= limit {
		return subsets, false
	}
	var out []corev1.EndpointSubset
	left := limit
	for _, s := range subsets {
		k := min(left, len(s.Addresses))
		s.Addresses = s.Addresses[:k]
		left -= k
		out = append(out, s)
	}
	for i := range out {
		k := min(left, len(out[i].NotReadyAddresses))
		out[i].NotReadyAddresses = out[i].NotReadyAddresses[:k]
		left -= k
	}
	return slices.DeleteFunc(out, func(s corev1.EndpointSubset) bool { return len(s.Addresses)+len(s.NotReadyAddresses) == 0 }), true
}

// endpointsFor returns the Endpoints that a Service should have, and whether old differs from it.
func endpointsFor(svc *corev1.Service, old *corev1.Endpoints, pods []*corev1.Pod) (*corev1.Endpoints, bool) {
	next := &corev1.Endpoints{}
	next.Namespace, next.Name = svc.Namespace, svc.Name
	if old != nil {
		next = old.DeepCopy()
	}
	subsets, cut := truncate(subsetsOf(svc, pods), maxAddresses)
	labels := maps.Clone(svc.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelManagedBy] = endpointsManager
	delete(labels, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone || svc.Spec.ClusterIP == "" {
		labels[corev1.IsHeadlessService] = ""
	}
	next.Labels, next.Subsets = labels, subsets
	annotations := maps.Clone(next.Annotations)
	if cut {
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[capacityAnnotation] = "truncated"
	} else {
		delete(annotations, capacityAnnotation)
	}
	delete(annotations, triggerAnnotation)
	next.Annotations = annotations
	if old == nil {
		return next, true
	}
	return next, !sameSubsets(old.Subsets, subsets) || !maps.Equal(old.Labels, labels) || !maps.Equal(old.Annotations, annotations)
}

func sameSubsets(a, b []corev1.EndpointSubset) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.EndpointSubset) bool {
		same := func(p, q corev1.EndpointAddress) bool {
			return p.IP == q.IP && p.Hostname == q.Hostname && deref(p.NodeName) == deref(q.NodeName) && deref(p.TargetRef).UID == deref(q.TargetRef).UID
		}
		port := func(p, q corev1.EndpointPort) bool {
			return p.Name == q.Name && p.Port == q.Port && p.Protocol == q.Protocol && deref(p.AppProtocol) == deref(q.AppProtocol)
		}
		return slices.EqualFunc(x.Addresses, y.Addresses, same) && slices.EqualFunc(x.NotReadyAddresses, y.NotReadyAddresses, same) && slices.EqualFunc(x.Ports, y.Ports, port)
	})
}
