package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/config"
	"flagship/apiserver/internal/fairness"
)

// bootstrapper keeps the objects that every cluster has.
type bootstrapper struct {
	cfg *config.Config
	l   *local
	// fairness has default objects, nil where it is off.
	fairness *fairness.Controller
	// masters are the servers behind the kubernetes service, nil where it is not for this server to say. stopping is closed when it is one no more.
	masters  *masters
	stopping <-chan struct{}
	log      *zap.Logger
}

// once creates what must be there before the server is ready: namespaces, then
// roles, priority classes and the client CA for the other components.
func (b *bootstrapper) once(ctx context.Context) error {
	for _, name := range []string{metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease, metav1.NamespaceDefault} {
		if err := b.ensure(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return err
		}
	}
	if err := authz.Reconcile(ctx, b.l); err != nil {
		return fmt.Errorf("reconcile the default roles: %w", err)
	}
	for _, p := range []struct {
		name, text string
		value      int32
	}{
		{"system-node-critical", "Used for system critical pods that must not be moved from their current node.", 2000001000},
		{"system-cluster-critical", "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.", 2000000000},
	} {
		if err := b.ensure(ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: p.name}, Value: p.value, Description: p.text}); err != nil {
			return err
		}
	}
	if b.fairness != nil {
		if err := reconcileFairness(ctx, b.fairness, b.l); err != nil {
			return err
		}
	}
	if err := b.serviceCIDR(ctx); err != nil {
		return err
	}
	// The day from which the use of legacy tokens is known, KEP-2799.
	if err := b.ensure(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-apiserver-legacy-service-account-token-tracking", Namespace: metav1.NamespaceSystem},
		Data:       map[string]string{"since": time.Now().UTC().Format(time.DateOnly)},
	}); err != nil {
		return err
	}
	return b.authenticationInfo(ctx)
}

// ensure creates an object that is not there.
func (b *bootstrapper) ensure(ctx context.Context, obj runtime.Object) error {
	if _, _, err := b.l.of(obj); errors.Is(err, errNotServed) {
		return nil // it is turned off
	}
	probe := obj.DeepCopyObject()
	err := b.l.Get(ctx, probe)
	if apierrors.IsNotFound(err) {
		err = b.l.Create(ctx, obj)
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create %T %s: %w", obj, obj.(metav1.Object).GetName(), err)
	}
	return nil
}

// serviceCIDR publishes the range of service addresses, KEP-1880.
func (b *bootstrapper) serviceCIDR(ctx context.Context) error {
	c := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}}
	for _, p := range b.cfg.ServiceRanges {
		c.Spec.CIDRs = append(c.Spec.CIDRs, p.String())
	}
	if err := b.ensure(ctx, c); err != nil {
		return err
	}
	have := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}}
	if err := b.l.Get(ctx, have); err != nil {
		return fmt.Errorf("read service CIDR: %w", err)
	}
	if len(have.Status.Conditions) > 0 {
		return nil
	}
	have.Status.Conditions = []metav1.Condition{{
		Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Reason: "", Message: "Kubernetes default Service CIDR is ready",
	}}
	if err := b.l.UpdateStatus(ctx, have); err != nil {
		return fmt.Errorf("mark the service CIDR as ready: %w", err)
	}
	return nil
}

// authenticationInfo publishes the CAs by which other API servers and the
// components recognize clients.
func (b *bootstrapper) authenticationInfo(ctx context.Context) error {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "extension-apiserver-authentication", Namespace: metav1.NamespaceSystem}, Data: map[string]string{}}
	for key, path := range map[string]string{"client-ca-file": b.cfg.ClientCAFile, "requestheader-client-ca-file": b.cfg.RequestHeader.ClientCAFile} {
		if path == "" {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("publish %s: %w", key, err)
		}
		cm.Data[key] = string(data)
	}
	if b.cfg.RequestHeader.ClientCAFile != "" {
		h := b.cfg.RequestHeader
		for key, list := range map[string][]string{
			"requestheader-username-headers": h.Username, "requestheader-group-headers": h.Group,
			"requestheader-extra-headers-prefix": h.ExtraPrefixes, "requestheader-allowed-names": h.AllowedNames, "requestheader-uid-headers": h.UID,
		} {
			cm.Data[key] = jsonList(list)
		}
	}
	if len(cm.Data) == 0 {
		return nil
	}
	have := cm.DeepCopy()
	err := b.l.Get(ctx, have)
	switch {
	case apierrors.IsNotFound(err):
		err = b.l.Create(ctx, cm)
	case err == nil && !equality.Semantic.DeepEqual(have.Data, cm.Data):
		have.Data = cm.Data
		err = b.l.Update(ctx, have)
	}
	if err != nil {
		return fmt.Errorf("publish the client CAs: %w", err)
	}
	return nil
}

