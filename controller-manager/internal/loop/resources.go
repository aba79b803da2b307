package loop

import (
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/tools/cache"

	"flagship/internal/kube"
)

// Kinds registers what the controllers read and write.
func Kinds() []func(*runtime.Scheme) error {
	return []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme, authorizationv1.AddToScheme,
		certificatesv1.AddToScheme, rbacv1.AddToScheme, policyv1.AddToScheme, storagev1.AddToScheme, autoscalingv2.AddToScheme, autoscalingv1.AddToScheme,
		networkingv1.AddToScheme, resourcev1.AddToScheme,
	}
}

func owned() kube.InformerOptions {
	return kube.InformerOptions{Indexers: cache.Indexers{ByOwner: ownerIndex}}
}

func plain(strip cache.TransformFunc) kube.InformerOptions {
	return kube.InformerOptions{Transform: strip}
}

// What follows names each resource once: the shared source and the typed access.

// Pods are cached without what no controller reads; write them by patch or from a live read.
func (s *Sources) Pods() *Source[corev1.Pod] {
	return Of[corev1.Pod, corev1.PodList](s, corev1.SchemeGroupVersion.WithResource("pods"), kube.InformerOptions{
		Transform: stripPod,
		Indexers: cache.Indexers{ByOwner: ownerIndex, ByNode: func(obj any) ([]string, error) {
			if p, ok := obj.(*corev1.Pod); ok && p.Spec.NodeName != "" {
				return []string{p.Spec.NodeName}, nil
			}
			return nil, nil
		}},
	})
}

// Nodes are cached without images and volumes.
func (s *Sources) Nodes() *Source[corev1.Node] {
	return Of[corev1.Node, corev1.NodeList](s, corev1.SchemeGroupVersion.WithResource("nodes"), plain(stripNode))
}

// Namespaces returns the shared source.
func (s *Sources) Namespaces() *Source[corev1.Namespace] {
	return Of[corev1.Namespace, corev1.NamespaceList](s, corev1.SchemeGroupVersion.WithResource("namespaces"), plain(nil))
}

// Services returns the shared source.
func (s *Sources) Services() *Source[corev1.Service] {
	return Of[corev1.Service, corev1.ServiceList](s, corev1.SchemeGroupVersion.WithResource("services"), plain(nil))
}

// Endpoints returns the shared source.
func (s *Sources) Endpoints() *Source[corev1.Endpoints] {
	return Of[corev1.Endpoints, corev1.EndpointsList](s, corev1.SchemeGroupVersion.WithResource("endpoints"), plain(nil))
}

// ServiceAccounts returns the shared source.
func (s *Sources) ServiceAccounts() *Source[corev1.ServiceAccount] {
	return Of[corev1.ServiceAccount, corev1.ServiceAccountList](s, corev1.SchemeGroupVersion.WithResource("serviceaccounts"), plain(nil))
}

// ReplicationControllers returns the shared source.
func (s *Sources) ReplicationControllers() *Source[corev1.ReplicationController] {
	return Of[corev1.ReplicationController, corev1.ReplicationControllerList](s, corev1.SchemeGroupVersion.WithResource("replicationcontrollers"), owned())
}

// ResourceQuotas returns the shared source.
func (s *Sources) ResourceQuotas() *Source[corev1.ResourceQuota] {
	return Of[corev1.ResourceQuota, corev1.ResourceQuotaList](s, corev1.SchemeGroupVersion.WithResource("resourcequotas"), plain(nil))
}

// DeviceClasses returns the shared source.
func (s *Sources) DeviceClasses() *Source[resourcev1.DeviceClass] {
	return Of[resourcev1.DeviceClass, resourcev1.DeviceClassList](s, resourcev1.SchemeGroupVersion.WithResource("deviceclasses"), plain(nil))
}

// DeviceClaims are the ResourceClaims.
func (s *Sources) DeviceClaims() *Source[resourcev1.ResourceClaim] {
	return Of[resourcev1.ResourceClaim, resourcev1.ResourceClaimList](s, resourcev1.SchemeGroupVersion.WithResource("resourceclaims"), owned())
}

// Claims are the persistent volume claims.
func (s *Sources) Claims() *Source[corev1.PersistentVolumeClaim] {
	return Of[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](s, corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), owned())
}

// Volumes are the persistent volumes.
func (s *Sources) Volumes() *Source[corev1.PersistentVolume] {
	return Of[corev1.PersistentVolume, corev1.PersistentVolumeList](s, corev1.SchemeGroupVersion.WithResource("persistentvolumes"), plain(nil))
}

