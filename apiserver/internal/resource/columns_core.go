package resource

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

func nodeTable() table {
	return table{columns: columns(`
Name
Status             | The status of the node
Roles              | The roles of the node
Age
Version            | @NodeSystemInfo.kubeletVersion
+Internal-IP       | @NodeStatus.addresses
+External-IP       | @NodeStatus.addresses
+OS-Image          | @NodeSystemInfo.osImage
+Kernel-Version    | @NodeSystemInfo.kernelVersion
+Container-Runtime | @NodeSystemInfo.containerRuntimeVersion
`), row: rowOf(func(n *corev1.Node) []any {
		status := "Unknown"
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				status = "NotReady"
				if c.Status == corev1.ConditionTrue {
					status = "Ready"
				}
			}
		}
		if n.Spec.Unschedulable {
			status += ",SchedulingDisabled"
		}
		i := n.Status.NodeInfo
		kernel := orUnknown(i.KernelVersion)
		if i.Architecture != "" {
			kernel += " (" + i.Architecture + ")"
		}
		return []any{
			n.Name, status, roles(n), n.CreationTimestamp, i.KubeletVersion, address(n, corev1.NodeInternalIP), address(n, corev1.NodeExternalIP),
			orUnknown(i.OSImage), kernel, orUnknown(i.ContainerRuntimeVersion),
		}
	})}
}

func orUnknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}

func address(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return "<none>"
}

func roles(n *corev1.Node) string {
	found := sets.New[string]()
	for k, v := range n.Labels {
		if role, ok := strings.CutPrefix(k, "node-role.kubernetes.io/"); ok && role != "" {
			found.Insert(role)
		} else if k == "kubernetes.io/role" && v != "" {
			found.Insert(v)
		}
	}
	return joined(sets.List(found))
}

func serviceTable() table {
	return table{columns: columns(`
Name
Type        | @ServiceSpec.type
Cluster-IP  | @ServiceSpec.clusterIP
External-IP | @ServiceSpec.externalIPs
Port(s)     | @ServiceSpec.ports
Age
+Selector   | @ServiceSpec.selector
`), row: rowOf(func(s *corev1.Service) []any {
		ip := "<none>"
		if len(s.Spec.ClusterIPs) > 0 {
			ip = s.Spec.ClusterIPs[0]
		}
		return []any{s.Name, string(s.Spec.Type), ip, externalIP(s), servicePorts(s), s.CreationTimestamp, labelText(s.Spec.Selector)}
	})}
}

func externalIP(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return joined(s.Spec.ExternalIPs)
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var list []string
		for _, i := range s.Status.LoadBalancer.Ingress {
			if i.IP != "" {
				list = append(list, i.IP)
			} else if i.Hostname != "" {
				list = append(list, i.Hostname)
			}
		}
		if list = append(distinct(list), s.Spec.ExternalIPs...); len(list) == 0 {
			return "<pending>"
		}
		return strings.Join(list, ",")
	}
	return "<unknown>"
}

func servicePorts(s *corev1.Service) string {
	var out []string
	for _, p := range s.Spec.Ports {
		text := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			text = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
		out = append(out, text)
	}
	return joined(out)
}

