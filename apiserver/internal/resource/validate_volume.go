package resource

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// namedVolumes checks a pod's volumes and returns the valid ones by name.
func (v *podScope) namedVolumes(p *field.Path) map[string]corev1.VolumeSource {
	names, claims := sets.Set[string]{}, sets.Set[string]{}
	podName := ""
	if v.meta != nil {
		podName = v.meta.Name
	}
	for i := range v.spec.Volumes {
		if podName != "" && v.spec.Volumes[i].Ephemeral != nil {
			claims.Insert(podName + "-" + v.spec.Volumes[i].Name)
		}
	}
	out := map[string]corev1.VolumeSource{}
	for i := range v.spec.Volumes {
		vol, at := &v.spec.Volumes[i], p.Index(i)
		before := len(v.list)
		v.volumeSource(vol, at, podName)
		v.requiredOr(at.Child("name"), vol.Name, v.label)
		if names.Has(vol.Name) {
			v.duplicate(at.Child("name"), vol.Name)
		}
		if len(v.list) == before {
			names.Insert(vol.Name)
			out[vol.Name] = vol.VolumeSource
		}
		if vol.PersistentVolumeClaim != nil && claims.Has(vol.PersistentVolumeClaim.ClaimName) {
			v.invalid(at.Child("persistentVolumeClaim", "claimName"), vol.PersistentVolumeClaim.ClaimName, "must not reference a PVC that gets created for an ephemeral volume")
		}
	}
	return out
}

// source is one of the types that a volume may have; name is its field in
// errors about there being two, at in errors about itself.
type source struct {
	name, at string
	set      bool
	check    func(*field.Path)
}

// exactlyOne checks the first source and forbids the others.
func (c *checks) exactlyOne(list []source, p *field.Path) {
	n := 0
	for _, s := range list {
		switch {
		case !s.set:
		case n > 0:
			c.forbidden(p.Child(s.name), onlyOneVolume)
		default:
			n++
			at := s.at
			if at == "" {
				at = s.name
			}
			s.check(p.Child(at))
		}
	}
	if n == 0 {
		c.required(p, "must specify a volume type")
	}
}