// StorageClasses returns the shared source.
func (s *Sources) StorageClasses() *Source[storagev1.StorageClass] {
	return Of[storagev1.StorageClass, storagev1.StorageClassList](s, storagev1.SchemeGroupVersion.WithResource("storageclasses"), plain(nil))
}

// AttributesClasses are the VolumeAttributesClasses.
func (s *Sources) AttributesClasses() *Source[storagev1.VolumeAttributesClass] {
	return Of[storagev1.VolumeAttributesClass, storagev1.VolumeAttributesClassList](s, storagev1.SchemeGroupVersion.WithResource("volumeattributesclasses"), plain(nil))
}

// RootCAs are the ConfigMaps named kube-root-ca.crt.
func (s *Sources) RootCAs() *Source[corev1.ConfigMap] {
	return Of[corev1.ConfigMap, corev1.ConfigMapList](s, corev1.SchemeGroupVersion.WithResource("configmaps"),
		kube.InformerOptions{FieldSelector: "metadata.name=kube-root-ca.crt"})
}

// PublicConfigMaps are the ConfigMaps of kube-public.
func (s *Sources) PublicConfigMaps() *Source[corev1.ConfigMap] {
	return Of[corev1.ConfigMap, corev1.ConfigMapList](s, corev1.SchemeGroupVersion.WithResource("configmaps"),
		kube.InformerOptions{Namespace: "kube-public", FieldSelector: "metadata.name=cluster-info"})
}

// BootstrapTokens are the Secrets of kube-system with bootstrap tokens.
func (s *Sources) BootstrapTokens() *Source[corev1.Secret] {
	return Of[corev1.Secret, corev1.SecretList](s, corev1.SchemeGroupVersion.WithResource("secrets"),
		kube.InformerOptions{Namespace: "kube-system", FieldSelector: "type=bootstrap.kubernetes.io/token"})
}

// AccountTokens are the Secrets with tokens of service accounts.
func (s *Sources) AccountTokens() *Source[corev1.Secret] {
	return Of[corev1.Secret, corev1.SecretList](s, corev1.SchemeGroupVersion.WithResource("secrets"),
		kube.InformerOptions{FieldSelector: "type=kubernetes.io/service-account-token"})
}

// Deployments returns the shared source.
func (s *Sources) Deployments() *Source[appsv1.Deployment] {
	return Of[appsv1.Deployment, appsv1.DeploymentList](s, appsv1.SchemeGroupVersion.WithResource("deployments"), plain(nil))
}

// ReplicaSets returns the shared source.
func (s *Sources) ReplicaSets() *Source[appsv1.ReplicaSet] {
	return Of[appsv1.ReplicaSet, appsv1.ReplicaSetList](s, appsv1.SchemeGroupVersion.WithResource("replicasets"), owned())
}

// DaemonSets returns the shared source.
func (s *Sources) DaemonSets() *Source[appsv1.DaemonSet] {
	return Of[appsv1.DaemonSet, appsv1.DaemonSetList](s, appsv1.SchemeGroupVersion.WithResource("daemonsets"), plain(nil))
}

// StatefulSets returns the shared source.
func (s *Sources) StatefulSets() *Source[appsv1.StatefulSet] {
	return Of[appsv1.StatefulSet, appsv1.StatefulSetList](s, appsv1.SchemeGroupVersion.WithResource("statefulsets"), plain(nil))
}

// Revisions are the ControllerRevisions.
func (s *Sources) Revisions() *Source[appsv1.ControllerRevision] {
	return Of[appsv1.ControllerRevision, appsv1.ControllerRevisionList](s, appsv1.SchemeGroupVersion.WithResource("controllerrevisions"), owned())
}

// Jobs returns the shared source.
func (s *Sources) Jobs() *Source[batchv1.Job] {
	return Of[batchv1.Job, batchv1.JobList](s, batchv1.SchemeGroupVersion.WithResource("jobs"), owned())
}

// CronJobs returns the shared source.
func (s *Sources) CronJobs() *Source[batchv1.CronJob] {
	return Of[batchv1.CronJob, batchv1.CronJobList](s, batchv1.SchemeGroupVersion.WithResource("cronjobs"), plain(nil))
}

