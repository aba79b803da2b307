package allocate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

const (
	// repairPeriod is upstream's.
	repairPeriod = 3 * time.Minute
	// leakAge is how old an address without its service must be to be removed: longer than a request may take that takes one for the service that it writes.
	leakAge = time.Minute
)

// Repair compares the services' addresses with the objects that hold them, now and then, until ctx ends: those of old stores and of writes that were cut off are mended
// (KEP-1880). It tells report what it found.
func (h *Hooks) Repair(ctx context.Context, report func(error)) {
	for {
		if err := h.repair(ctx, time.Now()); err != nil && ctx.Err() == nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(repairPeriod):
		}
	}
}

// repair is one pass. Its error joins what was mended and what could not be.
func (h *Hooks) repair(ctx context.Context, now time.Time) error {
	held := map[string]*networkingv1.IPAddress{}
	counted := sets.Set[string]{} // of addresses of ours that are held
	// Addresses are read before services: one that is taken meanwhile is not missed in the former and found in the latter.
	if err := h.objects.Each(addresses, "", func(o runtime.Object) bool {
		a := o.(*networkingv1.IPAddress)
		held[a.Name] = a
		if a.Labels[networkingv1.LabelManagedBy] == managedBy {
			counted.Insert(a.Name)
		}
		return true
	}); err != nil {
		return err
	}
	claimed := map[types.NamespacedName][]string{}
	var all []*corev1.Service
	if err := h.objects.Each(services, "", func(o runtime.Object) bool {
		svc := o.(*corev1.Service)
		name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		claimed[name] = nil
		if needsIP(svc) && !headless(svc) {
			claimed[name] = svc.Spec.ClusterIPs
			all = append(all, svc)
		}
		return true
	}); err != nil {
		return err
	}
	var found []error
	for _, svc := range all {
		for _, text := range svc.Spec.ClusterIPs {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				found = append(found, fmt.Errorf("service %s/%s: cluster IP %q is not valid; recreate the service", svc.Namespace, svc.Name, text))
				continue
			}
			a := held[ip.Unmap().String()]
			if a != nil {
				owner, ok := parent(a)
				if ok && owner.Namespace == svc.Namespace && owner.Name == svc.Name && a.Labels[networkingv1.LabelManagedBy] == managedBy && a.Labels[networkingv1.LabelIPAddressFamily] == string(Family(ip.Unmap())) {
					continue
				}
				if other := (types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}); ok && owner != other && slices.Contains(claimed[owner], text) {
					found = append(found, fmt.Errorf("services %s and %s have the same cluster IP %s; recreate one of them", owner, other, text))
					continue
				}
				if err := h.objects.DeleteObject(ctx, addresses, "", a.Name); err != nil && !apierrors.IsNotFound(err) {
					found = append(found, err)
					continue
				}
				counted.Delete(a.Name)
			}
			if err = h.claim(ctx, svc, ip.Unmap()); err == nil {
				counted.Insert(ip.Unmap().String())
			}
			if a == nil && apierrors.IsAlreadyExists(err) {
				continue // it came between the two reads
			}
			found = append(found, errors.Join(fmt.Errorf("service %s/%s: cluster IP %s was not held by an IPAddress, or one that said otherwise: repaired", svc.Namespace, svc.Name, text), err))
		}
	}
	for name, a := range held {
		if a.Labels[networkingv1.LabelManagedBy] != managedBy || now.Sub(a.CreationTimestamp.Time) < leakAge {
			continue
		}
		if owner, ok := parent(a); ok && slices.Contains(claimed[owner], name) {
			continue
		}
		err := h.objects.DeleteObject(ctx, addresses, "", name)
		if err == nil || apierrors.IsNotFound(err) {
			counted.Delete(name)
		}
		if apierrors.IsNotFound(err) {
			continue
		}
		found = append(found, errors.Join(fmt.Errorf("IPAddress %s belongs to no service: removed", name), err))
	}
	return errors.Join(append(found, h.recount(counted))...)
}

// recount counts the addresses that are held in each range.
func (h *Hooks) recount(names sets.Set[string]) error {
	used, pools := map[netip.Prefix]float64{}, map[corev1.IPFamily][]netip.Prefix{}
	for _, f := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		all, err := h.pools(f)
		if err != nil {
			return err
		}
		for _, p := range all {
			used[p] = 0
		}
		pools[f] = all
	}
	for name := range names {
		if ip, err := netip.ParseAddr(name); err == nil {
			if p, ok := firstWith(pools[Family(ip)], ip); ok {
				used[p]++
			}
		}
	}
	h.metrics.recount(used)
	return nil
}

// parent is the service that an address is for.
func parent(a *networkingv1.IPAddress) (types.NamespacedName, bool) {
	p := a.Spec.ParentRef
	if p == nil || p.Group != "" || p.Resource != "services" {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, true
}
