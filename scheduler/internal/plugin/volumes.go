package plugin

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"flagship/scheduler/internal/snapshot"
)

// VolumeBinding keeps a pod to nodes that its bound volumes reach and where its unbound claims can be met.
type VolumeBinding struct{}

// Name is upstream's plugin name.
func (VolumeBinding) Name() string { return "VolumeBinding" }

// Prepare implements Filter.
func (VolumeBinding) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	if !usesClaims(p) {
		return Prepared{}
	}
	cl, err := podClaims(c, p)
	if err != nil {
		return Prepared{Rejected: verdict(Unresolvable, err.Error())}
	}
	if len(cl.immediate) > 0 {
		return Prepared{Rejected: verdict(Unresolvable, "pod has unbound immediate PersistentVolumeClaims")}
	}
	return Prepared{Check: func(node int) *Verdict {
		if _, reasons := planVolumes(c, cl, node); len(reasons) > 0 {
			return &Verdict{Code: Unresolvable, Reasons: reasons}
		}
		return nil
	}}
}

func usesClaims(p *snapshot.Pod) bool {
	for i := range p.Spec.Volumes {
		if snapshot.ClaimName(p.Pod, &p.Spec.Volumes[i]) != "" {
			return true
		}
	}
	return false
}

func usesClaim(p *snapshot.Pod, ev snapshot.Event) bool {
	for i := range p.Spec.Volumes {
		if snapshot.ClaimKey(p.Pod, &p.Spec.Volumes[i]) == ev.ObjectNamespace+"/"+ev.ObjectName {
			return true
		}
	}
	return false
}

// Wake implements Filter.
func (VolumeBinding) Wake(_ *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	switch ev.Kind {
	case snapshot.KindPVC:
		return ev.Action != snapshot.Delete && usesClaim(p, ev)
	case snapshot.KindPV, snapshot.KindStorageClass, snapshot.KindCSINode, snapshot.KindCSICapacity, snapshot.KindCSIDriver:
		return true
	case snapshot.KindNode:
		return ev.Action == snapshot.Add || ev.Change.Labels
	default:
		return false
	}
}

// VolumeZone keeps a pod to the zones and regions that its volumes' labels name.
type VolumeZone struct{}

// Name is upstream's plugin name.
func (VolumeZone) Name() string { return "VolumeZone" }

// zoneLabels are the labels of a volume that name its place.
func zoneLabels() []string {
	return []string{v1.LabelFailureDomainBetaZone, v1.LabelFailureDomainBetaRegion, v1.LabelTopologyZone, v1.LabelTopologyRegion}
}

// Prepare implements Filter.
func (VolumeZone) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	type zone struct {
		key    string
		values []string
	}
	var zones []zone
	for i := range p.Spec.Volumes {
		claim := c.Volumes.Claims[snapshot.ClaimKey(p.Pod, &p.Spec.Volumes[i])]
		if claim == nil || claim.Spec.VolumeName == "" {
			continue
		}
		pv := c.Volumes.PVs[claim.Spec.VolumeName]
		if pv == nil {
			continue
		}
		for _, key := range zoneLabels() {
			if value, ok := pv.Labels[key]; ok {
				zones = append(zones, zone{key, strings.Split(value, "__")})
			}
		}
	}
	if len(zones) == 0 {
		return Prepared{}
	}
	no := verdict(Unresolvable, "node(s) had no available volume zone")
	return Prepared{Check: func(node int) *Verdict {
		l := c.Nodes[node].Labels
		if !slices.ContainsFunc(zoneLabels(), func(key string) bool { _, ok := l[key]; return ok }) {
			return nil
		}
		for _, z := range zones {
			have, ok := l[z.key]
			if !ok {
				have, ok = l[otherName(z.key)]
			}
			if !ok || !slices.Contains(z.values, have) {
				return no
			}
		}
		return nil
	}}
}

// otherName is the same label under its older or newer name.
func otherName(key string) string {
	switch key {
	case v1.LabelFailureDomainBetaZone:
		return v1.LabelTopologyZone
	case v1.LabelFailureDomainBetaRegion:
		return v1.LabelTopologyRegion
	case v1.LabelTopologyZone:
		return v1.LabelFailureDomainBetaZone
	default:
		return v1.LabelFailureDomainBetaRegion
	}
}

// Wake implements Filter.
func (VolumeZone) Wake(_ *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	switch ev.Kind {
	case snapshot.KindPVC:
		return usesClaim(p, ev)
	case snapshot.KindPV, snapshot.KindStorageClass:
		return true
	case snapshot.KindNode:
		return ev.Action == snapshot.Add || ev.Change.Labels
	default:
		return false
	}
}

// VolumeRestrictions keeps two pods from using a volume that only one may use.
type VolumeRestrictions struct{}

// Name is upstream's plugin name.
func (VolumeRestrictions) Name() string { return "VolumeRestrictions" }

// Prepare implements Filter.
func (VolumeRestrictions) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	once, disks := []string{}, false
	for i := range p.Spec.Volumes {
		vol := &p.Spec.Volumes[i]
		disks = disks || exclusiveDisk(vol)
		claim := c.Volumes.Claims[snapshot.ClaimKey(p.Pod, vol)]
		if claim != nil && slices.Contains(claim.Spec.AccessModes, v1.ReadWriteOncePod) {
			once = append(once, snapshot.ClaimKey(p.Pod, vol))
		}
	}
	if len(once) == 0 && !disks {
		return Prepared{}
	}
	inUse := slices.ContainsFunc(once, func(key string) bool { return c.Claims[key] > 0 })
	noClaim := verdict(Unschedulable, "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod")
	noDisk := verdict(Unschedulable, "node(s) had no available disk")
	return Prepared{Check: func(node int) *Verdict {
		if disks {
			for _, other := range c.Pods(node) {
				if diskConflict(p, other) {
					return noDisk
				}
			}
		}
		if inUse {
			return noClaim
		}
		return nil
	}}
}