func endpointsTable() table {
	return table{columns: columns(`
Name
Endpoints | @Endpoints.subsets
Age
`), row: rowOf(func(e *corev1.Endpoints) []any {
		if len(e.Subsets) == 0 {
			return []any{e.Name, "<none>", e.CreationTimestamp}
		}
		var list []string
		for _, s := range e.Subsets {
			if len(s.Ports) == 0 { // as a headless service's may be
				for _, a := range s.Addresses {
					list = append(list, a.IP)
				}
			}
			for _, p := range s.Ports {
				for _, a := range s.Addresses {
					list = append(list, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
				}
			}
		}
		return []any{e.Name, few(list, 3), e.CreationTimestamp}
	})}
}

func namespaceTable() table {
	return table{columns: columns(`
Name
Status | The status of the namespace
Age
`), row: rowOf(func(n *corev1.Namespace) []any {
		return []any{n.Name, string(n.Status.Phase), n.CreationTimestamp}
	})}
}

func secretTable() table {
	return table{columns: columns(`
Name
Type | @Secret.type
Data | @Secret.data
Age
`), row: rowOf(func(s *corev1.Secret) []any {
		return []any{s.Name, string(s.Type), int64(len(s.Data)), s.CreationTimestamp}
	})}
}

func configMapTable() table {
	return table{columns: columns(`
Name
Data | @ConfigMap.data
Age
`), row: rowOf(func(c *corev1.ConfigMap) []any {
		return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), c.CreationTimestamp}
	})}
}

func serviceAccountTable() table {
	return table{columns: columns("Name\nAge"), row: rowOf(func(s *corev1.ServiceAccount) []any {
		return []any{s.Name, s.CreationTimestamp}
	})}
}

func eventTable() table {
	return table{columns: columns(`
Last Seen   | @Event.lastTimestamp
Type        | @Event.type
Reason      | @Event.reason
Object      | @Event.involvedObject
+Subobject  | @ObjectReference.fieldPath
+Source     | @Event.source
Message     | @Event.message
+First Seen | @Event.firstTimestamp
+Count      | @Event.count
+Name
`), row: rowOf(func(e *corev1.Event) []any {
		first, last, count := sinceText(e.FirstTimestamp), sinceText(e.LastTimestamp), int64(e.Count)
		if e.FirstTimestamp.IsZero() {
			first = sinceText(metav1.NewTime(e.EventTime.Time))
		}
		if e.LastTimestamp.IsZero() {
			last = first
		}
		if e.Series != nil {
			last, count = sinceText(metav1.NewTime(e.Series.LastObservedTime.Time)), int64(e.Series.Count)
		} else if count == 0 {
			count = 1
		}
		target := strings.ToLower(e.InvolvedObject.Kind)
		if e.InvolvedObject.Name != "" {
			target += "/" + e.InvolvedObject.Name
		}
		return []any{last, e.Type, e.Reason, target, e.InvolvedObject.FieldPath, eventSource(e), strings.TrimSpace(e.Message), first, count, e.Name}
	})}
}

func eventSource(e *corev1.Event) string {
	component, host := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if host == "" {
		host = e.ReportingInstance
	}
	if host == "" {
		return component
	}
	return component + ", " + host
}

func replicationControllerTable() table {
	return table{columns: columns(`
Name
Desired:integer | @ReplicationControllerSpec.replicas
Current:integer | @ReplicationControllerStatus.replicas
Ready:integer   | @ReplicationControllerStatus.readyReplicas
Age
+Containers     | Names of each container in the template.
+Images         | Images referenced by each container in the template.
+Selector       | @ReplicationControllerSpec.selector
`), row: rowOf(func(r *corev1.ReplicationController) []any {
		names, images := containers(r.Spec.Template)
		return []any{r.Name, int64(deref(r.Spec.Replicas)), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), r.CreationTimestamp, names, images, labelText(r.Spec.Selector)}
	})}
}

// containers are the names and the images of a template's containers.
func containers(t *corev1.PodTemplateSpec) (names, images string) {
	if t == nil {
		return "", ""
	}
	var n, i []string
	for _, c := range t.Spec.Containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

func podTemplateTable() table {
	return table{columns: columns(`
Name
Containers | Names of each container in the template.
Images     | Images referenced by each container in the template.
Pod Labels | The labels for the pod template.
`), row: rowOf(func(t *corev1.PodTemplate) []any {
		names, images := containers(&t.Template)
		return []any{t.Name, names, images, labelText(t.Template.Labels)}
	})}
}

func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	short := map[corev1.PersistentVolumeAccessMode]string{
		corev1.ReadWriteOnce: "RWO", corev1.ReadOnlyMany: "ROX", corev1.ReadWriteMany: "RWX", corev1.ReadWriteOncePod: "RWOP",
	}
	var out []string
	for _, m := range []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod} {
		if slices.Contains(modes, m) {
			out = append(out, short[m])
		}
	}
	return strings.Join(out, ",")
}

