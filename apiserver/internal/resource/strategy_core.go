package resource

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func configMap() Strategy {
	return Strategy{Validate: checked(validateConfigMap), ValidateUpdate: checked2(validateConfigMapUpdate), Unconditional: true}
}

func endpoints() Strategy {
	return Strategy{Warn: warned(warnEndpoints), Validate: checked(validateEndpoints), ValidateUpdate: checked2(validateEndpointsUpdate), Unconditional: true, CreateOnUpdate: true, Default: typed(func(e *corev1.Endpoints) {
		for i := range e.Subsets {
			for j := range e.Subsets[i].Ports {
				fill(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
			}
		}
	})}
}

func event() Strategy {
	return Strategy{
		Validate: checked(validateEvent), ValidName: segmentName,
		Unconditional: true, CreateOnUpdate: true, NoPropagation: true,
		FieldNames: []string{
			"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
			"involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
			"reason", "reportingComponent", "source", "type",
		},
		Fields: fielded(func(e *corev1.Event) map[string]string {
			source := e.Source.Component
			if source == "" {
				source = e.ReportingController
			}
			o := e.InvolvedObject
			return map[string]string{
				"involvedObject.kind": o.Kind, "involvedObject.namespace": o.Namespace, "involvedObject.name": o.Name,
				"involvedObject.uid": string(o.UID), "involvedObject.apiVersion": o.APIVersion,
				"involvedObject.resourceVersion": o.ResourceVersion, "involvedObject.fieldPath": o.FieldPath,
				"reason": e.Reason, "reportingComponent": e.ReportingController, "source": source, "type": e.Type,
			}
		}),
	}
}

func limitRange() Strategy {
	return Strategy{CreateOnUpdate: true, Validate: checked(validateLimitRange), Unconditional: true, PrepareCreate: typed(func(l *corev1.LimitRange) {
		// It alone may come without a name.
		if l.Name == "" {
			l.Name = string(uuid.NewUUID())
		}
	}), Default: typed(func(l *corev1.LimitRange) {
		for i := range l.Spec.Limits {
			defaultLimit(&l.Spec.Limits[i])
		}
	})}
}

// defaultLimit derives a container limit's defaults from each other.
func defaultLimit(item *corev1.LimitRangeItem) {
	if item.Type != corev1.LimitTypeContainer {
		return
	}
	if item.Default == nil {
		item.Default = corev1.ResourceList{}
	}
	if item.DefaultRequest == nil {
		item.DefaultRequest = corev1.ResourceList{}
	}
	inherit(item.Default, item.Max)
	inherit(item.DefaultRequest, item.Default)
	inherit(item.DefaultRequest, item.Min)
}

func inherit(to, from corev1.ResourceList) {
	for name, q := range from {
		if _, ok := to[name]; !ok {
			to[name] = q.DeepCopy()
		}
	}
}

func namespace() Strategy {
	return Strategy{
		ReturnDeleted: true,
		Validate:      checked(validateNamespace), ValidateUpdate: checked2(validateNamespaceUpdate), ValidateStatus: checked2(validateNamespaceStatus),
		ValidatePart: func(_ string, obj, old anyObject) field.ErrorList {
			return validateNamespaceUpdate(obj.(*corev1.Namespace), old.(*corev1.Namespace))
		}, ValidName: apivalidation.ValidateNamespaceName,
		Unconditional: true,
		Default: typed(func(n *corev1.Namespace) {
			if n.Status.Phase == "" {
				n.Status.Phase = corev1.NamespaceActive
			}
			if n.Name == "" {
				return
			}
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			n.Labels[corev1.LabelMetadataName] = n.Name
		}),
		PrepareCreate: typed(func(n *corev1.Namespace) {
			n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
			for _, f := range n.Spec.Finalizers {
				if f == corev1.FinalizerKubernetes {
					return
				}
			}
			n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
		}),
		PrepareUpdate: typed2(func(n, old *corev1.Namespace) { n.Spec.Finalizers = old.Spec.Finalizers }),
		FieldNames:    []string{"status.phase"},
		Fields: fielded(func(n *corev1.Namespace) map[string]string {
			return map[string]string{"status.phase": string(n.Status.Phase)}
		}),
	}
}

func node() Strategy {
	return Strategy{
		Warn:     warned(warnNode),
		Validate: checked(validateNode), ValidateUpdate: checked2(validateNodeChange), ValidateStatus: checked2(validateNodeUpdate),
		Unconditional: true,
		Default: typed(func(n *corev1.Node) {
			if n.Status.Allocatable == nil && n.Status.Capacity != nil {
				n.Status.Allocatable = n.Status.Capacity.DeepCopy()
			}
			if n.Spec.PodCIDR != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR) {
				n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
			} else if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0 {
				n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
			}
		}),
		// Configuration from the API is gone; nodes that have it keep it.
		PrepareCreate: typed(func(n *corev1.Node) { n.Spec.ConfigSource, n.Status.Config = nil, nil }),
		PrepareUpdate: typed2(func(n, old *corev1.Node) {
			if old.Spec.ConfigSource == nil {
				n.Spec.ConfigSource = nil
			}
		}),
		PrepareStatus: typed2(func(n, old *corev1.Node) {
			if old.Status.Config == nil {
				n.Status.Config = nil
			}
		}),
		FieldNames: []string{"spec.unschedulable"},
		Fields: fielded(func(n *corev1.Node) map[string]string {
			return map[string]string{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
		}),
	}
}

func volumeClaim() Strategy {
	return Strategy{
		ReturnDeleted: true,
		Warn:          warned(warnClaim),
		Unconditional: true,
		Default: typed(func(c *corev1.PersistentVolumeClaim) {
			fill(&c.Status.Phase, corev1.ClaimPending)
			set(&c.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
		}),
		PrepareCreate: typed(func(c *corev1.PersistentVolumeClaim) {
			c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
			// References to other namespaces are behind a gate that is off.
			if r := c.Spec.DataSourceRef; r != nil && r.Namespace != nil && *r.Namespace != "" {
				c.Spec.DataSourceRef = nil
			}
			// A data source that nothing provisions from is dropped, for the
			// clients that set one before it was checked.
			if d := c.Spec.DataSource; d != nil && c.Spec.DataSourceRef == nil && !provisionable(d) {
				c.Spec.DataSource = nil
			}
			sameDataSource(&c.Spec)
		}),
		Validate: checked(validateClaim), ValidateUpdate: checked2(validateClaimUpdate), ValidateStatus: checked2(validateClaimStatus),
	}
}

// provisionable is whether a volume can be made from a source: a claim or a
// snapshot.
func provisionable(d *corev1.TypedLocalObjectReference) bool {
	group := ""
	if d.APIGroup != nil {
		group = *d.APIGroup
	}
	return d.Kind == "PersistentVolumeClaim" && group == "" || d.Kind == "VolumeSnapshot" && group == "snapshot.storage.k8s.io"
}

// sameDataSource keeps dataSource and dataSourceRef equal where only one of
// them is given and it names no namespace.
func sameDataSource(s *corev1.PersistentVolumeClaimSpec) {
	switch {
	case s.DataSource != nil && s.DataSourceRef == nil:
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: s.DataSource.APIGroup, Kind: s.DataSource.Kind, Name: s.DataSource.Name}
	case s.DataSource == nil && s.DataSourceRef != nil && s.DataSourceRef.Namespace == nil:
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: s.DataSourceRef.APIGroup, Kind: s.DataSourceRef.Kind, Name: s.DataSourceRef.Name}
	}
}

