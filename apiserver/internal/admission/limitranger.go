package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	resourcehelper "k8s.io/component-helpers/resource"
)

// LimitRanger defaults and bounds the resources of pods and claims.
type LimitRanger struct {
	operations
	list func(ctx context.Context, namespace string) ([]*corev1.LimitRange, error)
}

const limitRangerAnnotation = "kubernetes.io/limit-ranger"

// Mutate implements Mutator.
func (p *LimitRanger) Mutate(ctx context.Context, a *Attributes) error {
	return p.each(ctx, a, func(l *corev1.LimitRange) error {
		if pod, ok := a.Object.(*corev1.Pod); ok {
			defaultResources(pod, l)
		}
		return nil
	})
}

// Validate implements Validator.
func (p *LimitRanger) Validate(ctx context.Context, a *Attributes) error {
	return p.each(ctx, a, func(l *corev1.LimitRange) error {
		switch o := a.Object.(type) {
		case *corev1.Pod:
			return limitPod(l, o)
		case *corev1.PersistentVolumeClaim:
			return limitClaim(l, o)
		}
		return nil
	})
}

func (p *LimitRanger) each(ctx context.Context, a *Attributes, f func(*corev1.LimitRange) error) error {
	pod := a.Is("", "pods", "") && a.Operation == Create || a.Is("", "pods", "resize") && a.Operation == Update
	if !pod && !a.Is("", "persistentvolumeclaims", "") {
		return nil
	}
	if a.OldObject != nil {
		if m, err := meta.Accessor(a.OldObject); err == nil && m.GetDeletionTimestamp() != nil {
			return nil
		}
	}
	ranges, err := p.list(ctx, a.Namespace)
	if err != nil {
		return forbid(a, "unable to %s %v at this time because there was an error enforcing limit ranges", a.Operation, a.Resource)
	}
	for _, l := range ranges {
		if err := f(l); err != nil {
			return Forbidden(a, err)
		}
	}
	return nil
}

func defaultResources(pod *corev1.Pod, l *corev1.LimitRange) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for _, i := range l.Spec.Limits {
		if i.Type == corev1.LimitTypeContainer {
			maps.Copy(requests, i.DefaultRequest)
			maps.Copy(limits, i.Default)
		}
	}
	var notes []string
	for i := range pod.Spec.Containers {
		notes = append(notes, defaultContainer(&pod.Spec.Containers[i], "container", requests, limits)...)
	}
	for i := range pod.Spec.InitContainers {
		notes = append(notes, defaultContainer(&pod.Spec.InitContainers[i], "init container", requests, limits)...)
	}
	if len(notes) > 0 {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[limitRangerAnnotation] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
	}
}

func defaultContainer(c *corev1.Container, kind string, requests, limits corev1.ResourceList) []string {
	var notes []string
	fill := func(have *corev1.ResourceList, want corev1.ResourceList, what string) {
		var set []string
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if _, ok := (*have)[k]; ok {
				continue
			}
			if *have == nil {
				*have = corev1.ResourceList{}
			}
			(*have)[k] = want[k].DeepCopy()
			set = append(set, string(k))
		}
		if len(set) > 0 {
			notes = append(notes, fmt.Sprintf("%s %s for %s %s", strings.Join(set, ", "), what, kind, c.Name))
		}
	}
	fill(&c.Resources.Requests, requests, "request")
	fill(&c.Resources.Limits, limits, "limit")
	return notes
}

func limitClaim(l *corev1.LimitRange, pvc *corev1.PersistentVolumeClaim) error {
	var errs []error
	for _, i := range l.Spec.Limits {
		if i.Type != corev1.LimitTypePersistentVolumeClaim {
			continue
		}
		for k, v := range i.Min {
			errs = append(errs, minimum(i.Type, k, v, pvc.Spec.Resources.Requests, nil))
		}
		for k, v := range i.Max {
			errs = append(errs, maximumRequest(i.Type, k, v, pvc.Spec.Resources.Requests))
		}
	}
	return utilerrors.NewAggregate(errs)
}

func limitPod(l *corev1.LimitRange, pod *corev1.Pod) error {
	var errs []error
	check := func(i *corev1.LimitRangeItem, requests, limits corev1.ResourceList) {
		for _, k := range slices.Sorted(maps.Keys(i.Min)) {
			errs = append(errs, minimum(i.Type, k, i.Min[k], requests, limits))
		}
		for _, k := range slices.Sorted(maps.Keys(i.Max)) {
			errs = append(errs, maximum(i.Type, k, i.Max[k], requests, limits))
		}
		for _, k := range slices.Sorted(maps.Keys(i.MaxLimitRequestRatio)) {
			errs = append(errs, ratio(i.Type, k, i.MaxLimitRequestRatio[k], requests, limits))
		}
	}
	for n := range l.Spec.Limits {
		i := &l.Spec.Limits[n]
		switch i.Type {
		case corev1.LimitTypeContainer:
			for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
				check(i, c.Resources.Requests, c.Resources.Limits)
			}
		case corev1.LimitTypePod:
			opts := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
			check(i, resourcehelper.PodRequests(pod, opts), resourcehelper.PodLimits(pod, opts))
		}
	}
	return utilerrors.NewAggregate(errs)
}

// comparable brings quantities to integers: thousandths if all of them fit.
func comparableValues(qs ...resource.Quantity) []int64 {
	out := make([]int64, len(qs))
	milli := true
	for i := range qs {
		out[i] = qs[i].Value()
		milli = milli && out[i] <= resource.MaxMilliValue
	}
	for i := range qs {
		if milli {
			out[i] = qs[i].MilliValue()
		}
	}
	return out
}

func minimum(t corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	req, hasReq := requests[name]
	lim, hasLim := limits[name]
	v := comparableValues(req, lim, bound)
	switch {
	case !hasReq:
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", name, t, bound.String())
	case v[0] < v[2]:
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", name, t, bound.String(), req.String())
	case hasLim && v[1] < v[2]:
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", name, t, bound.String(), lim.String())
	}
	return nil
}

func maximumRequest(t corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests corev1.ResourceList) error {
	req, hasReq := requests[name]
	v := comparableValues(req, bound)
	switch {
	case !hasReq:
		return fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", name, t, bound.String())
	case v[0] > v[1]:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, t, bound.String(), req.String())
	}
	return nil
}

func maximum(t corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	req, hasReq := requests[name]
	lim, hasLim := limits[name]
	v := comparableValues(req, lim, bound)
	switch {
	case !hasLim:
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", name, t, bound.String())
	case v[1] > v[2]:
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", name, t, bound.String(), lim.String())
	case hasReq && v[0] > v[2]:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, t, bound.String(), req.String())
	}
	return nil
}

func ratio(t corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	req, lim := requests[name], limits[name]
	v := comparableValues(req, lim, bound)
	switch {
	case v[0] == 0:
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, t, bound.String())
	case v[1] == 0:
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, t, bound.String())
	}
	if got := float64(v[1]) / float64(v[0]); got > bound.AsApproximateFloat64() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, t, bound.String(), got)
	}
	return nil
}
