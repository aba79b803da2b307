package aggregate

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// managed marks the APIServices that the server keeps itself: those of custom
// resources go with them.
const (
	managed       = "kube-aggregator.kubernetes.io/automanaged"
	managedStart  = "onstart"
	managedAlways = "true"
)

// Priority is upstream's for a version's group, and for the version in it.
func Priority(gv schema.GroupVersion) (group, version int32) {
	groups := map[string]int32{
		apiregistrationv1.GroupName: 20000, "": 18000, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600, "apps": 17800, "autoscaling": 17500,
		"batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100, "rbac.authorization.k8s.io": 17000,
		"storage.k8s.io": 16800, "apiextensions.k8s.io": 16700, "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600,
		"coordination.k8s.io": 16500, "node.k8s.io": 16300, "discovery.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100,
		"resource.k8s.io": 16200, "storagemigration.k8s.io": 15800,
	}
	group, ok := groups[gv.Group]
	switch {
	case !ok:
		return 1000, 100
	case gv.Group == "":
		return group, 1
	case gv.Group == "autoscaling" && gv.Version == "v2":
		return group, 30
	}
	return group, 15
}

// registerLocal makes an APIService for every version that this server serves,
// and removes those of custom resources that are gone.
func (a *Aggregator) registerLocal(ctx context.Context) error {
	want := a.deps.Local()
	var errs []error
	if err := a.deps.API.Each(gvrAPIServices(), "", func(obj runtime.Object) bool {
		s, ok := obj.(*apiregistrationv1.APIService)
		if !ok {
			return true
		}
		gv := gvOf(s)
		_, wanted := want[gv]
		delete(want, gv)
		if !wanted && s.Labels[managed] == managedAlways {
			if err := a.deps.Client.Delete(ctx, s); err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
		if s.Spec.Service == nil && wanted {
			if err := a.local(ctx, s); err != nil {
				errs = append(errs, err)
			}
		}
		return ctx.Err() == nil
	}); err != nil {
		return err
	}
	for gv, custom := range want {
		if gv.Group == apiregistrationv1.GroupName {
			continue
		}
		label := managedStart
		if custom {
			label = managedAlways
		}
		group, version := Priority(gv)
		s := &apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: gv.Version + "." + gv.Group, Labels: map[string]string{managed: label}},
			Spec:       apiregistrationv1.APIServiceSpec{Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: group, VersionPriority: version},
		}
		if err := a.deps.Client.Create(ctx, s); err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("register %s: %w", gv, err))
		}
	}
	return errors.Join(errs...)
}

// local records that an APIService without another server is available.
func (a *Aggregator) local(ctx context.Context, s *apiregistrationv1.APIService) error {
	if !setCondition(&s.Status, localCondition()) {
		return nil
	}
	err := a.deps.Client.UpdateStatus(ctx, s)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func localCondition() apiregistrationv1.APIServiceCondition {
	return apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, Reason: "Local", Message: "Local APIServices are always available",
	}
}
