package endpoints

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// slicePlan is what brings the slices of a Service to its endpoints. Those to create and update are copies.
type slicePlan struct{ create, update, remove []*discoveryv1.EndpointSlice }

// frame is what all slices of a Service share.
type frame struct {
	labels, annotations map[string]string
	families            []discoveryv1.AddressType
	limit               int
	// fresh makes an empty slice of a family.
	fresh func(t discoveryv1.AddressType) *discoveryv1.EndpointSlice
}

// planSlices fits groups into slices. Endpoints stay in the slice they are in; new ones fill up slices that change
// anyway or have room, the fullest first; slices that are left empty go, but one per family remains.
func planSlices(want map[string]*group, have []*discoveryv1.EndpointSlice, f frame) slicePlan {
	var plan slicePlan
	byKey := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range have {
		key := groupKey(s.AddressType, s.Ports)
		byKey[key] = append(byKey[key], s)
	}
	filled := map[discoveryv1.AddressType]bool{}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		g := want[key]
		planGroup(g, byKey[key], f, &plan)
		delete(byKey, key)
		filled[g.family] = true
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		for _, s := range byKey[key] {
			if !filled[s.AddressType] && slices.Contains(f.families, s.AddressType) {
				// The placeholder: it shows that the Service was looked at.
				filled[s.AddressType] = true
				next := s.DeepCopy()
				next.Endpoints, next.Ports = []discoveryv1.Endpoint{}, nil
				keepOrUpdate(s, next, f, &plan)
				continue
			}
			plan.remove = append(plan.remove, s)
		}
	}
	for _, t := range f.families {
		if !filled[t] {
			filled[t] = true
			plan.create = append(plan.create, f.fresh(t))
		}
	}
	return plan
}

func keepOrUpdate(old, next *discoveryv1.EndpointSlice, f frame, plan *slicePlan) {
	next.Labels, next.Annotations = f.labels, mergeAnnotations(old.Annotations, f.annotations)
	if !equality.Semantic.DeepEqual(old.Endpoints, next.Endpoints) || !equality.Semantic.DeepEqual(old.Ports, next.Ports) ||
		!maps.Equal(old.Labels, next.Labels) || !maps.Equal(old.Annotations, next.Annotations) {
		plan.update = append(plan.update, next)
	}
}

func mergeAnnotations(old, add map[string]string) map[string]string {
	if len(add) == 0 {
		return old
	}
	out := maps.Clone(old)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, add)
	return out
}

func planGroup(g *group, have []*discoveryv1.EndpointSlice, f frame, plan *slicePlan) {
	left := map[string]discoveryv1.Endpoint{}
	var order []string
	for i := range g.endpoints {
		id := identity(&g.endpoints[i])
		if _, twice := left[id]; !twice {
			order = append(order, id)
		}
		left[id] = g.endpoints[i]
	}
	next := make([]*discoveryv1.EndpointSlice, len(have))
	for i, s := range have {
		n := s.DeepCopy()
		n.Endpoints = []discoveryv1.Endpoint{}
		for j := range s.Endpoints {
			id := identity(&s.Endpoints[j])
			if e, ok := left[id]; ok && len(n.Endpoints) < f.limit {
				n.Endpoints = append(n.Endpoints, e)
				delete(left, id)
			}
		}
		next[i] = n
	}
	var added []discoveryv1.Endpoint
	for _, id := range order {
		if e, ok := left[id]; ok {
			added = append(added, e)
		}
	}
	fill := make([]int, len(next))
	for i := range fill {
		fill[i] = i
	}
	slices.SortStableFunc(fill, func(a, b int) int { return cmp.Compare(len(next[b].Endpoints), len(next[a].Endpoints)) })
	for _, i := range fill {
		n := min(f.limit-len(next[i].Endpoints), len(added))
		next[i].Endpoints = append(next[i].Endpoints, added[:n]...)
		added = added[n:]
	}
	for i, n := range next {
		if len(n.Endpoints) == 0 {
			plan.remove = append(plan.remove, have[i])
			continue
		}
		keepOrUpdate(have[i], n, f, plan)
	}
	for len(added) > 0 {
		n := min(f.limit, len(added))
		s := f.fresh(g.family)
		s.Ports, s.Endpoints = g.ports, added[:n:n]
		plan.create = append(plan.create, s)
		added = added[n:]
	}
}

// serviceLabels are the labels of a Service's slices: its own, without those that slices have for themselves, and these.
func serviceLabels(svc *corev1.Service, manager string) map[string]string {
	out := map[string]string{}
	for k, v := range svc.Labels {
		if k != discoveryv1.LabelServiceName && k != discoveryv1.LabelManagedBy && k != corev1.IsHeadlessService {
			out[k] = v
		}
	}
	out[discoveryv1.LabelServiceName], out[discoveryv1.LabelManagedBy] = svc.Name, manager
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		out[corev1.IsHeadlessService] = ""
	}
	return out
}