func jsonList(list []string) string {
	out := "["
	for i, s := range list {
		if i > 0 {
			out += ","
		}
		out += strconv.Quote(s)
	}
	return out + "]"
}

// endpointInterval is how often the kubernetes service is looked after.
const endpointInterval = 10 * time.Second

// keep looks after the kubernetes service until the server stops, then takes it out of it.
func (b *bootstrapper) keep(ctx context.Context) error {
	tick := time.NewTicker(endpointInterval)
	defer tick.Stop()
	var swept time.Time
	for {
		if time.Since(swept) > identityInterval {
			swept = time.Now()
			if err := b.sweepIdentities(ctx); err != nil && ctx.Err() == nil {
				b.log.Warn("cannot delete the leases of servers that are gone", zap.Error(err))
			}
		}
		if err := b.kubernetesService(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("cannot look after the kubernetes service", zap.Error(err))
		}
		// The files may have changed, or somebody the object.
		if err := b.authenticationInfo(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("cannot look after the client CAs", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.stopping:
			b.leave(ctx)
			return nil
		case <-tick.C:
		}
	}
}

// leaveTimeout bounds how long the end of the server waits for its address to be taken out of the kubernetes service.
const leaveTimeout = 5 * time.Second

func (b *bootstrapper) leave(ctx context.Context) {
	if b.masters == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	err := b.masters.leave(ctx)
	if err == nil {
		var others []netip.Addr
		if others, err = b.masters.list(ctx); err == nil {
			err = errors.Join(b.endpoints(ctx, others), b.slice(ctx, others))
		}
	}
	if err != nil {
		b.log.Warn("cannot take this server out of the kubernetes service", zap.Error(err))
	}
}

func (b *bootstrapper) kubernetesService(ctx context.Context) error {
	ip := b.cfg.ServiceRanges[0].Addr().Next().String()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: metav1.NamespaceDefault, Labels: map[string]string{"provider": "kubernetes", "component": "apiserver"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt(b.cfg.SecurePort), NodePort: int32(b.cfg.ServiceNodePort)}}, //nolint:gosec // a port, validated
		},
	}
	if b.cfg.ServiceNodePort > 0 {
		svc.Spec.Type = corev1.ServiceTypeNodePort
	}
	return errors.Join(b.ensure(ctx, svc), b.serving(ctx), b.identityLease(ctx))
}

// serving publishes the servers that there are, this one among them.
func (b *bootstrapper) serving(ctx context.Context) error {
	if b.masters == nil {
		return nil
	}
	if err := b.masters.renew(ctx); err != nil {
		return err
	}
	servers, err := b.masters.list(ctx)
	if err != nil {
		return err
	}
	if len(servers) == 0 {
		return errNoMasters
	}
	return errors.Join(b.endpoints(ctx, servers), b.slice(ctx, servers))
}

// skipMirror keeps the mirroring controller from doing again what is done here.
const skipMirror = "endpointslice.kubernetes.io/skip-mirror"