func volume() Strategy {
	return Strategy{
		ReturnDeleted: true,
		Warn:          warned(warnVolume),
		Unconditional: true,
		Default: typed(func(v *corev1.PersistentVolume) {
			fill(&v.Status.Phase, corev1.VolumePending)
			fill(&v.Spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
			set(&v.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
			defaultVolumeSource(&v.Spec.PersistentVolumeSource)
		}),
		PrepareCreate: typed(func(v *corev1.PersistentVolume) {
			created := v.CreationTimestamp
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &created}
		}),
		Validate: checked(validateVolume), ValidateUpdate: checked2(validateVolumeUpdate),
	}
}

func defaultVolumeSource(s *corev1.PersistentVolumeSource) {
	switch {
	case s.HostPath != nil:
		set(&s.HostPath.Type, corev1.HostPathUnset)
	case s.ISCSI != nil:
		fill(&s.ISCSI.ISCSIInterface, "default")
	case s.RBD != nil:
		fill(&s.RBD.RBDPool, "rbd")
		fill(&s.RBD.RadosUser, "admin")
		fill(&s.RBD.Keyring, "/etc/ceph/keyring")
	case s.AzureDisk != nil:
		defaultAzureDisk(s.AzureDisk)
	case s.ScaleIO != nil:
		fill(&s.ScaleIO.StorageMode, "ThinProvisioned")
		fill(&s.ScaleIO.FSType, "xfs")
	}
}

func pod() Strategy {
	return Strategy{
		ReturnDeleted: true,
		Unconditional: true, Generation: true,
		Default: typed(defaultPod),
		PrepareCreate: typed(func(p *corev1.Pod) {
			defaultPodResources(&p.Spec)
			p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: QOS(p)}
			gated(p)
			if grace := p.Spec.TerminationGracePeriodSeconds; grace != nil && *grace < 0 {
				*grace = 1
			}
			mergeMatchKeys(p)
		}),
		PrepareUpdate: typed2(func(p, old *corev1.Pod) {
			if p.Spec.Resources == nil {
				// Who does not know of a pod's own resources leaves them out.
				p.Spec.Resources = old.Spec.Resources.DeepCopy()
			}
			p.Status = old.Status
			p.DeletionTimestamp = old.DeletionTimestamp
		}),
		PrepareStatus: typed2(func(p, old *corev1.Pod) {
			fill(&p.Status.QOSClass, old.Status.QOSClass)
			podIPsFrom(p)
		}),
		Validate: checked(validatePod), ValidateUpdate: checked2(validatePodUpdate), ValidateStatus: checked2(validatePodStatus),
		Warn: warned(warnPod), WarnStatus: warned(warnPodStatus),
		ValidatePart: func(sub string, obj, old anyObject) field.ErrorList {
			return validatePodPart(sub, obj.(*corev1.Pod), old.(*corev1.Pod))
		},
		FieldNames: []string{
			"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
			"status.phase", "status.podIP", "status.nominatedNodeName",
		},
		Fields: fielded(func(p *corev1.Pod) map[string]string {
			return map[string]string{
				"spec.nodeName": p.Spec.NodeName, "spec.restartPolicy": string(p.Spec.RestartPolicy),
				"spec.schedulerName": p.Spec.SchedulerName, "spec.serviceAccountName": p.Spec.ServiceAccountName,
				"spec.hostNetwork": strconv.FormatBool(p.Spec.HostNetwork), "status.phase": string(p.Status.Phase),
				"status.podIP": p.Status.PodIP, "status.nominatedNodeName": p.Status.NominatedNodeName,
			}
		}),
		GraceSeconds: func(obj anyObject, asked *int64) *int64 { return podGrace(obj.(*corev1.Pod), asked) },
	}
}