// Slices are the EndpointSlices.
func (s *Sources) Slices() *Source[discoveryv1.EndpointSlice] {
	return Of[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](s, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), kube.InformerOptions{
		Indexers: cache.Indexers{ByService: func(obj any) ([]string, error) {
			if sl, ok := obj.(*discoveryv1.EndpointSlice); ok && sl.Labels[discoveryv1.LabelServiceName] != "" {
				return []string{sl.Namespace + "/" + sl.Labels[discoveryv1.LabelServiceName]}, nil
			}
			return nil, nil
		}},
	})
}

// ByService is the index of EndpointSlices by namespace/name of their Service.
const ByService = "service"

// NodeLeases are the Leases of kube-node-lease.
func (s *Sources) NodeLeases() *Source[coordinationv1.Lease] {
	return Of[coordinationv1.Lease, coordinationv1.LeaseList](s, coordinationv1.SchemeGroupVersion.WithResource("leases"),
		kube.InformerOptions{Namespace: corev1.NamespaceNodeLease})
}

// SigningRequests are the CertificateSigningRequests.
func (s *Sources) SigningRequests() *Source[certificatesv1.CertificateSigningRequest] {
	return Of[certificatesv1.CertificateSigningRequest, certificatesv1.CertificateSigningRequestList](s,
		certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests"), plain(nil))
}

// PodCertificateRequests are cached without keys and certificates.
func (s *Sources) PodCertificateRequests() *Source[certificatesv1.PodCertificateRequest] {
	return Of[certificatesv1.PodCertificateRequest, certificatesv1.PodCertificateRequestList](s,
		certificatesv1.SchemeGroupVersion.WithResource("podcertificaterequests"), plain(stripPodRequest))
}

// ClusterRoles returns the shared source.
func (s *Sources) ClusterRoles() *Source[rbacv1.ClusterRole] {
	return Of[rbacv1.ClusterRole, rbacv1.ClusterRoleList](s, rbacv1.SchemeGroupVersion.WithResource("clusterroles"), plain(nil))
}

// Budgets are the PodDisruptionBudgets.
func (s *Sources) Budgets() *Source[policyv1.PodDisruptionBudget] {
	return Of[policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetList](s, policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets"), plain(nil))
}

// Autoscalers are the HorizontalPodAutoscalers.
func (s *Sources) Autoscalers() *Source[autoscalingv2.HorizontalPodAutoscaler] {
	return Of[autoscalingv2.HorizontalPodAutoscaler, autoscalingv2.HorizontalPodAutoscalerList](s, autoscalingv2.SchemeGroupVersion.WithResource("horizontalpodautoscalers"), plain(nil))
}

// Pods is typed access.
func (d Deps) Pods(ns string) *gentype.ClientWithList[*corev1.Pod, *corev1.PodList] {
	return kube.For[corev1.Pod, corev1.PodList](d.Client, corev1.SchemeGroupVersion.WithResource("pods"), ns)
}

// Nodes is typed access.
func (d Deps) Nodes() *gentype.ClientWithList[*corev1.Node, *corev1.NodeList] {
	return kube.For[corev1.Node, corev1.NodeList](d.Client, corev1.SchemeGroupVersion.WithResource("nodes"), "")
}

// Core is typed access to a resource of the core group.
func Core[T, L any, PT kube.Object[T], PL kube.List[L]](d Deps, resource, ns string) *gentype.ClientWithList[PT, PL] {
	return kube.For[T, L, PT, PL](d.Client, corev1.SchemeGroupVersion.WithResource(resource), ns)
}

// Apps is typed access to a resource of apps/v1.
func Apps[T, L any, PT kube.Object[T], PL kube.List[L]](d Deps, resource, ns string) *gentype.ClientWithList[PT, PL] {
	return kube.For[T, L, PT, PL](d.Client, appsv1.SchemeGroupVersion.WithResource(resource), ns)
}

// Batch is typed access to a resource of batch/v1.
func Batch[T, L any, PT kube.Object[T], PL kube.List[L]](d Deps, resource, ns string) *gentype.ClientWithList[PT, PL] {
	return kube.For[T, L, PT, PL](d.Client, batchv1.SchemeGroupVersion.WithResource(resource), ns)
}

// Storage is typed access to a resource of storage.k8s.io/v1.
func Storage[T, L any, PT kube.Object[T], PL kube.List[L]](d Deps, resource, ns string) *gentype.ClientWithList[PT, PL] {
	return kube.For[T, L, PT, PL](d.Client, storagev1.SchemeGroupVersion.WithResource(resource), ns)
}