func exclusiveDisk(v *v1.Volume) bool {
	return v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.RBD != nil || v.ISCSI != nil
}

func diskConflict(p, other *snapshot.Pod) bool {
	for i := range p.Spec.Volumes {
		for j := range other.Spec.Volumes {
			if sameDisk(&p.Spec.Volumes[i], &other.Spec.Volumes[j]) {
				return true
			}
		}
	}
	return false
}

func sameDisk(a, b *v1.Volume) bool {
	switch {
	case a.GCEPersistentDisk != nil && b.GCEPersistentDisk != nil:
		return a.GCEPersistentDisk.PDName == b.GCEPersistentDisk.PDName && !(a.GCEPersistentDisk.ReadOnly && b.GCEPersistentDisk.ReadOnly)
	case a.AWSElasticBlockStore != nil && b.AWSElasticBlockStore != nil:
		return a.AWSElasticBlockStore.VolumeID == b.AWSElasticBlockStore.VolumeID
	case a.ISCSI != nil && b.ISCSI != nil:
		return a.ISCSI.IQN == b.ISCSI.IQN && !(a.ISCSI.ReadOnly && b.ISCSI.ReadOnly)
	case a.RBD != nil && b.RBD != nil:
		shared := slices.ContainsFunc(a.RBD.CephMonitors, func(m string) bool { return slices.Contains(b.RBD.CephMonitors, m) })
		return shared && a.RBD.RBDPool == b.RBD.RBDPool && a.RBD.RBDImage == b.RBD.RBDImage && !(a.RBD.ReadOnly && b.RBD.ReadOnly)
	default:
		return false
	}
}

// Wake implements Filter.
func (VolumeRestrictions) Wake(_ *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	switch ev.Kind {
	case snapshot.KindAssignedPod:
		return ev.Action == snapshot.Delete
	case snapshot.KindNode:
		return ev.Action == snapshot.Add
	case snapshot.KindPVC:
		return usesClaim(p, ev)
	default:
		return false
	}
}

// NodeVolumeLimits keeps the number of a CSI driver's volumes on a node within what the node's CSINode allows.
type NodeVolumeLimits struct{}

// Name is upstream's plugin name.
func (NodeVolumeLimits) Name() string { return "NodeVolumeLimits" }

// csiVolumes lists a pod's CSI volumes as driver → unique volume names.
func csiVolumes(c *snapshot.Cluster, p *snapshot.Pod, into map[string]map[string]bool) {
	add := func(driver, name string) {
		if into[driver] == nil {
			into[driver] = map[string]bool{}
		}
		into[driver][name] = true
	}
	for i := range p.Spec.Volumes {
		key := snapshot.ClaimKey(p.Pod, &p.Spec.Volumes[i])
		claim := c.Volumes.Claims[key]
		if claim == nil {
			continue
		}
		if pv := c.Volumes.PVs[claim.Spec.VolumeName]; pv != nil {
			if pv.Spec.CSI != nil {
				add(pv.Spec.CSI.Driver, pv.Spec.CSI.VolumeHandle)
			}
			continue
		}
		if class := c.Volumes.Classes[className(claim)]; class != nil {
			add(class.Provisioner, "claim "+key)
		}
	}
}

func limits(n *storagev1.CSINode) map[string]int {
	out := map[string]int{}
	if n == nil {
		return out
	}
	for _, d := range n.Spec.Drivers {
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			out[d.Name] = int(*d.Allocatable.Count)
		}
	}
	return out
}

// Prepare implements Filter.
func (NodeVolumeLimits) Prepare(c *snapshot.Cluster, p *snapshot.Pod) Prepared {
	wanted := map[string]map[string]bool{}
	csiVolumes(c, p, wanted)
	if len(wanted) == 0 {
		return Prepared{}
	}
	no := verdict(Unschedulable, "node(s) exceed max volume count")
	return Prepared{Check: func(node int) *Verdict {
		limit := limits(c.Volumes.CSINodes[c.Name(node)])
		if len(limit) == 0 {
			return nil
		}
		used := map[string]map[string]bool{}
		for _, other := range c.Pods(node) {
			csiVolumes(c, other, used)
		}
		for driver, volumes := range wanted {
			most, ok := limit[driver]
			if !ok {
				continue
			}
			more := 0
			for name := range volumes {
				if !used[driver][name] {
					more++
				}
			}
			if more > 0 && len(used[driver])+more > most {
				return no
			}
		}
		return nil
	}}
}

// Wake implements Filter.
func (NodeVolumeLimits) Wake(_ *snapshot.Cluster, ev snapshot.Event, p *snapshot.Pod) bool {
	switch ev.Kind {
	case snapshot.KindAssignedPod:
		return ev.Action == snapshot.Delete && usesClaims(ev.Pod)
	case snapshot.KindCSINode:
		return ev.Action != snapshot.Delete
	case snapshot.KindNode:
		return ev.Action == snapshot.Add
	case snapshot.KindPVC:
		return usesClaim(p, ev)
	case snapshot.KindPV:
		return true
	default:
		return false
	}
}
