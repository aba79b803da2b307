package aggregate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// checkTimeout bounds how long another server has to say what it serves.
const checkTimeout = 5 * time.Second

// maxDocument bounds a discovery document in bytes.
const maxDocument = 8 << 20

func unavailable(reason, format string, args ...any) apiregistrationv1.APIServiceCondition {
	return apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionFalse, Reason: reason, Message: fmt.Sprintf(format, args...),
	}
}

// check finds out whether a server is there, records it, and says whether what
// is served changed.
func (a *Aggregator) check(ctx context.Context, r *remote) (bool, error) {
	c := a.service(r)
	var resources []metav1.APIResource
	if c == nil {
		resources, c = a.ask(ctx, r)
	}
	up := c.Status == apiregistrationv1.ConditionTrue
	a.mu.Lock()
	if !up {
		resources = r.resources
	}
	if !up && (r.available || r.checked.IsZero()) {
		a.downs.WithLabelValues(r.name, c.Reason).Inc()
	}
	changed := r.available != up || !apiequality.Semantic.DeepEqual(r.resources, resources)
	r.available, r.resources, r.checked = up, resources, time.Now()
	a.mu.Unlock()
	return changed, a.record(ctx, r.name, *c)
}

// service is what is wrong with an APIService's service, nil for nothing.
func (a *Aggregator) service(r *remote) *apiregistrationv1.APIServiceCondition {
	s := r.spec.Service
	no := func(c apiregistrationv1.APIServiceCondition) *apiregistrationv1.APIServiceCondition { return &c }
	obj, err := a.deps.API.Read(corev1.SchemeGroupVersion.WithResource("services"), s.Namespace, s.Name)
	if apierrors.IsNotFound(err) {
		return no(unavailable("ServiceNotFound", "service/%s in %q is not present", s.Name, s.Namespace))
	}
	if err != nil {
		return no(unavailable("ServiceAccessError", "service/%s in %q cannot be checked due to: %v", s.Name, s.Namespace, err))
	}
	svc, ok := obj.(*corev1.Service)
	if !ok || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	port, portName, found := int32(443), "", false
	if s.Port != nil {
		port = *s.Port
	}
	for _, p := range svc.Spec.Ports {
		if p.Port == port {
			portName, found = p.Name, true
		}
	}
	if !found {
		return no(unavailable("ServicePortError", "service/%s in %q is not listening on port %d", s.Name, s.Namespace, port))
	}
	slices, ready := 0, false
	if err := a.deps.API.Each(discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), s.Namespace, func(obj runtime.Object) bool {
		e, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok || e.Labels[discoveryv1.LabelServiceName] != s.Name {
			return true
		}
		slices++
		ready = ready || serves(e, portName)
		return !ready
	}); err != nil {
		return no(unavailable("EndpointsAccessError", "service/%s in %q cannot be checked due to: %v", s.Name, s.Namespace, err))
	}
	if slices == 0 {
		return no(unavailable("EndpointsNotFound", "cannot find endpointslices for service/%s in %q", s.Name, s.Namespace))
	}
	if !ready {
		return no(unavailable("MissingEndpoints", "endpointslices for service/%s in %q have no addresses with port name %q", s.Name, s.Namespace, portName))
	}
	return nil
}

// serves is whether a slice has a ready endpoint with a port.
func serves(e *discoveryv1.EndpointSlice, port string) bool {
	named := false
	for _, p := range e.Ports {
		named = named || p.Name != nil && *p.Name == port
	}
	for _, x := range e.Endpoints {
		if named && (x.Conditions.Ready == nil || *x.Conditions.Ready) {
			return true
		}
	}
	return false
}

// ask asks a server what it serves.
func (a *Aggregator) ask(ctx context.Context, r *remote) ([]metav1.APIResource, *apiregistrationv1.APIServiceCondition) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	url := "https://" + r.spec.Service.Name + "." + r.spec.Service.Namespace + ".svc/apis/" + r.spec.Group + "/" + r.spec.Version
	list := &metav1.APIResourceList{}
	err := a.get(ctx, r, url, list)
	if err != nil {
		c := unavailable("FailedDiscoveryCheck", "failing or missing response from %s: %v", url, err)
		return nil, &c
	}
	return list.APIResources, &apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, Reason: "Passed", Message: "all checks passed",
	}
}

func (a *Aggregator) get(ctx context.Context, r *remote, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	setUser(req, "system:kube-aggregator", "", []string{"system:masters"}, nil)
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return err
	}
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("bad status from %s: %d", url, resp.StatusCode)
	}
	return json.Unmarshal(data, into)
}

// record writes a condition where it is not what stands there.
func (a *Aggregator) record(ctx context.Context, name string, c apiregistrationv1.APIServiceCondition) error {
	obj, err := a.deps.API.Read(gvrAPIServices(), "", name)
	if err != nil {
		return err
	}
	s, ok := obj.(*apiregistrationv1.APIService)
	if !ok {
		return fmt.Errorf("API service %s: it is a %T", name, obj)
	}
	if !setCondition(&s.Status, c) {
		return nil
	}
	return a.deps.Client.UpdateStatus(ctx, s)
}

// setCondition changes a condition, and says whether that changed anything.
func setCondition(s *apiregistrationv1.APIServiceStatus, c apiregistrationv1.APIServiceCondition) bool {
	c.LastTransitionTime = metav1.NewTime(time.Now().Truncate(time.Second))
	for i := range s.Conditions {
		have := &s.Conditions[i]
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		changed := have.Status != c.Status || have.Reason != c.Reason || have.Message != c.Message
		*have = c
		return changed
	}
	s.Conditions = append(s.Conditions, c)
	return true
}