func (v *podScope) volumeSource(vol *corev1.Volume, p *field.Path, podName string) {
	s := &vol.VolumeSource
	v.exactlyOne([]source{
		{"emptyDir", "", s.EmptyDir != nil, func(p *field.Path) {
			if q := s.EmptyDir.SizeLimit; q != nil && q.Sign() < 0 {
				v.forbidden(p.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")
			}
		}},
		{"hostPath", "", s.HostPath != nil, func(p *field.Path) { v.hostPath(s.HostPath, p) }},
		{"gitRepo", "", s.GitRepo != nil, func(p *field.Path) {
			v.needed(p.Child("repository"), s.GitRepo.Repository)
			v.descending(p.Child("directory"), s.GitRepo.Directory)
		}},
		{"gcePersistentDisk", "persistentDisk", s.GCEPersistentDisk != nil, func(p *field.Path) {
			v.disk("pdName", s.GCEPersistentDisk.PDName, s.GCEPersistentDisk.Partition, p)
		}},
		{"awsElasticBlockStore", "", s.AWSElasticBlockStore != nil, func(p *field.Path) {
			v.disk("volumeID", s.AWSElasticBlockStore.VolumeID, s.AWSElasticBlockStore.Partition, p)
		}},
		{"secret", "", s.Secret != nil, func(p *field.Path) {
			v.needed(p.Child("secretName"), s.Secret.SecretName)
			v.mode(p.Child("defaultMode"), s.Secret.DefaultMode)
			v.keyPaths(s.Secret.Items, p)
		}},
		{"nfs", "", s.NFS != nil, func(p *field.Path) { v.nfs(s.NFS, p) }},
		{"iscsi", "", s.ISCSI != nil, func(p *field.Path) {
			i := s.ISCSI
			v.iscsi(iscsi{i.TargetPortal, i.IQN, i.Lun, i.DiscoveryCHAPAuth || i.SessionCHAPAuth, i.SecretRef != nil, i.InitiatorName}, p, " starting with iqn, eui, or naa")
			if i.InitiatorName != nil && len(vol.Name+":"+i.TargetPortal) > 64 {
				v.invalid(p.Child("name"), vol.Name, iscsiTooLong)
			}
		}},
		{"glusterfs", "", s.Glusterfs != nil, func(p *field.Path) {
			v.needed(p.Child("endpoints"), s.Glusterfs.EndpointsName)
			v.needed(p.Child("path"), s.Glusterfs.Path)
		}},
		{"flocker", "", s.Flocker != nil, func(p *field.Path) { v.flocker(s.Flocker, p) }},
		{"persistentVolumeClaim", "", s.PersistentVolumeClaim != nil, func(p *field.Path) { v.needed(p.Child("claimName"), s.PersistentVolumeClaim.ClaimName) }},
		{"rbd", "", s.RBD != nil, func(p *field.Path) { v.rbd(s.RBD.CephMonitors, s.RBD.RBDImage, p) }},
		{"cinder", "", s.Cinder != nil, func(p *field.Path) {
			v.needed(p.Child("volumeID"), s.Cinder.VolumeID)
			v.secretName(s.Cinder.SecretRef, p)
		}},
		{"cephFS", "cephfs", s.CephFS != nil, func(p *field.Path) { v.monitors(s.CephFS.Monitors, p) }},
		{"quobyte", "", s.Quobyte != nil, func(p *field.Path) { v.quobyte(s.Quobyte, p) }},
		{"downwarAPI", "downwardAPI", s.DownwardAPI != nil, func(p *field.Path) {
			v.mode(p.Child("defaultMode"), s.DownwardAPI.DefaultMode)
			for i := range s.DownwardAPI.Items {
				v.downwardFile(&s.DownwardAPI.Items[i], p)
			}
		}},
		{"fc", "", s.FC != nil, func(p *field.Path) { v.fibreChannel(s.FC, p) }},
		{"flexVolume", "", s.FlexVolume != nil, func(p *field.Path) { v.flex(s.FlexVolume.Driver, s.FlexVolume.Options, p) }},
		{"configMap", "", s.ConfigMap != nil, func(p *field.Path) {
			v.needed(p.Child("name"), s.ConfigMap.Name)
			v.mode(p.Child("defaultMode"), s.ConfigMap.DefaultMode)
			v.keyPaths(s.ConfigMap.Items, p)
		}},
		{"azureFile", "", s.AzureFile != nil, func(p *field.Path) {
			v.needed(p.Child("secretName"), s.AzureFile.SecretName)
			v.needed(p.Child("shareName"), s.AzureFile.ShareName)
		}},
		{"vsphereVolume", "", s.VsphereVolume != nil, func(p *field.Path) { v.needed(p.Child("volumePath"), s.VsphereVolume.VolumePath) }},
		{"photonPersistentDisk", "", s.PhotonPersistentDisk != nil, func(p *field.Path) { v.needed(p.Child("pdID"), s.PhotonPersistentDisk.PdID) }},
		{"portworxVolume", "", s.PortworxVolume != nil, func(p *field.Path) { v.needed(p.Child("volumeID"), s.PortworxVolume.VolumeID) }},
		{"azureDisk", "", s.AzureDisk != nil, func(p *field.Path) { v.azureDisk(s.AzureDisk, p) }},
		{"storageos", "", s.StorageOS != nil, func(p *field.Path) {
			v.storageOS(s.StorageOS.VolumeName, s.StorageOS.VolumeNamespace, p)
			v.secretName(s.StorageOS.SecretRef, p)
		}},
		{"projected", "", s.Projected != nil, func(p *field.Path) { v.projected(s.Projected, p) }},
		{"scaleIO", "", s.ScaleIO != nil, func(p *field.Path) { v.scaleIO(s.ScaleIO.Gateway, s.ScaleIO.System, s.ScaleIO.VolumeName, p) }},
		{"csi", "", s.CSI != nil, func(p *field.Path) {
			v.csiDriverName(s.CSI.Driver, p.Child("driver"))
			if r := s.CSI.NodePublishSecretRef; r != nil {
				if r.Name == "" {
					v.required(p.Child("nodePublishSecretRef", "name"), "")
				} else {
					v.subdomain(p.Child("name"), r.Name)
				}
			}
		}},
		{"ephemeral", "", s.Ephemeral != nil, func(at *field.Path) {
			if t := s.Ephemeral.VolumeClaimTemplate; t == nil {
				v.required(at.Child("volumeClaimTemplate"), "")
			} else {
				v.claimTemplate(t, at.Child("volumeClaimTemplate"))
			}
			if podName != "" && vol.Name != "" {
				claim := podName + "-" + vol.Name
				for _, msg := range validation.IsDNS1123Subdomain(claim) {
					v.invalid(p.Child("name"), vol.Name, fmt.Sprintf("PVC name %q: %v", claim, msg))
				}
			}
		}},
		{"image", "", s.Image != nil, func(p *field.Path) {
			v.needed(p.Child("reference"), s.Image.Reference)
			v.pullPolicy(s.Image.PullPolicy, p.Child("pullPolicy"))
		}},
	}, p)
}

func (c *checks) hostPath(h *corev1.HostPathVolumeSource, p *field.Path) {
	if h.Path == "" {
		c.required(p.Child("path"), "")
		return
	}
	c.noBacksteps(p.Child("path"), h.Path)
	if h.Type != nil {
		oneOf(c, p.Child("type"), *h.Type, corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
			corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)
	}
}

func (c *checks) disk(name, value string, partition int32, p *field.Path) {
	c.needed(p.Child(name), value)
	if partition < 0 || partition > 255 {
		c.invalid(p.Child("partition"), partition, validation.InclusiveRangeError(1, 255))
	}
}

func (c *checks) keyPaths(items []corev1.KeyToPath, p *field.Path) {
	for i := range items {
		c.keyPath(&items[i], p.Child("items").Index(i))
	}
}

func (c *checks) keyPath(k *corev1.KeyToPath, p *field.Path) {
	c.needed(p.Child("key"), k.Key)
	c.needed(p.Child("path"), k.Path)
	c.notReserved(p.Child("path"), k.Path)
	c.mode(p.Child("mode"), k.Mode)
}

func (v *podScope) downwardFile(f *corev1.DownwardAPIVolumeFile, p *field.Path) {
	v.needed(p.Child("path"), f.Path)
	v.notReserved(p.Child("path"), f.Path)
	switch {
	case f.FieldRef != nil:
		v.fieldRef(f.FieldRef, fileFields, p.Child("fieldRef"))
		if f.ResourceFieldRef != nil {
			v.invalid(p, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
		}
	case f.ResourceFieldRef != nil:
		v.resourceRef(f.ResourceFieldRef, p.Child("resourceFieldRef"), true)
	default:
		v.required(p, "one of fieldRef and resourceFieldRef is required")
	}
	v.mode(p.Child("mode"), f.Mode)
}

func (c *checks) nfs(n *corev1.NFSVolumeSource, p *field.Path) {
	c.needed(p.Child("server"), n.Server)
	c.needed(p.Child("path"), n.Path)
	if !path.IsAbs(n.Path) {
		c.invalid(p.Child("path"), n.Path, "must be an absolute path")
	}
}

const iscsiTooLong = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."

var (
	iscsiIQN = regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`)
	iscsiEUI = regexp.MustCompile(`^eui.[[:alnum:]]{16}$`)
	iscsiNAA = regexp.MustCompile(`^naa.[[:alnum:]]{32}$`)
)

type iscsi struct {
	portal, iqn  string
	lun          int32
	auth, secret bool
	initiator    *string
}

func (c *checks) iscsi(i iscsi, p *field.Path, hint string) {
	c.needed(p.Child("targetPortal"), i.portal)
	c.requiredOr(p.Child("iqn"), i.iqn, func(p *field.Path, s string) { c.iscsiName(p, s, hint) })
	c.between(p.Child("lun"), int64(i.lun), 0, 255)
	if i.auth && !i.secret {
		c.required(p.Child("secretRef"), "")
	}
	if i.initiator != nil {
		c.iscsiName(p.Child("initiatorname"), *i.initiator, hint)
	}
}

// iscsiName wants one of the three forms of RFC 3720.
func (c *checks) iscsiName(p *field.Path, s, hint string) {
	for prefix, form := range map[string]*regexp.Regexp{"iqn": iscsiIQN, "eui": iscsiEUI, "naa": iscsiNAA} {
		if strings.HasPrefix(s, prefix) {
			if !form.MatchString(s) {
				c.invalid(p, s, "must be valid format")
			}
			return
		}
	}
	c.invalid(p, s, "must be valid format"+hint)
}

func (c *checks) fibreChannel(f *corev1.FCVolumeSource, p *field.Path) {
	switch {
	case len(f.TargetWWNs) == 0 && len(f.WWIDs) == 0:
		c.required(p.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both")
	case len(f.TargetWWNs) > 0 && len(f.WWIDs) > 0:
		c.invalid(p.Child("targetWWNs"), f.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously")
	}
	if len(f.TargetWWNs) == 0 {
		return
	}
	if f.Lun == nil {
		c.required(p.Child("lun"), "lun is required if targetWWNs is specified")
	} else {
		c.between(p.Child("lun"), int64(*f.Lun), 0, 255)
	}
}