func (b *bootstrapper) endpoints(ctx context.Context, servers []netip.Addr) error {
	var want []corev1.EndpointSubset
	if len(servers) > 0 {
		want = []corev1.EndpointSubset{{Ports: []corev1.EndpointPort{{Name: "https", Port: int32(b.cfg.SecurePort), Protocol: corev1.ProtocolTCP}}}} //nolint:gosec // a port, validated
		for _, a := range servers {
			want[0].Addresses = append(want[0].Addresses, corev1.EndpointAddress{IP: a.String()})
		}
	}
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: metav1.NamespaceDefault, Labels: map[string]string{skipMirror: "true"}}}
	err := b.l.Get(ctx, e)
	switch {
	case apierrors.IsNotFound(err):
		e.Subsets = want
		return b.l.Create(ctx, e)
	case err != nil:
		return err
	case equality.Semantic.DeepEqual(e.Subsets, want) && e.Labels[skipMirror] == "true":
		return nil
	}
	e.Subsets = want
	if e.Labels == nil {
		e.Labels = map[string]string{}
	}
	e.Labels[skipMirror] = "true"
	return b.l.Update(ctx, e)
}

func (b *bootstrapper) slice(ctx context.Context, servers []netip.Addr) error {
	name, port, protocol := "https", int32(b.cfg.SecurePort), corev1.ProtocolTCP //nolint:gosec // a port, validated
	want := discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "kubernetes", Namespace: metav1.NamespaceDefault, Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	if a, err := netip.ParseAddr(b.cfg.AdvertiseAddress.String()); err == nil && a.Is6() {
		want.AddressType = discoveryv1.AddressTypeIPv6
	}
	for _, a := range servers {
		want.Endpoints = append(want.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
	}
	have := &discoveryv1.EndpointSlice{ObjectMeta: want.ObjectMeta}
	err := b.l.Get(ctx, have)
	switch {
	case apierrors.IsNotFound(err):
		return b.l.Create(ctx, &want)
	case err != nil:
		return err
	case equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(have.Ports, want.Ports):
		return nil
	}
	have.Endpoints, have.Ports = want.Endpoints, want.Ports
	return b.l.Update(ctx, have)
}

// identitySeconds is how long a server's identity lease holds, KEP-1965.
const identitySeconds = 3600

// identityInterval is how often the leases of servers that are gone are looked for.
const identityInterval = time.Hour

// identityLabel marks the leases of API servers' identities.
const identityLabel = "apiserver.kubernetes.io/identity"

// sweepIdentities deletes the leases of API servers that have not renewed them in time.
func (b *bootstrapper) sweepIdentities(ctx context.Context) error {
	var gone []*coordinationv1.Lease
	err := b.l.api.Each(coordinationv1.SchemeGroupVersion.WithResource("leases"), metav1.NamespaceSystem, func(obj runtime.Object) bool {
		lease, ok := obj.(*coordinationv1.Lease)
		if ok && lease.Labels[identityLabel] == "kube-apiserver" && expired(&lease.Spec, time.Now()) {
			gone = append(gone, lease)
		}
		return true
	})
	for _, lease := range gone {
		if e := b.l.Delete(ctx, lease); e != nil && !apierrors.IsNotFound(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// expired is whether a lease is not held any more; one that says nothing of its time is not held.
func expired(l *coordinationv1.LeaseSpec, now time.Time) bool {
	return l.RenewTime == nil || l.LeaseDurationSeconds == nil || l.RenewTime.Add(time.Duration(*l.LeaseDurationSeconds)*time.Second).Before(now)
}

// leaseName is that of a server's identity.
func leaseName(host string) string { return "apiserver-" + hashName(host) }

func (b *bootstrapper) identityLease(ctx context.Context) error {
	host, seconds, at := b.cfg.ExternalHostname, int32(identitySeconds), metav1.NewMicroTime(time.Now())
	want := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: leaseName(host), Namespace: metav1.NamespaceSystem,
			Labels: map[string]string{identityLabel: "kube-apiserver", corev1.LabelHostname: host},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &host, LeaseDurationSeconds: &seconds, RenewTime: &at},
	}
	have := &coordinationv1.Lease{ObjectMeta: want.ObjectMeta}
	err := b.l.Get(ctx, have)
	if apierrors.IsNotFound(err) {
		return b.l.Create(ctx, want)
	}
	if err != nil {
		return err
	}
	have.Spec = want.Spec
	return b.l.Update(ctx, have)
}
