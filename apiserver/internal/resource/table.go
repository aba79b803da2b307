package resource

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Verb sets of subresources.
var (
	statusVerbs = []string{"get", "patch", "update"}
	createOnly  = []string{"create"}
	getOnly     = []string{"get"}
	getCreate   = []string{"create", "get"}
	proxyVerbs  = []string{"create", "delete", "get", "patch", "update"}
)

var (
	scaleGVK = schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}
	status   = map[string]Subresource{"status": {Verbs: statusVerbs}}
	scalable = map[string]Subresource{"status": {Verbs: statusVerbs}, "scale": {scaleGVK, statusVerbs}}
)

func gvk(group, version, kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: group, Version: version, Kind: kind}
}

// row is a Kind in the form that the table is written in.
type row struct {
	kind, resource string
	short          string // short names, separated by commas
	categories     string
	deprecation    string
	cluster        bool
	prefix         string // where it is not /<resource>/
	stored         schema.GroupVersion
	verbs          []string
	sub            map[string]Subresource
	strategy       Strategy
}

type group struct {
	name, version string
	rows          []row
}

// Kinds returns the built-in kinds in the order of discovery.
func Kinds() []*Kind {
	var out []*Kind
	for _, g := range groups() {
		for _, r := range g.rows {
			k := &Kind{
				GroupVersionKind: gvk(g.name, g.version, r.kind), Resource: r.resource, Singular: strings.ToLower(r.kind),
				Namespaced: !r.cluster, Prefix: r.prefix, Stored: r.stored, Verbs: r.verbs, Subresources: r.sub, Strategy: r.strategy,
			}
			if r.short != "" {
				k.ShortNames = strings.Split(r.short, ",")
			}
			k.Deprecation = r.deprecation
			if r.categories != "" {
				k.Categories = strings.Split(r.categories, ",")
			}
			if k.Prefix == "" {
				k.Prefix = "/" + r.resource + "/"
			}
			checkFinalizers(k)
			out = append(out, k)
		}
	}
	return out
}

