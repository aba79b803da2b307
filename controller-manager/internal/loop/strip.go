package loop

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

// stripPod takes off a pod what no controller reads, before it is cached.
func stripPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	for k := range p.Annotations {
		switch k {
		case corev1.PodDeletionCost, "kubernetes.io/config.mirror", "batch.kubernetes.io/job-completion-index", "batch.kubernetes.io/job-index-failure-count",
			"batch.kubernetes.io/job-index-ignored-failure-count", "deprecated.daemonset.template.generation":
		default:
			delete(p.Annotations, k)
		}
	}
	for i := range p.Spec.Containers {
		stripContainer(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		stripContainer(&p.Spec.InitContainers[i])
	}
	var volumes []corev1.Volume
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			volumes = append(volumes, v)
		}
	}
	p.Spec.Volumes = volumes
	p.Spec.EphemeralContainers, p.Spec.SecurityContext, p.Spec.DNSConfig, p.Spec.HostAliases, p.Spec.ImagePullSecrets = nil, nil, nil, nil, nil
	p.Status.EphemeralContainerStatuses = nil
	return p, nil
}

func stripContainer(c *corev1.Container) {
	*c = corev1.Container{Name: c.Name, Ports: c.Ports, Resources: c.Resources, RestartPolicy: c.RestartPolicy}
}

func stripNode(obj any) (any, error) {
	if n, ok := obj.(*corev1.Node); ok {
		n.Status.Images = nil
		n.Status.NodeInfo = corev1.NodeSystemInfo{}
	}
	return obj, nil
}

func stripPodRequest(obj any) (any, error) {
	if r, ok := obj.(*certificatesv1.PodCertificateRequest); ok {
		r.Spec, r.Status = certificatesv1.PodCertificateRequestSpec{}, certificatesv1.PodCertificateRequestStatus{}
	}
	return obj, nil
}
