package resource

import (
	"reflect"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"flagship/apiserver/internal/crd"
)

func lease() Strategy {
	// Coordinated election is behind a gate that is off.
	plain := func(l *coordinationv1.Lease) { l.Spec.Strategy, l.Spec.PreferredHolder = nil, nil }
	return Strategy{
		PrepareCreate: typed(plain), PrepareUpdate: typed2(func(l, _ *coordinationv1.Lease) { plain(l) }),
		Validate: checked(validateLease), CreateOnUpdate: true,
	}
}

func endpointSlice() Strategy {
	return Strategy{Warn: warned(warnEndpointSlice), Validate: checked(validateEndpointSlice), ValidateUpdate: checked2(validateEndpointSliceUpdate), Unconditional: true, Generation: true, SpecIsWhole: true, Default: typed(func(e *discoveryv1.EndpointSlice) {
		for i := range e.Ports {
			set(&e.Ports[i].Name, "")
			set(&e.Ports[i].Protocol, corev1.ProtocolTCP)
		}
	})}
}

func eventV1() Strategy {
	return Strategy{
		Validate: checked(validateEventV1), ValidateUpdate: checked2(validateEventV1Update),
		Unconditional: true, CreateOnUpdate: true, NoPropagation: true,
		FieldNames: []string{"regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion", "regarding.resourceVersion", "regarding.fieldPath", "reason", "reportingController", "type"},
		Fields: fielded(func(e *eventsv1.Event) map[string]string {
			o := e.Regarding
			return map[string]string{
				"regarding.kind": o.Kind, "regarding.namespace": o.Namespace, "regarding.name": o.Name,
				"regarding.uid": string(o.UID), "regarding.apiVersion": o.APIVersion,
				"regarding.resourceVersion": o.ResourceVersion, "regarding.fieldPath": o.FieldPath,
				"reason": e.Reason, "reportingController": e.ReportingController, "type": e.Type,
			}
		}),
	}
}

func ipAddress() Strategy {
	return Strategy{Unconditional: true, Validate: checked(validateIPAddress), ValidateUpdate: checked2(validateIPAddressUpdate), ValidName: addressName}
}

func serviceCIDR() Strategy {
	return Strategy{Validate: checked(validateServiceCIDR), Unconditional: true}
}

func ingressClass() Strategy {
	return Strategy{Validate: checked(validateIngressClass), ValidateUpdate: checked2(validateIngressClassUpdate), Unconditional: true, Generation: true, Default: typed(func(c *networkingv1.IngressClass) {
		if p := c.Spec.Parameters; p != nil {
			set(&p.Scope, networkingv1.IngressClassParametersReferenceScopeCluster)
		}
	})}
}

func ingress() Strategy {
	return Strategy{
		Warn: warned(warnIngress), WarnStatus: warned(warnIngressStatus),
		Validate: checked(validateIngress), ValidateUpdate: checked2(validateIngressChange), ValidateStatus: checked2(validateIngressStatus),
		Unconditional: true, Generation: true,
		PrepareCreate: typed(func(i *networkingv1.Ingress) { i.Status = networkingv1.IngressStatus{} }),
	}
}

func networkPolicy() Strategy {
	return Strategy{Warn: warned(warnNetworkPolicy), Validate: checked(validateNetworkPolicy), ValidateUpdate: checked2(validateNetworkPolicyUpdate), Unconditional: true, Generation: true, Default: typed(func(n *networkingv1.NetworkPolicy) {
		for i := range n.Spec.Ingress {
			defaultPolicyPorts(n.Spec.Ingress[i].Ports)
		}
		for i := range n.Spec.Egress {
			defaultPolicyPorts(n.Spec.Egress[i].Ports)
		}
		if len(n.Spec.PolicyTypes) == 0 {
			n.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
			if len(n.Spec.Egress) > 0 {
				n.Spec.PolicyTypes = append(n.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
			}
		}
	})}
}

func defaultPolicyPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		set(&ports[i].Protocol, corev1.ProtocolTCP)
	}
}

