package resource

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	helper "k8s.io/component-helpers/resource"
)

// Resized is old with what the resize subresource opens of p: the resources of the pod and of its containers. Where the containers are others it is
// p, which is then refused.
func Resized(p, old *corev1.Pod) *corev1.Pod {
	if len(p.Spec.Containers) != len(old.Spec.Containers) || len(p.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return p
	}
	out := old.DeepCopy()
	out.ManagedFields = p.ManagedFields
	out.Spec.Containers, out.Spec.InitContainers = resizedContainers(p.Spec.Containers, out.Spec.Containers), resizedContainers(p.Spec.InitContainers, out.Spec.InitContainers)
	// Who does not know of a pod's own resources leaves them out.
	if p.Spec.Resources != nil {
		out.Spec.Resources = p.Spec.Resources
	}
	defaultPodResources(&out.Spec)
	return out
}

func resizedContainers(list, into []corev1.Container) []corev1.Container {
	for i := range list {
		if list[i].Name != into[i].Name {
			return list
		}
	}
	for i := range list {
		into[i].Resources, into[i].ResizePolicy = list[i].Resources, list[i].ResizePolicy
	}
	return into
}

// defaultPodResources fills in the resources of a pod that has its own, KEP-2837, once its containers are known: hugepages' limits, and requests that
// may be overcommitted, from the containers; other requests from limits; other limits from the containers, where all have one.
func defaultPodResources(s *corev1.PodSpec) {
	r := s.Resources
	if r == nil || len(r.Requests)+len(r.Limits) == 0 {
		return
	}
	of := &corev1.Pod{Spec: corev1.PodSpec{Containers: s.Containers, InitContainers: s.InitContainers}}
	requests, limits := helper.AggregateContainerRequests(of, helper.PodResourcesOptions{}), helper.AggregateContainerLimits(of, helper.PodResourcesOptions{})
	huge := func(n corev1.ResourceName) bool { return strings.HasPrefix(string(n), corev1.ResourceHugePagesPrefix) }
	fillFrom := func(into *corev1.ResourceList, from corev1.ResourceList, takes func(n corev1.ResourceName) bool) {
		for n, v := range from {
			if _, have := (*into)[n]; have || !helper.IsSupportedPodLevelResource(n) || !takes(n) {
				continue
			}
			if *into == nil {
				*into = corev1.ResourceList{}
			}
			(*into)[n] = v.DeepCopy()
		}
	}
	fillFrom(&r.Limits, limits, func(n corev1.ResourceName) bool { _, asked := r.Requests[n]; return huge(n) && !asked })
	fillFrom(&r.Requests, requests, func(n corev1.ResourceName) bool { return !huge(n) })
	fillFrom(&r.Requests, r.Limits, func(corev1.ResourceName) bool { return true })
	for n, request := range r.Requests {
		limit, ok := limits[n]
		if _, have := r.Limits[n]; have || !ok || !helper.IsSupportedPodLevelResource(n) || !limited(s, n) {
			continue
		}
		if request.Cmp(limit) > 0 {
			limit = request
		}
		if r.Limits == nil {
			r.Limits = corev1.ResourceList{}
		}
		r.Limits[n] = limit.DeepCopy()
	}
}

// limited is whether all containers have a limit of a resource.
func limited(s *corev1.PodSpec, n corev1.ResourceName) bool {
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			if _, ok := list[i].Resources.Limits[n]; !ok {
				return false
			}
		}
	}
	return true
}