// podGrace is how long a pod may take to end: what was asked, else what its
// spec says, and nothing for a pod that no kubelet runs.
func podGrace(p *corev1.Pod, asked *int64) *int64 {
	grace := int64(0)
	if asked != nil {
		grace = *asked
	} else if p.Spec.TerminationGracePeriodSeconds != nil {
		grace = *p.Spec.TerminationGracePeriodSeconds
	}
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		grace = 0
	}
	if grace < 0 {
		grace = 1
	}
	return &grace
}

// gated marks a pod with scheduling gates, KEP-3521.
func gated(p *corev1.Pod) {
	if len(p.Spec.SchedulingGates) == 0 {
		return
	}
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
		Message: "Scheduling is blocked due to non-empty scheduling gates",
	})
}

// QOS is a pod's quality-of-service class, from cpu and memory alone.
func QOS(p *corev1.Pod) corev1.PodQOSClass {
	if r := p.Spec.Resources; r != nil && len(r.Requests)+len(r.Limits) > 0 {
		return classOf(r.Requests, r.Limits)
	}
	class := corev1.PodQOSClass("")
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			c := classOf(list[i].Resources.Requests, list[i].Resources.Limits)
			if class != "" && class != c {
				c = corev1.PodQOSBurstable
			}
			class = c
		}
	}
	if class == "" {
		class = corev1.PodQOSBestEffort
	}
	return class
}