func segmentName(name string, _ bool) []string { return path.IsValidPathSegmentName(name) }

func role() Strategy {
	return Strategy{CreateOnUpdate: true, Validate: checked(validateRole), Unconditional: true, ValidName: segmentName}
}

func clusterRole() Strategy {
	return Strategy{CreateOnUpdate: true, Validate: checked(validateClusterRole), Unconditional: true, ValidName: segmentName}
}

func roleBinding() Strategy {
	return Strategy{CreateOnUpdate: true, Validate: checked(validateRoleBinding), ValidateUpdate: checked2(validateRoleBindingUpdate), Unconditional: true, ValidName: segmentName, Default: typed(func(b *rbacv1.RoleBinding) {
		fill(&b.RoleRef.APIGroup, rbacv1.GroupName)
		defaultSubjects(b.Subjects)
	})}
}

func clusterRoleBinding() Strategy {
	return Strategy{CreateOnUpdate: true, Validate: checked(validateClusterRoleBinding), ValidateUpdate: checked2(validateClusterRoleBindingUpdate), Unconditional: true, ValidName: segmentName, Default: typed(func(b *rbacv1.ClusterRoleBinding) {
		fill(&b.RoleRef.APIGroup, rbacv1.GroupName)
		defaultSubjects(b.Subjects)
	})}
}

func defaultSubjects(subjects []rbacv1.Subject) {
	for i := range subjects {
		if k := subjects[i].Kind; k == rbacv1.UserKind || k == rbacv1.GroupKind {
			fill(&subjects[i].APIGroup, rbacv1.GroupName)
		}
	}
}

func priorityClass() Strategy {
	return Strategy{
		Validate: checked(validatePriorityClass), ValidateUpdate: checked2(validatePriorityClassUpdate),
		Unconditional: true,
		Default:       typed(func(p *schedulingv1.PriorityClass) { set(&p.PreemptionPolicy, corev1.PreemptLowerPriority) }),
		PrepareCreate: typed(func(p *schedulingv1.PriorityClass) { p.Generation = 1 }),
	}
}

func csiDriver() Strategy {
	return Strategy{ReturnDeleted: true, Warn: warned(warnCSIDriver), Validate: checked(validateCSIDriver), ValidateUpdate: checked2(validateCSIDriverUpdate), PrepareUpdate: typed2(func(d, old *storagev1.CSIDriver) {
		if !apiequality.Semantic.DeepEqual(d.Spec, old.Spec) {
			d.Generation = old.Generation + 1
		}
	}), Default: typed(func(d *storagev1.CSIDriver) {
		set(&d.Spec.AttachRequired, true)
		set(&d.Spec.PodInfoOnMount, false)
		set(&d.Spec.StorageCapacity, false)
		set(&d.Spec.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
		if len(d.Spec.VolumeLifecycleModes) == 0 {
			d.Spec.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
		}
		set(&d.Spec.RequiresRepublish, false)
		set(&d.Spec.SELinuxMount, false)
		set(&d.Spec.PreventPodSchedulingIfMissing, false)
	})}
}

func csiNode() Strategy {
	// The health of storage is behind a gate that is off.
	return Strategy{ReturnDeleted: true, StatusAlone: true, PrepareStatus: typed2(func(n, _ *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} }), PrepareCreate: typed(func(n *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} }), Validate: checked(validateCSINode), ValidateUpdate: checked2(validateCSINodeUpdate)}
}

func csiStorageCapacity() Strategy {
	return Strategy{Warn: warned(warnCSIStorageCapacity), Validate: checked(validateCapacity), ValidateUpdate: checked2(validateCapacityUpdate)}
}

func volumeAttachment() Strategy {
	return Strategy{ReturnDeleted: true, Validate: checked(validateVolumeAttachment), ValidateUpdate: checked2(validateVolumeAttachmentUpdate)}
}

