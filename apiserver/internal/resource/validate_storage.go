package resource

import (
	"path"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checks) quantityPositive(p *field.Path, q apiresource.Quantity) bool {
	if q.Sign() <= 0 {
		c.invalid(p, q.String(), notPositive)
		return false
	}
	return true
}

func (c *checks) accessModes(modes []corev1.PersistentVolumeAccessMode, p *field.Path) {
	alone, shared := false, false
	for _, m := range modes {
		ok := oneOf(c, p, m, corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod)
		alone = alone || m == corev1.ReadWriteOncePod
		shared = shared || ok && m != corev1.ReadWriteOncePod
	}
	if alone && shared {
		c.forbidden(p, "may not use ReadWriteOncePod with other access modes")
	}
}

func (c *checks) volumeMode(m *corev1.PersistentVolumeMode, p *field.Path) {
	if m != nil {
		oneOf(c, p, *m, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	}
}

func validateClaim(v *corev1.PersistentVolumeClaim) field.ErrorList {
	c := &checks{}
	c.claimSpec(&v.Spec, root("spec"), true)
	return c.list
}

func (c *checks) claimTemplate(t *corev1.PersistentVolumeClaimTemplate, p *field.Path) {
	c.add(apivalidation.ValidateAnnotations(t.Annotations, p.Child("metadata", "annotations")))
	c.add(unversioned.ValidateLabels(t.Labels, p.Child("metadata", "labels")))
	c.onlyFields(t.ObjectMeta, sets.New("Annotations", "Labels"), "cannot be set", p.Child("metadata"))
	c.claimSpec(&t.Spec, p.Child("spec"), true)
}

// claimSpec checks a claim; groups is whether the API groups of its data
// sources are checked.
func (c *checks) claimSpec(s *corev1.PersistentVolumeClaimSpec, p *field.Path, groups bool) {
	if len(s.AccessModes) == 0 {
		c.required(p.Child("accessModes"), "at least 1 access mode is required")
	}
	c.selector(p.Child("selector"), s.Selector)
	c.accessModes(s.AccessModes, p.Child("accessModes"))
	at := p.Child("resources").Key(string(corev1.ResourceStorage))
	if q, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		c.required(at, "")
	} else {
		c.quantityPositive(at, q)
	}
	if s.StorageClassName != nil && *s.StorageClassName != "" {
		c.subdomain(p.Child("storageClassName"), *s.StorageClassName)
	}
	c.volumeMode(s.VolumeMode, p.Child("volumeMode"))
	if d := s.DataSource; d != nil {
		c.dataSource(d.APIGroup, d.Kind, d.Name, p.Child("dataSource"), groups)
	}
	if r := s.DataSourceRef; r != nil {
		c.dataSource(r.APIGroup, r.Kind, r.Name, p.Child("dataSourceRef"), groups)
		other := r.Namespace != nil && *r.Namespace != ""
		if other {
			c.invalid(p.Child("dataSourceRef", "namespace"), *r.Namespace, apivalidation.ValidateNamespaceName(*r.Namespace, false)...)
		}
		if d := s.DataSource; d != nil && other {
			c.invalid(p, p.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified")
		} else if d != nil && !(reflect.DeepEqual(d.APIGroup, r.APIGroup) && d.Kind == r.Kind && d.Name == r.Name) {
			c.invalid(p, p.Child("dataSource"), "must match dataSourceRef")
		}
	}
	if s.VolumeAttributesClassName != nil && *s.VolumeAttributesClassName != "" {
		c.subdomain(p.Child("volumeAttributesClassName"), *s.VolumeAttributesClassName)
	}
}

func (c *checks) dataSource(group *string, kind, name string, p *field.Path, groups bool) {
	c.needed(p.Child("name"), name)
	c.needed(p.Child("kind"), kind)
	if group == nil || *group == "" {
		if kind != "PersistentVolumeClaim" {
			c.invalid(p, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
		}
	} else if groups {
		c.subdomain(p.Child("apiGroup"), *group)
	}
}

func validateClaimUpdate(v, old *corev1.PersistentVolumeClaim) field.ErrorList {
	c := &checks{}
	group := func(s *corev1.PersistentVolumeClaimSpec) bool {
		return s.DataSource != nil && s.DataSource.APIGroup != nil || s.DataSourceRef != nil && s.DataSourceRef.APIGroup != nil
	}
	c.claimSpec(&v.Spec, root("spec"), !group(&old.Spec))
	n, o := v.DeepCopy(), old.DeepCopy()
	if old.Spec.VolumeName == "" {
		o.Spec.VolumeName = n.Spec.VolumeName
	}
	c.classKept(n, o)
	if v.Status.Phase == corev1.ClaimBound {
		if n.Spec.Resources.Requests != nil {
			n.Spec.Resources.Requests[corev1.ResourceStorage] = old.Spec.Resources.Requests[corev1.ResourceStorage]
		}
		n.Spec.VolumeAttributesClassName = o.Spec.VolumeAttributesClassName
	}
	spec, storage := root("spec"), root("spec", "resources", "requests", "storage")
	if !apiequality.Semantic.DeepEqual(n.Spec, o.Spec) {
		c.forbidden(spec, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"+diff.Diff(o.Spec, n.Spec))
	}
	was, is := old.Spec.Resources.Requests[corev1.ResourceStorage], v.Spec.Resources.Requests[corev1.ResourceStorage]
	if has := old.Status.Capacity[corev1.ResourceStorage]; is.Cmp(was) < 0 && is.Cmp(has) <= 0 {
		c.forbidden(storage, "field can not be less than status.capacity")
	}
	c.same(root("volumeMode"), v.Spec.VolumeMode, old.Spec.VolumeMode)
	if old.Status.CurrentVolumeAttributesClassName != nil && !apiequality.Semantic.DeepEqual(old.Spec.VolumeAttributesClassName, v.Spec.VolumeAttributesClassName) {
		switch name := v.Spec.VolumeAttributesClassName; {
		case name == nil:
			c.forbidden(spec.Child("volumeAttributesClassName"), "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil")
		case *name == "":
			c.forbidden(spec.Child("volumeAttributesClassName"), "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil")
		}
	}
	return c.list
}

// classKept lets a claim's class move from the old annotation to the field, or
// be filled in once, and hides those changes in n.
func (c *checks) classKept(n, o *corev1.PersistentVolumeClaim) {
	const key = corev1.BetaStorageClassAnnotation
	was, had := o.Annotations[key]
	is, has := n.Annotations[key]
	name := n.Spec.StorageClassName
	if had && o.Spec.StorageClassName == nil && name != nil && *name == was && (!has || is == was) {
		n.Spec.StorageClassName = nil
		return
	}
	if is != was {
		c.invalid(root("metadata", "annotations", key), is, immutable)
	}
	if name != nil && o.Spec.StorageClassName == nil && (!had || *name == was) {
		n.Spec.StorageClassName = o.Spec.StorageClassName
	}
}

func validateVolume(v *corev1.PersistentVolume) field.ErrorList {
	c := &checks{}
	c.volumeSpec(&v.Spec, v.Name, root("spec"), false)
	const key = corev1.MountOptionAnnotation
	if _, ok := v.Annotations[key]; ok && !mountsWithOptions(&v.Spec) {
		c.forbidden(root("metadata", "annotations", key), "may not specify mount options for this volume type")
	}
	return c.list
}

// mountsWithOptions is whether a volume is of those whose options may be in an annotation.
func mountsWithOptions(s *corev1.PersistentVolumeSpec) bool {
	return s.GCEPersistentDisk != nil || s.AWSElasticBlockStore != nil || s.Glusterfs != nil || s.NFS != nil || s.RBD != nil || s.Quobyte != nil || s.ISCSI != nil ||
		s.Cinder != nil || s.CephFS != nil || s.AzureFile != nil || s.VsphereVolume != nil || s.AzureDisk != nil || s.PhotonPersistentDisk != nil
}

// volumeSpec checks a persistent volume, or one written into a
// VolumeAttachment (inline).
func (c *checks) volumeSpec(s *corev1.PersistentVolumeSpec, name string, p *field.Path, inline bool) {
	const context = " in the context of inline volumes"
	not := func(name string, set bool) {
		if set {
			c.forbidden(p.Child(name), "may not be specified"+context)
		}
	}
	if inline {
		not("claimRef", s.ClaimRef != nil)
		not("capacity", len(s.Capacity) > 0)
		not("nodeAffinity", s.NodeAffinity != nil)
		not("storageClassName", s.StorageClassName != "")
		if s.CSI == nil {
			c.required(p.Child("csi"), "has to be specified"+context)
		}
		if r := s.PersistentVolumeReclaimPolicy; r != "" && r != corev1.PersistentVolumeReclaimRetain {
			c.forbidden(p.Child("persistentVolumeReclaimPolicy"), "may only be Retain"+context)
		}
		if s.VolumeMode != nil && *s.VolumeMode != corev1.PersistentVolumeFilesystem {
			c.forbidden(p.Child("volumeMode"), "may not specify volumeMode other than Filesystem"+context)
		}
	} else {
		c.volumeOwn(s, p)
	}
	if len(s.AccessModes) == 0 {
		c.required(p.Child("accessModes"), "")
	}
	c.accessModes(s.AccessModes, p.Child("accessModes"))
	c.persistentSource(s, name, p)
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		c.forbidden(p.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'")
	}
	if a := s.VolumeAttributesClassName; a != nil {
		if *a == "" {
			c.required(p.Child("volumeAttributesClassName"), "an empty string is disallowed")
		} else {
			c.subdomain(p.Child("volumeAttributesClassName"), *a)
		}
		if s.CSI == nil {
			c.required(p.Child("csi"), "has to be specified when using volumeAttributesClassName")
		}
	}
}

// volumeOwn checks what only a volume of its own has.
func (c *checks) volumeOwn(s *corev1.PersistentVolumeSpec, p *field.Path) {
	capacity := p.Child("capacity")
	if len(s.Capacity) == 0 {
		c.required(capacity, "")
	}
	if _, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		c.list = append(c.list, field.NotSupported(capacity, s.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for n, q := range s.Capacity {
		c.basicQuantity(q, capacity.Key(string(n)))
		c.quantityPositive(capacity.Key(string(n)), q)
	}
	if s.PersistentVolumeReclaimPolicy != "" {
		oneOf(c, p.Child("persistentVolumeReclaimPolicy"), s.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)
	}
	if a := s.NodeAffinity; a != nil {
		if a.Required == nil {
			c.required(p.Child("nodeAffinity", "required"), "must specify required node constraints")
		} else {
			c.nodeSelector(a.Required, p.Child("nodeAffinity", "required"))
		}
	}
	if s.StorageClassName != "" {
		c.subdomain(p.Child("storageClassName"), s.StorageClassName)
	}
	c.volumeMode(s.VolumeMode, p.Child("volumeMode"))
}

func (c *checks) basicQuantity(q apiresource.Quantity, p *field.Path) {
	if q.Value() < 0 {
		c.invalid(p, q.Value(), "must be a valid resource quantity")
	}
}

func (c *checks) persistentSource(s *corev1.PersistentVolumeSpec, name string, p *field.Path) {
	if s.FlexVolume != nil {
		// It is checked beside the others, which alone may not be two.
		c.flex(s.FlexVolume.Driver, s.FlexVolume.Options, p.Child("flexVolume"))
		rest := s.PersistentVolumeSource
		rest.FlexVolume = nil
		if rest == (corev1.PersistentVolumeSource{}) {
			return
		}
	}
	c.exactlyOne([]source{
		{"hostPath", "", s.HostPath != nil, func(p *field.Path) { c.hostPath(s.HostPath, p) }},
		{"gcePersistentDisk", "persistentDisk", s.GCEPersistentDisk != nil, func(p *field.Path) {
			c.disk("pdName", s.GCEPersistentDisk.PDName, s.GCEPersistentDisk.Partition, p)
		}},
		{"awsElasticBlockStore", "", s.AWSElasticBlockStore != nil, func(p *field.Path) {
			c.disk("volumeID", s.AWSElasticBlockStore.VolumeID, s.AWSElasticBlockStore.Partition, p)
		}},
		{"glusterfs", "", s.Glusterfs != nil, func(p *field.Path) {
			c.needed(p.Child("endpoints"), s.Glusterfs.EndpointsName)
			c.needed(p.Child("path"), s.Glusterfs.Path)
			if ns := s.Glusterfs.EndpointsNamespace; ns != nil && *ns == "" {
				c.invalid(p.Child("endpointsNamespace"), *ns, "if the endpointnamespace is set, it must be a valid namespace name")
			} else if ns != nil {
				c.invalid(p.Child("endpointsNamespace"), *ns, apivalidation.ValidateNamespaceName(*ns, false)...)
			}
		}},
		{"flocker", "", s.Flocker != nil, func(p *field.Path) { c.flocker(s.Flocker, p) }},
		{"nfs", "", s.NFS != nil, func(p *field.Path) { c.nfs(s.NFS, p) }},
		{"rbd", "", s.RBD != nil, func(p *field.Path) { c.rbd(s.RBD.CephMonitors, s.RBD.RBDImage, p) }},
		{"quobyte", "", s.Quobyte != nil, func(p *field.Path) { c.quobyte(s.Quobyte, p) }},
		{"cephFS", "cephfs", s.CephFS != nil, func(p *field.Path) { c.monitors(s.CephFS.Monitors, p) }},
		{"iscsi", "", s.ISCSI != nil, func(p *field.Path) {
			i := s.ISCSI
			c.iscsi(iscsi{i.TargetPortal, i.IQN, i.Lun, i.DiscoveryCHAPAuth || i.SessionCHAPAuth, i.SecretRef != nil, i.InitiatorName}, p, "")
			if i.InitiatorName != nil && len(name+":"+i.TargetPortal) > 64 {
				c.invalid(p.Child("targetportal"), i.TargetPortal, iscsiTooLong)
			}
			if i.SecretRef != nil {
				c.needed(p.Child("secretRef", "name"), i.SecretRef.Name)
			}
		}},
		{"cinder", "", s.Cinder != nil, func(p *field.Path) {
			c.needed(p.Child("volumeID"), s.Cinder.VolumeID)
			if r := s.Cinder.SecretRef; r != nil {
				c.needed(p.Child("secretRef", "name"), r.Name)
				c.needed(p.Child("secretRef", "namespace"), r.Namespace)
			}
		}},
		{"fc", "", s.FC != nil, func(p *field.Path) { c.fibreChannel(s.FC, p) }},
		{"azureFile", "", s.AzureFile != nil, func(p *field.Path) {
			c.needed(p.Child("secretName"), s.AzureFile.SecretName)
			c.needed(p.Child("shareName"), s.AzureFile.ShareName)
			if s.AzureFile.SecretNamespace != nil {
				c.needed(p.Child("secretNamespace"), *s.AzureFile.SecretNamespace)
			}
		}},
		{"vsphereVolume", "", s.VsphereVolume != nil, func(p *field.Path) { c.needed(p.Child("volumePath"), s.VsphereVolume.VolumePath) }},
		{"photonPersistentDisk", "", s.PhotonPersistentDisk != nil, func(p *field.Path) { c.needed(p.Child("pdID"), s.PhotonPersistentDisk.PdID) }},
		{"portworxVolume", "", s.PortworxVolume != nil, func(p *field.Path) { c.needed(p.Child("volumeID"), s.PortworxVolume.VolumeID) }},
		{"azureDisk", "", s.AzureDisk != nil, func(p *field.Path) { c.azureDisk(s.AzureDisk, p) }},
		{"scaleIO", "", s.ScaleIO != nil, func(p *field.Path) { c.scaleIO(s.ScaleIO.Gateway, s.ScaleIO.System, s.ScaleIO.VolumeName, p) }},
		{"local", "", s.Local != nil, func(at *field.Path) {
			c.needed(at.Child("path"), s.Local.Path)
			c.noBacksteps(at.Child("path"), s.Local.Path)
			if s.NodeAffinity == nil || s.NodeAffinity.Required == nil {
				c.required(p.Child("nodeAffinity"), "Local volume requires node affinity")
			}
		}},
		{"storageos", "", s.StorageOS != nil, func(p *field.Path) {
			c.storageOS(s.StorageOS.VolumeName, s.StorageOS.VolumeNamespace, p)
			if r := s.StorageOS.SecretRef; r != nil {
				c.needed(p.Child("secretRef", "name"), r.Name)
				c.needed(p.Child("secretRef", "namespace"), r.Namespace)
			}
		}},
		{"csi", "", s.CSI != nil, func(p *field.Path) { c.persistentCSI(s.CSI, p) }},
	}, p)
}

func (c *checks) persistentCSI(s *corev1.CSIPersistentVolumeSource, p *field.Path) {
	c.csiDriverName(s.Driver, p.Child("driver"))
	c.needed(p.Child("volumeHandle"), s.VolumeHandle)
	for _, r := range []struct {
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", s.ControllerPublishSecretRef},
		{"controllerExpandSecretRef", s.ControllerExpandSecretRef},
		{"nodePublishSecretRef", s.NodePublishSecretRef},
		{"nodeExpandSecretRef", s.NodeExpandSecretRef},
	} {
		if r.ref != nil {
			c.requiredOr(p.Child(r.name, "name"), r.ref.Name, c.subdomain)
			c.requiredOr(p.Child(r.name, "namespace"), r.ref.Namespace, c.label)
		}
	}
}

func validateVolumeUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	c := &checks{}
	c.volumeSpec(&v.Spec, v.Name, root("spec"), false)
	n := v.Spec.PersistentVolumeSource.DeepCopy()
	if o := old.Spec.CSI; o != nil && o.ControllerExpandSecretRef == nil && n.CSI != nil {
		n.CSI.ControllerExpandSecretRef = nil
	}
	if !apiequality.Semantic.DeepEqual(*n, old.Spec.PersistentVolumeSource) {
		c.forbidden(root("spec", "persistentvolumesource"), "spec.persistentvolumesource is immutable after creation\n"+diff.Diff(old.Spec.PersistentVolumeSource, *n))
	}
	c.same(root("volumeMode"), v.Spec.VolumeMode, old.Spec.VolumeMode)
	if old.Spec.NodeAffinity != nil {
		c.same(root("nodeAffinity"), v.Spec.NodeAffinity, old.Spec.NodeAffinity)
	}
	if old.Spec.VolumeAttributesClassName != nil && v.Spec.VolumeAttributesClassName == nil {
		c.forbidden(root("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden")
	}
	return c.list
}

// validResourceKey is for the claims' status: native names are storage alone.
func (c *checks) claimResourceKey(name corev1.ResourceName, p *field.Path) bool {
	if msgs := validation.IsQualifiedName(string(name)); len(msgs) > 0 {
		c.invalid(p, string(name), msgs...)
		return false
	}
	if native(name) && name != corev1.ResourceStorage {
		c.list = append(c.list, field.NotSupported(p, string(name), []corev1.ResourceName{corev1.ResourceStorage}))
		return false
	}
	return true
}

func validateClaimStatus(v, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	c := &checks{}
	status := root("status")
	for n, q := range v.Status.Capacity {
		c.basicQuantity(q, status.Child("capacity").Key(string(n)))
	}
	for n, s := range v.Status.AllocatedResourceStatuses {
		at := status.Child("allocatedResourceStatuses")
		c.claimResourceKey(n, at)
		switch s {
		case corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible, corev1.PersistentVolumeClaimNodeResizePending,
			corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible:
		default:
			c.list = append(c.list, field.NotSupported(at, n, []corev1.ClaimResourceStatus{
				corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
				corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible,
			}))
		}
	}
	for n, q := range v.Status.AllocatedResources {
		at := status.Child("allocatedResources")
		if c.claimResourceKey(n, at) {
			c.basicQuantity(q, at.Key(string(n)))
		}
	}
	return c.list
}
