package node

import (
	"errors"
	"fmt"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/kubelet/internal/resource"
)

// Facts is everything the Node's status depends on.
type Facts struct {
	Name                  string
	IPs                   []string
	Machine               resource.Machine
	Capacity, Allocatable corev1.ResourceList
	KubeletVersion        string
	RuntimeVersion        string // containerd://1.6.20
	Port                  int32
	Images                []*runtimeapi.Image
	MaxImages             int // -1 for all
	Handlers              []*runtimeapi.RuntimeHandler
	Features              *runtimeapi.RuntimeFeatures
	External              bool // a cloud controller sets the addresses
	NotReady              []error
	Memory, Disk, PID     bool // under pressure
	Now                   time.Time
}

// Status builds the Node's status from the old one.
func Status(old corev1.NodeStatus, f Facts) corev1.NodeStatus {
	s := *old.DeepCopy()
	if !f.External {
		s.Addresses = nil
		for _, ip := range f.IPs {
			s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
		}
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: f.Name})
	}
	s.Capacity, s.Allocatable = f.Capacity, f.Allocatable
	s.DaemonEndpoints.KubeletEndpoint.Port = f.Port
	s.NodeInfo = corev1.NodeSystemInfo{
		MachineID: f.Machine.MachineID, SystemUUID: f.Machine.SystemUUID, BootID: f.Machine.BootID, KernelVersion: f.Machine.Kernel,
		OSImage: f.Machine.OSImage, ContainerRuntimeVersion: f.RuntimeVersion, KubeletVersion: f.KubeletVersion,
		OperatingSystem: f.Machine.OS, Architecture: f.Machine.Arch,
	}
	if f.Machine.Swap > 0 {
		s.NodeInfo.Swap = &corev1.NodeSwapStatus{Capacity: &f.Machine.Swap}
	}
	s.Images = images(f.Images, f.MaxImages)
	s.RuntimeHandlers = nil
	for _, h := range f.Handlers {
		rro, user := h.GetFeatures().GetRecursiveReadOnlyMounts(), h.GetFeatures().GetUserNamespaces()
		s.RuntimeHandlers = append(s.RuntimeHandlers, corev1.NodeRuntimeHandler{
			Name: h.Name, Features: &corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: &rro, UserNamespaces: &user},
		})
	}
	s.DeclaredFeatures = declaredFeatures()
	groups := f.Features.GetSupplementalGroupsPolicy()
	s.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: &groups}
	pressure := func(t corev1.NodeConditionType, on bool, bad, badText, good, goodText string) {
		if on {
			setCondition(&s, f.Now, corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: bad, Message: badText})
		} else {
			setCondition(&s, f.Now, corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: good, Message: goodText})
		}
	}
	pressure(corev1.NodeMemoryPressure, f.Memory, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available", "KubeletHasSufficientMemory", "kubelet has sufficient memory available")
	pressure(corev1.NodeDiskPressure, f.Disk, "KubeletHasDiskPressure", "kubelet has disk pressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
	pressure(corev1.NodePIDPressure, f.PID, "KubeletHasInsufficientPID", "kubelet has insufficient PID available", "KubeletHasSufficientPID", "kubelet has sufficient PID available")
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if err := errors.Join(f.NotReady...); err != nil {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", joined(f.NotReady)
	}
	setCondition(&s, f.Now, ready)
	return s
}

// declaredFeatures is what a control plane that is newer or older must know that this kubelet can do, sorted.
func declaredFeatures() []string {
	return []string{"InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers", "RestartAllContainersOnContainerExits"}
}

// joined renders errors as upstream's aggregate does.
func joined(errs []error) string {
	if len(errs) == 1 {
		return errs[0].Error()
	}
	text := ""
	for i, e := range errs {
		if i > 0 {
			text += ", "
		}
		text += e.Error()
	}
	return fmt.Sprintf("[%s]", text)
}

func setCondition(s *corev1.NodeStatus, now time.Time, c corev1.NodeCondition) {
	c.LastHeartbeatTime, c.LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
	for i := range s.Conditions {
		if s.Conditions[i].Type == c.Type {
			if s.Conditions[i].Status == c.Status {
				c.LastTransitionTime = s.Conditions[i].LastTransitionTime
			}
			s.Conditions[i] = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

// images lists the largest images first, at most limit of them, with at most 5 names each.
func images(list []*runtimeapi.Image, limit int) []corev1.ContainerImage {
	out := make([]corev1.ContainerImage, 0, len(list))
	for _, i := range list {
		names := append(append([]string{}, i.RepoDigests...), i.RepoTags...)
		if len(names) == 0 {
			continue
		}
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), 5)], SizeBytes: int64(i.Size)})
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].SizeBytes == out[j].SizeBytes {
			return out[i].Names[0] < out[j].Names[0]
		}
		return out[i].SizeBytes > out[j].SizeBytes
	})
	if limit >= 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}