// storageClassOf is the storage class, for which there was an annotation once.
func storageClassOf(m *metav1.ObjectMeta, class string) string {
	if old, ok := m.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return old
	}
	return class
}

func volumeTable() table {
	return table{columns: columns(`
Name
Capacity              | @PersistentVolumeSpec.capacity
Access Modes          | @PersistentVolumeSpec.accessModes
Reclaim Policy        | @PersistentVolumeSpec.persistentVolumeReclaimPolicy
Status                | @PersistentVolumeStatus.phase
Claim                 | @PersistentVolumeSpec.claimRef
StorageClass          | StorageClass of the pv
VolumeAttributesClass | VolumeAttributesClass of the pv
Reason                | @PersistentVolumeStatus.reason
Age
+VolumeMode           | @PersistentVolumeSpec.volumeMode
`), row: rowOf(func(v *corev1.PersistentVolume) []any {
		claim := ""
		if r := v.Spec.ClaimRef; r != nil {
			claim = r.Namespace + "/" + r.Name
		}
		size, phase := v.Spec.Capacity[corev1.ResourceStorage], string(v.Status.Phase)
		if v.DeletionTimestamp != nil {
			phase = "Terminating"
		}
		return []any{
			v.Name, size.String(), accessModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phase, claim,
			storageClassOf(&v.ObjectMeta, v.Spec.StorageClassName), orElse(v.Spec.VolumeAttributesClassName, "<unset>"),
			v.Status.Reason, v.CreationTimestamp, orElse(v.Spec.VolumeMode, "<unset>"),
		}
	})}
}

func volumeClaimTable() table {
	return table{columns: columns(`
Name
Status                | @PersistentVolumeClaimStatus.phase
Volume                | @PersistentVolumeClaimSpec.volumeName
Capacity              | @PersistentVolumeClaimStatus.capacity
Access Modes          | @PersistentVolumeClaimStatus.accessModes
StorageClass          | StorageClass of the pvc
VolumeAttributesClass | VolumeAttributesClass of the pvc
Age
+VolumeMode           | @PersistentVolumeClaimSpec.volumeMode
`), row: rowOf(func(c *corev1.PersistentVolumeClaim) []any {
		phase, capacity, modes := string(c.Status.Phase), "", ""
		if c.DeletionTimestamp != nil {
			phase = "Terminating"
		}
		if c.Spec.VolumeName != "" {
			modes = accessModes(c.Status.AccessModes)
			size := c.Status.Capacity[corev1.ResourceStorage]
			capacity = size.String()
		}
		return []any{
			c.Name, phase, c.Spec.VolumeName, capacity, modes, storageClassOf(&c.ObjectMeta, deref(c.Spec.StorageClassName)),
			orElse(c.Spec.VolumeAttributesClassName, "<unset>"), c.CreationTimestamp, orElse(c.Spec.VolumeMode, "<unset>"),
		}
	})}
}

func quotaTable() table {
	return table{columns: columns(`
Name
Request | Request represents a minimum amount of cpu/memory that a container may consume.
Limit   | Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.
Age
`), row: rowOf(func(q *corev1.ResourceQuota) []any {
		var requests, limits []string
		for _, name := range sets.List(sets.KeySet(q.Status.Hard)) {
			used, hard := q.Status.Used[name], q.Status.Hard[name]
			text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
			if strings.HasPrefix(string(name), "limits.") {
				limits = append(limits, text)
			} else {
				requests = append(requests, text)
			}
		}
		return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), q.CreationTimestamp}
	})}
}
