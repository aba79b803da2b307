package plugin

import (
	"cmp"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"flagship/scheduler/internal/snapshot"
)

// Annotations of the volume binding protocol between scheduler, volume controller and provisioners.
const (
	AnnBindCompleted     = "pv.kubernetes.io/bind-completed"
	AnnBoundByController = "pv.kubernetes.io/bound-by-controller"
	AnnSelectedNode      = "volume.kubernetes.io/selected-node"
)

const noProvisioner = "kubernetes.io/no-provisioner"

// Reasons of the volume filters.
const (
	reasonBindConflict = "node(s) didn't find available persistent volumes to bind"
	reasonNodeConflict = "node(s) didn't match PersistentVolume's node affinity"
	reasonNoSpace      = "node(s) did not have enough free storage"
	reasonNoPV         = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
)

// Binding is a claim that is to be bound to an existing volume.
type Binding struct {
	Claim *v1.PersistentVolumeClaim
	PV    *v1.PersistentVolume
}

// VolumePlan is what must happen to a pod's claims before the pod can run on a node.
type VolumePlan struct {
	// Bind pairs claims with volumes.
	Bind []Binding
	// Provision are claims that get the node's name, for a provisioner to make the volume there.
	Provision []*v1.PersistentVolumeClaim
}

// Empty says whether there is nothing to do.
func (p *VolumePlan) Empty() bool { return len(p.Bind)+len(p.Provision) == 0 }

// claims of a pod by how far they are.
type claims struct {
	bound     []*v1.PersistentVolumeClaim
	delayed   []*v1.PersistentVolumeClaim
	immediate []*v1.PersistentVolumeClaim
}

// FullyBound says whether a claim is bound and the volume controller has finished.
func FullyBound(claim *v1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeName != "" && metav1.HasAnnotation(claim.ObjectMeta, AnnBindCompleted)
}

func podClaims(c *snapshot.Cluster, p *snapshot.Pod) (*claims, error) {
	out := &claims{}
	for i := range p.Spec.Volumes {
		vol := &p.Spec.Volumes[i]
		key := snapshot.ClaimKey(p.Pod, vol)
		if key == "" {
			continue
		}
		name := snapshot.ClaimName(p.Pod, vol)
		claim, ok := c.Volumes.Claims[key]
		switch {
		case !ok && vol.Ephemeral != nil:
			return nil, fmt.Errorf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
		case !ok:
			return nil, fmt.Errorf("persistentvolumeclaim %q not found", name)
		case claim.Status.Phase == v1.ClaimLost:
			return nil, fmt.Errorf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
		case claim.DeletionTimestamp != nil:
			return nil, fmt.Errorf("persistentvolumeclaim %q is being deleted", name)
		case vol.Ephemeral != nil && !metav1.IsControlledBy(claim, p.Pod):
			return nil, fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", claim.Namespace, claim.Name, p.Namespace, p.Name)
		}
		switch {
		case FullyBound(claim):
			out.bound = append(out.bound, claim)
		case claim.Spec.VolumeName == "" && delayed(c, claim):
			out.delayed = append(out.delayed, claim)
		default:
			out.immediate = append(out.immediate, claim)
		}
	}
	return out, nil
}

func className(claim *v1.PersistentVolumeClaim) string {
	if name, ok := claim.Annotations[v1.BetaStorageClassAnnotation]; ok {
		return name
	}
	if claim.Spec.StorageClassName != nil {
		return *claim.Spec.StorageClassName
	}
	return ""
}

func pvClass(pv *v1.PersistentVolume) string {
	if name, ok := pv.Annotations[v1.BetaStorageClassAnnotation]; ok {
		return name
	}
	return pv.Spec.StorageClassName
}

func delayed(c *snapshot.Cluster, claim *v1.PersistentVolumeClaim) bool {
	class := c.Volumes.Classes[className(claim)]
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// PlanVolumes decides how a pod's claims could be met on a node, or why they cannot.
//
// Errors: a claim that is missing or unfit wherever the pod goes.
func PlanVolumes(c *snapshot.Cluster, p *snapshot.Pod, node int) (VolumePlan, []string, error) {
	cl, err := podClaims(c, p)
	if err != nil {
		return VolumePlan{}, nil, err
	}
	plan, reasons := planVolumes(c, cl, node)
	return plan, reasons, nil
}

func planVolumes(c *snapshot.Cluster, cl *claims, node int) (plan VolumePlan, reasons []string) {
	var conflict, missing, unmatched, noSpace bool
	n := c.Nodes[node]
	for _, claim := range cl.bound {
		pv, ok := c.Volumes.PVs[claim.Spec.VolumeName]
		if !ok {
			missing = true
		} else if !reaches(pv, n) {
			conflict = true
		}
	}
	taken := map[string]bool{}
	byRequest := slices.SortedFunc(slices.Values(cl.delayed), func(a, b *v1.PersistentVolumeClaim) int {
		x, y := a.Spec.Resources.Requests[v1.ResourceStorage], b.Spec.Resources.Requests[v1.ResourceStorage]
		return x.Cmp(y)
	})
	for _, claim := range byRequest {
		if selected, ok := claim.Annotations[AnnSelectedNode]; ok {
			if selected != n.Name {
				unmatched = true
				continue
			}
		} else if pv := findVolume(c, claim, n, taken); pv != nil {
			taken[pv.Name] = true
			plan.Bind = append(plan.Bind, Binding{Claim: claim, PV: pv})
			continue
		}
		ok, space := provisionable(c, claim, n)
		unmatched = unmatched || !ok
		noSpace = noSpace || ok && !space
		plan.Provision = append(plan.Provision, claim)
	}
	for _, r := range []struct {
		is     bool
		reason string
	}{{conflict, reasonNodeConflict}, {unmatched, reasonBindConflict}, {noSpace, reasonNoSpace}, {missing, reasonNoPV}} {
		if r.is {
			reasons = append(reasons, r.reason)
		}
	}
	return plan, reasons
}

// reaches says whether a volume can be used on a node.
func reaches(pv *v1.PersistentVolume, node *v1.Node) bool {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return true
	}
	s, err := nodeaffinity.NewNodeSelector(pv.Spec.NodeAffinity.Required)
	return err == nil && s.Match(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: node.Labels}})
}