func volumeAttributesClass() Strategy {
	return Strategy{ReturnDeleted: true, Validate: checked(validateVolumeAttributesClass), ValidateUpdate: checked2(validateVolumeAttributesClassUpdate), Unconditional: true}
}

func storageClass() Strategy {
	return Strategy{ReturnDeleted: true, Warn: warned(warnStorageClass), Validate: checked(validateStorageClass), ValidateUpdate: checked2(validateStorageClassUpdate), Unconditional: true, Default: typed(func(c *storagev1.StorageClass) {
		set(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		set(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	})}
}

func runtimeClass() Strategy {
	return Strategy{CreateOnUpdate: true, Warn: warned(warnRuntimeClass), Validate: checked(validateRuntimeClass), ValidateUpdate: checked2(validateRuntimeClassUpdate)}
}

func signingRequest() Strategy {
	return Strategy{
		Validate: checked(validateSigningRequest),
		ValidateUpdate: checked2(func(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
			return checkRequestUpdate(r, old, false, false)
		}),
		ValidateStatus: checked2(func(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
			return checkRequestUpdate(r, old, false, true)
		}),
		ValidatePart: func(_ string, obj, old anyObject) field.ErrorList {
			return checkRequestUpdate(obj.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest), true, false)
		},
		Unconditional: true,
		Default: typed(func(c *certificatesv1.CertificateSigningRequest) {
			if c.Spec.Usages == nil {
				c.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment}
			}
		}),
		PrepareCreate: typed(func(c *certificatesv1.CertificateSigningRequest) {
			c.Status = certificatesv1.CertificateSigningRequestStatus{}
		}),
		PrepareUpdate: typed2(func(c, old *certificatesv1.CertificateSigningRequest) {
			c.Spec, c.Status = old.Spec, old.Status
		}),
		PrepareStatus: typed2(func(c, old *certificatesv1.CertificateSigningRequest) {
			keepDecisions(c, old)
		}),
		FieldNames: []string{"spec.signerName"},
		Fields: fielded(func(c *certificatesv1.CertificateSigningRequest) map[string]string {
			return map[string]string{"spec.signerName": c.Spec.SignerName}
		}),
	}
}

// keepDecisions takes approval and denial from old: the status subresource
// must not decide.
func keepDecisions(c, old *certificatesv1.CertificateSigningRequest) {
	decides := func(t certificatesv1.RequestConditionType) bool {
		return t == certificatesv1.CertificateApproved || t == certificatesv1.CertificateDenied
	}
	var kept []certificatesv1.CertificateSigningRequestCondition
	for _, cond := range old.Status.Conditions {
		if decides(cond.Type) {
			kept = append(kept, cond)
		}
	}
	for _, cond := range c.Status.Conditions {
		if !decides(cond.Type) {
			kept = append(kept, cond)
		}
	}
	c.Status.Conditions = kept
}

// configurationName refuses, for new objects, the names that those of files have.
func configurationName(name string, prefix bool) []string {
	out := apivalidation.NameIsDNSSubdomain(name, prefix)
	if strings.HasSuffix(name, staticSuffix) {
		out = append(out, staticName)
	}
	return out
}

func mutatingPolicy() Strategy {
	return Strategy{Warn: warnStaticName, ValidName: configurationName, Validate: checked(validateMutatingPolicy), Generation: true, Default: typed(func(p *admissionregistrationv1.MutatingAdmissionPolicy) {
		set(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	})}
}

func mutatingPolicyBinding() Strategy {
	return Strategy{Warn: warnStaticName, ValidName: configurationName, Validate: checked(validateMutatingBinding), Generation: true, Default: typed(func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) {
		defaultMatch(b.Spec.MatchResources)
	})}
}

func validatingPolicy() Strategy {
	return Strategy{Warn: warnStaticName, ValidName: configurationName, Validate: checked(validateValidatingPolicy), Generation: true, Default: typed(func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
		set(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	})}
}