// validatePodResize lets the CPU and memory change of containers and of the pod, if they stay of the class that they are.
func validatePodResize(p, old *corev1.Pod) field.ErrorList {
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	c := &checks{}
	c.pod(p)
	spec := root("spec")
	class := old.Status.QOSClass
	if class == "" {
		class = QOS(old)
	}
	if class != QOS(p) {
		c.invalid(spec, p.Status.QOSClass, "Pod QOS Class may not change as a result of resizing")
	}
	if !resizable(old) {
		c.forbidden(spec, "Pod running on node without support for resize")
	}
	n := p.Spec.DeepCopy()
	if helper.IsPodLevelResourcesSet(old) || helper.IsPodLevelResourcesSet(p) {
		c.podResize(n, &old.Spec, spec)
	}
	before := len(c.list)
	c.sameContainers(p.Spec.Containers, old.Spec.Containers, spec, "containers")
	c.sameContainers(p.Spec.InitContainers, old.Spec.InitContainers, spec, "initContainers")
	if len(c.list) > before {
		return c.list
	}
	for i := range old.Spec.InitContainers {
		c.resourcesKept(&n.InitContainers[i].Resources, &old.Spec.InitContainers[i].Resources, spec.Child("initContainers").Index(i).Child("resources"), "resource")
	}
	for i := range old.Spec.Containers {
		c.resourcesKept(&n.Containers[i].Resources, &old.Spec.Containers[i].Resources, spec.Child("containers").Index(i).Child("resources"), "resource")
	}
	for i := range n.Containers {
		unsized(&n.Containers[i].Resources, &old.Spec.Containers[i].Resources)
		if !apiequality.Semantic.DeepEqual(n.Containers[i], old.Spec.Containers[i]) {
			c.forbidden(spec, "only cpu and memory resources are mutable")
		}
	}
	for i := range n.InitContainers {
		c.initResize(&n.InitContainers[i], &old.Spec.InitContainers[i], spec.Child("initContainers").Index(i))
	}
	if len(c.list) == 0 && !apiequality.Semantic.DeepEqual(*n, old.Spec) {
		c.forbidden(spec, "only cpu and memory resources are mutable")
	}
	return c.list
}

// resizable is whether the node of a pod reports resources, by which those are known that resize pods.
func resizable(p *corev1.Pod) bool {
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Running != nil {
			return s.Resources != nil
		}
	}
	return true
}

// podResize checks the pod's own resources, and takes what may change out of n.
func (c *checks) podResize(n, old *corev1.PodSpec, spec *field.Path) {
	at := spec.Child("resources")
	if old.Resources != nil {
		if n.Resources == nil {
			c.forbidden(at, "pod-level resources cannot be removed")
			return
		}
		c.resourcesKept(n.Resources, old.Resources, at, "pod-level resource")
	}
	was := old.Resources
	if was == nil {
		was = &corev1.ResourceRequirements{}
	}
	unsized(n.Resources, was)
	if old.Resources == nil && len(n.Resources.Requests)+len(n.Resources.Limits)+len(n.Resources.Claims) == 0 {
		n.Resources = nil
	}
	if !apiequality.Semantic.DeepEqual(n.Resources, old.Resources) {
		c.forbidden(spec, "only cpu and memory resources are mutable at pod-level")
	}
}

func (c *checks) sameContainers(list, old []corev1.Container, spec *field.Path, what string) {
	if len(list) != len(old) {
		c.forbidden(spec.Child(what), what+" may not be added or removed on resize")
		return
	}
	for i := range list {
		if list[i].Name != old[i].Name {
			c.forbidden(spec.Child(what).Index(i).Child("name"), what+" may not be renamed or reordered on resize")
		}
	}
}

func (c *checks) resourcesKept(r, old *corev1.ResourceRequirements, p *field.Path, what string) {
	lost := func(now, was corev1.ResourceList) bool {
		for n := range was {
			if _, ok := now[n]; !ok {
				return true
			}
		}
		return false
	}
	if lost(r.Requests, old.Requests) {
		c.forbidden(p.Child("requests"), what+" requests cannot be removed")
	}
	if lost(r.Limits, old.Limits) {
		c.forbidden(p.Child("limits"), what+" limits cannot be removed")
	}
}

func (c *checks) initResize(n, old *corev1.Container, p *field.Path) {
	changed := !apiequality.Semantic.DeepEqual(n, old)
	unsized(&n.Resources, &old.Resources)
	if !apiequality.Semantic.DeepEqual(n, old) {
		c.forbidden(p, "only cpu and memory resources for init or sidecar containers are mutable")
	}
	if n.RestartPolicy != nil && *n.RestartPolicy == corev1.ContainerRestartPolicyAlways || !changed {
		return
	}
	for _, r := range n.ResizePolicy {
		if r.RestartPolicy == corev1.RestartContainer {
			c.forbidden(p, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized")
		}
	}
}

// unsized gives r the CPU and memory of old, so that what else differs shows.
func unsized(r, old *corev1.ResourceRequirements) {
	take := func(now, was corev1.ResourceList) corev1.ResourceList {
		if now == nil && was == nil {
			return nil
		}
		out := corev1.ResourceList{}
		for n, v := range now {
			if n != corev1.ResourceCPU && n != corev1.ResourceMemory {
				out[n] = v
			}
		}
		for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if v, ok := was[n]; ok {
				out[n] = v
			}
		}
		return out
	}
	r.Requests, r.Limits = take(r.Requests, old.Requests), take(r.Limits, old.Limits)
}
