package app

import (
	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What follows takes off objects what scheduling never reads, before they are cached. Nothing stripped is ever written
// back: the scheduler writes bindings and patches only.

func stripPod(obj any) {
	p, ok := obj.(*v1.Pod)
	if !ok {
		return
	}
	p.Annotations = nil
	for i := range p.Spec.Containers {
		stripContainer(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		stripContainer(&p.Spec.InitContainers[i])
	}
	p.Spec.EphemeralContainers = nil
	p.Spec.SecurityContext, p.Spec.DNSConfig, p.Spec.HostAliases, p.Spec.ImagePullSecrets = nil, nil, nil, nil
	var volumes []v1.Volume
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil || v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil ||
			v.RBD != nil || v.ISCSI != nil || v.Image != nil {
			if v.Ephemeral != nil {
				v.Ephemeral = &v1.EphemeralVolumeSource{}
			}
			volumes = append(volumes, *v)
		}
	}
	p.Spec.Volumes = volumes
	st := v1.PodStatus{
		Phase: p.Status.Phase, NominatedNodeName: p.Status.NominatedNodeName, StartTime: p.Status.StartTime,
		Resources: p.Status.Resources, AllocatedResources: p.Status.AllocatedResources,
	}
	for _, c := range p.Status.Conditions {
		switch c.Type {
		case v1.PodScheduled, v1.DisruptionTarget, v1.PodResizePending, v1.PodResizeInProgress:
			st.Conditions = append(st.Conditions, c)
		}
	}
	st.ContainerStatuses = stripStatuses(p.Status.ContainerStatuses)
	st.InitContainerStatuses = stripStatuses(p.Status.InitContainerStatuses)
	p.Status = st
}

func stripStatuses(in []v1.ContainerStatus) (out []v1.ContainerStatus) {
	for i := range in {
		if in[i].Resources != nil || in[i].AllocatedResources != nil {
			out = append(out, v1.ContainerStatus{Name: in[i].Name, Resources: in[i].Resources, AllocatedResources: in[i].AllocatedResources})
		}
	}
	return out
}

func stripContainer(c *v1.Container) {
	*c = v1.Container{Name: c.Name, Image: c.Image, Ports: c.Ports, Resources: c.Resources, RestartPolicy: c.RestartPolicy}
}

func stripNode(obj any) {
	n, ok := obj.(*v1.Node)
	if !ok {
		return
	}
	n.Annotations = nil
	n.Status = v1.NodeStatus{
		Allocatable: n.Status.Allocatable, Images: n.Status.Images, DeclaredFeatures: n.Status.DeclaredFeatures,
		Conditions: n.Status.Conditions,
	}
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		*c = v1.NodeCondition{Type: c.Type, Status: c.Status}
	}
}

func stripMeta(m *metav1.ObjectMeta) {
	*m = metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion}
}

func stripService(obj any) {
	if s, ok := obj.(*v1.Service); ok {
		stripMeta(&s.ObjectMeta)
		s.Spec, s.Status = v1.ServiceSpec{Selector: s.Spec.Selector}, v1.ServiceStatus{}
	}
}

func stripOwner(obj any) {
	switch o := obj.(type) {
	case *v1.ReplicationController:
		stripMeta(&o.ObjectMeta)
		o.Spec, o.Status = v1.ReplicationControllerSpec{Selector: o.Spec.Selector}, v1.ReplicationControllerStatus{}
	case *appsv1.ReplicaSet:
		stripMeta(&o.ObjectMeta)
		o.Spec, o.Status = appsv1.ReplicaSetSpec{Selector: o.Spec.Selector}, appsv1.ReplicaSetStatus{}
	case *appsv1.StatefulSet:
		stripMeta(&o.ObjectMeta)
		o.Spec, o.Status = appsv1.StatefulSetSpec{Selector: o.Spec.Selector}, appsv1.StatefulSetStatus{}
	}
}
