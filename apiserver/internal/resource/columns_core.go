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

func podTable() table {
	return table{
		columns("Name,Ready,Status,Restarts,Age,+IP,+Node,+Nominated Node,+Readiness Gates"),
		rowOf(func(p *corev1.Pod) []any {
			ready, total, restarts := podCounts(p)
			ip := ""
			for _, a := range p.Status.PodIPs {
				ip = a.IP
				break
			}
			return []any{p.Name, fmt.Sprintf("%d/%d", ready, total), podReason(p), restarts, p.CreationTimestamp, orNone(ip), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), readinessGates(p)}
		}),
	}
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	n := 0
	for _, g := range p.Spec.ReadinessGates {
		for _, c := range p.Status.Conditions {
			if c.Type == g.ConditionType && c.Status == corev1.ConditionTrue {
				n++
			}
		}
	}
	return fmt.Sprintf("%d/%d", n, len(p.Spec.ReadinessGates))
}

func sidecar(p *corev1.Pod, name string) bool {
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.Name == name {
			return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		}
	}
	return false
}

// podCounts is how many containers are ready, how many there are, and the
// restarts. Sidecars count as containers.
func podCounts(p *corev1.Pod) (ready, total int, restarts string) {
	total = len(p.Spec.Containers)
	n := int32(0)
	var last metav1.Time
	count := func(s corev1.ContainerStatus) {
		n += s.RestartCount
		if t := s.LastTerminationState.Terminated; t != nil && last.Before(&t.FinishedAt) {
			last = t.FinishedAt
		}
	}
	for i := range p.Spec.InitContainers {
		if sidecar(p, p.Spec.InitContainers[i].Name) {
			total++
		}
	}
	initializing := false
	for _, s := range p.Status.InitContainerStatuses {
		if sidecar(p, s.Name) {
			count(s)
			if s.Ready && s.Started != nil && *s.Started {
				ready++
			}
			continue
		}
		if !initializing && (s.State.Terminated == nil || s.State.Terminated.ExitCode != 0) {
			initializing = true
		}
		if initializing {
			count(s)
		}
	}
	if !initializing {
		n = 0
		last = metav1.Time{}
		for _, s := range p.Status.InitContainerStatuses {
			if sidecar(p, s.Name) {
				count(s)
			}
		}
		for _, s := range p.Status.ContainerStatuses {
			count(s)
			if s.Ready && s.State.Running != nil {
				ready++
			}
		}
	}
	restarts = strconv.Itoa(int(n))
	if n > 0 && !last.IsZero() {
		restarts += " (" + sinceText(last) + " ago)"
	}
	return ready, total, restarts
}

// podReason is the STATUS column.
func podReason(p *corev1.Pod) string {
	reason := string(p.Status.Phase)
	if p.Status.Reason != "" {
		reason = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			reason = corev1.PodReasonSchedulingGated
		}
	}
	initializing := false
	for i, s := range p.Status.InitContainerStatuses {
		switch {
		case s.State.Terminated != nil && s.State.Terminated.ExitCode == 0:
			continue
		case sidecar(p, s.Name) && s.Started != nil && *s.Started:
			continue
		case s.State.Terminated != nil:
			reason = "Init:" + terminated(s.State.Terminated)
		case s.State.Waiting != nil && s.State.Waiting.Reason != "" && s.State.Waiting.Reason != "PodInitializing":
			reason = "Init:" + s.State.Waiting.Reason
		default:
			reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		initializing = true
		break
	}
	if !initializing || initialized(p) {
		reason = containersReason(p, reason)
	}
	if p.DeletionTimestamp != nil && p.Status.Reason == "NodeLost" {
		return "Unknown"
	}
	if p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded {
		return "Terminating"
	}
	return reason
}

func initialized(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodInitialized {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func containersReason(p *corev1.Pod, reason string) string {
	running := false
	for _, s := range slices.Backward(p.Status.ContainerStatuses) {
		switch {
		case s.State.Waiting != nil && s.State.Waiting.Reason != "":
			reason = s.State.Waiting.Reason
		case s.State.Terminated != nil:
			reason = terminated(s.State.Terminated)
		case s.Ready && s.State.Running != nil:
			running = true
		}
	}
	if reason == "Completed" && running {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return "Running"
			}
		}
		return "NotReady"
	}
	return reason
}

func terminated(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func nodeTable() table {
	return table{
		columns("Name,Status,Roles,Age,Version,+Internal-IP,+External-IP,+OS-Image,+Kernel-Version,+Container-Runtime"),
		rowOf(func(n *corev1.Node) []any {
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
			return []any{n.Name, status, roles(n), n.CreationTimestamp, i.KubeletVersion, address(n, corev1.NodeInternalIP), address(n, corev1.NodeExternalIP), orUnknown(i.OSImage), orUnknown(i.KernelVersion), orUnknown(i.ContainerRuntimeVersion)}
		}),
	}
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
	return table{
		columns("Name,Type,Cluster-IP,External-IP,Port(s),Age,+Selector"),
		rowOf(func(s *corev1.Service) []any {
			ip := "<none>"
			if len(s.Spec.ClusterIPs) > 0 {
				ip = s.Spec.ClusterIPs[0]
			}
			return []any{s.Name, string(s.Spec.Type), ip, externalIP(s), servicePorts(s), s.CreationTimestamp, labelText(s.Spec.Selector)}
		}),
	}
}

func externalIP(s *corev1.Service) string {
	list := slices.Clone(s.Spec.ExternalIPs)
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var ingress []string
		for _, i := range s.Status.LoadBalancer.Ingress {
			if i.IP != "" {
				ingress = append(ingress, i.IP)
			} else if i.Hostname != "" {
				ingress = append(ingress, i.Hostname)
			}
		}
		list = append(ingress, list...)
		if len(list) == 0 {
			return "<pending>"
		}
	}
	return joined(list)
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
	return table{columns("Name,Endpoints,Age"), rowOf(func(e *corev1.Endpoints) []any {
		var list []string
		for _, s := range e.Subsets {
			for _, p := range s.Ports {
				for _, a := range s.Addresses {
					list = append(list, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
				}
			}
		}
		return []any{e.Name, few(list), e.CreationTimestamp}
	})}
}

func namespaceTable() table {
	return table{columns("Name,Status,Age"), rowOf(func(n *corev1.Namespace) []any {
		return []any{n.Name, string(n.Status.Phase), n.CreationTimestamp}
	})}
}

func secretTable() table {
	return table{columns("Name,Type,Data:integer,Age"), rowOf(func(s *corev1.Secret) []any {
		return []any{s.Name, string(s.Type), int64(len(s.Data)), s.CreationTimestamp}
	})}
}

func configMapTable() table {
	return table{columns("Name,Data:integer,Age"), rowOf(func(c *corev1.ConfigMap) []any {
		return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), c.CreationTimestamp}
	})}
}