func groups() []group {
	return []group{coreGroup(), {"apps", "v1", []row{
		{kind: "ControllerRevision", resource: "controllerrevisions", strategy: controllerRevision().shown(controllerRevisionTable())},
		{kind: "DaemonSet", resource: "daemonsets", short: "ds", categories: "all", sub: status, strategy: daemonSet().shown(daemonSetTable())},
		{kind: "Deployment", resource: "deployments", short: "deploy", categories: "all", sub: scalable, strategy: deployment().shown(deploymentTable())},
		{kind: "ReplicaSet", resource: "replicasets", short: "rs", categories: "all", sub: scalable, strategy: replicaSet().shown(replicaSetTable())},
		{kind: "StatefulSet", resource: "statefulsets", short: "sts", categories: "all", sub: scalable, strategy: statefulSet().shown(statefulSetTable())},
	}}, {"batch", "v1", []row{
		{kind: "CronJob", resource: "cronjobs", short: "cj", categories: "all", sub: status, strategy: cronJob().shown(cronJobTable())},
		{kind: "Job", resource: "jobs", categories: "all", sub: status, strategy: job().shown(jobTable())},
	}}, {"autoscaling", "v2", []row{
		{kind: "HorizontalPodAutoscaler", resource: "horizontalpodautoscalers", short: "hpa", categories: "all", sub: status, strategy: autoscaler().shown(autoscalerTable())},
	}}, {"autoscaling", "v1", []row{
		{kind: "HorizontalPodAutoscaler", resource: "horizontalpodautoscalers", short: "hpa", categories: "all", sub: status, stored: schema.GroupVersion{Group: "autoscaling", Version: "v2"}, strategy: autoscalerV1()},
	}}, {"coordination.k8s.io", "v1", []row{
		{kind: "Lease", resource: "leases", strategy: lease().shown(leaseTable())},
	}}, {"discovery.k8s.io", "v1", []row{
		{kind: "EndpointSlice", resource: "endpointslices", strategy: endpointSlice().shown(endpointSliceTable())},
	}}, {"events.k8s.io", "v1", []row{
		{kind: "Event", resource: "events", short: "ev", stored: schema.GroupVersion{Version: "v1"}, strategy: eventV1()},
	}}, {"networking.k8s.io", "v1", []row{
		{kind: "IPAddress", resource: "ipaddresses", short: "ip", cluster: true, strategy: ipAddress().shown(ipAddressTable())},
		{kind: "IngressClass", resource: "ingressclasses", cluster: true, strategy: ingressClass().shown(ingressClassTable())},
		{kind: "Ingress", resource: "ingresses", short: "ing", prefix: "/ingress/", sub: status, strategy: ingress().shown(ingressTable())},
		{kind: "NetworkPolicy", resource: "networkpolicies", short: "netpol", strategy: networkPolicy().shown(networkPolicyTable())},
		{kind: "ServiceCIDR", resource: "servicecidrs", cluster: true, sub: status, strategy: serviceCIDR().shown(serviceCIDRTable())},
	}}, {"policy", "v1", []row{
		{kind: "PodDisruptionBudget", resource: "poddisruptionbudgets", short: "pdb", sub: status, strategy: disruptionBudget().shown(budgetTable())},
	}}, {"rbac.authorization.k8s.io", "v1", []row{
		{kind: "ClusterRoleBinding", resource: "clusterrolebindings", cluster: true, strategy: clusterRoleBinding().shown(clusterRoleBindingTable())},
		{kind: "ClusterRole", resource: "clusterroles", cluster: true, strategy: clusterRole()},
		{kind: "RoleBinding", resource: "rolebindings", strategy: roleBinding().shown(roleBindingTable())},
		{kind: "Role", resource: "roles", strategy: role()},
	}}, {"scheduling.k8s.io", "v1", []row{
		{kind: "PriorityClass", resource: "priorityclasses", short: "pc", cluster: true, strategy: priorityClass().shown(priorityClassTable())},
	}}, {"storage.k8s.io", "v1", []row{
		{kind: "CSIDriver", resource: "csidrivers", cluster: true, strategy: csiDriver().shown(csiDriverTable())},
		{kind: "CSINode", resource: "csinodes", cluster: true, sub: status, strategy: csiNode().shown(csiNodeTable())},
		{kind: "CSIStorageCapacity", resource: "csistoragecapacities", strategy: csiStorageCapacity()},
		{kind: "StorageClass", resource: "storageclasses", short: "sc", cluster: true, strategy: storageClass().shown(storageClassTable())},
		{kind: "VolumeAttachment", resource: "volumeattachments", cluster: true, sub: status, strategy: volumeAttachment().shown(volumeAttachmentTable())},
		{kind: "VolumeAttributesClass", resource: "volumeattributesclasses", short: "vac", cluster: true, strategy: volumeAttributesClass().shown(volumeAttributesClassTable())},
	}}, {"node.k8s.io", "v1", []row{
		{kind: "RuntimeClass", resource: "runtimeclasses", cluster: true, strategy: runtimeClass().shown(runtimeClassTable())},
	}}, {"certificates.k8s.io", "v1", []row{
		{kind: "CertificateSigningRequest", resource: "certificatesigningrequests", short: "csr", cluster: true, sub: map[string]Subresource{
			"status": {Verbs: statusVerbs}, "approval": {Verbs: statusVerbs},
		}, strategy: signingRequest().shown(signingRequestTable())},
		{kind: "ClusterTrustBundle", resource: "clustertrustbundles", cluster: true, strategy: clusterTrustBundle().shown(clusterTrustBundleTable())},
		{kind: "PodCertificateRequest", resource: "podcertificaterequests", sub: status, strategy: podCertificateRequest().shown(podCertificateRequestTable())},
	}}, {"admissionregistration.k8s.io", "v1", []row{
		{kind: "MutatingAdmissionPolicy", resource: "mutatingadmissionpolicies", cluster: true, categories: "api-extensions", strategy: mutatingPolicy().shown(mutatingPolicyTable())},
		{kind: "MutatingAdmissionPolicyBinding", resource: "mutatingadmissionpolicybindings", cluster: true, categories: "api-extensions", strategy: mutatingPolicyBinding().shown(mutatingPolicyBindingTable())},
		{kind: "MutatingWebhookConfiguration", resource: "mutatingwebhookconfigurations", cluster: true, categories: "api-extensions", strategy: mutatingWebhook().shown(mutatingWebhookTable())},
		{kind: "ValidatingAdmissionPolicy", resource: "validatingadmissionpolicies", cluster: true, categories: "api-extensions", sub: status, strategy: validatingPolicy().shown(validatingPolicyTable())},
		{kind: "ValidatingAdmissionPolicyBinding", resource: "validatingadmissionpolicybindings", cluster: true, categories: "api-extensions", strategy: validatingPolicyBinding().shown(validatingPolicyBindingTable())},
		{kind: "ValidatingWebhookConfiguration", resource: "validatingwebhookconfigurations", cluster: true, categories: "api-extensions", strategy: validatingWebhook().shown(validatingWebhookTable())},
	}}, {"flowcontrol.apiserver.k8s.io", "v1", []row{
		{kind: "FlowSchema", resource: "flowschemas", cluster: true, sub: status, strategy: flowSchema().shown(flowSchemaTable())},
		{kind: "PriorityLevelConfiguration", resource: "prioritylevelconfigurations", cluster: true, sub: status, strategy: priorityLevel().shown(priorityLevelTable())},
	}}, {"resource.k8s.io", "v1", []row{
		{kind: "DeviceClass", resource: "deviceclasses", cluster: true, strategy: deviceClass().shown(deviceClassTable())},
		{kind: "DeviceTaintRule", resource: "devicetaintrules", cluster: true, sub: status, strategy: deviceTaintRule().shown(deviceTaintRuleTable())},
		{kind: "ResourceClaim", resource: "resourceclaims", sub: status, strategy: resourceClaim().shown(resourceClaimTable())},
		{kind: "ResourceClaimTemplate", resource: "resourceclaimtemplates", strategy: resourceClaimTemplate().shown(resourceClaimTemplateTable())},
		{kind: "ResourceSlice", resource: "resourceslices", cluster: true, strategy: resourceSlice().shown(resourceSliceTable())},
	}}, {"storagemigration.k8s.io", "v1", []row{
		{kind: "StorageVersionMigration", resource: "storageversionmigrations", cluster: true, sub: status, strategy: storageVersionMigration().shown(storageVersionMigrationTable())},
	}}, {"apiextensions.k8s.io", "v1", []row{
		{kind: "CustomResourceDefinition", resource: "customresourcedefinitions", short: "crd,crds", categories: "api-extensions", cluster: true, prefix: "/apiextensions.k8s.io/customresourcedefinitions/", sub: status, strategy: customResourceDefinition().shown(customResourceDefinitionTable())},
	}}, {"apiregistration.k8s.io", "v1", []row{
		{kind: "APIService", resource: "apiservices", categories: "api-extensions", cluster: true, prefix: "/apiregistration.k8s.io/apiservices/", sub: status, strategy: apiService().shown(apiServiceTable())},
	}}}
}