func classOf(requests, limits corev1.ResourceList) corev1.PodQOSClass {
	some, every := false, true
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := requests[name], limits[name]
		some = some || !request.IsZero() || !limit.IsZero()
		every = every && !limit.IsZero() && (request.IsZero() || request.Cmp(limit) == 0)
	}
	switch {
	case !some:
		return corev1.PodQOSBestEffort
	case every:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

func podTemplate() Strategy {
	return Strategy{ReturnDeleted: true, Warn: warned(warnPodTemplate), Validate: checked(validatePodTemplate), Unconditional: true, Generation: true, SpecIsWhole: true, Default: typed(func(t *corev1.PodTemplate) { defaultPodSpec(&t.Template.Spec) })}
}

func replicationController() Strategy {
	return Strategy{
		Warn:     warned(warnReplicationController),
		Validate: checked(validateReplicationController), ValidateStatus: checked2(validateReplicationControllerStatus),
		Unconditional: true, Generation: true, Orphans: true,
		Default: typed(func(rc *corev1.ReplicationController) {
			if rc.Spec.Template != nil {
				if len(rc.Spec.Selector) == 0 {
					rc.Spec.Selector = rc.Spec.Template.Labels
				}
				if len(rc.Labels) == 0 {
					rc.Labels = rc.Spec.Template.Labels
				}
				defaultPodSpec(&rc.Spec.Template.Spec)
			}
			set(&rc.Spec.Replicas, 1)
		}),
		PrepareCreate: typed(func(rc *corev1.ReplicationController) { rc.Status = corev1.ReplicationControllerStatus{} }),
		FieldNames:    []string{"status.replicas"},
		Fields: fielded(func(rc *corev1.ReplicationController) map[string]string {
			return map[string]string{"status.replicas": strconv.Itoa(int(rc.Status.Replicas))}
		}),
	}
}

func resourceQuota() Strategy {
	return Strategy{ReturnDeleted: true, Validate: checked(validateQuota), ValidateUpdate: checked2(validateQuotaUpdate), ValidateStatus: checked2(validateQuotaStatus), Unconditional: true, PrepareCreate: typed(func(q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} })}
}

func secret() Strategy {
	return Strategy{
		Warn:     warned(warnSecret),
		Validate: checked(validateSecret), ValidateUpdate: checked2(validateSecretUpdate),
		Unconditional: true,
		Default: typed(func(s *corev1.Secret) {
			fill(&s.Type, corev1.SecretTypeOpaque)
			mergeStringData(s)
		}),
		PrepareUpdate: typed2(func(s, old *corev1.Secret) {
			// An update that leaves the type out keeps it.
			if len(s.Type) == 0 {
				s.Type = old.Type
			}
		}),
		FieldNames: []string{"type"},
		Fields: fielded(func(s *corev1.Secret) map[string]string {
			return map[string]string{"type": string(s.Type)}
		}),
	}
}

func mergeStringData(s *corev1.Secret) {
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for k, v := range s.StringData {
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}

func serviceAccount() Strategy {
	return Strategy{ReturnDeleted: true, Warn: warned(warnServiceAccount), PrepareCreate: typed(onlyNames), PrepareUpdate: typed2(func(a, _ *corev1.ServiceAccount) { onlyNames(a) }), ValidName: apivalidation.ValidateServiceAccountName, Unconditional: true}
}

func service() Strategy {
	return Strategy{
		ReturnDeleted:  true,
		CreateOnUpdate: true,
		Warn:           warned(warnService), WarnStatus: warned(warnServiceStatus),
		Validate: checked(validateService), ValidateUpdate: checked2(validateServiceUpdate), ValidateStatus: checked2(validateServiceStatus), ValidName: validServiceName,
		Unconditional: true,
		Default:       typed(defaultService),
		PrepareCreate: typed(func(s *corev1.Service) { s.Status = corev1.ServiceStatus{} }),
		PrepareUpdate: typed2(dropTypeFields),
		FieldNames:    []string{"spec.clusterIP", "spec.type"},
		Fields: fielded(func(s *corev1.Service) map[string]string {
			return map[string]string{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
		}),
	}
}

// dropTypeFields wipes what a service no longer needs after a change of its
// type, where the client left it as it was.
func dropTypeFields(s, old *corev1.Service) {
	n, o := &s.Spec, &old.Spec
	inside := func(t corev1.ServiceType) bool { return t != corev1.ServiceTypeExternalName }
	if inside(o.Type) && !inside(n.Type) {
		if apiequality.Semantic.DeepEqual(n.InternalTrafficPolicy, o.InternalTrafficPolicy) {
			n.InternalTrafficPolicy = nil
		}
	}
	if reachable(old) && !reachable(s) && n.ExternalTrafficPolicy == o.ExternalTrafficPolicy {
		n.ExternalTrafficPolicy = ""
	}
	if o.Type == corev1.ServiceTypeLoadBalancer && n.Type != corev1.ServiceTypeLoadBalancer {
		if apiequality.Semantic.DeepEqual(n.AllocateLoadBalancerNodePorts, o.AllocateLoadBalancerNodePorts) {
			n.AllocateLoadBalancerNodePorts = nil
		}
		if apiequality.Semantic.DeepEqual(n.LoadBalancerClass, o.LoadBalancerClass) {
			n.LoadBalancerClass = nil
		}
	}
	if n.Type != corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
}
