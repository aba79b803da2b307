package resource

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func storageClassTable() table {
	return table{columns: columns(`
Name
Provisioner          | @StorageClass.provisioner
ReclaimPolicy        | @StorageClass.reclaimPolicy
VolumeBindingMode    | @StorageClass.volumeBindingMode
AllowVolumeExpansion | @StorageClass.allowVolumeExpansion
Age
`), row: rowOf(storageClassCells), list: storageClassRows}
}

func storageClassCells(c *storagev1.StorageClass) []any {
	return []any{c.Name, c.Provisioner, orElse(c.ReclaimPolicy, "Delete"), orElse(c.VolumeBindingMode, "Immediate"), deref(c.AllowVolumeExpansion), c.CreationTimestamp}
}

// storageClassRows mark the default of a list: of those that say they are it
// the newest, and of several of one age the first by name. Only a list can
// tell, so that a class by itself is never marked.
func storageClassRows(list []runtime.Object) []ListRow {
	var chosen *storagev1.StorageClass
	for _, obj := range list {
		c := obj.(*storagev1.StorageClass)
		if c.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" && c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] != "true" {
			continue
		}
		if chosen == nil || c.CreationTimestamp.After(chosen.CreationTimestamp.Time) || c.CreationTimestamp.Equal(&chosen.CreationTimestamp) && c.Name < chosen.Name {
			chosen = c
		}
	}
	rows := make([]ListRow, 0, len(list))
	for i, obj := range list {
		c := obj.(*storagev1.StorageClass)
		cells := storageClassCells(c)
		if c == chosen {
			cells[0] = c.Name + " (default)"
		}
		rows = append(rows, ListRow{i, cells})
	}
	return rows
}

func volumeAttributesClassTable() table {
	return table{columns: columns(`
Name
DriverName | @VolumeAttributesClass.driverName
Age
`), row: rowOf(func(c *storagev1.VolumeAttributesClass) []any {
		return []any{c.Name, c.DriverName, c.CreationTimestamp}
	})}
}

func volumeAttachmentTable() table {
	return table{columns: columns(`
Name
Attacher:string:name | @VolumeAttachmentSpec.attacher
PV                   | @VolumeAttachmentSource.persistentVolumeName
Node                 | @VolumeAttachmentSpec.nodeName
Attached:boolean     | @VolumeAttachmentStatus.attached
Age
`), row: rowOf(func(a *storagev1.VolumeAttachment) []any {
		return []any{a.Name, a.Spec.Attacher, deref(a.Spec.Source.PersistentVolumeName), a.Spec.NodeName, a.Status.Attached, a.CreationTimestamp}
	})}
}

func csiNodeTable() table {
	return table{columns: columns(`
Name
Drivers:integer | Drivers indicates the number of CSI drivers registered on the node
Age
`), row: rowOf(func(n *storagev1.CSINode) []any {
		return []any{n.Name, int64(len(n.Spec.Drivers)), n.CreationTimestamp}
	})}
}

func csiDriverTable() table {
	return table{columns: columns(`
Name
AttachRequired:boolean    | @CSIDriverSpec.attachRequired
PodInfoOnMount:boolean    | @CSIDriverSpec.podInfoOnMount
StorageCapacity:boolean   | @CSIDriverSpec.storageCapacity
TokenRequests             | @CSIDriverSpec.tokenRequests
RequiresRepublish:boolean | @CSIDriverSpec.requiresRepublish
Modes                     | @CSIDriverSpec.volumeLifecycleModes
Age
`), row: rowOf(func(d *storagev1.CSIDriver) []any {
		var modes, audiences []string
		for _, m := range d.Spec.VolumeLifecycleModes {
			modes = append(modes, string(m))
		}
		for _, t := range d.Spec.TokenRequests {
			audiences = append(audiences, t.Audience)
		}
		tokens := "<unset>"
		if d.Spec.TokenRequests != nil {
			tokens = strings.Join(audiences, ",")
		}
		return []any{
			d.Name, d.Spec.AttachRequired == nil || *d.Spec.AttachRequired, deref(d.Spec.PodInfoOnMount), deref(d.Spec.StorageCapacity),
			tokens, deref(d.Spec.RequiresRepublish), joined(modes), d.CreationTimestamp,
		}
	})}
}

func deviceClassTable() table {
	return table{columns: columns("Name\nAge"), row: rowOf(func(c *resourcev1.DeviceClass) []any {
		return []any{c.Name, c.CreationTimestamp}
	})}
}

func resourceClaimTable() table {
	return table{columns: columns(`
Name
State | A summary of the current state (allocated, pending, reserved, etc.).
Age
`), row: rowOf(func(c *resourcev1.ResourceClaim) []any {
		var states []string
		if c.DeletionTimestamp != nil {
			states = append(states, "deleted")
		}
		switch {
		case c.Status.Allocation != nil && len(c.Status.ReservedFor) > 0:
			states = append(states, "allocated", "reserved")
		case c.Status.Allocation != nil:
			states = append(states, "allocated")
		case c.DeletionTimestamp == nil:
			states = append(states, "pending")
		}
		return []any{c.Name, strings.Join(states, ","), c.CreationTimestamp}
	})}
}

func resourceClaimTemplateTable() table {
	return table{columns: columns("Name\nAge"), row: rowOf(func(t *resourcev1.ResourceClaimTemplate) []any {
		return []any{t.Name, t.CreationTimestamp}
	})}
}

func resourceSliceTable() table {
	return table{columns: columns(`
Name
Node   | @ResourceSliceSpec.nodeName
Driver | @ResourceSliceSpec.driver
Pool   | @ResourcePool.name
Age
`), row: rowOf(func(s *resourcev1.ResourceSlice) []any {
		return []any{s.Name, deref(s.Spec.NodeName), s.Spec.Driver, s.Spec.Pool.Name, s.CreationTimestamp}
	})}
}

func deviceTaintRuleTable() table {
	return table{columns: columns(`
Name
Key       | @DeviceTaint.key
Value     | @DeviceTaint.value
Effect    | @DeviceTaint.effect
TimeAdded | @DeviceTaint.timeAdded
Age
`), row: rowOf(func(r *resourcev1.DeviceTaintRule) []any {
		taint, added := r.Spec.Taint, ""
		if taint.TimeAdded != nil {
			added = sinceText(*taint.TimeAdded)
		}
		return []any{r.Name, taint.Key, taint.Value, string(taint.Effect), added, r.CreationTimestamp}
	})}
}

// storageVersionMigrationTable has a name without its format, as upstream's.
func storageVersionMigrationTable() table {
	return table{columns: columns(`
Name:string
Resource | GroupResource to migrate
Status   | Status of the migration
`), row: rowOf(func(m *storagemigrationv1.StorageVersionMigration) []any {
		status := "Unknown"
		for _, c := range m.Status.Conditions {
			if c.Status != metav1.ConditionTrue {
				continue
			}
			switch storagemigrationv1.MigrationConditionType(c.Type) {
			case storagemigrationv1.MigrationRunning, storagemigrationv1.MigrationFailed, storagemigrationv1.MigrationSucceeded:
				status = c.Type
			}
		}
		return []any{m.Name, m.Spec.Resource.String(), status}
	})}
}