func coreGroup() group {
	tokenRequest := gvk("authentication.k8s.io", "v1", "TokenRequest")
	eviction := gvk("policy", "v1", "Eviction")
	return group{"", "v1", []row{
		{kind: "ConfigMap", resource: "configmaps", short: "cm", strategy: configMap().shown(configMapTable())},
		{kind: "Endpoints", resource: "endpoints", short: "ep", prefix: "/services/endpoints/", deprecation: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice", strategy: endpoints().shown(endpointsTable())},
		{kind: "Event", resource: "events", short: "ev", strategy: event().shown(eventTable())},
		{kind: "LimitRange", resource: "limitranges", short: "limits", strategy: limitRange()},
		{kind: "Namespace", resource: "namespaces", short: "ns", cluster: true, verbs: []string{"create", "delete", "get", "list", "patch", "update", "watch"}, sub: map[string]Subresource{
			"status": {Verbs: statusVerbs}, "finalize": {Verbs: []string{"update"}},
		}, strategy: namespace().shown(namespaceTable())},
		{kind: "Node", resource: "nodes", short: "no", cluster: true, prefix: "/minions/", sub: map[string]Subresource{
			"status": {Verbs: statusVerbs}, "proxy": {gvk("", "v1", "NodeProxyOptions"), proxyVerbs},
		}, strategy: node().shown(nodeTable())},
		{kind: "PersistentVolumeClaim", resource: "persistentvolumeclaims", short: "pvc", sub: status, strategy: volumeClaim().shown(volumeClaimTable())},
		{kind: "PersistentVolume", resource: "persistentvolumes", short: "pv", cluster: true, sub: status, strategy: volume().shown(volumeTable())},
		{kind: "Pod", resource: "pods", short: "po", categories: "all", sub: map[string]Subresource{
			"status": {Verbs: statusVerbs}, "ephemeralcontainers": {Verbs: statusVerbs}, "resize": {Verbs: statusVerbs},
			"binding": {gvk("", "v1", "Binding"), createOnly}, "eviction": {eviction, createOnly},
			"log": {Verbs: getOnly}, "exec": {gvk("", "v1", "PodExecOptions"), getCreate},
			"attach": {gvk("", "v1", "PodAttachOptions"), getCreate}, "portforward": {gvk("", "v1", "PodPortForwardOptions"), getCreate},
			"proxy": {gvk("", "v1", "PodProxyOptions"), proxyVerbs},
		}, strategy: pod().shown(podTable())},
		{kind: "PodTemplate", resource: "podtemplates", strategy: podTemplate().shown(podTemplateTable())},
		{kind: "ReplicationController", resource: "replicationcontrollers", short: "rc", categories: "all", prefix: "/controllers/", sub: scalable, strategy: replicationController().shown(replicationControllerTable())},
		{kind: "ResourceQuota", resource: "resourcequotas", short: "quota", sub: status, strategy: resourceQuota().shown(quotaTable())},
		{kind: "Secret", resource: "secrets", strategy: secret().shown(secretTable())},
		{kind: "ServiceAccount", resource: "serviceaccounts", short: "sa", sub: map[string]Subresource{"token": {tokenRequest, createOnly}}, strategy: serviceAccount().shown(serviceAccountTable())},
		{kind: "Service", resource: "services", short: "svc", categories: "all", prefix: "/services/specs/", sub: map[string]Subresource{
			"status": {Verbs: statusVerbs}, "proxy": {gvk("", "v1", "ServiceProxyOptions"), proxyVerbs},
		}, strategy: service().shown(serviceTable())},
	}}
}
