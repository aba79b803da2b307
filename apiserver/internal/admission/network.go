package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// IngressClass gives an ingress without a class the default one.
type IngressClass struct {
	operations
	list func(ctx context.Context) ([]*networkingv1.IngressClass, error)
}

// Mutate implements Mutator.
func (p *IngressClass) Mutate(ctx context.Context, a *Attributes) error {
	if !a.Is("networking.k8s.io", "ingresses", "") {
		return nil
	}
	ing, ok := a.Object.(*networkingv1.Ingress)
	if !ok {
		return apierrors.NewBadRequest("Expected Ingress resource, got: " + a.Kind.String())
	}
	if _, ok := ing.Annotations["kubernetes.io/ingress.class"]; ok || ing.Spec.IngressClassName != nil {
		return nil
	}
	list, err := p.list(ctx)
	if err != nil {
		return Forbidden(a, err)
	}
	var defaults []*networkingv1.IngressClass
	for _, c := range list {
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			defaults = append(defaults, c)
		}
	}
	if c := newest(defaults); c != nil {
		ing.Spec.IngressClassName = new((*c).Name)
	}
	return nil
}

// DenyExternalIPs refuses new uses of a Service's external addresses.
type DenyExternalIPs struct{ operations }

// Validate implements Validator.
func (p *DenyExternalIPs) Validate(_ context.Context, a *Attributes) error {
	svc, ok := a.Object.(*corev1.Service)
	if !ok || !a.Is("", "services", "") {
		return nil
	}
	old, _ := a.OldObject.(*corev1.Service)
	for _, ip := range svc.Spec.ExternalIPs {
		if old == nil || !slices.Contains(old.Spec.ExternalIPs, ip) {
			return forbid(a, "Use of external IPs is denied by admission control")
		}
	}
	return nil
}
