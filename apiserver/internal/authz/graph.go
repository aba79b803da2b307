package authz

import (
	"iter"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// vertexKind is a kind of object that a node may need for one of its pods.
type vertexKind uint8

const (
	secretVertex vertexKind = iota
	configMapVertex
	claimVertex
	volumeVertex
	attachmentVertex
	serviceAccountVertex
	resourceClaimVertex
	sliceVertex
	podVertex
	certificateVertex
)

type vertex struct {
	kind            vertexKind
	namespace, name string
}

// podEntry is a scheduled pod and what it refers to.
type podEntry struct {
	uid     types.UID
	node    string
	targets []vertex
}

// volumeEntry is a bound persistent volume: its claim, and the Secrets that the kubelet needs for it.
type volumeEntry struct {
	claim   vertex
	secrets []vertex
}

// Graph knows which objects are related to which node. It is told by the Set and Delete methods. The zero value is
// ready to use.
type Graph struct {
	mu      sync.RWMutex // guards what follows
	pods    map[vertex]podEntry
	nodes   map[vertex]map[string]int // object → nodes whose pods refer to it, and how many do
	volumes map[string]volumeEntry
	users   map[vertex]map[string]bool // Secret → persistent volumes that need it
	owned   map[vertex]string          // attachment, slice or certificate request → node
}

// Scheduled says whether the graph already knows the pod on the node, so that its event can be ignored: what else a
// pod refers to does not change, except that ephemeral containers are added.
func (g *Graph) Scheduled(namespace, name string, uid types.UID, node string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	p, ok := g.pods[vertex{podVertex, namespace, name}]
	return ok && p.uid == uid && p.node == node
}

// SetPod takes in a pod; one that is not scheduled is ignored.
func (g *Graph) SetPod(pod *corev1.Pod) {
	if pod.Spec.NodeName == "" {
		return
	}
	key := vertex{podVertex, pod.Namespace, pod.Name}
	e := podEntry{uid: pod.UID, node: pod.Spec.NodeName, targets: []vertex{key}}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		e.targets = append(e.targets, podTargets(pod)...)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removePod(key)
	if g.pods == nil {
		g.pods, g.nodes = map[vertex]podEntry{}, map[vertex]map[string]int{}
	}
	g.pods[key] = e
	for _, t := range e.targets {
		if g.nodes[t] == nil {
			g.nodes[t] = map[string]int{}
		}
		g.nodes[t][e.node]++
	}
}

// DeletePod forgets a pod.
func (g *Graph) DeletePod(namespace, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removePod(vertex{podVertex, namespace, name})
}

func (g *Graph) removePod(key vertex) {
	e := g.pods[key]
	delete(g.pods, key)
	for _, t := range e.targets {
		if g.nodes[t][e.node]--; g.nodes[t][e.node] == 0 {
			delete(g.nodes[t], e.node)
		}
		if len(g.nodes[t]) == 0 {
			delete(g.nodes, t)
		}
	}
}

// SetVolume takes in a persistent volume.
func (g *Graph) SetVolume(pv *corev1.PersistentVolume) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeVolume(pv.Name)
	ref := pv.Spec.ClaimRef
	if ref == nil {
		return
	}
	if g.volumes == nil {
		g.volumes, g.users = map[string]volumeEntry{}, map[vertex]map[string]bool{}
	}
	e := volumeEntry{claim: vertex{claimVertex, ref.Namespace, ref.Name}}
	for s := range volumeSecrets(pv) {
		e.secrets = append(e.secrets, s)
		if g.users[s] == nil {
			g.users[s] = map[string]bool{}
		}
		g.users[s][pv.Name] = true
	}
	g.volumes[pv.Name] = e
}

// DeleteVolume forgets a persistent volume.
func (g *Graph) DeleteVolume(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeVolume(name)
}

func (g *Graph) removeVolume(name string) {
	for _, s := range g.volumes[name].secrets {
		if delete(g.users[s], name); len(g.users[s]) == 0 {
			delete(g.users, s)
		}
	}
	delete(g.volumes, name)
}

// SetVolumeAttachment takes in which node a volume is attached to; an empty node forgets it.
func (g *Graph) SetVolumeAttachment(name, node string) {
	g.own(vertex{attachmentVertex, "", name}, node)
}

// SetResourceSlice takes in which node a slice is about; an empty node forgets it.
func (g *Graph) SetResourceSlice(name, node string) { g.own(vertex{sliceVertex, "", name}, node) }

// SetPodCertificateRequest takes in which node made a request; an empty node forgets it.
func (g *Graph) SetPodCertificateRequest(namespace, name, node string) {
	g.own(vertex{certificateVertex, namespace, name}, node)
}

func (g *Graph) own(v vertex, node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if node == "" {
		delete(g.owned, v)
		return
	}
	if g.owned == nil {
		g.owned = map[vertex]string{}
	}
	g.owned[v] = node
}

// related says whether the node has business with the object.
func (g *Graph) related(node string, v vertex) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.nodes[v][node] > 0 || g.owned[v] == node {
		return true
	}
	switch v.kind {
	case volumeVertex:
		return g.volumeRelated(node, v.name)
	case secretVertex:
		for name := range g.users[v] {
			if g.volumeRelated(node, name) {
				return true
			}
		}
	}
	return false
}

