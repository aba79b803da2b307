package resource

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func deploymentTable() table {
	return table{columns("Name,Ready,Up-to-date:integer,Available:integer,Age,+Containers,+Images,+Selector"), rowOf(func(d *appsv1.Deployment) []any {
		names, images := containers(&d.Spec.Template)
		return []any{d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, *d.Spec.Replicas), int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas), d.CreationTimestamp, names, images, selectorText(d.Spec.Selector)}
	})}
}

func replicaSetTable() table {
	return table{columns("Name,Desired:integer,Current:integer,Ready:integer,Age,+Containers,+Images,+Selector"), rowOf(func(r *appsv1.ReplicaSet) []any {
		names, images := containers(&r.Spec.Template)
		return []any{r.Name, int64(*r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), r.CreationTimestamp, names, images, selectorText(r.Spec.Selector)}
	})}
}

func daemonSetTable() table {
	return table{columns("Name,Desired:integer,Current:integer,Ready:integer,Up-to-date:integer,Available:integer,Node Selector,Age,+Containers,+Images,+Selector"), rowOf(func(d *appsv1.DaemonSet) []any {
		names, images := containers(&d.Spec.Template)
		s := d.Status
		return []any{d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady), int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable), labelText(d.Spec.Template.Spec.NodeSelector), d.CreationTimestamp, names, images, selectorText(d.Spec.Selector)}
	})}
}

func statefulSetTable() table {
	return table{columns("Name,Ready,Age,+Containers,+Images"), rowOf(func(s *appsv1.StatefulSet) []any {
		names, images := containers(&s.Spec.Template)
		return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, *s.Spec.Replicas), s.CreationTimestamp, names, images}
	})}
}

func controllerRevisionTable() table {
	return table{columns("Name,Controller,Revision,Age"), rowOf(func(c *appsv1.ControllerRevision) []any {
		owner := "<none>"
		if o := metav1.GetControllerOf(c); o != nil {
			gv, _, _ := strings.Cut(o.APIVersion, "/")
			owner = strings.ToLower(o.Kind) + "." + gv + "/" + o.Name
		}
		return []any{c.Name, owner, c.Revision, c.CreationTimestamp}
	})}
}

