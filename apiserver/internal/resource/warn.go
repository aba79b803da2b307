package resource

import (
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// warned makes a Warn of a function on a kind's own type; old is nil on a creation.
func warned[T any](f func(obj, old *T) []string) func(obj, old anyObject) []string {
	return func(obj, old anyObject) []string {
		var was *T
		if old != nil {
			was = old.(any).(*T)
		}
		return f(obj.(any).(*T), was)
	}
}

func warnEndpointSlice(e, _ *discoveryv1.EndpointSlice) (out []string) {
	if e.AddressType == discoveryv1.AddressTypeFQDN {
		out = append(out, "spec.addressType: FQDN endpoints are deprecated")
	}
	return out
}

func warnCSIDriver(d, old *storagev1.CSIDriver) []string {
	if old != nil && apiequality.Semantic.DeepEqual(old.Spec.TokenRequests, d.Spec.TokenRequests) {
		return nil
	}
	if len(d.Spec.TokenRequests) == 0 || d.Spec.ServiceAccountTokenInSecrets != nil {
		return nil
	}
	return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
}

func warnCSIStorageCapacity(c, _ *storagev1.CSIStorageCapacity) (out []string) {
	if c.NodeTopology == nil {
		return nil
	}
	p := root("nodeTopology")
	for i, e := range c.NodeTopology.MatchExpressions {
		if why, old := deprecatedNodeLabels[e.Key]; old {
			out = append(out, fmt.Sprintf("%s: %s is %s", p.Child("matchExpressions").Index(i).Child("key"), e.Key, why))
		}
	}
	return append(out, warnLabels(c.NodeTopology.MatchLabels, func(key string) *field.Path { return p.Child("matchLabels").Child(key) })...)
}

// warnLabels warns of labels of nodes that are out of use.
func warnLabels(labels map[string]string, at func(key string) *field.Path) (out []string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if why, old := deprecatedNodeLabels[key]; old {
			out = append(out, fmt.Sprintf("%s: %s", at(key), why))
		}
	}
	return out
}

