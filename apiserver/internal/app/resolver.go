package app

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"flagship/apiserver/internal/rest"
)

// resolver finds where services answer: at their cluster address, which the
// proxy on this host serves, or at one of their endpoints.
type resolver struct {
	api *rest.API
	// endpoints is --enable-aggregator-routing.
	endpoints bool
	// self is where this server answers, for the service kubernetes.
	self string
}

// Resolve implements hook.Resolver.
func (r *resolver) Resolve(ctx context.Context, namespace, name string, port int32) (string, error) {
	if port == 0 {
		port = 443
	}
	if namespace == metav1.NamespaceDefault && name == "kubernetes" && port == 443 {
		return r.self, nil
	}
	svc, err := reader[*corev1.Service](r.api, corev1.SchemeGroupVersion.WithResource("services"))(ctx, namespace, name)
	if apierrors.IsNotFound(err) {
		err = apierrors.NewNotFound(corev1.Resource("service"), name) // in upstream's words
	}
	if err != nil {
		return "", err
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port))), nil
	}
	var found *corev1.ServicePort
	for i := range svc.Spec.Ports {
		if svc.Spec.Ports[i].Port == port {
			found = &svc.Spec.Ports[i]
		}
	}
	if found == nil {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", port, name))
	}
	if r.endpoints || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return r.endpoint(svc, found)
	}
	if svc.Spec.ClusterIP == "" {
		return "", fmt.Errorf("service %q has no cluster address", name)
	}
	return net.JoinHostPort(svc.Spec.ClusterIP, strconv.Itoa(int(port))), nil
}

// endpoint is one of a service's ready endpoints.
func (r *resolver) endpoint(svc *corev1.Service, port *corev1.ServicePort) (string, error) {
	var found []string
	err := r.api.Each(discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), svc.Namespace, func(obj runtime.Object) bool {
		s, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok || s.Labels[discoveryv1.LabelServiceName] != svc.Name {
			return true
		}
		for _, p := range s.Ports {
			if p.Port == nil || p.Name == nil || *p.Name != port.Name {
				continue
			}
			for _, e := range s.Endpoints {
				if ready := e.Conditions.Ready; ready != nil && !*ready || len(e.Addresses) == 0 {
					continue
				}
				found = append(found, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
			}
		}
		return true
	})
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", svc.Name))
	}
	return found[rand.N(len(found))], nil //nolint:gosec // spreads load, keeps no secret
}