func jobStatus(j *batchv1.Job) string {
	has := func(t batchv1.JobConditionType) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == t && c.Status == "True" {
				return true
			}
		}
		return false
	}
	switch {
	case has(batchv1.JobComplete):
		return "Complete"
	case has(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case has(batchv1.JobSuspended):
		return "Suspended"
	case has(batchv1.JobFailureTarget):
		return "FailureTarget"
	case has(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func jobTable() table {
	return table{columns("Name,Status,Completions,Duration,Age,+Containers,+Images,+Selector"), rowOf(func(j *batchv1.Job) []any {
		completions := ""
		switch {
		case j.Spec.Completions != nil:
			completions = fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
		case j.Spec.Parallelism != nil && *j.Spec.Parallelism > 1:
			completions = fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
		default:
			completions = fmt.Sprintf("%d/1", j.Status.Succeeded)
		}
		duration := ""
		switch {
		case j.Status.StartTime == nil:
		case j.Status.CompletionTime == nil:
			duration = sinceText(*j.Status.StartTime)
		default:
			duration = durationText(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
		}
		names, images := containers(&j.Spec.Template)
		return []any{j.Name, jobStatus(j), completions, duration, j.CreationTimestamp, names, images, selectorText(j.Spec.Selector)}
	})}
}

func cronJobTable() table {
	return table{columns("Name,Schedule,Timezone,Suspend:boolean,Active:integer,Last Schedule,Age,+Containers,+Images,+Selector"), rowOf(func(c *batchv1.CronJob) []any {
		last, zone := "<none>", "<none>"
		if c.Status.LastScheduleTime != nil {
			last = sinceText(*c.Status.LastScheduleTime)
		}
		if c.Spec.TimeZone != nil {
			zone = *c.Spec.TimeZone
		}
		names, images := containers(&c.Spec.JobTemplate.Spec.Template)
		return []any{c.Name, c.Spec.Schedule, zone, *c.Spec.Suspend, int64(len(c.Status.Active)), last, c.CreationTimestamp, names, images, selectorText(c.Spec.JobTemplate.Spec.Selector)}
	})}
}

func metricsText(h *autoscalingv2.HorizontalPodAutoscaler) string {
	var out []string
	for i, m := range h.Spec.Metrics {
		current := "<unknown>"
		if m.Type != autoscalingv2.ResourceMetricSourceType || m.Resource == nil {
			out = append(out, strings.ToLower(string(m.Type))+": "+current)
			continue
		}
		var status *autoscalingv2.ResourceMetricStatus
		if i < len(h.Status.CurrentMetrics) {
			status = h.Status.CurrentMetrics[i].Resource
		}
		if t := m.Resource.Target; t.AverageUtilization != nil {
			if status != nil && status.Current.AverageUtilization != nil {
				current = fmt.Sprintf("%d%%", *status.Current.AverageUtilization)
			}
			out = append(out, fmt.Sprintf("%s: %s/%d%%", m.Resource.Name, current, *t.AverageUtilization))
		} else if t.AverageValue != nil {
			if status != nil && status.Current.AverageValue != nil {
				current = status.Current.AverageValue.String()
			}
			out = append(out, fmt.Sprintf("%s: %s/%s", m.Resource.Name, current, t.AverageValue))
		}
	}
	if len(out) == 0 {
		return "<none>"
	}
	if len(out) > 2 {
		return strings.Join(out[:2], ", ") + fmt.Sprintf(" + %d more...", len(out)-2)
	}
	return strings.Join(out, ", ")
}

func autoscalerTable() table {
	return table{columns("Name,Reference,Targets,MinPods,MaxPods:integer,Replicas:integer,Age"), rowOf(func(h *autoscalingv2.HorizontalPodAutoscaler) []any {
		least := "<unset>"
		if h.Spec.MinReplicas != nil {
			least = strconv.Itoa(int(*h.Spec.MinReplicas))
		}
		return []any{h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name, metricsText(h), least, int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), h.CreationTimestamp}
	})}
}

func budgetTable() table {
	return table{columns("Name,Min Available,Max Unavailable,Allowed Disruptions:integer,Age"), rowOf(func(p *policyv1.PodDisruptionBudget) []any {
		least, most := "N/A", "N/A"
		if p.Spec.MinAvailable != nil {
			least = p.Spec.MinAvailable.String()
		}
		if p.Spec.MaxUnavailable != nil {
			most = p.Spec.MaxUnavailable.String()
		}
		return []any{p.Name, least, most, int64(p.Status.DisruptionsAllowed), p.CreationTimestamp}
	})}
}

func leaseTable() table {
	return table{columns("Name,Holder,Age"), rowOf(func(l *coordinationv1.Lease) []any {
		holder := ""
		if l.Spec.HolderIdentity != nil {
			holder = *l.Spec.HolderIdentity
		}
		return []any{l.Name, holder, l.CreationTimestamp}
	})}
}

func endpointSliceTable() table {
	return table{columns("Name,AddressType,Ports,Endpoints,Age"), rowOf(func(e *discoveryv1.EndpointSlice) []any {
		var ports, addresses []string
		for _, p := range e.Ports {
			text := "*"
			if p.Port != nil {
				text = strconv.Itoa(int(*p.Port))
			} else if p.Name != nil && *p.Name != "" {
				text = *p.Name
			}
			ports = append(ports, text)
		}
		for _, p := range e.Endpoints {
			addresses = append(addresses, p.Addresses...)
		}
		unset := func(list []string) string {
			if len(list) == 0 {
				return "<unset>"
			}
			return few(list)
		}
		return []any{e.Name, string(e.AddressType), unset(ports), unset(addresses), e.CreationTimestamp}
	})}
}

func ingressTable() table {
	return table{columns("Name,Class,Hosts,Address,Ports,Age"), rowOf(func(i *networkingv1.Ingress) []any {
		class := "<none>"
		if i.Spec.IngressClassName != nil {
			class = *i.Spec.IngressClassName
		}
		var hosts, addresses []string
		for _, r := range i.Spec.Rules {
			if r.Host != "" {
				hosts = append(hosts, r.Host)
			}
		}
		for _, in := range i.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				addresses = append(addresses, in.IP)
			} else if in.Hostname != "" {
				addresses = append(addresses, in.Hostname)
			}
		}
		ports, host := "80", "*"
		if len(i.Spec.TLS) > 0 {
			ports = "80, 443"
		}
		if len(hosts) > 0 {
			host = few(hosts)
		}
		return []any{i.Name, class, host, strings.Join(addresses, ","), ports, i.CreationTimestamp}
	})}
}

func ingressClassTable() table {
	return table{columns("Name,Controller,Parameters,Age"), rowOf(func(c *networkingv1.IngressClass) []any {
		parameters := "<none>"
		if p := c.Spec.Parameters; p != nil {
			parameters = p.Kind
			if p.APIGroup != nil {
				parameters += "." + *p.APIGroup
			}
			parameters += "/" + p.Name
		}
		return []any{c.Name, c.Spec.Controller, parameters, c.CreationTimestamp}
	})}
}

func networkPolicyTable() table {
	return table{columns("Name,Pod-Selector,Age"), rowOf(func(n *networkingv1.NetworkPolicy) []any {
		return []any{n.Name, selectorText(&n.Spec.PodSelector), n.CreationTimestamp}
	})}
}

func ipAddressTable() table {
	return table{columns("Name,ParentRef,Age"), rowOf(func(a *networkingv1.IPAddress) []any {
		parent := "<none>"
		if p := a.Spec.ParentRef; p != nil {
			parent = strings.ToLower(p.Resource)
			if p.Group != "" {
				parent += "." + p.Group
			}
			if p.Namespace != "" {
				parent += "/" + p.Namespace
			}
			parent += "/" + p.Name
		}
		return []any{a.Name, parent, a.CreationTimestamp}
	})}
}

func serviceCIDRTable() table {
	return table{columns("Name,CIDRs,Age"), rowOf(func(c *networkingv1.ServiceCIDR) []any {
		return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), c.CreationTimestamp}
	})}
}