func (g *Graph) volumeRelated(node, name string) bool {
	e, ok := g.volumes[name]
	return ok && g.nodes[e.claim][node] > 0
}

// podTargets lists what a pod's node may read for it.
func podTargets(pod *corev1.Pod) []vertex {
	var out []vertex
	add := func(kind vertexKind, name string) {
		if v := (vertex{kind, pod.Namespace, name}); name != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	add(serviceAccountVertex, pod.Spec.ServiceAccountName)
	for _, r := range pod.Spec.ImagePullSecrets {
		add(secretVertex, r.Name)
	}
	for c := range containers(pod) {
		for _, f := range c.EnvFrom {
			if f.SecretRef != nil {
				add(secretVertex, f.SecretRef.Name)
			}
			if f.ConfigMapRef != nil {
				add(configMapVertex, f.ConfigMapRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				add(secretVertex, e.ValueFrom.SecretKeyRef.Name)
			}
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				add(configMapVertex, e.ValueFrom.ConfigMapKeyRef.Name)
			}
		}
	}
	for i := range pod.Spec.Volumes {
		volumeTargets(pod, &pod.Spec.Volumes[i], add)
	}
	for _, c := range pod.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			add(resourceClaimVertex, *c.ResourceClaimName)
		}
	}
	for _, s := range pod.Status.ResourceClaimStatuses {
		if s.ResourceClaimName != nil {
			add(resourceClaimVertex, *s.ResourceClaimName)
		}
	}
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		add(resourceClaimVertex, s.ResourceClaimName)
	}
	return out
}

// containers yields every container of a pod, of any sort.
func containers(pod *corev1.Pod) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
		for i := range pod.Spec.EphemeralContainers {
			c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			if !yield(&c) {
				return
			}
		}
	}
}

func volumeTargets(pod *corev1.Pod, v *corev1.Volume, add func(vertexKind, string)) {
	local := func(r *corev1.LocalObjectReference) {
		if r != nil {
			add(secretVertex, r.Name)
		}
	}
	switch {
	case v.PersistentVolumeClaim != nil:
		add(claimVertex, v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		add(claimVertex, pod.Name+"-"+v.Name)
	case v.Secret != nil:
		add(secretVertex, v.Secret.SecretName)
	case v.ConfigMap != nil:
		add(configMapVertex, v.ConfigMap.Name)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				add(secretVertex, s.Secret.Name)
			}
			if s.ConfigMap != nil {
				add(configMapVertex, s.ConfigMap.Name)
			}
		}
	case v.AzureFile != nil:
		add(secretVertex, v.AzureFile.SecretName)
	case v.CephFS != nil:
		local(v.CephFS.SecretRef)
	case v.Cinder != nil:
		local(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		local(v.FlexVolume.SecretRef)
	case v.RBD != nil:
		local(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		local(v.ScaleIO.SecretRef)
	case v.ISCSI != nil:
		local(v.ISCSI.SecretRef)
	case v.StorageOS != nil:
		local(v.StorageOS.SecretRef)
	case v.CSI != nil:
		local(v.CSI.NodePublishSecretRef)
	}
}

// volumeSecrets yields the Secrets that the kubelet needs for a bound volume.
func volumeSecrets(pv *corev1.PersistentVolume) iter.Seq[vertex] {
	return func(yield func(vertex) bool) {
		claim := pv.Spec.ClaimRef.Namespace
		add := func(r *corev1.SecretReference) {
			if r == nil || r.Name == "" {
				return
			}
			ns := r.Namespace
			if ns == "" {
				ns = claim
			}
			yield(vertex{secretVertex, ns, r.Name})
		}
		s := &pv.Spec.PersistentVolumeSource
		switch {
		case s.AzureFile != nil:
			r := corev1.SecretReference{Name: s.AzureFile.SecretName}
			if s.AzureFile.SecretNamespace != nil {
				r.Namespace = *s.AzureFile.SecretNamespace
			}
			add(&r)
		case s.CephFS != nil:
			add(s.CephFS.SecretRef)
		case s.Cinder != nil:
			add(s.Cinder.SecretRef)
		case s.FlexVolume != nil:
			add(s.FlexVolume.SecretRef)
		case s.RBD != nil:
			add(s.RBD.SecretRef)
		case s.ScaleIO != nil:
			add(s.ScaleIO.SecretRef)
		case s.ISCSI != nil:
			add(s.ISCSI.SecretRef)
		case s.StorageOS != nil && s.StorageOS.SecretRef != nil:
			add(&corev1.SecretReference{Namespace: s.StorageOS.SecretRef.Namespace, Name: s.StorageOS.SecretRef.Name})
		case s.CSI != nil:
			seen := map[corev1.SecretReference]bool{}
			for _, r := range []*corev1.SecretReference{s.CSI.NodePublishSecretRef, s.CSI.NodeStageSecretRef, s.CSI.NodeExpandSecretRef} {
				if r != nil && !seen[*r] {
					seen[*r] = true
					add(r)
				}
			}
		}
	}
}

// References returns the names of the Secrets and ConfigMaps that a pod refers to anywhere, each once.
func References(pod *corev1.Pod) (secrets, configMaps []string) {
	for _, t := range podTargets(pod) {
		switch t.kind {
		case secretVertex:
			secrets = append(secrets, t.name)
		case configMapVertex:
			configMaps = append(configMaps, t.name)
		}
	}
	return secrets, configMaps
}
