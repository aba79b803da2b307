package quota

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Devices is what counting ResourceClaims looks up. What it returns is shared and is not changed.
type Devices struct {
	// Classes are all DeviceClasses.
	Classes []*resourcev1.DeviceClass
	// Pod is nil where there is none.
	Pod func(namespace, name string) *corev1.Pod
	// Claims are those of a namespace.
	Claims func(namespace string) ([]*resourcev1.ResourceClaim, error)
	// Pods counts pods.
	Pods *Evaluator
}

// Claims counts ResourceClaims and their devices by class, and by the extended resources for which a class stands (KEP-5004). What a pod is
// charged for extended resources is not charged again to the claim that is made for it.
func Claims(d Devices) *Evaluator {
	return &Evaluator{
		counts: func(n corev1.ResourceName) bool {
			rest, requests := strings.CutPrefix(string(n), corev1.DefaultResourceRequestsPrefix)
			return OfDevices(n) && (!requests || d.backed(rest))
		},
		Of: func(o runtime.Object) corev1.ResourceList {
			claim, ok := o.(*resourcev1.ResourceClaim)
			if !ok {
				return nil
			}
			out := corev1.ResourceList{claimCount: one()}
			classes := devicesByClass(claim.Spec.Devices.Requests)
			for class, n := range classes {
				out[corev1.ResourceName(class+corev1.ResourceClaimsPerClass)] = *resource.NewQuantity(n, resource.DecimalSI)
			}
			charged := d.charged(claim)
			for name, n := range d.extended(classes) {
				more := *resource.NewQuantity(n, resource.DecimalSI)
				more.Sub(charged[name])
				if more.Sign() > 0 {
					out[name] = more
				}
			}
			return out
		},
	}
}

const claimCount corev1.ResourceName = "count/resourceclaims." + resourcev1.GroupName

// OfDevices says whether a name of a quota is about claims of devices, or is so where a class stands for the extended resource that it names.
func OfDevices(n corev1.ResourceName) bool {
	rest, requests := strings.CutPrefix(string(n), corev1.DefaultResourceRequestsPrefix)
	return n == claimCount || strings.HasSuffix(string(n), corev1.ResourceClaimsPerClass) || requests && extendedName(corev1.ResourceName(rest))
}

// backed says whether devices of some class stand for an extended resource.
func (d *Devices) backed(extended string) bool {
	for _, c := range d.Classes {
		if c.Spec.ExtendedResourceName != nil && *c.Spec.ExtendedResourceName == extended || extended == resourcev1.ResourceDeviceClassPrefix+c.Name {
			return true
		}
	}
	return false
}

// extended is how many of extended resources, as quotas name them, numbers of devices of classes are.
func (d *Devices) extended(classes map[string]int64) map[corev1.ResourceName]int64 {
	out := map[corev1.ResourceName]int64{}
	for class, n := range classes {
		if class != "" {
			out[corev1.ResourceName(corev1.ResourceImplicitExtendedClaimsPerClass+class)] = n
		}
	}
	for _, c := range d.Classes {
		if n, ok := classes[c.Name]; ok && c.Spec.ExtendedResourceName != nil && *c.Spec.ExtendedResourceName != "" {
			name := corev1.ResourceName(corev1.DefaultResourceRequestsPrefix + *c.Spec.ExtendedResourceName)
			// Where two classes stand for one resource, upstream counts one of them, either one.
			out[name] = max(out[name], n)
		}
	}
	return out
}

// devicesByClass is how many devices requests may be given at most, of each class.
func devicesByClass(requests []resourcev1.DeviceRequest) map[string]int64 {
	out := map[string]int64{}
	for _, r := range requests {
		if len(r.FirstAvailable) == 0 {
			if r.Exactly != nil {
				out[r.Exactly.DeviceClassName] += most(r.Exactly.AllocationMode, r.Exactly.Count)
			}
			continue
		}
		best := map[string]int64{}
		for _, s := range r.FirstAvailable {
			best[s.DeviceClassName] = max(best[s.DeviceClassName], most(s.AllocationMode, s.Count))
		}
		for class, n := range best {
			if n > 0 {
				out[class] += n
			}
		}
	}
	return out
}

func most(mode resourcev1.DeviceAllocationMode, count int64) int64 {
	switch mode {
	case resourcev1.DeviceAllocationModeExactCount:
		return count
	case resourcev1.DeviceAllocationModeAll:
		return resourcev1.AllocationResultsMaxSize
	}
	return 0
}

// charged is what the pod uses for whose extended resources a claim was made; nil if the claim was made otherwise, or if that cannot be seen.
func (d *Devices) charged(claim *resourcev1.ResourceClaim) corev1.ResourceList {
	ref := podOf(claim)
	if ref == nil {
		return nil
	}
	pod := d.Pod(claim.Namespace, ref.Name)
	if pod == nil || pod.UID != ref.UID {
		return nil
	}
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		if s.ResourceClaimName != claim.Name {
			return nil
		}
		return d.Pods.Of(pod)
	}
	// The pod does not say yet which is its claim: it is the first one.
	claims, err := d.Claims(claim.Namespace)
	if err != nil {
		return nil
	}
	for _, c := range claims {
		if owner := podOf(c); owner == nil || owner.UID != pod.UID {
			continue
		}
		if before := c.CreationTimestamp.Time.Compare(claim.CreationTimestamp.Time); before < 0 || before == 0 && c.Name < claim.Name {
			return nil
		}
	}
	return d.Pods.Of(pod)
}

// podOf is the reference of a claim for extended resources to its pod.
func podOf(claim *resourcev1.ResourceClaim) *metav1.OwnerReference {
	ref := metav1.GetControllerOfNoCopy(claim)
	if claim.Annotations[resourcev1.ExtendedResourceClaimAnnotation] != "true" || ref == nil || ref.Kind != "Pod" || ref.APIVersion != "v1" {
		return nil
	}
	return ref
}