func roleBindingTable() table {
	return table{columns("Name,Role,Age,+Users,+Groups,+ServiceAccounts"), rowOf(func(b *rbacv1.RoleBinding) []any {
		users, groups, accounts := subjectsText(b.Subjects)
		return []any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, b.CreationTimestamp, users, groups, accounts}
	})}
}

func clusterRoleBindingTable() table {
	return table{columns("Name,Role,Age,+Users,+Groups,+ServiceAccounts"), rowOf(func(b *rbacv1.ClusterRoleBinding) []any {
		users, groups, accounts := subjectsText(b.Subjects)
		return []any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, b.CreationTimestamp, users, groups, accounts}
	})}
}

func subjectsText(subjects []rbacv1.Subject) (users, groups, accounts string) {
	var u, g, a []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			u = append(u, s.Name)
		case rbacv1.GroupKind:
			g = append(g, s.Name)
		case rbacv1.ServiceAccountKind:
			a = append(a, s.Namespace+"/"+s.Name)
		}
	}
	return strings.Join(u, ", "), strings.Join(g, ", "), strings.Join(a, ", ")
}

func priorityClassTable() table {
	return table{columns("Name,Value:integer,Global-Default:boolean,Age,PreemptionPolicy"), rowOf(func(p *schedulingv1.PriorityClass) []any {
		policy := ""
		if p.PreemptionPolicy != nil {
			policy = string(*p.PreemptionPolicy)
		}
		return []any{p.Name, int64(p.Value), p.GlobalDefault, p.CreationTimestamp, policy}
	})}
}