func warnStorageClass(c, _ *storagev1.StorageClass) (out []string) {
	for i, t := range c.AllowedTopologies {
		for j, e := range t.MatchLabelExpressions {
			if why, old := deprecatedNodeLabels[e.Key]; old {
				out = append(out, fmt.Sprintf("%s: %s", root("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j).Child("key"), why))
			}
		}
	}
	return out
}

func warnRuntimeClass(c, _ *nodev1.RuntimeClass) []string {
	if c.Scheduling == nil {
		return nil
	}
	return warnLabels(c.Scheduling.NodeSelector, func(string) *field.Path { return root("scheduling", "nodeSelector") })
}

const betaStorageClassWarning = `deprecated since v1.8; use "storageClassName" attribute instead`

func warnClaim(c, _ *corev1.PersistentVolumeClaim) (out []string) {
	if _, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		out = append(out, fmt.Sprintf("%s: %s", root("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation), betaStorageClassWarning))
	}
	return append(out, warnClaimSpec(&c.Spec, root("spec"))...)
}

func warnClaimSpec(s *corev1.PersistentVolumeClaimSpec, p *field.Path) (out []string) {
	for _, list := range []struct {
		name  string
		value corev1.ResourceList
	}{{"requests", s.Resources.Requests}, {"limits", s.Resources.Limits}} {
		if q := list.value[corev1.ResourceStorage]; q.MilliValue()%1000 != 0 {
			out = append(out, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", p.Child("resources", list.name).Key(string(corev1.ResourceStorage)), q.String()))
		}
	}
	return out
}

func warnVolume(v, _ *corev1.PersistentVolume) (out []string) {
	warn := func(p *field.Path, why string) { out = append(out, p.String()+": "+why) }
	for _, a := range [][2]string{
		{corev1.BetaStorageClassAnnotation, betaStorageClassWarning},
		{corev1.MountOptionAnnotation, `deprecated since v1.31; use "mountOptions" attribute instead`},
	} {
		if _, ok := v.Annotations[a[0]]; ok {
			warn(root("metadata", "annotations").Key(a[0]), a[1])
		}
	}
	p := root("spec")
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		warn(p.Child("persistentVolumeReclaimPolicy"), "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if a := v.Spec.NodeAffinity; a != nil && a.Required != nil {
		for i := range a.Required.NodeSelectorTerms {
			out = append(out, warnNodeTerm(&a.Required.NodeSelectorTerms[i], false, p.Child("nodeAffinity", "required", "nodeSelectorTerms").Index(i))...)
		}
	}
	for _, x := range []struct {
		is        bool
		name, why string
	}{
		{v.Spec.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
		{v.Spec.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
		{v.Spec.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
		{v.Spec.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
		{v.Spec.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
		{v.Spec.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
	} {
		if x.is {
			warn(p.Child(x.name), x.why)
		}
	}
	return out
}

func warnService(s, _ *corev1.Service) (out []string) {
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	p := root("spec")
	if _, ok := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok {
		warn("annotation %s is deprecated, please use %s instead", corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode)
	}
	named, none := s.Spec.Type == corev1.ServiceTypeExternalName, s.Spec.Type == corev1.ServiceTypeClusterIP && s.Spec.ClusterIP == corev1.ClusterIPNone
	if s.Spec.ClusterIP != corev1.ClusterIPNone && s.Spec.ClusterIP != "" {
		for i, ip := range s.Spec.ClusterIPs {
			out = append(out, validation.GetWarningsForIP(p.Child("clusterIPs").Index(i), ip)...)
		}
	}
	if none {
		if s.Spec.LoadBalancerIP != "" {
			warn("spec.loadBalancerIP is ignored for headless services")
		}
		if len(s.Spec.ExternalIPs) > 0 {
			warn("spec.externalIPs is ignored for headless services")
		}
		if s.Spec.SessionAffinity != corev1.ServiceAffinityNone {
			warn("spec.SessionAffinity is ignored for headless services")
		}
	}
	for i, ip := range s.Spec.ExternalIPs {
		out = append(out, validation.GetWarningsForIP(p.Child("externalIPs").Index(i), ip)...)
	}
	if len(s.Spec.ExternalIPs) > 0 && !none && !named {
		warn("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	}
	if s.Spec.LoadBalancerIP != "" {
		out = append(out, validation.GetWarningsForIP(p.Child("loadBalancerIP"), s.Spec.LoadBalancerIP)...)
	}
	for i, r := range s.Spec.LoadBalancerSourceRanges {
		out = append(out, validation.GetWarningsForCIDR(p.Child("loadBalancerSourceRanges").Index(i), r)...)
	}
	if named && len(s.Spec.ExternalIPs) > 0 {
		warn("spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName)
	}
	if !named && s.Spec.ExternalName != "" {
		warn("spec.externalName is ignored when spec.type is not %q", corev1.ServiceTypeExternalName)
	}
	if d := s.Spec.TrafficDistribution; d != nil && *d == corev1.ServiceTrafficDistributionPreferClose {
		warn("spec.trafficDistribution: %q is deprecated; use %q", corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone)
	}
	return out
}

func warnEndpoints(e, _ *corev1.Endpoints) (out []string) {
	// The controller's own are well formed.
	if e.Labels["endpoints.kubernetes.io/managed-by"] == "endpoint-controller" {
		return nil
	}
	for i := range e.Subsets {
		for _, list := range []struct {
			name  string
			value []corev1.EndpointAddress
		}{{"addresses", e.Subsets[i].Addresses}, {"notReadyAddresses", e.Subsets[i].NotReadyAddresses}} {
			for j, a := range list.value {
				out = append(out, validation.GetWarningsForIP(root("subsets").Index(i).Child(list.name).Index(j).Child("ip"), a.IP)...)
			}
		}
	}
	return out
}

func warnNode(n, _ *corev1.Node) (out []string) {
	if n.Spec.ConfigSource != nil {
		out = append(out, "spec.configSource: the feature is removed")
	}
	if n.Spec.DoNotUseExternalID != "" {
		out = append(out, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, r := range n.Spec.PodCIDRs {
		out = append(out, validation.GetWarningsForCIDR(root("spec", "podCIDRs").Index(i), r)...)
	}
	return out
}

func warnSecret(s, _ *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}

func warnServiceAccount(a, old *corev1.ServiceAccount) []string {
	const key = "kubernetes.io/enforce-mountable-secrets"
	if old != nil {
		if _, ok := old.Annotations[key]; ok {
			return nil
		}
	}
	if _, ok := a.Annotations[key]; ok {
		return []string{fmt.Sprintf("metadata.annotations[%s]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets", key)}
	}
	return nil
}

func warnIngress(i, old *networkingv1.Ingress) []string {
	const key = "kubernetes.io/ingress.class"
	if _, ok := i.Annotations[key]; ok && old == nil && i.Spec.IngressClassName == nil {
		return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", key)}
	}
	return nil
}

func warnNetworkPolicy(n, _ *networkingv1.NetworkPolicy) (out []string) {
	peers := func(list []networkingv1.NetworkPolicyPeer, p *field.Path) {
		for i := range list {
			b, at := list[i].IPBlock, p.Index(i).Child("ipBlock")
			if b == nil {
				continue
			}
			out = append(out, validation.GetWarningsForCIDR(at.Child("cidr"), b.CIDR)...)
			for j, e := range b.Except {
				out = append(out, validation.GetWarningsForCIDR(at.Child("except").Index(j), e)...)
			}
		}
	}
	for i := range n.Spec.Ingress {
		peers(n.Spec.Ingress[i].From, root("spec", "ingress").Index(i).Child("from"))
	}
	for i := range n.Spec.Egress {
		peers(n.Spec.Egress[i].To, root("spec", "egress").Index(i).Child("to"))
	}
	return out
}

// warnPod warns of a new pod; people seldom change one.
func warnPod(p, old *corev1.Pod) []string {
	if old != nil {
		return nil
	}
	return append(warnName(p, "the Pod's hostname"), warnTemplate(nil, p.Annotations, &p.Spec)...)
}

// warnName warns of a name that does not do for what else it is used.
func warnName(m metav1.Object, what string) []string {
	if why := validation.IsDNS1123Label(m.GetName()); len(why) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in %s, which can result in surprising behavior; a DNS label is recommended: %v", what, why)}
	}
	return nil
}

const podNames = "Pod names and hostnames"

// warnTemplateOf warns of a template where it is new.
func warnTemplateOf(m, old metav1.Object, isNew bool, t *corev1.PodTemplateSpec, p *field.Path) []string {
	if t == nil || !isNew && m.GetGeneration() == old.GetGeneration() {
		return nil
	}
	return warnTemplate(p, t.Annotations, &t.Spec)
}

func warnDeployment(d, old *appsv1.Deployment) (out []string) {
	if old == nil {
		out = warnName(d, podNames)
	}
	return append(out, warnTemplateOf(d, old, old == nil, &d.Spec.Template, root("spec", "template"))...)
}

func warnReplicaSet(r, old *appsv1.ReplicaSet) (out []string) {
	if old == nil {
		out = warnName(r, podNames)
	}
	return append(out, warnTemplateOf(r, old, old == nil, &r.Spec.Template, root("spec", "template"))...)
}

func warnDaemonSet(d, old *appsv1.DaemonSet) []string {
	if old != nil && templateGenerationOf(d) == templateGenerationOf(old) {
		return nil
	}
	return warnTemplate(root("spec", "template"), d.Spec.Template.Annotations, &d.Spec.Template.Spec)
}

func warnStatefulSet(s, old *appsv1.StatefulSet) []string {
	out := warnTemplateOf(s, old, old == nil, &s.Spec.Template, root("spec", "template"))
	for i := range s.Spec.VolumeClaimTemplates {
		p := root("spec", "volumeClaimTemplates").Index(i)
		if old != nil {
			p = p.Child("Spec") // so it is upstream
		}
		out = append(out, warnClaimSpec(&s.Spec.VolumeClaimTemplates[i].Spec, p)...)
	}
	if n := s.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		out = append(out, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return out
}

func warnPodTemplate(t, old *corev1.PodTemplate) []string {
	return warnTemplateOf(t, old, old == nil, &t.Template, root("template"))
}

func warnReplicationController(r, old *corev1.ReplicationController) (out []string) {
	if old == nil {
		out = warnName(r, podNames)
		return append(out, warnTemplateOf(r, nil, true, r.Spec.Template, root("spec", "template"))...)
	}
	// Upstream warns of the template that it was.
	return warnTemplateOf(r, old, false, old.Spec.Template, root("spec", "template"))
}

func warnJob(j, old *batchv1.Job) (out []string) {
	if old == nil {
		out = warnName(j, podNames)
	}
	if old == nil || j.Generation != old.Generation {
		out = append(out, warnJobSpec(&j.Spec, root("spec"))...)
	}
	return out
}

func warnCronJob(c, old *batchv1.CronJob) (out []string) {
	if old == nil {
		out = warnName(c, podNames)
	}
	if old == nil || c.Generation != old.Generation {
		out = append(out, warnJobSpec(&c.Spec.JobTemplate.Spec, root("spec", "jobTemplate", "spec"))...)
	}
	if old != nil && strings.Contains(c.Spec.Schedule, "TZ") {
		out = append(out, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return out
}

func warnJobSpec(s *batchv1.JobSpec, p *field.Path) (out []string) {
	// So many indexes cannot be kept in a status when many of them fail.
	const manyCompletions, manyPods = 100_000, 10_000
	if m := s.CompletionMode; m != nil && *m == batchv1.IndexedCompletion && s.Completions != nil && *s.Completions > manyCompletions && s.Parallelism != nil && *s.Parallelism > manyPods {
		out = append(out, p.String()+": In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
	}
	return append(out, warnTemplate(p.Child("template"), s.Template.Annotations, &s.Template.Spec)...)
}

const (
	staticSuffix = ".static.k8s.io"
	staticName   = `names ending with ".static.k8s.io" are reserved for static manifest-based configurations and cannot be managed via the API`
)

// warnStaticName warns, on an update, of names that files of configuration have.
func warnStaticName(m, old anyObject) []string {
	if old != nil && strings.HasSuffix(m.(metav1.Object).GetName(), staticSuffix) {
		return []string{"metadata.name: " + staticName}
	}
	return nil
}

func warnMutatingWebhooks(obj, old anyObject) []string {
	out := warnStaticName(obj, old)
	for i, w := range obj.(*admissionregistrationv1.MutatingWebhookConfiguration).Webhooks {
		out = append(out, warnRules(w.Rules, root("webhooks").Index(i).Child("rules"))...)
	}
	return out
}

func warnValidatingWebhooks(obj, old anyObject) []string {
	out := warnStaticName(obj, old)
	for i, w := range obj.(*admissionregistrationv1.ValidatingWebhookConfiguration).Webhooks {
		out = append(out, warnRules(w.Rules, root("webhooks").Index(i).Child("rules"))...)
	}
	return out
}

// unhooked are reviews, which no webhook is asked about.
var unhooked = []schema.GroupResource{
	{Group: "authentication.k8s.io", Resource: "selfsubjectreviews"},
	{Group: "authentication.k8s.io", Resource: "tokenreviews"},
	{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"},
	{Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"},
	{Group: "authorization.k8s.io", Resource: "selfsubjectrulesreviews"},
	{Group: "authorization.k8s.io", Resource: "subjectaccessreviews"},
}

func warnRules(rules []admissionregistrationv1.RuleWithOperations, p *field.Path) (out []string) {
	for i, r := range rules {
		if slices.Contains(r.APIGroups, "*") || slices.Contains(r.Resources, "*") {
			continue
		}
		var told []schema.GroupResource
		for _, group := range r.APIGroups {
			for _, res := range r.Resources {
				gr := schema.GroupResource{Group: group, Resource: res}
				if slices.Contains(unhooked, gr) && !slices.Contains(told, gr) {
					told = append(told, gr)
					out = append(out, fmt.Sprintf("%s: %s is excluded from admission webhooks; this rule will have no effect", p.Index(i), gr))
				}
			}
		}
	}
	return out
}

// What is said of addresses in a status.

func warnServiceStatus(s, _ *corev1.Service) (out []string) {
	for i, in := range s.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			out = append(out, validation.GetWarningsForIP(root("status", "loadBalancer", "ingress").Index(i), in.IP)...)
		}
	}
	return out
}

func warnIngressStatus(s, _ *networkingv1.Ingress) (out []string) {
	for i, in := range s.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			out = append(out, validation.GetWarningsForIP(root("status", "loadBalancer", "ingress").Index(i), in.IP)...)
		}
	}
	return out
}

func warnPodStatus(p, _ *corev1.Pod) (out []string) {
	for i, ip := range p.Status.PodIPs {
		out = append(out, validation.GetWarningsForIP(root("status", "podIPs").Index(i).Child("ip"), ip.IP)...)
	}
	for i, ip := range p.Status.HostIPs {
		out = append(out, validation.GetWarningsForIP(root("status", "hostIPs").Index(i).Child("ip"), ip.IP)...)
	}
	return out
}