func validatingPolicyBinding() Strategy {
	return Strategy{Warn: warnStaticName, ValidName: configurationName, Validate: checked(validateValidatingBinding), Generation: true, Default: typed(func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
		defaultMatch(b.Spec.MatchResources)
	})}
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	set(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	set(&m.NamespaceSelector, metav1.LabelSelector{})
	set(&m.ObjectSelector, metav1.LabelSelector{})
	for _, rules := range [][]admissionregistrationv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			set(&rules[i].Scope, admissionregistrationv1.AllScopes)
		}
	}
}

func mutatingWebhook() Strategy {
	return Strategy{Warn: warnMutatingWebhooks, ValidName: configurationName, Validate: checked(validateMutatingWebhooks), PrepareCreate: typed(func(c *admissionregistrationv1.MutatingWebhookConfiguration) { c.Generation = 1 }), PrepareUpdate: typed2(func(c, old *admissionregistrationv1.MutatingWebhookConfiguration) {
		// No webhooks are, to upstream, not an empty list of them.
		if !reflect.DeepEqual(c.Webhooks, old.Webhooks) {
			c.Generation = old.Generation + 1
		}
	}), Default: typed(func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
		for i := range c.Webhooks {
			w := &c.Webhooks[i]
			set(&w.FailurePolicy, admissionregistrationv1.Fail)
			set(&w.MatchPolicy, admissionregistrationv1.Equivalent)
			set(&w.NamespaceSelector, metav1.LabelSelector{})
			set(&w.ObjectSelector, metav1.LabelSelector{})
			set(&w.TimeoutSeconds, 10)
			set(&w.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
			defaultWebhook(&w.ClientConfig, w.Rules)
		}
	})}
}

func validatingWebhook() Strategy {
	return Strategy{Warn: warnValidatingWebhooks, ValidName: configurationName, Validate: checked(validateValidatingWebhooks), PrepareCreate: typed(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) { c.Generation = 1 }), PrepareUpdate: typed2(func(c, old *admissionregistrationv1.ValidatingWebhookConfiguration) {
		// No webhooks are, to upstream, not an empty list of them.
		if !reflect.DeepEqual(c.Webhooks, old.Webhooks) {
			c.Generation = old.Generation + 1
		}
	}), Default: typed(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
		for i := range c.Webhooks {
			w := &c.Webhooks[i]
			set(&w.FailurePolicy, admissionregistrationv1.Fail)
			set(&w.MatchPolicy, admissionregistrationv1.Equivalent)
			set(&w.NamespaceSelector, metav1.LabelSelector{})
			set(&w.ObjectSelector, metav1.LabelSelector{})
			set(&w.TimeoutSeconds, 10)
			defaultWebhook(&w.ClientConfig, w.Rules)
		}
	})}
}

func defaultWebhook(c *admissionregistrationv1.WebhookClientConfig, rules []admissionregistrationv1.RuleWithOperations) {
	if c.Service != nil {
		set(&c.Service.Port, 443)
	}
	for i := range rules {
		set(&rules[i].Scope, admissionregistrationv1.AllScopes)
	}
}

func flowSchema() Strategy {
	return Strategy{Validate: checked(validateFlowSchema), Unconditional: true, Generation: true, Default: typed(func(f *flowcontrolv1.FlowSchema) {
		fill(&f.Spec.MatchingPrecedence, 1000)
	})}
}

func priorityLevel() Strategy {
	return Strategy{Validate: checked(validatePriorityLevel), Unconditional: true, Generation: true, Default: typed(func(p *flowcontrolv1.PriorityLevelConfiguration) {
		if e := p.Spec.Exempt; e != nil {
			set(&e.NominalConcurrencyShares, 0)
			set(&e.LendablePercent, 0)
		}
		l := p.Spec.Limited
		if l == nil {
			return
		}
		set(&l.NominalConcurrencyShares, 30)
		set(&l.LendablePercent, 0)
		if q := l.LimitResponse.Queuing; q != nil {
			fill(&q.Queues, 64)
			fill(&q.HandSize, 8)
			fill(&q.QueueLengthLimit, 50)
		}
	})}
}