func storageClassTable() table {
	return table{columns("Name,Provisioner,ReclaimPolicy,VolumeBindingMode,AllowVolumeExpansion,Age"), rowOf(func(c *storagev1.StorageClass) []any {
		name := c.Name
		if c.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" || c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true" {
			name += " (default)"
		}
		reclaim, binding, expand := "Delete", "Immediate", false
		if c.ReclaimPolicy != nil {
			reclaim = string(*c.ReclaimPolicy)
		}
		if c.VolumeBindingMode != nil {
			binding = string(*c.VolumeBindingMode)
		}
		if c.AllowVolumeExpansion != nil {
			expand = *c.AllowVolumeExpansion
		}
		return []any{name, c.Provisioner, reclaim, binding, expand, c.CreationTimestamp}
	})}
}

func runtimeClassTable() table {
	return table{columns("Name,Handler,Age"), rowOf(func(r *nodev1.RuntimeClass) []any {
		return []any{r.Name, r.Handler, r.CreationTimestamp}
	})}
}

func signingRequestTable() table {
	return table{columns("Name,Age,SignerName,Requestor,RequestedDuration,Condition"), rowOf(func(c *certificatesv1.CertificateSigningRequest) []any {
		approved, denied, failed := false, false, false
		for _, cond := range c.Status.Conditions {
			switch cond.Type {
			case certificatesv1.CertificateApproved:
				approved = true
			case certificatesv1.CertificateDenied:
				denied = true
			case certificatesv1.CertificateFailed:
				failed = true
			}
		}
		status := "Pending"
		if denied {
			status = "Denied"
		} else if approved {
			status = "Approved"
		}
		if failed {
			status += ",Failed"
		}
		if len(c.Status.Certificate) > 0 {
			status += ",Issued"
		}
		requested := "<none>"
		if s := c.Spec.ExpirationSeconds; s != nil {
			requested = secondsText(int64(*s))
		}
		return []any{c.Name, c.CreationTimestamp, c.Spec.SignerName, c.Spec.Username, requested, status}
	})}
}

func podCertificateRequestTable() table {
	return table{columns("Name,PodName,ServiceAccountName,NodeName,SignerName,State,UnverifiedUserAnnotations"), rowOf(func(r *certificatesv1.PodCertificateRequest) []any {
		state := "Pending"
		if s := ended(r); s != "" {
			state = s
		}
		return []any{r.Name, r.Spec.PodName, r.Spec.ServiceAccountName, string(r.Spec.NodeName), r.Spec.SignerName, state, labelText(r.Spec.UnverifiedUserAnnotations)}
	})}
}

func csiDriverTable() table {
	return table{columns("Name,AttachRequired:boolean,PodInfoOnMount:boolean,StorageCapacity:boolean,TokenRequests,RequiresRepublish:boolean,Modes,Age"), rowOf(func(d *storagev1.CSIDriver) []any {
		is := func(b *bool) bool { return b != nil && *b }
		var modes, tokens []string
		for _, m := range d.Spec.VolumeLifecycleModes {
			modes = append(modes, string(m))
		}
		for _, t := range d.Spec.TokenRequests {
			tokens = append(tokens, t.Audience)
		}
		audiences := "<unset>"
		if len(tokens) > 0 {
			audiences = strings.Join(tokens, ",")
		}
		return []any{d.Name, d.Spec.AttachRequired == nil || *d.Spec.AttachRequired, is(d.Spec.PodInfoOnMount), is(d.Spec.StorageCapacity), audiences, is(d.Spec.RequiresRepublish), strings.Join(modes, ","), d.CreationTimestamp}
	})}
}

func apiServiceTable() table {
	return table{columns("Name,Service,Available,Age"), rowOf(func(a *apiregistrationv1.APIService) []any {
		service, available := "Local", "Unknown"
		if s := a.Spec.Service; s != nil {
			service = s.Namespace + "/" + s.Name
		}
		for _, c := range a.Status.Conditions {
			if c.Type == apiregistrationv1.Available {
				available = string(c.Status)
				if c.Status != apiregistrationv1.ConditionTrue {
					available += " (" + c.Reason + ")"
				}
			}
		}
		return []any{a.Name, service, available, a.CreationTimestamp}
	})}
}
