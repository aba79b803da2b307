package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// deprecatedNodeLabels are labels of nodes that selectors should not name any more, and why.
var deprecatedNodeLabels = map[string]string{
	"beta.kubernetes.io/arch":                       `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                         `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region":      `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":        `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":              `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
	"app.kubernetes.io/created-by":                  `deprecated since v1.9`,
	"scheduler.alpha.kubernetes.io/preferAvoidPods": `deprecated since v1.22; use Taints and Tolerations instead`,
	"node-role.kubernetes.io/master":                `use "node-role.kubernetes.io/control-plane" instead`,
}

// podWarner gathers what is said of a pod, or of a template at a path.
type podWarner struct {
	list []string
	// top is the path of the object that has metadata and spec, nil for a pod.
	top  *field.Path
	spec *corev1.PodSpec
	meta map[string]string // annotations
}

func (w *podWarner) warn(p *field.Path, format string, args ...any) {
	w.list = append(w.list, p.String()+": "+fmt.Sprintf(format, args...))
}

// warnTemplate warns of what a pod template, or with a nil path a pod, may have but should not.
func warnTemplate(top *field.Path, annotations map[string]string, s *corev1.PodSpec) []string {
	w := &podWarner{top: top, spec: s, meta: annotations}
	p := top.Child("spec")
	w.selectors(p)
	w.annotations(top.Child("metadata", "annotations"))
	w.volumes(p.Child("volumes"))
	w.list = append(w.list, overlappingPaths(s.Volumes)...)
	w.lists(p)
	for _, n := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		w.whole(s.Overhead, n, p.Child("overhead"))
	}
	w.profiles(top.Child("metadata", "annotations"))
	eachContainer(s, p, w.container)
	w.ports(p)
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		w.warn(p.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	w.affinity(p.Child("affinity"))
	if s.DNSConfig != nil {
		for i, ip := range s.DNSConfig.Nameservers {
			w.list = append(w.list, validation.GetWarningsForIP(p.Child("dnsConfig", "nameservers").Index(i), ip)...)
		}
	}
	for i, a := range s.HostAliases {
		w.list = append(w.list, validation.GetWarningsForIP(p.Child("hostAliases").Index(i).Child("ip"), a.IP)...)
	}
	return w.list
}