func clusterTrustBundle() Strategy {
	return Strategy{
		Validate: checked(validateTrustBundle), ValidateUpdate: checked2(validateTrustBundleUpdate), ValidName: segmentName,
		FieldNames: []string{"spec.signerName"},
		Fields: fielded(func(b *certificatesv1.ClusterTrustBundle) map[string]string {
			return map[string]string{"spec.signerName": b.Spec.SignerName}
		}),
	}
}

func podCertificateRequest() Strategy {
	return Strategy{
		Validate:       checked(validatePodCertificateRequest),
		ValidateUpdate: checked2(validatePodCertificateRequestUpdate),
		ValidateStatus: checked2(func(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
			return validatePodCertificateRequestStatus(r, old, time.Now())
		}),
		Default: typed(func(r *certificatesv1.PodCertificateRequest) {
			set(&r.Spec.MaxExpirationSeconds, podCertificateDefaultLife)
		}),
		PrepareCreate: typed(func(r *certificatesv1.PodCertificateRequest) {
			r.Status = certificatesv1.PodCertificateRequestStatus{}
		}),
		FieldNames: []string{"spec.signerName", "spec.podName", "spec.nodeName"},
		Fields: fielded(func(r *certificatesv1.PodCertificateRequest) map[string]string {
			return map[string]string{"spec.signerName": r.Spec.SignerName, "spec.podName": r.Spec.PodName, "spec.nodeName": string(r.Spec.NodeName)}
		}),
	}
}

func storageVersionMigration() Strategy {
	return Strategy{Validate: checked(validateStorageVersionMigration), ValidateUpdate: checked2(validateStorageVersionMigrationUpdate)}
}

func customResourceDefinition() Strategy {
	return Strategy{
		Validate:       checked(crd.Validate),
		ValidateUpdate: checked2(crd.ValidateUpdate),
		ValidateStatus: checked2(func(c, _ *apiextensionsv1.CustomResourceDefinition) field.ErrorList { return crd.ValidateStatus(c) }),
		Warn: func(obj, old anyObject) []string {
			was, _ := old.(*apiextensionsv1.CustomResourceDefinition)
			return crd.Warn(obj.(*apiextensionsv1.CustomResourceDefinition), was)
		},
		Generation: true,
		Default: typed(func(c *apiextensionsv1.CustomResourceDefinition) {
			apiextensionsv1.SetDefaults_CustomResourceDefinition(c)
			apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&c.Spec)
		}),
		PrepareCreate: typed(func(c *apiextensionsv1.CustomResourceDefinition) {
			c.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
			for _, v := range c.Spec.Versions {
				if v.Storage {
					c.Status.StoredVersions = []string{v.Name}
				}
			}
		}),
		PrepareUpdate: typed2(func(c, _ *apiextensionsv1.CustomResourceDefinition) {
			for _, v := range c.Spec.Versions {
				if v.Storage && !contains(c.Status.StoredVersions, v.Name) {
					c.Status.StoredVersions = append(c.Status.StoredVersions, v.Name)
				}
			}
		}),
		PrepareDelete: typed(func(c *apiextensionsv1.CustomResourceDefinition) {
			crd.Terminate(c, metav1.NewTime(time.Now().Truncate(time.Second)))
		}),
	}
}

func apiService() Strategy {
	return Strategy{
		Validate: checked(validateAPIService), ValidName: segmentName,
		Default: typed(func(a *apiregistrationv1.APIService) {
			if a.Spec.Service != nil {
				set(&a.Spec.Service.Port, 443)
			}
		}),
		PrepareCreate: typed(func(a *apiregistrationv1.APIService) {
			a.Status = apiregistrationv1.APIServiceStatus{}
			if a.Spec.Service == nil {
				a.Status.Conditions = []apiregistrationv1.APIServiceCondition{{
					Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second)),
					Reason: "Local", Message: "Local APIServices are always available",
				}}
			}
		}),
	}
}