func serviceAccountTable() table {
	return table{columns("Name,Secrets:integer,Age"), rowOf(func(s *corev1.ServiceAccount) []any {
		return []any{s.Name, int64(len(s.Secrets)), s.CreationTimestamp}
	})}
}

func eventTable() table {
	return table{
		columns("Last Seen,Type,Reason,Object,+Subobject,+Source,Message,+First Seen,+Count:integer,+Name"),
		rowOf(func(e *corev1.Event) []any {
			first, last := sinceText(e.FirstTimestamp), sinceText(e.LastTimestamp)
			if e.FirstTimestamp.IsZero() {
				first = sinceText(metav1.NewTime(e.EventTime.Time))
			}
			count := int64(e.Count)
			if e.Series != nil {
				last, count = sinceText(metav1.NewTime(e.Series.LastObservedTime.Time)), int64(e.Series.Count)
			} else if e.LastTimestamp.IsZero() {
				last = first
			}
			if count == 0 {
				count = 1
			}
			source := e.Source.Component
			if source == "" {
				source = e.ReportingController
			}
			if e.Source.Host != "" {
				source += ", " + e.Source.Host
			}
			return []any{last, e.Type, e.Reason, strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name, e.InvolvedObject.FieldPath, source, strings.TrimSpace(e.Message), first, count, e.Name}
		}),
	}
}

func replicationControllerTable() table {
	return table{columns("Name,Desired:integer,Current:integer,Ready:integer,Age,+Containers,+Images,+Selector"), rowOf(func(r *corev1.ReplicationController) []any {
		names, images := containers(r.Spec.Template)
		return []any{r.Name, int64(*r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), r.CreationTimestamp, names, images, labelText(r.Spec.Selector)}
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
	return table{columns("Name,Containers,Images,Pod Labels"), rowOf(func(t *corev1.PodTemplate) []any {
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

func volumeTable() table {
	return table{columns("Name,Capacity,Access Modes,Reclaim Policy,Status,Claim,StorageClass,VolumeAttributesClass,Reason,Age,+VolumeMode"), rowOf(func(v *corev1.PersistentVolume) []any {
		claim := ""
		if r := v.Spec.ClaimRef; r != nil {
			claim = r.Namespace + "/" + r.Name
		}
		size := v.Spec.Capacity[corev1.ResourceStorage]
		phase, mode, class := string(v.Status.Phase), "<unset>", "<unset>"
		if v.DeletionTimestamp != nil {
			phase = "Terminating"
		}
		if v.Spec.VolumeMode != nil {
			mode = string(*v.Spec.VolumeMode)
		}
		if v.Spec.VolumeAttributesClassName != nil {
			class = *v.Spec.VolumeAttributesClassName
		}
		return []any{v.Name, size.String(), accessModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phase, claim, v.Spec.StorageClassName, class, v.Status.Reason, v.CreationTimestamp, mode}
	})}
}

func volumeClaimTable() table {
	return table{columns("Name,Status,Volume,Capacity,Access Modes,StorageClass,VolumeAttributesClass,Age,+VolumeMode"), rowOf(func(c *corev1.PersistentVolumeClaim) []any {
		phase, capacity, modes := string(c.Status.Phase), "", ""
		if c.DeletionTimestamp != nil {
			phase = "Terminating"
		}
		if c.Spec.VolumeName != "" {
			modes = accessModes(c.Status.AccessModes)
			size := c.Status.Capacity[corev1.ResourceStorage]
			capacity = size.String()
		}
		mode, class, storage := "<unset>", "<unset>", ""
		if c.Spec.VolumeMode != nil {
			mode = string(*c.Spec.VolumeMode)
		}
		if c.Spec.VolumeAttributesClassName != nil {
			class = *c.Spec.VolumeAttributesClassName
		}
		if c.Spec.StorageClassName != nil {
			storage = *c.Spec.StorageClassName
		}
		return []any{c.Name, phase, c.Spec.VolumeName, capacity, modes, storage, class, c.CreationTimestamp, mode}
	})}
}

func quotaTable() table {
	return table{columns("Name,Request,Limit,Age"), rowOf(func(q *corev1.ResourceQuota) []any {
		var requests, limits []string
		for _, name := range sets.List(sets.KeySet(q.Status.Hard)) {
			used, hard := q.Status.Used[name], q.Status.Hard[name]
			text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
			if strings.HasPrefix(string(name), "limits") {
				limits = append(limits, text)
			} else {
				requests = append(requests, text)
			}
		}
		return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), q.CreationTimestamp}
	})}
}