// selectors warns of labels of nodes that are out of use.
func (w *podWarner) selectors(p *field.Path) {
	for _, key := range slices.Sorted(maps.Keys(w.spec.NodeSelector)) {
		if why, old := deprecatedNodeLabels[key]; old {
			w.warn(p.Child("nodeSelector").Key(key), "%s", why)
		}
	}
	if a := w.spec.Affinity; a != nil && a.NodeAffinity != nil {
		at := p.Child("affinity", "nodeAffinity")
		if r := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			for i := range r.NodeSelectorTerms {
				w.list = append(w.list, warnNodeTerm(&r.NodeSelectorTerms[i], false, at.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").Index(i))...)
			}
		}
		for i := range a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			w.list = append(w.list, warnNodeTerm(&a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution[i].Preference, true, at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"))...)
		}
	}
	for i, t := range w.spec.TopologySpreadConstraints {
		at := p.Child("topologySpreadConstraints").Index(i)
		if why, old := deprecatedNodeLabels[t.TopologyKey]; old {
			w.warn(at.Child("topologyKey"), "%s is %s", t.TopologyKey, why)
		}
		w.matchesNothing(t.LabelSelector == nil, at)
	}
}

// warnNodeTerm warns of labels of nodes that are out of use, and with values of values that no label has.
func warnNodeTerm(t *corev1.NodeSelectorTerm, values bool, p *field.Path) (out []string) {
	for i, e := range t.MatchExpressions {
		at := p.Child("matchExpressions").Index(i)
		if why, old := deprecatedNodeLabels[e.Key]; old {
			out = append(out, fmt.Sprintf("%s: %s is %s", at.Child("key"), e.Key, why))
		}
		if !values {
			continue
		}
		for j, v := range e.Values {
			for _, why := range validation.IsValidLabelValue(v) {
				out = append(out, fmt.Sprintf("%s: %s is invalid, %s", at.Child("values").Index(j), v, why))
			}
		}
	}
	return out
}

func (w *podWarner) matchesNothing(none bool, p *field.Path) {
	if none {
		w.warn(p.Child("labelSelector"), "a null labelSelector results in matching no pod")
	}
}

func (w *podWarner) affinity(p *field.Path) {
	a := w.spec.Affinity
	if a == nil {
		return
	}
	const required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
	terms := func(must []corev1.PodAffinityTerm, should []corev1.WeightedPodAffinityTerm, p *field.Path) {
		for i := range must {
			w.matchesNothing(must[i].LabelSelector == nil, p.Child(required).Index(i))
		}
		for i := range should {
			w.matchesNothing(should[i].PodAffinityTerm.LabelSelector == nil, p.Child(preferred).Index(i).Child("podAffinityTerm"))
		}
	}
	if x := a.PodAffinity; x != nil {
		terms(x.RequiredDuringSchedulingIgnoredDuringExecution, x.PreferredDuringSchedulingIgnoredDuringExecution, p.Child("podAffinity"))
	}
	if x := a.PodAntiAffinity; x != nil {
		terms(x.RequiredDuringSchedulingIgnoredDuringExecution, x.PreferredDuringSchedulingIgnoredDuringExecution, p.Child("podAntiAffinity"))
	}
}

func (w *podWarner) annotations(p *field.Path) {
	for _, a := range [][2]string{
		{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
		{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
		{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	} {
		if _, ok := w.meta[a[0]]; ok {
			w.warn(p.Key(a[0]), "%s", a[1])
		}
	}
}

// profiles warns of a pod's seccomp annotation that takes the place of no field.
func (w *podWarner) profiles(p *field.Path) {
	if s := w.spec.SecurityContext; s != nil && s.SeccompProfile != nil {
		return
	}
	const key = corev1.SeccompPodAnnotationKey
	if _, ok := w.meta[key]; ok {
		w.warn(p.Key(key), `non-functional in v1.27+; use the "seccompProfile" field instead`)
	}
}

func (w *podWarner) volumes(p *field.Path) {
	for i := range w.spec.Volumes {
		v, at := &w.spec.Volumes[i], p.Index(i)
		for _, x := range []struct {
			is        bool
			name, why string
		}{
			{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
			{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
			{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
			{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
			{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
			{v.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
			{v.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if x.is {
				w.warn(at.Child(x.name), "%s", x.why)
			}
		}
		if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			w.list = append(w.list, warnClaimSpec(&v.Ephemeral.VolumeClaimTemplate.Spec, at.Child("ephemeral", "volumeClaimTemplate", "spec"))...)
		}
	}
}

// lists warns of what is in a list twice.
func (w *podWarner) lists(p *field.Path) {
	seen := sets.Set[string]{}
	for i, a := range w.spec.HostAliases {
		if seen.Has(a.IP) {
			w.warn(p.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", a.IP)
		}
		seen.Insert(a.IP)
	}
	seen.Clear()
	for i, s := range w.spec.ImagePullSecrets {
		if seen.Has(s.Name) {
			w.warn(p.Child("imagePullSecrets").Index(i).Child("name"), "duplicate name %q", s.Name)
		}
		seen.Insert(s.Name)
	}
	for i, s := range w.spec.ImagePullSecrets {
		if s.Name == "" {
			w.warn(p.Child("imagePullSecrets").Index(i).Child("name"), "invalid empty name %q", s.Name)
		}
	}
}

// whole warns of fractions of a byte.
func (w *podWarner) whole(list corev1.ResourceList, name corev1.ResourceName, p *field.Path) {
	if q, ok := list[name]; ok && q.MilliValue()%1000 != 0 {
		w.warn(p.Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
	}
}

func (w *podWarner) container(x *corev1.Container, p *field.Path) {
	meta := w.top.Child("metadata", "annotations")
	if key := corev1.SeccompContainerAnnotationKeyPrefix + x.Name; x.SecurityContext == nil || x.SecurityContext.SeccompProfile == nil {
		if _, ok := w.meta[key]; ok {
			w.warn(meta.Key(key), `non-functional in v1.27+; use the "seccompProfile" field instead`)
		}
	}
	if w.top != nil && (x.SecurityContext == nil || x.SecurityContext.AppArmorProfile == nil) {
		key := corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + x.Name
		if v, ok := w.meta[key]; ok && !apiequality.Semantic.DeepEqual(w.podAppArmor(), appArmorOf(v)) {
			w.warn(meta.Key(key), `deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
	}
	for _, n := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		w.whole(x.Resources.Limits, n, p.Child("resources", "limits"))
		w.whole(x.Resources.Requests, n, p.Child("resources", "requests"))
	}
	seen := sets.Set[string]{}
	for i, e := range x.Env {
		// A value that adds to the variable's earlier one is no mistake.
		if ref := "$(" + e.Name + ")"; seen.Has(e.Name) && (e.ValueFrom != nil || e.Value == ref || !strings.Contains(e.Value, ref)) {
			w.warn(p.Child("env").Index(i), "hides previous definition of %q, which may be dropped when using apply", e.Name)
		}
		seen.Insert(e.Name)
	}
}

func (w *podWarner) podAppArmor() *corev1.AppArmorProfile {
	if w.spec.SecurityContext == nil {
		return nil
	}
	return w.spec.SecurityContext.AppArmorProfile
}

// appArmorOf is the field that an annotation's value stands for, nil for none.
func appArmorOf(v string) *corev1.AppArmorProfile {
	switch name, local := strings.CutPrefix(v, corev1.DeprecatedAppArmorBetaProfileNamePrefix); {
	case v == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	case v == corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	case local && name != "":
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	}
	return nil
}

// ports warns of ports and names of ports that containers share.
func (w *podWarner) ports(p *field.Path) {
	type known struct {
		at   *field.Path
		port corev1.ContainerPort
	}
	type key struct {
		port     int32
		protocol corev1.Protocol
	}
	all := map[key][]known{}
	eachContainer(w.spec, p, func(x *corev1.Container, p *field.Path) {
		for i, n := range x.Ports {
			at := p.Child("ports").Index(i)
			if n.HostIP != "" && n.HostPort == 0 {
				w.warn(at, "hostIP set without hostPort: %+v", n)
			}
			k := key{n.ContainerPort, n.Protocol}
			for _, o := range all[k] {
				switch {
				case n.HostIP == o.port.HostIP && n.HostPort == o.port.HostPort:
					w.warn(at, "duplicate port definition with %s", o.at)
				case n.HostPort == 0 || o.port.HostPort == 0:
					w.warn(at, "overlapping port definition with %s", o.at)
				case n.HostPort == o.port.HostPort && (n.HostIP == "") != (o.port.HostIP == ""):
					w.warn(at, "dangerously ambiguous port definition with %s", o.at)
				}
			}
			all[k] = append(all[k], known{at, n})
		}
	})
	names := map[string]*field.Path{}
	eachContainer(w.spec, p, func(x *corev1.Container, p *field.Path) {
		for i, n := range x.Ports {
			at := p.Child("ports").Index(i)
			if n.Name == "" {
				continue
			}
			if other := names[n.Name]; other != nil {
				w.warn(at, "duplicate port name %q with %s, services and probes that select ports by name will use %s", n.Name, other, other)
			} else {
				names[n.Name] = at
			}
		}
	})
}

// volumeFile is a path in a volume and where its file comes from.
type volumeFile struct{ path, from string }

func (s volumeFile) String() string {
	if s.from == "" {
		return fmt.Sprintf("%q", s.path)
	}
	return fmt.Sprintf("%q (%s)", s.path, s.from)
}

func keyPaths(items []corev1.KeyToPath, from string) (out []volumeFile) {
	for _, i := range items {
		out = append(out, volumeFile{i.Path, from})
	}
	return out
}

func downwardPaths(items []corev1.DownwardAPIVolumeFile, from string) (out []volumeFile) {
	for _, i := range items {
		out = append(out, volumeFile{i.Path, from})
	}
	return out
}

// overlappingPaths warns of files of one volume that hide each other.
func overlappingPaths(volumes []corev1.Volume) (out []string) {
	for i := range volumes {
		v := &volumes[i]
		tell := func(what string, list []volumeFile) {
			for _, text := range overlaps(list) {
				out = append(out, fmt.Sprintf("volume %q (%s): overlapping paths: %s", v.Name, what, text))
			}
		}
		if v.ConfigMap != nil {
			tell(fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name), keyPaths(v.ConfigMap.Items, ""))
		}
		if v.Secret != nil {
			tell(fmt.Sprintf("Secret %q", v.Secret.SecretName), keyPaths(v.Secret.Items, ""))
		}
		if v.DownwardAPI != nil {
			tell("DownwardAPI", downwardPaths(v.DownwardAPI.Items, ""))
		}
		if v.Projected == nil {
			continue
		}
		var all []volumeFile
		for j := range v.Projected.Sources {
			x := &v.Projected.Sources[j]
			if *x == (corev1.VolumeProjection{}) {
				out = append(out, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
			}
			all = append(all, projected(x)...)
		}
		tell("Projected", all)
	}
	return out
}

// projected are the paths of one source of a projected volume.
func projected(x *corev1.VolumeProjection) []volumeFile {
	switch {
	case x.ConfigMap != nil && x.ConfigMap.Items != nil:
		return keyPaths(x.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", x.ConfigMap.Name))
	case x.Secret != nil && x.Secret.Items != nil:
		return keyPaths(x.Secret.Items, fmt.Sprintf("Secret %q", x.Secret.Name))
	case x.DownwardAPI != nil && x.DownwardAPI.Items != nil:
		return downwardPaths(x.DownwardAPI.Items, "DownwardAPI")
	case x.ServiceAccountToken != nil:
		return []volumeFile{{x.ServiceAccountToken.Path, "ServiceAccountToken"}}
	case x.ClusterTrustBundle != nil:
		name := x.ClusterTrustBundle.Name
		if name == nil {
			name = x.ClusterTrustBundle.SignerName
		}
		if name == nil {
			return nil
		}
		return []volumeFile{{x.ClusterTrustBundle.Path, fmt.Sprintf("ClusterTrustBundle %q", *name)}}
	case x.PodCertificate != nil:
		var out []volumeFile
		for _, s := range []volumeFile{
			{x.PodCertificate.CertificateChainPath, "PodCertificate chain"},
			{x.PodCertificate.KeyPath, "PodCertificate key"},
			{x.PodCertificate.CredentialBundlePath, "PodCertificate credential bundle"},
		} {
			if s.path != "" {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// overlaps are the pairs of paths of which one is the other or is in it.
func overlaps(list []volumeFile) (out []string) {
	for i, s := range list {
		s.path = strings.TrimRight(s.path, "/")
		list[i] = s
		if s.path == "" {
			continue
		}
		for _, o := range list[:i] {
			if o.path != "" && (strings.HasPrefix(o.path+"/", s.path+"/") || strings.HasPrefix(s.path+"/", o.path+"/")) {
				out = append(out, fmt.Sprintf("%s with %s", s, o))
			}
		}
	}
	return out
}
