// Package allocate gives Services their cluster IPs and node ports, and checks
// what a role or binding would grant: the hooks of the write path that need
// more than the object.
//
// Data in: Services, Roles and bindings being written. Data out: the same with
// addresses and ports filled in, and IPAddress objects that hold each address
// (KEP-1880), so that no two Services share one. It starts no goroutine;
// Repair runs in its caller's.
package allocate

import (
	"context"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/resource"
)

// Objects reads and writes API objects as the server itself.
type Objects interface {
	Each(gvr schema.GroupVersionResource, namespace string, visit func(runtime.Object) bool) error
	CreateObject(ctx context.Context, gvr schema.GroupVersionResource, obj runtime.Object) error
	DeleteObject(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error
}

// Config are the ranges.
type Config struct {
	// Ranges are the service CIDRs, the primary family first.
	Ranges []netip.Prefix
	// FirstPort and LastPort bound node ports, both inclusive.
	FirstPort, LastPort int32
	// Privileged lets pods have privileged containers.
	Privileged bool
}

// Escalation checks what a role or binding would grant.
type Escalation func(ctx context.Context, obj runtime.Object) error

// Hooks implements rest.Hooks.
type Hooks struct {
	cfg        Config
	objects    Objects
	escalation Escalation
	metrics    *Metrics

	mu sync.Mutex // guards what follows
	// ports are node ports that are given out and perhaps not yet in a cached
	// Service.
	ports map[int32]struct{}
	// portCount is how many node ports were taken when one was last asked for, less those given back since.
	portCount int
}

// New returns the hooks. It does no I/O.
func New(cfg Config, objects Objects, escalation Escalation, m *Metrics) *Hooks {
	return &Hooks{cfg: cfg, objects: objects, escalation: escalation, metrics: m, ports: map[int32]struct{}{}}
}

var (
	addresses    = networkingv1.SchemeGroupVersion.WithResource("ipaddresses")
	serviceCIDRs = networkingv1.SchemeGroupVersion.WithResource("servicecidrs")
	services     = corev1.SchemeGroupVersion.WithResource("services")
)

// BeforeCreate fills in a Service's addresses and ports.
func (h *Hooks) BeforeCreate(ctx context.Context, k *resource.Kind, obj runtime.Object, dryRun bool) (func(written bool), error) {
	if !h.cfg.Privileged {
		if err := checkPrivileged(k, obj); err != nil {
			return nil, err
		}
	}
	if k.Group == "rbac.authorization.k8s.io" {
		return nil, h.escalation(ctx, obj)
	}
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	return h.allocate(ctx, svc, nil, dryRun)
}

// BeforeUpdate keeps a Service's addresses and ports, or gives it what its new
// type needs.
func (h *Hooks) BeforeUpdate(ctx context.Context, k *resource.Kind, obj, old runtime.Object, dryRun bool) (func(written bool), error) {
	if !h.cfg.Privileged {
		if err := checkPrivileged(k, obj); err != nil {
			return nil, err
		}
	}
	if k.Group == "rbac.authorization.k8s.io" {
		return nil, h.escalation(ctx, obj)
	}
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	was := old.(*corev1.Service)
	keepAllocated(svc, was)
	done, err := h.allocate(ctx, svc, was, dryRun)
	dropUnneeded(svc, was)
	return done, err
}

// allocate gives a Service what it needs and does not have. The returned function gives back what was taken for nothing or is needed no longer.
func (h *Hooks) allocate(ctx context.Context, svc, was *corev1.Service, dryRun bool) (func(written bool), error) {
	pairIPs(svc, was)
	if err := h.families(svc, was); err != nil {
		return nil, err
	}
	ips, oldIPs, err := h.addresses(ctx, svc, was, dryRun)
	if err != nil {
		return nil, err
	}
	ports, oldPorts, err := h.takePorts(svc, was, dryRun)
	if err != nil {
		h.free(ctx, ips)
		return nil, err
	}
	return func(written bool) {
		if written {
			ips, ports = oldIPs, oldPorts
		}
		h.free(ctx, ips)
		h.freePorts(ports)
	}, nil
}

// AfterDelete gives back what a Service held.
func (h *Hooks) AfterDelete(ctx context.Context, _ *resource.Kind, obj runtime.Object) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return
	}
	h.free(ctx, svc.Spec.ClusterIPs)
	h.freePorts(nodePorts(svc))
}