// findVolume finds the smallest volume that meets a claim on a node, one that is reserved for the claim first.
func findVolume(c *snapshot.Cluster, claim *v1.PersistentVolumeClaim, node *v1.Node, taken map[string]bool) *v1.PersistentVolume {
	var best *v1.PersistentVolume
	selector, err := metav1.LabelSelectorAsSelector(claim.Spec.Selector)
	if err != nil {
		return nil
	}
	key := claim.Namespace + "/" + claim.Name
	for _, pv := range c.Volumes.PVs {
		if by, assumed := c.Volumes.Assumed[pv.Name]; taken[pv.Name] || assumed && by != key {
			continue
		}
		if !suits(pv, claim) || pv.DeletionTimestamp != nil || !reaches(pv, node) {
			continue
		}
		if ref := pv.Spec.ClaimRef; ref != nil {
			if ref.Name == claim.Name && ref.Namespace == claim.Namespace && (ref.UID == "" || ref.UID == claim.UID) {
				return pv
			}
			continue
		}
		if pv.Status.Phase != v1.VolumeAvailable || pvClass(pv) != className(claim) ||
			claim.Spec.Selector != nil && !selector.Matches(labels.Set(pv.Labels)) {
			continue
		}
		if best == nil || smaller(pv, best) {
			best = pv
		}
	}
	return best
}

func smaller(a, b *v1.PersistentVolume) bool {
	x, y := a.Spec.Capacity[v1.ResourceStorage], b.Spec.Capacity[v1.ResourceStorage]
	if d := x.Cmp(y); d != 0 {
		return d < 0
	}
	return cmp.Less(a.Name, b.Name)
}

func suits(pv *v1.PersistentVolume, claim *v1.PersistentVolumeClaim) bool {
	mode := func(m *v1.PersistentVolumeMode) v1.PersistentVolumeMode {
		if m == nil {
			return v1.PersistentVolumeFilesystem
		}
		return *m
	}
	if mode(pv.Spec.VolumeMode) != mode(claim.Spec.VolumeMode) {
		return false
	}
	deref := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	if deref(pv.Spec.VolumeAttributesClassName) != deref(claim.Spec.VolumeAttributesClassName) {
		return false
	}
	for _, m := range claim.Spec.AccessModes {
		if !slices.Contains(pv.Spec.AccessModes, m) {
			return false
		}
	}
	want, have := claim.Spec.Resources.Requests[v1.ResourceStorage], pv.Spec.Capacity[v1.ResourceStorage]
	return have.Cmp(want) >= 0
}

// provisionable says whether a volume could be made for a claim on a node, and whether there is space for it.
func provisionable(c *snapshot.Cluster, claim *v1.PersistentVolumeClaim, node *v1.Node) (ok, space bool) {
	class := c.Volumes.Classes[className(claim)]
	if class == nil || class.Provisioner == "" || class.Provisioner == noProvisioner || !topologyAllows(class, node) {
		return false, false
	}
	driver := c.Volumes.CSIDrivers[class.Provisioner]
	if driver == nil || driver.Spec.StorageCapacity == nil || !*driver.Spec.StorageCapacity {
		return true, true
	}
	want := claim.Spec.Resources.Requests[v1.ResourceStorage]
	for _, capacity := range c.Volumes.Capacities {
		if capacity.StorageClassName != class.Name || capacity.NodeTopology == nil {
			continue
		}
		limit := capacity.Capacity
		if capacity.MaximumVolumeSize != nil {
			limit = capacity.MaximumVolumeSize
		}
		if limit == nil || limit.Cmp(want) < 0 {
			continue
		}
		if s, err := metav1.LabelSelectorAsSelector(capacity.NodeTopology); err == nil && s.Matches(labels.Set(node.Labels)) {
			return true, true
		}
	}
	return true, false
}

func topologyAllows(class *storagev1.StorageClass, node *v1.Node) bool {
	if len(class.AllowedTopologies) == 0 {
		return true
	}
	for _, term := range class.AllowedTopologies {
		all := len(term.MatchLabelExpressions) > 0
		for _, e := range term.MatchLabelExpressions {
			value, ok := node.Labels[e.Key]
			all = all && ok && slices.Contains(e.Values, value)
		}
		if all {
			return true
		}
	}
	return false
}
